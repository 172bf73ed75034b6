// SPDX-License-Identifier: Apache-2.0
// A connection through two node proxies, and days that repeat.
#include <catch2/catch.hpp>

#include "test/sim/scenes.h"

namespace culvert::test {
TEST_CASE("a connection through two node proxies", "[sim][world]") {
  World world(1);
  raise_two_nodes(world);
  CallResult& by_vip = world.call(world.pod("web"), kApi, 300'000);
  CallResult& by_ip = world.call(world.pod("web"), "10.0.2.1:8080", 100'000);
  world.finish(by_vip);
  world.finish(by_ip);
  for (CallResult* result : {&by_vip, &by_ip}) {
    INFO(result->error);
    CHECK(result->clean_end);
    CHECK(result->intact);
    CHECK(result->received == result->sent);
  }
  CHECK(by_vip.received == 300'000);
  SimPod& api = world.pod("api");
  CHECK(api.accepted == 2);
  CHECK(api.bytes_in == 400'000);
  CHECK(api.peers_seen == std::set<std::string>{"10.0.1.1"});
  CHECK(world.bytes_between > 800'000);
  for (const char* node : {"n1", "n2"}) {
    CHECK(world.metric(world.node(node), "istio_tcp_sent_bytes_total") == 400'000);
    CHECK(world.metric(world.node(node), "istio_tcp_received_bytes_total") == 400'000);
  }
  CHECK(world.logged("spiffe://cluster.local/ns/shop/sa/web"));
  world.check_end();
}

TEST_CASE("the same seed gives the same day", "[sim][world]") {
  auto day = [] {
    World world(7);
    raise_two_nodes(world);
    std::vector<std::string> seen;
    for (uint64_t bytes : {1, 5000, 70'000}) {
      CallResult& result = world.call(world.pod("web"), kApi, bytes);
      world.finish(result);
      seen.push_back(std::to_string(result.received) + " " + std::to_string(result.clean_end));
    }
    seen.push_back(std::to_string(world.network.connections_made()));
    seen.push_back(std::to_string(world.log_lines().size()));
    world.check_end();
    return seen;
  };
  CHECK(day() == day());
}

}  // namespace culvert::test
