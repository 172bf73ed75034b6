// SPDX-License-Identifier: Apache-2.0
#include "net/wire/grpc_frame.h"

#include <catch2/catch.hpp>

namespace culvert::wire {

TEST_CASE("messages come out whole at every fragment size, also empty ones", "[apis-30]") {
  size_t fragment = GENERATE(1, 2, 3, 7, 16, 31, 1 << 20);
  std::vector<std::string> messages = {"", "a", std::string(70'000, 'b'), "", "end"};
  std::string bytes;
  for (const std::string& message : messages) bytes += grpc_frame(message);
  base::ByteQueue queue;
  std::vector<std::string> got;
  for (size_t at = 0; at < bytes.size(); at += fragment) {
    queue.append(std::string_view(bytes).substr(at, fragment));
    for (;;) {
      auto message = take_grpc_message(queue, 100'000);
      REQUIRE(message);
      if (!message->has_value()) break;
      got.push_back(std::move(**message));
    }
  }
  CHECK(got == messages);
  CHECK(queue.empty());
}

TEST_CASE("too long and compressed messages are refused by their first five bytes", "[apis-30]") {
  base::ByteQueue queue;
  queue.append(std::string_view("\0\0\0\x04\x01", 5));
  auto message = take_grpc_message(queue, 1024);
  REQUIRE(!message);
  CHECK(message.error().code() == base::Code::kExhausted);
  base::ByteQueue packed;
  packed.append(std::string_view("\x01\0\0\0\x01x", 6));
  auto refused = take_grpc_message(packed, 1024);
  REQUIRE(!refused);
  CHECK(refused.error().code() == base::Code::kUnsupported);
}

TEST_CASE("grpc-message goes there and back") {
  std::string text = "100% ä\n\x01~ ";
  CHECK(grpc_percent_encode(text) == "100%25 %C3%A4%0A%01~ ");
  CHECK(grpc_percent_decode(grpc_percent_encode(text)) == text);
  CHECK(grpc_percent_decode("50%") == "50%");
  CHECK(grpc_percent_decode("%zz%4") == "%zz%4");
}

}  // namespace culvert::wire
