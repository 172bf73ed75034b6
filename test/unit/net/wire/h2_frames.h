// SPDX-License-Identifier: Apache-2.0
// HTTP/2 frames by hand, for tests that play a peer byte by byte.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "net/wire/h2.h"

namespace culvert::wire::frames {

enum Type : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kRst = 3,
  kSettings = 4,
  kPushPromise = 5,
  kPing = 6,
  kGoaway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};
enum Flags : uint8_t {
  kNone = 0,
  kEndStream = 1,
  kAck = 1,
  kEndHeaders = 4,
  kPadded = 8,
  kPriorityFlag = 32
};

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

inline std::string number(uint64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i));
  return out;
}
inline std::string frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload = "") {
  return number(payload.size(), 3) + static_cast<char>(type) + static_cast<char>(flags) + number(stream, 4) +
         std::string(payload);
}
// Literals without indexing: no state is left behind.
inline std::string block(const Headers& headers) {
  auto text = [](std::string_view value) {
    std::string out;
    if (value.size() < 127) {
      out += static_cast<char>(value.size());
    } else {
      out += '\x7f';
      size_t rest = value.size() - 127;
      for (; rest >= 128; rest /= 128) out += static_cast<char>(rest % 128 + 128);
      out += static_cast<char>(rest);
    }
    return out.append(value);
  };
  std::string out;
  for (const auto& [name, value] : headers) out += std::string(1, '\0') + text(name) + text(value);
  return out;
}
inline std::string headers(uint32_t stream, const Headers& fields, bool end_stream = true) {
  return frame(kHeaders, static_cast<uint8_t>(kEndHeaders | (end_stream ? kEndStream : 0)), stream,
               block(fields));
}

// What an engine sent, one line a frame; only what a peer would act on.
inline std::vector<std::string> read_frames(std::string_view bytes) {
  std::vector<std::string> out;
  auto at = [&](size_t i) { return size_t{static_cast<uint8_t>(bytes[i])}; };
  auto code = [&](size_t i) { return h2_code_name(static_cast<uint32_t>(at(i + 2) << 8 | at(i + 3))); };
  if (bytes.starts_with(kPreface)) bytes.remove_prefix(kPreface.size());
  while (bytes.size() >= 9) {
    size_t length = at(0) << 16 | at(1) << 8 | at(2);
    size_t stream = at(7) << 8 | at(8);
    switch (at(3)) {
      case kHeaders:
        out.push_back(fmt::format("HEADERS {}{}", stream, at(4) & kEndStream ? " END" : ""));
        break;
      case kData:
        out.push_back(fmt::format("DATA {} {}{}", stream, length, at(4) & kEndStream ? " END" : ""));
        break;
      case kRst: out.push_back(fmt::format("RST {} {}", stream, code(9))); break;
      case kGoaway: out.push_back(fmt::format("GOAWAY {}", code(13))); break;
      case kPing: out.push_back(at(4) & kAck ? fmt::format("PONG {}", bytes.substr(9, 8)) : "PING"); break;
      default: break;
    }
    bytes.remove_prefix(9 + length);
  }
  return out;
}

}  // namespace culvert::wire::frames
