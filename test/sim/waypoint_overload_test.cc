// SPDX-License-Identifier: Apache-2.0
// What a waypoint answers when it has more than it can do, instead of collapsing.
#include <catch2/catch.hpp>

#include "test/sim/waypoint_world.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
using waypoint::Overload;

int count(const std::vector<HttpAnswer*>& answers, int status) {
  return static_cast<int>(std::count_if(answers.begin(), answers.end(),
                                        [&](HttpAnswer* answer) { return answer->status == status; }));
}

}  // namespace

TEST_CASE("requests beyond the bound are refused at once, exactly", "[sim][waypoint][7.6]") {
  WaypointWorld world(1, {100, 6});
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  pod.delay = 10s;
  std::vector<HttpAnswer*> answers;
  // Three of each, since one client alone may not have them all.
  for (int i = 0; i < 4; ++i) {
    for (const char* account : {"web", "batch"}) answers.push_back(&world.send({}, account));
  }
  base::TimePoint began = world.loop.now();
  world.loop.run_until([&] { return count(answers, 503) == 2; }, 1min);
  CHECK(world.loop.now() - began < 1s);
  CHECK(world.overload().requests() == 6);
  for (HttpAnswer* answer : answers) world.finish(*answer);
  CHECK(count(answers, 200) == 6);
  CHECK(count(answers, 503) == 2);
  for (HttpAnswer* answer : answers) {
    if (answer->status != 503) continue;
    CHECK(answer->body == "envoy overloaded");
  }
  CHECK(world.telemetry.records.front().flags.short_text() == "OM");
  CHECK(world.telemetry.records.front().details == "overload");
  CHECK(pod.requests.size() == 6);
  CHECK(world.overload().requests() == 0);
  CHECK(world.overload().refused_requests() == 2);
  CHECK(world.get("/").status == 200);
}

TEST_CASE("one client cannot have everything when it is tight", "[sim][waypoint][7.6]") {
  WaypointWorld world(1, {100, 10});
  world.add_pod("a", "10.0.3.1", "v1").delay = 10s;
  std::vector<HttpAnswer*> greedy, modest;
  for (int i = 0; i < 5; ++i) greedy.push_back(&world.send({}, "greedy"));
  for (int i = 0; i < 3; ++i) modest.push_back(&world.send({}, "modest"));
  world.loop.run_for(1s);
  for (int i = 0; i < 3; ++i) greedy.push_back(&world.send({}, "greedy"));
  world.loop.run_for(1s);
  modest.push_back(&world.send({}, "modest"));
  for (HttpAnswer* answer : greedy) world.finish(*answer);
  for (HttpAnswer* answer : modest) world.finish(*answer);
  CHECK(count(greedy, 503) == 3);
  CHECK(count(modest, 200) == 4);
}

TEST_CASE("memory that runs out refuses in steps, and takes back", "[sim][waypoint][7.6]") {
  WaypointWorld world;
  world.add_pod("a", "10.0.3.1", "v1");
  world.overload().set_memory(79, 100);
  CHECK(world.get("/").header("connection").empty());
  world.overload().set_memory(80, 100);
  CHECK(world.raw("GET / HTTP/1.1\r\nhost: api\r\n\r\n").find("\r\nconnection: close\r\n") !=
        std::string::npos);
  world.overload().set_memory(90, 100);
  CHECK(world.connect("10.96.0.1:80") == 503);
  CHECK(world.telemetry.refusals.back() == "overloaded");
  world.overload().set_memory(95, 100);
  CHECK(world.connect("10.96.0.1:80", "stranger") != 200);
  CHECK(world.overload().refused_connections() == 1);
  world.overload().set_memory(50, 100);
  CHECK(world.get("/").status == 200);
  world.overload().set_memory(100, 0);
  CHECK(world.get("/").status == 200);
}

TEST_CASE("an open connection ends behind its answer when memory runs out", "[sim][waypoint][7.6]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  pod.delay = 1s;
  // Two requests on one connection; memory runs out between them.
  std::string bytes = "GET /1 HTTP/1.1\r\nhost: api\r\n\r\nGET /2 HTTP/1.1\r\nhost: api\r\n\r\n";
  async::CallTimer timer([&] { world.overload().set_memory(90, 100); });
  world.loop.arm(timer, world.loop.now() + 500ms);
  std::string answer = world.raw(bytes);
  CHECK_THAT(answer, Catch::StartsWith("HTTP/1.1 200 OK\r\n"));
  CHECK(pod.requests.size() == 1);
}

TEST_CASE("connections beyond the bound are not taken", "[sim][waypoint][7.6]") {
  WaypointWorld world(1, {2, 100});
  world.add_pod("a", "10.0.3.1", "v1");
  CHECK(world.connect("10.96.0.1:80", "one") == 200);
  CHECK(world.connect("10.96.0.1:80", "two") == 200);
  CHECK(world.connect("10.96.0.1:80", "three") != 200);
  CHECK(world.connect("10.96.0.1:80", "one") == 200);
  CHECK(world.overload().connections() == 2);
  CHECK(world.overload().refused_connections() == 1);
}

TEST_CASE("a loop that comes late to its timers says so until it is on time", "[waypoint][7.6]") {
  SimLoop loop;
  waypoint::LagWatch watch(loop);
  base::TimePoint due = loop.now();
  watch.look(due, due + 200ms);
  CHECK_FALSE(watch.late());
  watch.look(due, due + 201ms);
  CHECK(watch.late());
  loop.run_for(150ms);
  CHECK_FALSE(watch.late());
}

TEST_CASE("what a control group allows", "[waypoint][7.6]") {
  CHECK(waypoint::cgroup_memory_bound("max\n") == 0);
  CHECK(waypoint::cgroup_memory_bound("") == 0);
  CHECK(waypoint::cgroup_memory_bound("536870912\n") == 536870912);
}

}  // namespace culvert::test
