// SPDX-License-Identifier: Apache-2.0
#include "waypoint/phases/text.h"

#include <cstdint>

namespace culvert::waypoint {

namespace {

// The length of the character at the beginning of `text`; 0: there is none.
size_t character_length(std::string_view text) {
  auto byte = static_cast<unsigned char>(text[0]);
  if (byte < 0x80) return 1;
  size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
  if (byte < 0xc2 || byte > 0xf4 || text.size() < length) return 0;
  uint32_t code = byte & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0) != 0x80) return 0;
    code = (code << 6) | (next & 0x3f);
  }
  // Overlong forms, surrogates, beyond the last code point.
  if (length == 3 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff))) return 0;
  if (length == 4 && (code < 0x10000 || code > 0x10ffff)) return 0;
  return length;
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string as_utf8(std::string_view bytes) {
  std::string out(bytes);
  for (size_t at = 0; at < out.size();) {
    size_t length = character_length(std::string_view(out).substr(at));
    if (length == 0) out[at] = '!';
    at += length == 0 ? 1 : length;
  }
  return out;
}

}  // namespace culvert::waypoint
