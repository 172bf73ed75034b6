// SPDX-License-Identifier: Apache-2.0
// What refuses at a waypoint: CUSTOM policies, and what CORS preflights may skip.
#include <catch2/catch.hpp>

#include "test/sim/waypoint_world.h"

namespace culvert::test {
namespace {

model::HttpPolicy policy_of(model::HttpPolicy::Action action, model::HttpRule rule) {
  model::HttpPolicy policy{"shop", "outside", action, false, "", {std::move(rule)}, {}, false};
  if (action == model::HttpPolicy::Action::kCustom) policy.provider = "opa";
  return policy;
}

model::WaypointService guarded(model::HttpPolicy policy) {
  model::WaypointService rules;
  rules.guard.policies = {std::move(policy)};
  return rules;
}

}  // namespace

TEST_CASE("a CUSTOM policy whose provider is not known refuses what it covers", "[sim][waypoint][2.6.6]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  model::HttpRule rule;
  rule.to.resize(1);
  rule.to[0].paths.any = {model::TextMatch::prefix("/admin")};
  model::HttpPolicy policy = policy_of(model::HttpPolicy::Action::kCustom, rule);
  if (GENERATE(false, true)) policy.selector = model::LabelMap{{"app", "api"}};
  world.set_rules(guarded(policy));
  CHECK(world.get("/open").status == 200);
  HttpAnswer refused = world.get("/x/../admin");
  CHECK(refused.status == 403);
  CHECK(refused.body.empty());
  CHECK(world.telemetry.records.back().flags.short_text() == "UAEX");
  CHECK(world.telemetry.records.back().details == "ext_authz_error");
  CHECK(world.telemetry.records.back().denied_by == "ns[shop]-policy[outside]-rule[0]");
  CHECK(pod.requests.size() == 1);

  // A dry run asks nobody and refuses nobody.
  policy.dry_run = true;
  world.set_rules(guarded(policy));
  CHECK(world.get("/admin").status == 200);
}

TEST_CASE("a CUSTOM rule that speaks of tokens is asked about whatever the token", "[sim][waypoint][2.6.6]") {
  // It comes before tokens are looked at, so that a provider sees them as they were sent.
  WaypointWorld world;
  world.add_pod("a", "10.0.3.1", "v1");
  model::HttpRule rule;
  model::Condition condition;
  condition.key = model::Condition::Key::kRequestClaim;
  condition.path = {"role"};
  condition.values.any = {model::TextMatch::exact("admin")};
  rule.when = {condition};
  rule.from.resize(1);
  rule.from[0].request_principals.any = {model::TextMatch::exact("issuer/sub")};
  world.set_rules(guarded(policy_of(model::HttpPolicy::Action::kCustom, rule)));
  CHECK(world.get("/").status == 403);
}

TEST_CASE("a CUSTOM policy on a connection without HTTP refuses it", "[sim][waypoint][2.6.4]") {
  WaypointWorld world;
  world.set_protocol(model::AppProtocol::kTcp);
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  model::HttpRule rule;
  rule.to.resize(1);
  rule.to[0].paths.any = {model::TextMatch::prefix("/admin")};
  world.set_rules(guarded(policy_of(model::HttpPolicy::Action::kCustom, rule)));
  CHECK(world.raw("GET / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n").empty());
  CHECK(pod.connections == 0);
  // The client's tunnel may have come again.
  REQUIRE_FALSE(world.telemetry.records.empty());
  CHECK(world.telemetry.records.back().flags.has(waypoint::Flag::kExternalDenied));
}

TEST_CASE("a preflight needs no token and is charged no limit, but policies hold",
          "[sim][waypoint][1.9][4.3]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  model::HttpRoute route = route_to("", {{"", 1}});
  route.cors = model::Cors{};
  route.cors->origins = {model::TextMatch::exact("https://shop.example")};
  route.cors->methods = {"GET", "PUT"};
  model::WaypointService rules = rules_of({route});
  model::RateLimitPolicy limits;
  limits.ns = "shop";
  limits.name = "one";
  limits.rules.resize(1);
  limits.rules[0].name = "one";
  limits.rules[0].requests = limits.rules[0].burst = 1;
  limits.rules[0].per = std::chrono::hours(1);
  rules.guard.rate_limits = {limits};
  model::RequestAuthentication authentication;
  authentication.ns = "shop";
  authentication.name = "tokens";
  authentication.rules.resize(1);
  authentication.rules[0].issuer = "issuer";
  authentication.rules[0].places = {{model::TokenPlace::Kind::kHeader, "authorization", "Bearer "}};
  rules.guard.authentications = {authentication};
  world.set_rules(rules);
  wire::Headers asked{{"origin", "https://shop.example"},
                      {"access-control-request-method", "PUT"},
                      {"authorization", "Bearer nonsense"}};
  for (int i = 0; i < 3; ++i) {
    HttpAnswer& answer = world.send({.method = "OPTIONS", .path = "/", .headers = asked});
    world.finish(answer);
    CHECK(answer.status == 200);
    CHECK(answer.header("access-control-allow-origin") == "https://shop.example");
    CHECK(answer.header("access-control-allow-methods") == "GET,PUT");
  }
  CHECK(pod.requests.empty());
  CHECK(world.get("/", {{"authorization", "Bearer nonsense"}}).status == 401);
  CHECK(world.get("/").status == 200);
  CHECK(world.get("/").status == 429);

  model::HttpRule rule;
  rule.to.resize(1);
  rule.to[0].methods.any = {model::TextMatch::exact("OPTIONS")};
  rules.guard.policies = {policy_of(model::HttpPolicy::Action::kDeny, rule)};
  world.set_rules(rules);
  HttpAnswer& denied = world.send({.method = "OPTIONS", .path = "/", .headers = asked});
  world.finish(denied);
  CHECK(denied.status == 403);
}

}  // namespace culvert::test
