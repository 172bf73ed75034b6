// SPDX-License-Identifier: Apache-2.0
// What an HBONE peer may write into a CONNECT: one line per header, "name value".
#include "mesh/hbone/connect_headers.h"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

using namespace culvert::hbone;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  HeaderList headers;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    size_t space = line.find(' ');
    if (space == std::string_view::npos) continue;
    headers.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  auto parsed = parse_connect(headers);
  if (!parsed) return 0;
  // What we understood we can also say, and then understand the same.
  auto again = parse_authority(to_string(parsed->authority));
  if (!again || *again != parsed->authority) abort();
  std::string baggage = format_baggage(parsed->baggage);
  std::string_view line = baggage;
  if (parse_baggage({&line, 1}) != parsed->baggage && baggage.size() <= kHeaderValueMax) abort();
  if (!parsed->traceparent.empty() && parsed->traceparent.size() != 55) abort();
  return 0;
}
