// SPDX-License-Identifier: Apache-2.0
// Mirrors: copies that nobody waits for.
#include <catch2/catch.hpp>

#include "test/sim/waypoint_world.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;

model::HttpRoute mirrored(double percent = 100) {
  model::HttpRoute route = route_to("", {{"v1", 1}});
  model::Mirror mirror;
  mirror.target.service = kApiService;
  mirror.target.subset = "v2";
  mirror.percent = percent;
  route.mirrors = {mirror};
  return route;
}

}  // namespace

TEST_CASE("a mirror gets the same request under a shadow's name", "[sim][waypoint][2.1.6]") {
  auto protocol = GENERATE(model::AppProtocol::kHttp11, model::AppProtocol::kHttp2);
  WaypointWorld world;
  world.set_protocol(protocol);
  HttpPod& real = world.add_pod("real", "10.0.3.1", "v1");
  HttpPod& shadow = world.add_pod("shadow", "10.0.3.2", "v2");
  shadow.status = 500;
  world.set_backend(versions());
  world.set_rules(rules_of({mirrored()}));
  HttpAnswer& answer = world.send({.method = "POST", .path = "/x?y=1", .body = std::string(300'000, 'b')});
  world.finish(answer);
  world.loop.run_for(1s);
  CHECK(answer.status == 200);
  CHECK(answer.body == "real");
  REQUIRE(real.requests.size() == 1);
  REQUIRE(shadow.requests.size() == 1);
  CHECK(*wire::find_header(real.requests[0], ":authority") == "api");
  CHECK(*wire::find_header(shadow.requests[0], ":authority") == "api-shadow");
  CHECK(*wire::find_header(shadow.requests[0], ":path") == "/x?y=1");
  CHECK(shadow.bytes_in == 300'000);
  CHECK(world.mirrors().sent() == 1);
  // What came back went nowhere.
  CHECK(world.telemetry.records.size() == 1);
}

TEST_CASE("mirrors are drawn", "[sim][waypoint][2.1.6]") {
  WaypointWorld world;
  world.add_pod("real", "10.0.3.1", "v1");
  HttpPod& shadow = world.add_pod("shadow", "10.0.3.2", "v2");
  world.set_backend(versions());
  SECTION("never") {
    world.set_rules(rules_of({mirrored(0)}));
    for (int i = 0; i < 20; ++i) world.get("/");
    CHECK(shadow.requests.empty());
  }
  SECTION("half") {
    world.set_rules(rules_of({mirrored(50)}));
    for (int i = 0; i < 200; ++i) world.get("/");
    world.loop.run_for(1s);
    // Within four standard deviations.
    CHECK(shadow.requests.size() > 100 - 29);
    CHECK(shadow.requests.size() < 100 + 29);
  }
}

TEST_CASE("a mirror never delays its request", "[sim][waypoint][2.1.6]") {
  WaypointWorld world;
  HttpPod& real = world.add_pod("real", "10.0.3.1", "v1");
  HttpPod& shadow = world.add_pod("shadow", "10.0.3.2", "v2");
  model::HttpRoute route = mirrored();
  world.set_backend(versions());
  SECTION("it does not answer") {
    shadow.delay = 1h;
    base::TimePoint began = world.loop.now();
    world.set_rules(rules_of({route}));
    CHECK(world.get("/").status == 200);
    CHECK(world.loop.now() - began < 1s);
    world.loop.run_for(59s);
    CHECK(world.mirrors().dropped() == 0);
    world.loop.run_for(2s);
    CHECK(world.mirrors().dropped() == 1);
  }
  SECTION("it does not read: its buffer fills, and it is given up") {
    shadow.delay = 1h;
    world.set_rules(rules_of({route}));
    HttpAnswer& answer = world.send({.method = "POST", .body = std::string(8'000'000, 'b')});
    world.finish(answer, 30s);
    CHECK(answer.status == 200);
    CHECK(real.bytes_in == 8'000'000);
    CHECK(world.mirrors().dropped() == 1);
  }
  SECTION("nobody is there") {
    world.close(shadow);
    world.set_rules(rules_of({route}));
    CHECK(world.get("/").status == 200);
    world.loop.run_for(20s);
    CHECK(world.mirrors().dropped() == 1);
  }
  SECTION("the route's time is its time, too") {
    shadow.delay = 1h;
    route.timeout = 5s;
    world.set_rules(rules_of({route}));
    CHECK(world.get("/").status == 200);
    world.loop.run_for(6s);
    CHECK(world.mirrors().dropped() == 1);
  }
}

TEST_CASE("a mirror is not sent where policies forbid it", "[sim][waypoint][2.1.6][2.6]") {
  WaypointWorld world;
  world.add_pod("real", "10.0.3.1", "v1");
  HttpPod& shadow = world.add_pod("shadow", "10.0.3.2", "v2");
  world.set_backend(versions());
  model::WaypointService rules = rules_of({mirrored()});
  auto action = GENERATE(model::HttpPolicy::Action::kDeny, model::HttpPolicy::Action::kCustom);
  rules.guard.policies = {{"shop", "closed", action, false, "", {{}}, {}, false}};
  rules.guard.policies[0].selector = model::LabelMap{{"version", "v2"}};
  world.set_rules(rules);
  CHECK(world.get("/").status == 200);
  world.loop.run_for(1s);
  CHECK(shadow.connections == 0);
  CHECK(world.mirrors().dropped() == 1);
  CHECK(world.telemetry.records.back().denied_by.empty());
}

}  // namespace culvert::test
