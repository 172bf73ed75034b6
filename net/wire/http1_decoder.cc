// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "net/base/check.h"
#include "net/wire/http1_internal.h"

namespace culvert::wire {

std::string_view to_string(Http1Fault fault) {
  switch (fault) {
    case Http1Fault::kNone: return "-";
    case Http1Fault::kStartLine: return "http1.start_line_invalid";
    case Http1Fault::kMethod: return "http1.method_invalid";
    case Http1Fault::kTarget: return "http1.target_invalid";
    case Http1Fault::kTargetTooLong: return "http1.target_too_long";
    case Http1Fault::kVersion: return "http1.version_unsupported";
    case Http1Fault::kHttp10: return "low_version";
    case Http1Fault::kStatus: return "http1.status_invalid";
    case Http1Fault::kBareLf: return "http1.bare_lf";
    case Http1Fault::kBareCr: return "http1.bare_cr";
    case Http1Fault::kObsFold: return "http1.folded_line";
    case Http1Fault::kSpaceBeforeColon: return "http1.space_before_colon";
    case Http1Fault::kFieldName: return "http1.field_name_invalid";
    case Http1Fault::kFieldValue: return "http1.field_value_invalid";
    case Http1Fault::kNoColon: return "http1.field_without_colon";
    case Http1Fault::kHeadTooLarge: return "http1.headers_too_large";
    case Http1Fault::kTooManyFields: return "http1.too_many_headers";
    case Http1Fault::kHostMissing: return "http1.host_missing";
    case Http1Fault::kHostRepeated: return "http1.host_repeated";
    case Http1Fault::kAuthority: return "http1.authority_invalid";
    case Http1Fault::kConnectionNames: return "http1.connection_names_protected_header";
    case Http1Fault::kExpectation: return "http1.expectation_unknown";
    case Http1Fault::kLengthAndCoding: return "http1.content_length_and_transfer_encoding";
    case Http1Fault::kLengthRepeated: return "http1.content_length_repeated";
    case Http1Fault::kLength: return "http1.content_length_invalid";
    case Http1Fault::kCoding: return "http1.transfer_encoding_invalid";
    case Http1Fault::kCodingInHttp10: return "http1.transfer_encoding_in_1_0";
    case Http1Fault::kChunkSize: return "http1.chunk_size_invalid";
    case Http1Fault::kChunkExtensions: return "http1.chunk_extensions_invalid";
    case Http1Fault::kChunkEnd: return "http1.chunk_end_invalid";
    case Http1Fault::kTrailers: return "http1.trailer_forbidden";
    case Http1Fault::kTooManyInformational: return "http1.too_many_1xx";
    case Http1Fault::kUnaskedUpgrade: return "http1.upgrade_not_asked_for";
    case Http1Fault::kIgnoredUpgrade: return "http1.upgrade_ignored";
    case Http1Fault::kTruncated: return "http1.truncated";
    case Http1Fault::kHeadTooSlow: return "request_header_timeout";
  }
  return "http1.unknown";
}

int status_for(Http1Fault fault) {
  switch (fault) {
    case Http1Fault::kTargetTooLong: return 414;
    case Http1Fault::kVersion: return 505;
    case Http1Fault::kHttp10: return 426;
    case Http1Fault::kHeadTooLarge:
    case Http1Fault::kTooManyFields: return 431;
    case Http1Fault::kExpectation: return 417;
    case Http1Fault::kHeadTooSlow: return 408;
    default: return 400;
  }
}

// | state   | meaning                          | next                                         |
// |---------|----------------------------------|----------------------------------------------|
// | head    | lines of a head                  | length, chunk, close, raw; ended; head (1xx) |
// | length  | left_ plain bytes                | ended                                        |
// | size... | a chunk's line                   | chunk data, trailers                         |
// | data... | left_ plain bytes, then CR LF    | size                                         |
// | trailer | lines of trailers                | ended                                        |
// | close   | plain bytes until the peer closes| ended                                        |
// | raw     | no message any more              | ended                                        |
// | ended   | kEnd was told or is due          | head, by next_message()                      |
struct Http1Decoder::Impl {
  enum class State : unsigned char {
    kHead,
    kLength,
    kSize,
    kExtension,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailers,
    kUntilClose,
    kRaw,
    kEnding,  // kEnd is due
    kEnded,
    kFailed,
  };
  static constexpr size_t kSizeDigitsMax = 16;

  Kind kind;
  Http1Limits limits;
  State state = State::kHead;
  Http1Fault fault = Http1Fault::kNone;
  Http1Lines lines;
  Http1Lines trailer_lines;
  Http1Asked asked;
  Http1Head head;
  Headers trailers;
  uint64_t left = 0;
  size_t digits = 0;
  size_t extension_bytes = 0;
  size_t informational = 0;
  uint64_t header_bytes = 0;
  uint64_t wire_bytes = 0;

  Impl(Kind k, Http1Limits l)
      : kind(k),
        limits(l),
        lines(k == Kind::kRequest ? Http1Lines::What::kRequest : Http1Lines::What::kResponse, limits),
        trailer_lines(Http1Lines::What::kTrailers, limits) {}

  Step refuse(Http1Fault why) {
    fault = why;
    state = State::kFailed;
    return {Event::kFault, 0, {}};
  }
  Step end() {
    state = State::kEnded;
    return {Event::kEnd, 0, {}};
  }

  // The head is complete.
  Step read_head() {
    head = {};
    Http1Fault why = kind == Kind::kRequest ? read_request_head(lines, limits, head)
                                            : read_response_head(lines, asked, head);
    header_bytes += lines.wire_bytes();
    lines.clear();
    if (why != Http1Fault::kNone) return refuse(why);
    if (kind == Kind::kResponse && head.body != Http1Body::kRaw && head.headers.front().second[0] == '1') {
      if (++informational > limits.informational_max) return refuse(Http1Fault::kTooManyInformational);
      return {Event::kInformational, 0, {}};
    }
    switch (head.body) {
      case Http1Body::kNone: state = State::kEnding; break;
      case Http1Body::kLength:
        state = State::kLength;
        left = head.length;
        break;
      case Http1Body::kChunked:
        state = State::kSize;
        left = digits = 0;
        break;
      case Http1Body::kUntilClose: state = State::kUntilClose; break;
      case Http1Body::kRaw: state = State::kRaw; break;
    }
    return {Event::kHead, 0, {}};
  }

  // One byte of a chunk's framing. False: refused.
  bool step_chunk(uint8_t byte) {
    switch (state) {
      case State::kSize: return step_size(byte);
      case State::kExtension:
        if (byte == '\r') {
          state = State::kSizeLf;
          return true;
        }
        if (++extension_bytes > limits.chunk_extension_bytes_max) fault = Http1Fault::kChunkExtensions;
        if (!is_value_byte(byte)) fault = byte == '\n' ? Http1Fault::kBareLf : Http1Fault::kChunkExtensions;
        return fault == Http1Fault::kNone;
      case State::kSizeLf:
        if (byte != '\n') fault = Http1Fault::kBareCr;
        digits = 0;
        state = left > 0 ? State::kData : State::kTrailers;
        if (left == 0) trailer_lines.clear();
        return fault == Http1Fault::kNone;
      case State::kDataCr:
        if (byte != '\r') fault = Http1Fault::kChunkEnd;
        state = State::kDataLf;
        return fault == Http1Fault::kNone;
      case State::kDataLf:
        if (byte != '\n') fault = Http1Fault::kChunkEnd;
        state = State::kSize;
        return fault == Http1Fault::kNone;
      default: break;
    }
    CULVERT_CHECK(false);
  }

  bool step_size(uint8_t byte) {
    int digit = byte >= '0' && byte <= '9'   ? byte - '0'
                : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10
                : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10
                                             : -1;
    if (digit >= 0) {
      // A size of 2^62 and more would only serve to overflow somebody's counter.
      if (++digits > kSizeDigitsMax || left >> 58 != 0) fault = Http1Fault::kChunkSize;
      left = left * 16 + static_cast<uint64_t>(digit);
      return fault == Http1Fault::kNone;
    }
    if (digits == 0) {
      fault = Http1Fault::kChunkSize;
    } else if (byte == '\r') {
      state = State::kSizeLf;
    } else if (byte == ';') {
      state = State::kExtension;
      ++extension_bytes;
    } else {
      fault = byte == '\n' ? Http1Fault::kBareLf : Http1Fault::kChunkSize;
    }
    return fault == Http1Fault::kNone;
  }

  // Plain bytes of a length or a chunk.
  Step give(base::ByteView bytes, size_t used, State after) {
    base::ByteView data = bytes.subspan(used);
    data = data.first(static_cast<size_t>(std::min<uint64_t>(data.size(), left)));
    left -= data.size();
    if (left == 0) state = after;
    return {Event::kData, used + data.size(), data};
  }

  Step next(base::ByteView bytes) {
    size_t used = 0;
    for (;;) {
      switch (state) {
        case State::kFailed: return {Event::kFault, used, {}};
        case State::kEnded: return {Event::kEnd, used, {}};
        case State::kEnding: return end();
        default: break;
      }
      if (used == bytes.size()) return {Event::kNeedMore, used, {}};
      Step step;
      switch (state) {
        case State::kHead:
        case State::kTrailers: {
          Http1Lines& block = state == State::kHead ? lines : trailer_lines;
          used += block.feed(bytes.subspan(used));
          if (block.fault() != Http1Fault::kNone) return {refuse(block.fault()).event, used, {}};
          if (!block.done()) continue;
          step = state == State::kHead ? read_head() : finish_trailers();
          step.used = used;
          return step;
        }
        case State::kLength: return give(bytes, used, State::kEnding);
        case State::kData: return give(bytes, used, State::kDataCr);
        case State::kUntilClose:
        case State::kRaw: return {Event::kData, bytes.size(), bytes.subspan(used)};
        default:
          if (!step_chunk(bytes[used])) return {refuse(fault).event, used, {}};
          ++used;
      }
    }
  }

  Step finish_trailers() {
    header_bytes += trailer_lines.wire_bytes();
    if (!trailer_lines.fields().empty()) {
      if (Http1Fault why = read_trailers(trailer_lines, trailers); why != Http1Fault::kNone)
        return refuse(why);
    }
    trailer_lines.clear();
    return end();
  }
};

Http1Decoder::Http1Decoder(Kind kind, Http1Limits limits) : impl_(std::make_unique<Impl>(kind, limits)) {}
Http1Decoder::~Http1Decoder() = default;

void Http1Decoder::expect_answer_to(std::string_view method, std::string_view upgrade) {
  impl_->asked = {std::string(method), std::string(upgrade)};
}

Http1Decoder::Step Http1Decoder::next(base::ByteView bytes) {
  Step step = impl_->next(bytes);
  impl_->wire_bytes += step.used;
  return step;
}

Http1Decoder::Step Http1Decoder::end_of_input() {
  switch (impl_->state) {
    case Impl::State::kUntilClose:
    case Impl::State::kRaw:
    case Impl::State::kEnding:
    case Impl::State::kEnded: return impl_->end();
    case Impl::State::kFailed: return {Event::kFault, 0, {}};
    case Impl::State::kHead:
      if (!started()) return {Event::kNeedMore, 0, {}};
      [[fallthrough]];
    default: return impl_->refuse(Http1Fault::kTruncated);
  }
}

Http1Head Http1Decoder::take_head() { return std::exchange(impl_->head, {}); }
Headers Http1Decoder::take_trailers() { return std::exchange(impl_->trailers, {}); }
void Http1Decoder::become_raw() { impl_->state = Impl::State::kRaw; }

void Http1Decoder::next_message() {
  CULVERT_CHECK(impl_->state == Impl::State::kEnded);
  impl_->state = Impl::State::kHead;
  impl_->trailers.clear();
  impl_->extension_bytes = impl_->informational = 0;
  impl_->header_bytes = impl_->wire_bytes = 0;
}

bool Http1Decoder::started() const { return impl_->state != Impl::State::kHead || impl_->lines.started(); }

uint64_t Http1Decoder::plain_bytes_left() const {
  switch (impl_->state) {
    case Impl::State::kLength:
    case Impl::State::kData: return impl_->left;
    case Impl::State::kUntilClose:
    case Impl::State::kRaw: return UINT64_MAX;
    default: return 0;
  }
}

void Http1Decoder::took(uint64_t bytes) {
  impl_->wire_bytes += bytes;
  if (impl_->state != Impl::State::kLength && impl_->state != Impl::State::kData) return;
  CULVERT_CHECK(bytes <= impl_->left);
  impl_->left -= bytes;
  if (impl_->left == 0)
    impl_->state = impl_->state == Impl::State::kLength ? Impl::State::kEnding : Impl::State::kDataCr;
}

Http1Fault Http1Decoder::fault() const { return impl_->fault; }
uint64_t Http1Decoder::header_bytes() const { return impl_->header_bytes; }
uint64_t Http1Decoder::wire_bytes() const { return impl_->wire_bytes; }

}  // namespace culvert::wire
