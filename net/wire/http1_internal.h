// SPDX-License-Identifier: Apache-2.0
// The parts of http1.h that only this folder sees: the guard over a block of lines, and its reading.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/wire/http1.h"

namespace culvert::wire {

bool is_token_byte(unsigned char byte);
// HTAB, SP and everything printable or above 0x7f.
bool is_value_byte(unsigned char byte);
bool is_value(std::string_view text);
bool is_token(std::string_view text);
bool equal_ignoring_case(std::string_view a, std::string_view b);
std::string to_lower(std::string_view text);
// Without spaces and tabs at both ends.
std::string_view trim(std::string_view text);
// Calls `visit` for every element of a comma-separated list, trimmed, empty ones too.
template <class Visit>
void each_element(std::string_view list, Visit visit) {
  for (;;) {
    size_t comma = list.find(',');
    visit(trim(list.substr(0, comma)));
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}
// Digits only, at most 2^62.
std::optional<uint64_t> parse_length(std::string_view digits);
// A name that belongs to one hop whoever names it (RFC 9110 section 7.6.1).
bool is_hop_by_hop(std::string_view lower_name);

// Gathers one block of lines, up to and with its empty line, and looks at every byte on the way:
//
// | state  | bytes that go on             | refused                                       |
// |--------|------------------------------|-----------------------------------------------|
// | start  | printable, SP, CR            | LF, controls, > 0x7e                          |
// | begin  | token byte, CR (empty line)  | SP HT (folding), ':' (no name), LF, others    |
// | name   | token byte, ':'              | SP HT (before the colon), CR LF (no colon)    |
// | value  | SP HT, printable, > 0x7f, CR | LF, controls                                  |
// | cr, end| LF                           | everything else                               |
class Http1Lines {
 public:
  struct Field {
    size_t name_at = 0, name_size = 0, value_at = 0, value_size = 0;
  };
  enum class What : unsigned char { kRequest, kResponse, kTrailers };

  Http1Lines(What what, const Http1Limits& limits) : what_(what), limits_(limits) { clear(); }
  void clear();
  // How many bytes were taken; stops behind the empty line. Check done() and fault().
  size_t feed(base::ByteView bytes);
  bool done() const { return state_ == State::kDone; }
  bool started() const { return !block_.empty() || skipped_ > 0; }
  Http1Fault fault() const { return fault_; }
  // With the line ends; trailers begin with a start line of our own, so that llhttp reads them too.
  const std::string& block() const { return block_; }
  const std::vector<Field>& fields() const { return fields_; }
  std::string_view name(const Field& field) const { return view(field.name_at, field.name_size); }
  std::string_view value(const Field& field) const { return trim(view(field.value_at, field.value_size)); }
  size_t wire_bytes() const { return block_.size() - prefix_ + skipped_; }

 private:
  enum class State : unsigned char { kStart, kBegin, kName, kValue, kCr, kEndCr, kLeadingCr, kDone };
  bool step(unsigned char byte, size_t at);
  bool may_be_http(base::ByteView more) const;
  std::string_view view(size_t at, size_t size) const { return std::string_view(block_).substr(at, size); }
  bool refuse(Http1Fault fault) {
    fault_ = fault;
    return false;
  }

  What what_;
  const Http1Limits& limits_;
  State state_ = State::kStart;
  Http1Fault fault_ = Http1Fault::kNone;
  std::string block_;
  std::vector<Field> fields_;
  size_t prefix_ = 0;   // bytes of block_ that are ours
  size_t skipped_ = 0;  // an empty line before a request
};

// Reads a finished block. `asked` is what a response answers.
struct Http1Asked {
  std::string method = "GET";
  std::string upgrade;
};
Http1Fault read_request_head(const Http1Lines& lines, const Http1Limits& limits, Http1Head& head);
Http1Fault read_response_head(const Http1Lines& lines, const Http1Asked& asked, Http1Head& head);
Http1Fault read_trailers(const Http1Lines& lines, Headers& trailers);

}  // namespace culvert::wire
