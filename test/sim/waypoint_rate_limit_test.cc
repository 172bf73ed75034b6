// SPDX-License-Identifier: Apache-2.0
// Rate limits that a service counts for all replicas.
#include <catch2/catch.hpp>

#include "net/wire/grpc_frame.h"
#include "proto/rls.pb.h"
#include "test/sim/waypoint_world.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
namespace pb = envoy::service::ratelimit::v3;
using Response = pb::RateLimitResponse;

const model::NamespacedHostname kService{"rl", "ratelimit.rl.svc.cluster.local"};
constexpr uint16_t kPort = 8081;

struct LimitWorld : WaypointWorld {
  LimitWorld() {
    pod = &add_pod("api-1", "10.0.3.1", "v1");
    rls = &add_side("ratelimit", "10.0.4.1", kService, kPort);
    rls->http2 = true;
    policy.ns = "shop";
    policy.name = "p";
    policy.service = model::RateLimitService{kService, kPort, "shop", 500ms, false};
    policy.rules.resize(1);
    policy.rules[0].name = "all";
    policy.rules[0].requests = policy.rules[0].burst = 100;
    policy.rules[0].per = 1min;
    policy.rules[0].global = true;
    response.set_overall_code(Response::OK);
  }
  void publish_rules() {
    model::WaypointService rules;
    rules.guard.rate_limits = {policy};
    set_rules(rules);
    say(response);
  }
  void say(const Response& answer) {
    rls->body = wire::grpc_frame(answer.SerializeAsString());
    rls->trailers = {{"grpc-status", "0"}};
  }
  Response::DescriptorStatus& status(Response::Code code, uint32_t remaining, int64_t seconds) {
    Response::DescriptorStatus& out = *response.add_statuses();
    out.set_code(code);
    out.set_limit_remaining(remaining);
    out.mutable_duration_until_reset()->set_seconds(seconds);
    return out;
  }
  pb::RateLimitRequest asked() const {
    base::ByteQueue queue;
    queue.append(base::as_bytes(rls->bodies.back()));
    pb::RateLimitRequest request;
    REQUIRE(request.ParseFromString(**wire::take_grpc_message(queue, 1 << 20)));
    return request;
  }
  const waypoint::RequestRecord& last() { return telemetry.records.back(); }

  HttpPod* pod = nullptr;
  HttpPod* rls = nullptr;
  model::RateLimitPolicy policy;
  Response response;
};

std::string header(const wire::Headers& headers, std::string_view name) {
  const std::string* found = wire::find_header(headers, name);
  return found ? *found : "";
}

}  // namespace

TEST_CASE("a service is asked about all global rules at once, and its figures are shown",
          "[sim][waypoint][4.3]") {
  using Kind = model::RateLimitKey::Kind;
  LimitWorld world;
  world.policy.rules[0].key = {{Kind::kSourcePrincipal, ""}, {Kind::kHeader, "x-user"}, {Kind::kQuery, "k"}};
  model::RateLimitRule second = world.policy.rules[0];
  second.name = "second";
  second.key.clear();
  second.per = 1h;
  second.cost = 3;
  world.policy.rules.push_back(second);
  world.policy.headers = model::RateLimitPolicy::HeaderStyle::kBoth;
  world.status(Response::OK, 70, 30);
  auto& tight = world.status(Response::OK, 5, 1800);
  tight.mutable_current_limit()->set_requests_per_unit(50);
  tight.mutable_current_limit()->set_unit(Response::RateLimit::LIMIT_DAY);
  auto* more = world.response.add_response_headers_to_add();
  more->set_key("X-Quota");
  more->set_value("plenty");
  auto* up = world.response.add_request_headers_to_add();
  up->set_key("x-plan");
  up->set_value("gold");
  world.publish_rules();

  HttpAnswer answer = world.get("/", {{"x-user", "ada"}});
  CHECK(answer.status == 200);
  CHECK(answer.header("ratelimit-policy") == "\"second\";q=50;w=86400");
  CHECK(answer.header("ratelimit") == "\"second\";r=5;t=1800");
  CHECK(answer.header("x-ratelimit-limit") == "50");
  CHECK(answer.header("x-quota") == "plenty");
  CHECK(header(world.pod->requests.back(), "x-plan") == "gold");
  CHECK(header(world.rls->requests.back(), ":path") ==
        "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
  pb::RateLimitRequest asked = world.asked();
  CHECK(asked.domain() == "shop");
  CHECK(asked.hits_addend() == 0);
  REQUIRE(asked.descriptors_size() == 2);
  std::vector<std::string> entries;
  for (const auto& entry : asked.descriptors(0).entries())
    entries.push_back(entry.key() + "=" + entry.value());
  CHECK(entries == std::vector<std::string>{"policy=shop/p/all",
                                            "source_principal=cluster.local/ns/shop/sa/web",
                                            "header.x-user=ada", "query.k=-"});
  CHECK(asked.descriptors(0).limit().requests_per_unit() == 100);
  CHECK(asked.descriptors(0).limit().unit() == pb::MINUTE);
  CHECK(asked.descriptors(0).hits_addend().value() == 1);
  CHECK(asked.descriptors(1).limit().unit() == pb::HOUR);
  CHECK(asked.descriptors(1).hits_addend().value() == 3);
  CHECK(world.telemetry.questions == std::vector<std::string>{"rl/ratelimit.rl.svc.cluster.local ok"});
}

TEST_CASE("OVER_LIMIT refuses, and gives back what was charged here", "[sim][waypoint][4.3][6]") {
  LimitWorld world;
  model::RateLimitRule local = world.policy.rules[0];
  local.name = "local";
  local.global = false;
  local.requests = local.burst = 1;
  local.per = 1h;
  world.policy.rules.push_back(local);
  bool alone = GENERATE(false, true);  // without a word on each rule
  world.response.set_overall_code(Response::OVER_LIMIT);
  if (!alone) world.status(Response::OVER_LIMIT, 0, 42);
  world.response.set_raw_body(alone ? "" : "slow down");
  world.publish_rules();
  for (int i = 0; i < 3; ++i) {
    HttpAnswer refused = world.get("/");
    CHECK(refused.status == 429);
    CHECK(refused.body == (alone ? "" : "slow down"));
    CHECK(refused.header("x-envoy-ratelimited") == "true");
    CHECK(refused.header("retry-after") == (alone ? "60" : "42"));
    CHECK(refused.header("ratelimit") == (alone ? "\"all\";r=0;t=60" : "\"all\";r=0;t=42"));
    CHECK(world.last().flags.short_text() == "RL");
    CHECK(world.last().details == "request_rate_limited");
  }
  CHECK(world.pod->requests.empty());
  CHECK(world.telemetry.questions.size() == 3);
  world.response.Clear();
  world.response.set_overall_code(Response::OK);
  world.say(world.response);
  CHECK(world.get("/").status == 200);
  // Refused by its own count, a request is nobody else's matter.
  CHECK(world.get("/").status == 429);
  CHECK(world.last().details == "local_rate_limited");
  CHECK(world.telemetry.questions.size() == 4);
}

TEST_CASE("what is refused in shadow passes", "[sim][waypoint][4.3]") {
  LimitWorld world;
  world.policy.shadow = true;
  world.policy.service->deny_on_failure = true;
  world.response.set_overall_code(Response::OVER_LIMIT);
  world.publish_rules();
  CHECK(world.get("/").status == 200);
  CHECK(world.telemetry.questions.back() == "rl/ratelimit.rl.svc.cluster.local over_limit");
  world.rls->delay = 10s;
  CHECK(world.get("/").status == 200);
}

TEST_CASE("a service that fails lets pass or refuses, and is left alone for a while",
          "[sim][waypoint][4.3]") {
  LimitWorld world;
  bool deny = GENERATE(false, true);
  world.policy.service->deny_on_failure = deny;
  world.publish_rules();
  SECTION("it is late") { world.rls->delay = 10s; }
  SECTION("it is gone") { world.close(*world.rls); }
  SECTION("its answer is none") { world.say(Response()); }
  auto ask = [&] {
    HttpAnswer answer = world.get("/");
    CHECK(answer.status == (deny ? 503 : 200));
    if (deny) {
      CHECK(answer.header("retry-after") == "1");
      CHECK(world.last().details == "rate_limiter_error");
    }
    CHECK(world.last().flags.short_text() == (deny ? "RLSE" : "-"));
    return answer;
  };
  for (int i = 0; i < 5; ++i) ask();
  base::TimePoint begun = world.loop.now();
  size_t before = world.rls->requests.size();
  ask();
  CHECK(world.loop.now() - begun < 100ms);
  CHECK(world.rls->requests.size() == before);
  // After the pause one call decides again.
  world.loop.run_for(1s);
  ask();
  begun = world.loop.now();
  ask();
  CHECK(world.loop.now() - begun < 100ms);
}

TEST_CASE("a service that has come back is asked again", "[sim][waypoint][4.3]") {
  LimitWorld world;
  world.publish_rules();
  world.rls->delay = 10s;
  for (int i = 0; i < 6; ++i) world.get("/");
  world.rls->delay = 0s;
  world.loop.run_for(1100ms);
  size_t before = world.rls->requests.size();
  for (int i = 0; i < 3; ++i) CHECK(world.get("/").status == 200);
  CHECK(world.rls->requests.size() == before + 3);
  CHECK(world.telemetry.questions.back() == "rl/ratelimit.rl.svc.cluster.local ok");
}

TEST_CASE("of a service without HTTP new connections are counted", "[sim][waypoint][4.2]") {
  using Kind = model::RateLimitKey::Kind;
  WaypointWorld world;
  world.set_protocol(model::AppProtocol::kTcp);
  HttpPod& pod = world.add_pod("api-1", "10.0.3.1", "v1");
  model::RateLimitPolicy policy;
  policy.ns = "shop";
  policy.name = "p";
  policy.rules.resize(2);
  policy.rules[0].name = "each";
  policy.rules[0].key = {{Kind::kSourcePrincipal, ""}};
  policy.rules[0].requests = policy.rules[0].burst = 2;
  policy.rules[0].per = 1h;
  // Of HTTP, and nothing to connections.
  policy.rules[1] = policy.rules[0];
  policy.rules[1].name = "paths";
  policy.rules[1].key = {{Kind::kPath, ""}};
  policy.rules[1].requests = policy.rules[1].burst = 1;
  model::WaypointService rules;
  rules.guard.rate_limits = {policy};
  world.set_rules(rules);
  const std::string request = "GET / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";
  CHECK_FALSE(world.raw(request).empty());
  CHECK_FALSE(world.raw(request).empty());
  CHECK(world.raw(request).empty());
  REQUIRE_FALSE(world.telemetry.records.empty());
  CHECK(world.telemetry.records.back().flags.short_text() == "RL");
  CHECK(world.telemetry.records.back().details == "local_rate_limited");
  CHECK(pod.connections == 2);
  CHECK_FALSE(world.raw(request, "other").empty());
}

TEST_CASE("headers of limits stand beside those of CORS", "[sim][waypoint][4.3]") {
  LimitWorld world;
  model::HttpRoute route = route_to("", {{"", 1}});
  route.cors = model::Cors{};
  route.cors->origins = {model::TextMatch::exact("https://shop.example")};
  model::WaypointService rules = rules_of({route});
  rules.guard.rate_limits = {world.policy};
  rules.guard.rate_limits[0].rules[0].global = false;
  world.set_rules(rules);
  HttpAnswer answer = world.get("/", {{"origin", "https://shop.example"}});
  CHECK(answer.header("access-control-allow-origin") == "https://shop.example");
  CHECK(answer.header("ratelimit") == "\"all\";r=99;t=1");
}

}  // namespace culvert::test
