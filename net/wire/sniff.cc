// SPDX-License-Identifier: Apache-2.0
#include "net/wire/sniff.h"

#include <algorithm>

#include "net/wire/http1_internal.h"

namespace culvert::wire {

namespace {

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
// Longer methods are not HTTP's.
constexpr size_t kMethodBytesMax = 32;

// The rest of a request line behind its target, as far as it has come.
Sniffed match_version(std::string_view rest) {
  constexpr std::string_view kVersion = "HTTP/1.";
  size_t here = std::min(rest.size(), kVersion.size());
  if (rest.substr(0, here) != kVersion.substr(0, here)) return Sniffed::kUnknown;
  rest.remove_prefix(here);
  if (rest.empty()) return Sniffed::kNeedMore;
  if (rest[0] != '0' && rest[0] != '1') return Sniffed::kUnknown;
  if (rest.size() >= 2 && rest[1] != '\r') return rest[1] == '\n' ? Sniffed::kHttp1 : Sniffed::kUnknown;
  if (rest.size() < 3) return Sniffed::kNeedMore;
  return rest[2] == '\n' ? Sniffed::kHttp1 : Sniffed::kUnknown;
}

Sniffed sniff_request_line(std::string_view text) {
  // The empty line that RFC 9112 section 2.2 forgives.
  if (text.starts_with('\r')) {
    if (text.size() == 1) return Sniffed::kNeedMore;
    if (text[1] != '\n') return Sniffed::kUnknown;
    text.remove_prefix(2);
  }
  size_t space = std::min(text.find(' '), text.size());
  auto is_method_byte = [](char c) { return is_token_byte(static_cast<unsigned char>(c)); };
  if (space > kMethodBytesMax || !std::all_of(text.begin(), text.begin() + space, is_method_byte))
    return Sniffed::kUnknown;
  if (space == text.size()) return Sniffed::kNeedMore;
  if (space == 0) return Sniffed::kUnknown;
  text.remove_prefix(space + 1);
  size_t end = std::min(text.find(' '), text.size());
  auto is_target_byte = [](char c) { return c > 0x20 && c < 0x7f; };
  if (!std::all_of(text.begin(), text.begin() + end, is_target_byte)) return Sniffed::kUnknown;
  if (end == text.size()) return Sniffed::kNeedMore;
  if (end == 0) return Sniffed::kUnknown;
  return match_version(text.substr(end + 1));
}

}  // namespace

Sniffed sniff(base::ByteView first_bytes) {
  std::string_view text = base::as_text(first_bytes);
  size_t here = std::min(text.size(), kPreface.size());
  if (text.substr(0, here) == kPreface.substr(0, here))
    return here == kPreface.size() ? Sniffed::kHttp2 : Sniffed::kNeedMore;
  Sniffed found = sniff_request_line(text);
  return found == Sniffed::kNeedMore && text.size() > kSniffBytesMax ? Sniffed::kUnknown : found;
}

}  // namespace culvert::wire
