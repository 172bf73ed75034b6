// SPDX-License-Identifier: Apache-2.0
// Path templates against the expression they stand for. Input: a template, a newline, a path.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mesh/model/text_match.h"

using culvert::model::TextMatch;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  size_t end = text.find('\n');
  if (end == text.npos) return 0;
  std::string_view pattern = text.substr(0, end), path = text.substr(end + 1);
  for (char c : text) {
    // Expressions read UTF-8; paths are bytes, and ASCII when normal.
    if (static_cast<unsigned char>(c) > 0x7f || c == '\0') return 0;
  }
  auto made = TextMatch::make(TextMatch::Kind::kPathTemplate, std::string(pattern));
  if (!made) return 0;
  std::string expression = "(?s)";
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern.substr(i).starts_with("{**}")) {
      expression += ".*";
      i += 3;
    } else if (pattern.substr(i).starts_with("{*}")) {
      expression += "[^/]+";
      i += 2;
    } else if (std::string_view("\\.+*?()|[]{}^$").find(pattern[i]) != std::string_view::npos) {
      expression += '\\';
      expression += pattern[i];
    } else {
      expression += pattern[i];
    }
  }
  auto regex = TextMatch::make(TextMatch::Kind::kRegex, expression);
  if (!regex) return 0;
  if (made->matches(path) != regex->matches(path)) abort();
  return 0;
}
