// SPDX-License-Identifier: Apache-2.0
// The control plane goes and comes back, certificates rotate meanwhile (spec ztunnel sections 8 and 9).
#include <catch2/catch.hpp>

#include "test/sim/scenes.h"

namespace culvert::test {
namespace {

CallResult& call_api(World& world) {
  CallResult& result = world.call(world.pod("web"), kApi, 3000);
  world.finish(result);
  return result;
}

}  // namespace

TEST_CASE("certificates rotate for an hour without a failed connection", "[sim][world]") {
  World world(31, std::chrono::minutes(10));
  raise_two_nodes(world);
  for (int minute = 0; minute < 60; ++minute) {
    INFO("minute " << minute);
    CHECK(call_api(world).received == 3000);
    world.loop.run_for(std::chrono::minutes(1));
  }
  world.check_end();
}

TEST_CASE("traffic goes on without a control plane, and changes flow once it is back", "[sim][world]") {
  World world(32);
  raise_two_nodes(world);
  world.stop_control();
  for (int minute = 0; minute < 5; ++minute) {
    CHECK(call_api(world).received == 3000);
    world.loop.run_for(std::chrono::minutes(1));
  }
  // What is written while it is away holds once it is back.
  world.put("policy", R"(
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {selector: {matchLabels: {app: api}}}
)");
  CHECK(call_api(world).received == 3000);
  world.start_control();
  world.loop.run_for(std::chrono::seconds(30));
  CHECK(call_api(world).received == 0);
  world.put("policy", "");
  world.loop.run_for(std::chrono::seconds(1));
  CHECK(call_api(world).received == 3000);
  world.check_end();
}

TEST_CASE("expired certificates refuse in words, and come back with the control plane", "[sim][world]") {
  World world(33, std::chrono::minutes(10));
  raise_two_nodes(world);
  CHECK(call_api(world).received == 3000);
  world.stop_control();
  world.loop.run_for(std::chrono::minutes(30));
  CallResult& refused = call_api(world);
  CHECK(refused.received == 0);
  CHECK(world.plaintext_runs == 0);  // nothing falls back to plaintext
  world.start_control();
  world.loop.run_for(std::chrono::minutes(5));
  CHECK(call_api(world).received == 3000);
  world.check_end();
}

}  // namespace culvert::test
