// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "net/wire/http1_internal.h"

namespace culvert::wire {

namespace {

constexpr uint8_t kToken = 1;
constexpr uint8_t kValue = 2;
constexpr uint8_t kStartLine = 4;

constexpr std::array<uint8_t, 256> byte_classes() {
  std::array<uint8_t, 256> classes{};
  for (unsigned c = 0; c < 256; ++c) {
    bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (alnum || std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos)
      classes[c] |= kToken;
    if (c == '\t' || (c >= 0x20 && c != 0x7f)) classes[c] |= kValue;
    if (c >= 0x20 && c < 0x7f) classes[c] |= kStartLine;
  }
  classes[0] = 0;
  return classes;
}
constexpr std::array<uint8_t, 256> kClasses = byte_classes();

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

}  // namespace

bool is_token_byte(unsigned char byte) { return (kClasses[byte] & kToken) != 0; }
bool is_value_byte(unsigned char byte) { return (kClasses[byte] & kValue) != 0; }
bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](char c) { return is_token_byte(static_cast<unsigned char>(c)); });
}
bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}
std::string to_lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}
std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}
std::optional<uint64_t> parse_length(std::string_view digits) {
  constexpr uint64_t kMost = uint64_t{1} << 62;
  if (digits.empty()) return std::nullopt;
  uint64_t value = 0;
  for (char c : digits) {
    if (c < '0' || c > '9' || value > kMost / 10) return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  if (value > kMost) return std::nullopt;
  return value;
}
bool is_value(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (kClasses[static_cast<unsigned char>(c)] & kValue) != 0; });
}
bool is_hop_by_hop(std::string_view lower_name) {
  // By length first: every field of every message is asked.
  switch (lower_name.size()) {
    case 7: return lower_name == "upgrade";
    case 10: return lower_name == "connection" || lower_name == "keep-alive";
    case 14: return lower_name == "http2-settings";
    case 16: return lower_name == "proxy-connection";
    case 17: return lower_name == "transfer-encoding";
    default: return false;
  }
}

void Http1Lines::clear() {
  // Trailers are read as the fields of an answer of our own.
  block_ = what_ == What::kTrailers ? "HTTP/1.1 200 OK\r\n" : "";
  prefix_ = block_.size();
  fields_.clear();
  skipped_ = 0;
  state_ = what_ == What::kTrailers ? State::kBegin : State::kStart;
  fault_ = Http1Fault::kNone;
}

// One byte that does not simply go on in its state. False: stop, done or refused.
bool Http1Lines::step(unsigned char byte, size_t at) {
  switch (state_) {
    case State::kStart:
      if (byte == '\r') {
        if (at == prefix_) return refuse(Http1Fault::kStartLine);
        state_ = State::kCr;
        return true;
      }
      return refuse(byte == '\n' ? Http1Fault::kBareLf : Http1Fault::kStartLine);
    case State::kBegin:
      if (byte == '\r') {
        state_ = State::kEndCr;
        return true;
      }
      if (byte == '\n') return refuse(Http1Fault::kBareLf);
      if (byte == ' ' || byte == '\t') return refuse(Http1Fault::kObsFold);
      if (!is_token_byte(byte)) return refuse(Http1Fault::kFieldName);
      if (fields_.size() >= limits_.fields_max) return refuse(Http1Fault::kTooManyFields);
      fields_.push_back({at, 0, 0, 0});
      state_ = State::kName;
      return true;
    case State::kName:
      if (byte == ':') {
        fields_.back().name_size = at - fields_.back().name_at;
        fields_.back().value_at = at + 1;
        state_ = State::kValue;
        return true;
      }
      if (byte == ' ' || byte == '\t') return refuse(Http1Fault::kSpaceBeforeColon);
      if (byte == '\r' || byte == '\n') return refuse(Http1Fault::kNoColon);
      return refuse(Http1Fault::kFieldName);
    case State::kValue:
      if (byte != '\r') return refuse(byte == '\n' ? Http1Fault::kBareLf : Http1Fault::kFieldValue);
      fields_.back().value_size = at - fields_.back().value_at;
      state_ = State::kCr;
      return true;
    case State::kCr:
      if (byte != '\n') return refuse(Http1Fault::kBareCr);
      state_ = State::kBegin;
      return true;
    case State::kEndCr:
      if (byte != '\n') return refuse(Http1Fault::kBareCr);
      state_ = State::kDone;
      return true;
    case State::kLeadingCr:
    case State::kDone: break;
  }
  return false;
}

// A server that speaks another protocol says so in its first bytes, and then may wait for ours for ever.
bool Http1Lines::may_be_http(base::ByteView more) const {
  constexpr std::string_view kName = "HTTP/";
  if (what_ != What::kResponse || block_.size() >= kName.size()) return true;
  std::string_view expected = kName.substr(block_.size());
  std::string_view came = base::as_text(more).substr(0, expected.size());
  return expected.starts_with(came);
}

size_t Http1Lines::feed(base::ByteView bytes) {
  size_t used = 0;
  // RFC 9112 section 2.2: one empty line before a request is forgiven. It never enters the block.
  while (used < bytes.size() && block_.empty() && what_ == What::kRequest) {
    if (state_ == State::kLeadingCr) {
      if (bytes[used] != '\n') return refuse(Http1Fault::kBareCr), used;
      state_ = State::kStart;
      skipped_ = 2;
    } else if (bytes[used] == '\r' && skipped_ == 0) {
      state_ = State::kLeadingCr;
    } else {
      break;
    }
    ++used;
  }
  if (used == bytes.size()) return used;
  base::ByteView rest = bytes.subspan(used);
  if (!may_be_http(rest)) return refuse(Http1Fault::kStartLine), used;
  size_t room = limits_.head_bytes_max - std::min(limits_.head_bytes_max, block_.size() - prefix_);
  size_t base = block_.size();
  size_t i = 0;
  size_t limit = std::min(rest.size(), room);
  while (i < limit && state_ != State::kDone) {
    uint8_t go_on = state_ == State::kValue   ? kValue
                    : state_ == State::kName  ? kToken
                    : state_ == State::kStart ? kStartLine
                                              : 0;
    while (i < limit && (kClasses[rest[i]] & go_on) != 0) ++i;
    if (i == limit) break;
    if (!step(rest[i], base + i)) return used + i;
    ++i;
  }
  block_.append(base::as_text(rest.first(i)));
  if (state_ != State::kDone && i == room && i < rest.size()) fault_ = Http1Fault::kHeadTooLarge;
  return used + i;
}

}  // namespace culvert::wire
