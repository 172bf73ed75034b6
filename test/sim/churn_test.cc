// SPDX-License-Identifier: Apache-2.0
// Pods come and go and addresses pass from one to the next: no byte may reach a pod it was not meant for.
#include <catch2/catch.hpp>

#include "net/base/rng.h"
#include "test/sim/scenes.h"

namespace culvert::test {

TEST_CASE("addresses are reused under load", "[sim][world]") {
  uint64_t seed = GENERATE(41, 42, 43, 44, 45, 46);
  World world(seed);
  raise_two_nodes(world);
  base::Rng chance(seed);
  uint64_t good = 0, misdelivered = 0;
  std::vector<CallResult*> calls;
  for (int round = 0; round < 12; ++round) {
    // A thief takes the address of the server that has just gone, on either node, with or without the mesh.
    std::string thief = "thief" + std::to_string(round);
    calls.push_back(&world.call(world.pod("web"), kApi, 20'000, std::chrono::milliseconds(chance.below(5))));
    world.loop.run_for(base::Duration(static_cast<int64_t>(chance.below(20'000'000))));
    world.delete_pod("api");
    if (chance.below(2) == 0)
      world.loop.run_for(base::Duration(static_cast<int64_t>(chance.below(2'000'000))));
    bool enrolled = chance.below(3) != 0;
    world.add_pod(
        {.name = thief, .node = chance.below(2) == 0 ? "n1" : "n2", .ip = "10.0.2.1", .enrolled = enrolled});
    world.serve_echo(world.pod(thief), 8080);
    calls.push_back(&world.call(world.pod("web"), kApi, 20'000));
    world.loop.run_for(base::Duration(static_cast<int64_t>(chance.below(50'000'000))));
    world.delete_pod(thief);
    world.add_pod({.name = "api", .node = "n2", .ip = "10.0.2.1"});
    world.serve_echo(world.pod("api"), 8080);
    world.loop.run_for(std::chrono::seconds(5));
    CallResult& settled = world.call(world.pod("web"), kApi, 20'000);
    world.finish(settled);
    INFO("round " << round << ": " << settled.error);
    CHECK(settled.received == 20'000);
    good += settled.received == 20'000;
  }
  for (const SimPod* gone : world.gone()) {
    if (gone->spec.name.starts_with("thief")) misdelivered += gone->bytes_in;
  }
  CHECK(misdelivered == 0);
  CHECK(good == 12);
  for (CallResult* result : calls) CHECK(result->intact);
  world.check_end();
}

}  // namespace culvert::test
