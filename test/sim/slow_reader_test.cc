// SPDX-License-Identifier: Apache-2.0
// A server that stops reading: memory stays bounded, neighbours on the same tunnel go on, nothing is lost.
#include <catch2/catch.hpp>

#include "test/sim/scenes.h"

namespace culvert::test {

TEST_CASE("a slow reader bounds what is under way and starves nobody", "[sim][world]") {
  World world(21);
  raise_two_nodes(world);
  world.add_pod({.name = "other", .node = "n2", .ip = "10.0.2.2", .app = "api"});
  world.serve_echo(world.pod("other"), 8080);
  world.loop.run_for(std::chrono::seconds(1));
  SimPod& api = world.pod("api");
  api.reading = false;
  constexpr uint64_t kBytes = 40'000'000;
  CallResult& stuck = world.call(world.pod("web"), "10.0.2.1:8080", kBytes);
  world.loop.run_for(std::chrono::seconds(60));
  // A stream's window (4 MiB) and the buffers of both proxies and of the sockets between them.
  uint64_t under_way = stuck.sent;
  CHECK(under_way > 100'000);
  CHECK(under_way < 6u * 1024 * 1024);
  world.loop.run_for(std::chrono::minutes(30));
  CHECK(stuck.sent == under_way);
  CHECK_FALSE(stuck.done);
  // The same client and node proxies, while the other is stuck.
  CallResult& quick = world.call(world.pod("web"), "10.0.2.2:8080", 1'000'000);
  world.finish(quick, std::chrono::seconds(30));
  CHECK(quick.received == 1'000'000);
  api.reading = true;
  api.resume->set();
  world.finish(stuck, std::chrono::hours(1));
  CHECK(stuck.received == kBytes);
  CHECK(stuck.intact);
  CHECK(stuck.clean_end);
  world.check_end();
}

}  // namespace culvert::test
