// SPDX-License-Identifier: Apache-2.0
#include "net/wire/h1.h"

#include <fmt/format.h>

namespace culvert::wire {

using base::Code;
using base::fail;
using base::Result;

struct H1Parser::Impl {
  Http1Decoder decoder;
  H1Limits limits;
  H1Message message;
  bool complete = false;

  Impl(Http1Decoder::Kind kind, H1Limits l)
      : decoder(
            kind,
            {.head_bytes_max = l.head_bytes_max, .target_bytes_max = l.head_bytes_max, .allow_http10 = true}),
        limits(l) {}

  Result<> take_head() {
    Http1Head head = decoder.take_head();
    if (!head.upgrade.empty()) return fail(Code::kUnsupported, "protocol upgrade is not offered here");
    message.keep_alive = head.keep_alive;
    for (auto& [name, value] : head.headers) {
      if (name == ":method") {
        message.method = std::move(value);
      } else if (name == ":path") {
        message.target = std::move(value);
      } else if (name == ":status") {
        message.status = std::stoi(value);
      } else if (name == ":authority") {
        message.headers.emplace_back("host", std::move(value));
      } else if (!name.starts_with(':')) {
        message.headers.emplace_back(std::move(name), std::move(value));
      }
    }
    return {};
  }
  Result<> refused() const {
    Http1Fault fault = decoder.fault();
    if (fault == Http1Fault::kTruncated)
      return fail(Code::kClosed, "the peer closed before its message was complete");
    bool limit = fault == Http1Fault::kHeadTooLarge || fault == Http1Fault::kTooManyFields ||
                 fault == Http1Fault::kTargetTooLong;
    return fail(limit ? Code::kExhausted : Code::kInvalid,
                fmt::format("malformed HTTP message: {}", to_string(fault)));
  }
};

H1Parser::H1Parser(Kind kind, H1Limits limits)
    : impl_(std::make_unique<Impl>(
          kind == Kind::kRequest ? Http1Decoder::Kind::kRequest : Http1Decoder::Kind::kResponse, limits)) {}

H1Parser::~H1Parser() = default;

Result<size_t> H1Parser::feed(base::ByteView bytes) {
  size_t used = 0;
  while (!impl_->complete) {
    Http1Decoder::Step step = impl_->decoder.next(bytes.subspan(used));
    used += step.used;
    switch (step.event) {
      case Http1Decoder::Event::kNeedMore: return used;
      case Http1Decoder::Event::kInformational: break;
      case Http1Decoder::Event::kHead:
        if (Result<> taken = impl_->take_head(); !taken) return fail(std::move(taken).error());
        break;
      case Http1Decoder::Event::kData:
        if (impl_->message.body.size() + step.data.size() > impl_->limits.body_bytes_max)
          return fail(Code::kExhausted, "message above the size limit");
        impl_->message.body.append(base::as_text(step.data));
        break;
      case Http1Decoder::Event::kEnd: impl_->complete = true; break;
      case Http1Decoder::Event::kFault: return fail(impl_->refused().error());
    }
  }
  return used;
}

Result<> H1Parser::feed_end() {
  if (impl_->complete) return {};
  if (impl_->decoder.end_of_input().event == Http1Decoder::Event::kEnd) {
    impl_->complete = true;
    return {};
  }
  if (impl_->decoder.fault() != Http1Fault::kNone) return impl_->refused();
  return fail(Code::kClosed, "the peer closed before its message was complete");
}

bool H1Parser::complete() const { return impl_->complete; }
bool H1Parser::started() const { return impl_->decoder.started(); }

H1Message H1Parser::take_message() {
  impl_->complete = false;
  impl_->decoder.next_message();
  return std::exchange(impl_->message, {});
}

std::string h1_response(int status, Headers headers, std::string_view body, bool keep_alive) {
  headers.insert(headers.begin(), {":status", std::to_string(status)});
  headers.emplace_back("content-length", std::to_string(body.size()));
  base::ByteQueue out;
  Http1Encoder encoder;
  if (!encoder.response(headers, false, {.method = "GET", .keep_alive = keep_alive}, out))
    return "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
  return out.take_all().append(body);
}

Result<std::string> h1_request(std::string_view method, std::string_view target, Headers headers,
                               std::string_view body) {
  const std::string* host = find_header(headers, "host");
  std::string authority = host ? *host : "localhost";
  headers.insert(headers.begin(), {{":method", std::string(method)},
                                   {":scheme", "http"},
                                   {":authority", std::move(authority)},
                                   {":path", std::string(target)}});
  headers.emplace_back("content-length", std::to_string(body.size()));
  base::ByteQueue out;
  Http1Encoder encoder;
  if (Result<> encoded = encoder.request(headers, body.empty(), {}, out); !encoded)
    return fail(std::move(encoded).error());
  return out.take_all().append(body);
}

}  // namespace culvert::wire
