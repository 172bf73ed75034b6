// SPDX-License-Identifier: Apache-2.0
// Access log formats, and what strangers write into the headers that they show. Input: a byte (bit 0: JSON),
// the format up to a zero byte, then header lines "name value" of a request and, after an empty line, of its
// response.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "test/unit/waypoint/records.h"
#include "waypoint/telemetry/log_format.h"

using namespace culvert;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

// Shown text is valid UTF-8 without control bytes, and its quotes are escaped.
void check_escaped(std::string_view shown) {
  bool escaped = false;
  for (char c : shown) {
    unsigned char byte = static_cast<unsigned char>(c);
    check(byte >= 0x20 && byte != 0x7f);
    check(escaped || c != '"');
    escaped = !escaped && c == '\\';
  }
  check(!escaped);
  // Serializing strictly throws for what is not UTF-8.
  (void)nlohmann::json(std::string(shown)).dump();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  bool json = (data[0] & 1) != 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::string_view words = rest.substr(0, rest.find('\0'));
  rest.remove_prefix(std::min(rest.size(), words.size() + 1));

  waypoint::RequestRecord record = test::make_record();
  wire::Headers* into = &record.request;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    size_t space = line.find(' ');
    if (line.empty()) into = &record.response;
    if (space != line.npos) into->emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  record.grpc = true;
  record.details = record.request.back().second;

  auto made = json ? waypoint::LogFormat::json(words) : waypoint::LogFormat::text(words);
  if (made) {
    std::string line = made->line(record);
    check(line.ends_with('\n'));
    check(line == made->line(record));
    if (json) {
      auto parsed = nlohmann::json::parse(line, nullptr, false);
      check(parsed.is_object());
      check(line.find('\n') == line.size() - 1);
    }
    (void)made->value(record);
  } else {
    check(!made.error().message().empty());
  }
  // Between delimiters of ours nothing of theirs can end the field.
  auto fixed =
      waypoint::LogFormat::text("%REQ(x)%%REQ(USER-AGENT?:PATH):40%%RESP(y)%%RESPONSE_CODE_DETAILS%");
  check(fixed.has_value());
  std::string line = fixed->line(record);
  check_escaped(std::string_view(line).substr(0, line.size() - 1));
  return 0;
}
