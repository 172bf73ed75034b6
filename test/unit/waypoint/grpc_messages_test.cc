// SPDX-License-Identifier: Apache-2.0
#include "waypoint/grpc_messages.h"

#include <catch2/catch.hpp>
#include <string>

using namespace culvert;
using namespace culvert::waypoint;

TEST_CASE("gRPC messages are counted at every fragment size", "[waypoint-5.1]") {
  auto message = [](std::string body) {
    std::string out(1, '\0');
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(body.size() >> shift & 0xff);
    return out + body;
  };
  std::string stream = message("one") + message("") + message(std::string(300, 'x')) + message("four");
  for (size_t size = 1; size <= stream.size(); ++size) {
    GrpcMessages messages;
    for (size_t at = 0; at < stream.size(); at += size) {
      messages.feed(base::as_bytes(std::string_view(stream).substr(at, size)));
    }
    CHECK(messages.count() == 4);
  }
  GrpcMessages cut;
  cut.feed(base::as_bytes(std::string_view(stream).substr(0, 8 + 4)));
  CHECK(cut.count() == 1);
}
