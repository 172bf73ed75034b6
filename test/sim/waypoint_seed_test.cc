// SPDX-License-Identifier: Apache-2.0
// The seed's VirtualService and DestinationRule, compiled from their YAML and lived through at full length.
#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "test/sim/manifests.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;

constexpr char kService[] = R"(---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: http, targetPort: 8080}]}
---
)";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size(), ++count) {
    text.replace(at, from.size(), to);
  }
  REQUIRE(count > 0);
  return text;
}

// The seed's file under the names that the world has.
std::string seed() {
  std::ifstream in(CULVERT_SEED_DIR "/virtual-service-config.yaml");
  std::stringstream text;
  text << in.rdbuf();
  return replaced(replaced(text.str(), "production", "shop"), "api-service", "api");
}

struct Seed : WaypointWorld {
  explicit Seed(const std::string& manifests) { learn(*this, kService + manifests); }
  // The subsets' own pools take the place of the whole one, and with it of its h2UpgradePolicy.
  HttpPod& add(const std::string& name, const std::string& ip, const std::string& version) {
    HttpPod& pod = add_pod(name, ip, version);
    pod.http2 = false;
    return pod;
  }
  const waypoint::RequestRecord& last() const { return telemetry.records.back(); }
};

const wire::Headers kChrome{{"user-agent", "Mozilla/5.0 Chrome/130"}};

}  // namespace

TEST_CASE("the seed's routes: canary, A/B, default", "[sim][waypoint][2.1]") {
  Seed world(seed());
  HttpPod& v1 = world.add("one", "10.0.3.1", "v1");
  HttpPod& v2 = world.add("two", "10.0.3.2", "v2");
  for (int i = 0; i < 400; ++i) CHECK(world.get("/api/v1/users").status == 200);
  // Within four standard deviations of 10 %.
  CHECK(v2.requests.size() > 40 - 24);
  CHECK(v2.requests.size() < 40 + 24);
  CHECK(v1.requests.size() + v2.requests.size() == 400);
  CHECK(world.get("/other", kChrome).body == "two");
  CHECK(world.get("/other").body == "one");
}

TEST_CASE("the seed's times: 30 s for all, 10 s for a try", "[sim][waypoint][2.1.5]") {
  SECTION("a slow try is not among what is retried when nothing is said") {
    Seed world(seed());
    world.add("one", "10.0.3.1", "v1").delay = 1h;
    base::TimePoint began = world.loop.now();
    HttpAnswer late = world.get("/other");
    CHECK(late.status == 504);
    CHECK(late.body == "upstream request timeout");
    CHECK(world.loop.now() - began >= 10s);
    CHECK(world.loop.now() - began < 11s);
    CHECK(world.last().attempts == 1);
    CHECK(world.last().flags.short_text() == "UT");
    CHECK(world.last().details == "upstream_per_try_timeout");
  }
  SECTION("where it is, three slow tries fit into the time") {
    Seed world(replaced(seed(), "perTryTimeout: 10s", "perTryTimeout: 10s\n        retryOn: gateway-error"));
    world.add("one", "10.0.3.1", "v1").delay = 1h;
    base::TimePoint began = world.loop.now();
    HttpAnswer late = world.get("/other");
    CHECK(late.status == 504);
    CHECK(world.loop.now() - began >= 30s);
    CHECK(world.loop.now() - began < 30s + 100ms);
    CHECK(world.pod("one").requests.size() == 3);
    CHECK(world.last().details == "upstream_response_timeout");
  }
  SECTION("a route without tries has its 30 s") {
    Seed world(seed());
    world.add("two", "10.0.3.2", "v2").delay = 1h;
    base::TimePoint began = world.loop.now();
    CHECK(world.get("/other", kChrome).status == 504);
    CHECK(world.loop.now() - began >= 30s);
    CHECK(world.loop.now() - began < 31s);
    CHECK(world.last().flags.short_text() == "UT");
  }
  SECTION("an answer in the last moment is an answer") {
    Seed world(seed());
    world.add("two", "10.0.3.2", "v2").delay = 29s;
    CHECK(world.get("/other", kChrome).status == 200);
  }
  SECTION("nobody there: four tries") {
    Seed world(seed());
    world.close(world.add("one", "10.0.3.1", "v1"));
    CHECK(world.get("/other").status == 503);
    CHECK(world.last().attempts == 4);
    CHECK(world.last().flags.short_text() == "UF,URX");
  }
}

TEST_CASE("the seed's outlier detection", "[sim][waypoint][2.3.4]") {
  Seed world(seed());
  HttpPod& bad = world.add("bad", "10.0.3.1", "v1");
  HttpPod& good = world.add("good", "10.0.3.2", "v1");
  bad.status = 500;
  for (int i = 0; i < 60; ++i) world.get("/other");
  // Five in a row would do, but it must have answered ten in this interval.
  CHECK(bad.requests.size() == 10);
  // Half of them may be out, and that is one.
  good.status = 500;
  for (int i = 0; i < 30; ++i) CHECK(world.get("/other").status == 500);
  CHECK(bad.requests.size() == 10);
  CHECK(good.requests.size() == 50 + 30);
  good.status = 200;
  SECTION("it is back after 30 s, looked at every 30 s") {
    bad.status = 200;
    world.loop.run_for(61s);
    for (int i = 0; i < 40; ++i) CHECK(world.get("/other").status == 200);
    CHECK(bad.requests.size() > 20);
  }
  SECTION("and out for 60 s the second time") {
    world.loop.run_for(61s);
    for (int i = 0; i < 60; ++i) world.get("/other");
    size_t again = bad.requests.size();
    CHECK(again >= 15);
    bad.status = 200;
    world.loop.run_for(45s);
    for (int i = 0; i < 40; ++i) world.get("/other");
    CHECK(bad.requests.size() == again);
    world.loop.run_for(61s);
    for (int i = 0; i < 40; ++i) world.get("/other");
    CHECK(bad.requests.size() > again);
  }
}

TEST_CASE("the seed's circuit breaker: 100 connections of 2 requests, 100 pending",
          "[sim][waypoint][2.3.3]") {
  // Routes without subsets, since the subsets have pools of their own.
  std::string whole =
      replaced(replaced(seed(), "            subset: v1\n", ""), "            subset: v2\n", "");
  Seed world(whole);
  HttpPod& pod = world.add_pod("one", "10.0.3.1", "v1");
  pod.delay = 3s;  // twice that is less than a try may take
  std::vector<HttpAnswer*> answers;
  for (int i = 0; i < 320; ++i) {
    answers.push_back(&world.send({.path = "/other"}, "web" + std::to_string(i % 4)));
  }
  world.loop.run_for(2s);
  auto count = [&](int status) {
    return std::count_if(answers.begin(), answers.end(),
                         [&](HttpAnswer* answer) { return answer->status == status; });
  };
  CHECK(pod.requests.size() == 200);
  CHECK(pod.connections == 100);
  CHECK(count(503) == 20);
  for (HttpAnswer* answer : answers) world.finish(*answer);
  CHECK(count(200) == 300);
  CHECK(count(503) == 20);
  for (HttpAnswer* answer : answers) {
    if (answer->status == 503) CHECK(answer->header("x-envoy-overloaded") == "true");
  }
  // Each connection carried its two.
  CHECK(pod.connections == 150);
  size_t overflown =
      std::count_if(world.telemetry.records.begin(), world.telemetry.records.end(),
                    [](const waypoint::RequestRecord& record) { return record.flags.short_text() == "UO"; });
  CHECK(overflown == 20);
}

}  // namespace culvert::test
