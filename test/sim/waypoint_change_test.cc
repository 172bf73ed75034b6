// SPDX-License-Identifier: Apache-2.0
// Manifests that change while requests are on their way: each edit holds for what comes after it, and fails
// nobody.
#include <catch2/catch.hpp>

#include "test/sim/manifests.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;

std::string manifests(int v1, int v2, int connections) {
  return "---\napiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: shop}\nspec: {clusterIP: "
         "10.96.0.1, ports: [{port: 80, name: http, targetPort: 8080}]}\n---\napiVersion: "
         "networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: api, namespace: shop}\nspec: "
         "{hosts: "
         "[api], http: [{route: [{destination: {host: api, subset: v1}, weight: " +
         std::to_string(v1) + "}, {destination: {host: api, subset: v2}, weight: " + std::to_string(v2) +
         "}]}]}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: api, "
         "namespace: shop}\nspec: {host: api, trafficPolicy: {connectionPool: {tcp: {maxConnections: " +
         std::to_string(connections) +
         "}}}, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}\n";
}

}  // namespace

TEST_CASE("a hundred edits under load", "[sim][waypoint][1.10]") {
  WaypointWorld world;
  world.add_pod("one", "10.0.3.1", "v1").delay = 30ms;
  world.add_pod("two", "10.0.3.2", "v2").delay = 30ms;
  std::vector<HttpAnswer*> answers;
  auto load = [&] {
    for (int i = 0; i < 3; ++i) answers.push_back(&world.send({}, "web" + std::to_string(i % 2)));
  };
  for (int edit = 0; edit < 100; ++edit) {
    bool second = edit % 2 == 1;
    load();  // on their way to where the last edit sent them
    learn(world, manifests(second ? 0 : 100, second ? 100 : 0, 100 + edit));
    load();
    HttpAnswer& next = world.send({}, "probe");
    world.loop.run_for(7ms);
    load();
    world.finish(next);
    CHECK(next.body == (second ? "two" : "one"));
  }
  for (HttpAnswer* answer : answers) {
    world.finish(*answer);
    CHECK(answer->status == 200);
    CHECK(answer->error.empty());
  }
  for (const waypoint::RequestRecord& record : world.telemetry.records) CHECK(record.flags.empty());
  CHECK(world.telemetry.records.size() == answers.size() + 100);
}

TEST_CASE("endpoints come and go under load", "[sim][waypoint][1.10]") {
  WaypointWorld world;
  world.add_pod("one", "10.0.3.1", "v1").delay = 30ms;
  learn(world, manifests(100, 0, 100));
  std::vector<HttpAnswer*> answers;
  for (int i = 0; i < 20; ++i) {
    world.add_pod("more-" + std::to_string(i), "10.0.4." + std::to_string(1 + i), "v1").delay = 30ms;
    for (int k = 0; k < 10; ++k) answers.push_back(&world.send({}, "web"));
    world.loop.run_for(11ms);
  }
  for (HttpAnswer* answer : answers) {
    world.finish(*answer);
    CHECK(answer->status == 200);
  }
  CHECK_FALSE(world.pod("more-0").requests.empty());
}

}  // namespace culvert::test
