// SPDX-License-Identifier: Apache-2.0
#include "net/wire/grpc_frame.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace culvert::wire {

std::string grpc_frame(std::string_view message) {
  std::string out(5, '\0');
  auto size = static_cast<uint32_t>(message.size());
  for (int i = 0; i < 4; ++i) out[static_cast<size_t>(4 - i)] = static_cast<char>(size >> (8 * i));
  out += message;
  return out;
}

base::Result<std::optional<std::string>> take_grpc_message(base::ByteQueue& received, size_t bytes_max) {
  std::array<uint8_t, 5> head;
  if (received.peek(head) < head.size()) return std::optional<std::string>();
  if (head[0] != 0)
    return base::fail(base::Code::kUnsupported, "compressed gRPC message, but no compression was agreed");
  size_t size = size_t{head[1]} << 24 | size_t{head[2]} << 16 | size_t{head[3]} << 8 | head[4];
  if (size > bytes_max) {
    return base::fail(base::Code::kExhausted,
                      fmt::format("gRPC message of {} bytes; at most {} are accepted", size, bytes_max));
  }
  if (received.size() < head.size() + size) return std::optional<std::string>();
  received.consume(head.size());
  std::string message(size, '\0');
  received.read({reinterpret_cast<uint8_t*>(message.data()), size});
  return std::optional<std::string>(std::move(message));
}

std::string grpc_percent_encode(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c >= ' ' && c <= '~' && c != '%') {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string grpc_percent_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr == text.data() + i + 3) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace culvert::wire
