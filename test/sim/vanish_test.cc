// SPDX-License-Identifier: Apache-2.0
// Every party vanishes at every moment of a connection's life: nothing may hang, leak, or reach the wrong
// place, and what is left of the mesh goes on.
#include <catch2/catch.hpp>
#include <functional>

#include "test/sim/scenes.h"

namespace culvert::test {
namespace {

// Runs `steps` moments of virtual time; false if there were fewer until `done`.
bool run_steps(World& world, size_t steps, const std::function<bool()>& done) {
  size_t seen = 0;
  bool ended = false;
  world.loop.run_until([&] {
    ended = done();
    return ended || seen++ >= steps;
  });
  return !ended;
}

struct Party {
  const char* name;
  void (*vanish)(World&);
  void (*come_back)(World&);  // null: it does not
};

const Party kParties[] = {
    {"client pod", [](World& world) { world.delete_pod("web"); }, nullptr},
    {"server pod", [](World& world) { world.delete_pod("api"); }, nullptr},
    {"the client's node proxy", [](World& world) { world.kill_proxy(world.node("n1")); },
     [](World& world) { world.start_proxy(world.node("n1")); }},
    {"the server's node proxy", [](World& world) { world.kill_proxy(world.node("n2")); },
     [](World& world) { world.start_proxy(world.node("n2")); }},
    {"control plane", [](World& world) { world.stop_control(); },
     [](World& world) { world.start_control(); }},
    {"the link", [](World& world) { world.pod("api").host->set_silent(true); },
     [](World& world) { world.pod("api").host->set_silent(false); }},
    {"every connection of the server's node",
     [](World& world) { world.network.reset_connections(*world.pod("api").host); }, nullptr},
};

// A connection from its first moment to its last, with one removal at moment `at`. False once there is no
// such moment.
bool day(const Party& party, size_t at) {
  // Small segments, one after the other: many moments.
  World world(1000 + at, std::chrono::hours(24),
              {.latency = std::chrono::microseconds(200),
               .segment_gap = std::chrono::microseconds(7),
               .buffer_bytes = 8192,
               .fragment_bytes = 1000});
  raise_two_nodes(world);
  CallResult& result = world.call(world.pod("web"), kApi, 40'000);
  bool reached = run_steps(world, at, [&] { return result.done; });
  INFO(party.name << " vanishes at moment " << at);
  party.vanish(world);
  // Long enough for keepalives to notice silence.
  world.loop.run_for(std::chrono::minutes(2));
  CHECK(result.intact);
  if (party.come_back) {
    party.come_back(world);
    world.settle();
    world.loop.run_for(std::chrono::seconds(30));
    CallResult& after = world.call(world.pod("web"), kApi, 5000);
    world.finish(after);
    INFO(after.error);
    CHECK(after.received == 5000);
    CHECK(after.clean_end);
  }
  world.check_end();
  return reached;
}

}  // namespace

TEST_CASE("each party vanishes at each moment", "[sim][world]") {
  for (const Party& party : kParties) {
    SECTION(party.name) {
      size_t moments = 0;
      while (moments < 10'000 && day(party, moments)) ++moments;
      CHECK(moments > 30);
    }
  }
}

}  // namespace culvert::test
