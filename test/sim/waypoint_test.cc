// SPDX-License-Identifier: Apache-2.0
// A waypoint's whole data path, from the CONNECT to the endpoint and back.
#include <catch2/catch.hpp>

#include "test/sim/waypoint_world.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
using waypoint::Flag;

}  // namespace

TEST_CASE("an authority is resolved before it is answered", "[sim][waypoint][R1.1][R1.4]") {
  WaypointWorld world;
  world.add_pod("a", "10.0.3.1", "v1");
  CHECK(world.connect("10.96.0.1:80") == 200);
  CHECK(world.connect("api.shop.svc.cluster.local:80") == 200);
  CHECK(world.connect("10.96.0.1:81") == 404);
  CHECK(world.connect("10.96.0.2:80") == 404);
  CHECK(world.connect("10.0.3.1:8080") == 404);
  CHECK(world.connect("127.0.0.1:15000") == 404);
  CHECK(world.connect("nonsense") == 400);
  CHECK(world.connect("10.96.0.1:80", "waypoint") == 508);
  CHECK(world.telemetry.refusals.size() == 6);
}

TEST_CASE("without routes requests go to the service's endpoints, in all versions", "[sim][waypoint]") {
  bool client_http2 = GENERATE(false, true);
  auto protocol = GENERATE(model::AppProtocol::kHttp11, model::AppProtocol::kHttp2);
  WaypointWorld world;
  world.set_protocol(protocol);
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  HttpAnswer& answer = world.send({.path = "/x/../y?q=1", .http2 = client_http2});
  world.finish(answer);
  INFO(answer.error);
  CHECK(answer.status == 200);
  CHECK(answer.body == "a");
  CHECK(answer.header("server") == "istio-envoy");
  CHECK_FALSE(answer.header("x-envoy-upstream-service-time").empty());
  REQUIRE(pod.requests.size() == 1);
  CHECK(*wire::find_header(pod.requests[0], ":path") == "/y?q=1");
  CHECK(wire::find_header(pod.requests[0], "x-request-id"));
  REQUIRE(world.telemetry.records.size() == 1);
  const waypoint::RequestRecord& record = world.telemetry.records[0];
  CHECK(record.status == 200);
  CHECK(record.flags.empty());
  CHECK(record.details == "via_upstream");
  CHECK(record.upstream->name == "a");
}

TEST_CASE("a canary by weight, and an A/B by header", "[sim][waypoint][2.1]") {
  WaypointWorld world(99);
  HttpPod& v1 = world.add_pod("one", "10.0.3.1", "v1");
  HttpPod& v2 = world.add_pod("two", "10.0.3.2", "v2");
  model::HttpRoute chrome = route_to("", {{"v2", 1}});
  model::RouteMatch match;
  match.headers = {
      {"user-agent", *model::TextMatch::make(model::TextMatch::Kind::kRegex, ".*Chrome.*"), false}};
  chrome.matches = {match};
  world.set_backend(versions());
  world.set_rules(
      rules_of({route_to("/api/v1", {{"v1", 90}, {"v2", 10}}), chrome, route_to("", {{"v1", 1}})}));
  for (int i = 0; i < 500; ++i) CHECK(world.get("/api/v1/users").status == 200);
  // Within four standard deviations of 10 %.
  CHECK(v2.requests.size() > 50 - 27);
  CHECK(v2.requests.size() < 50 + 27);
  CHECK(v1.requests.size() + v2.requests.size() == 500);
  CHECK(world.get("/other", {{"user-agent", "Mozilla Chrome/1"}}).body == "two");
  CHECK(world.get("/other").body == "one");
  world.set_rules(rules_of({route_to("/only", {{"v1", 1}})}));
  HttpAnswer lost = world.get("/other");
  CHECK(lost.status == 404);
  CHECK(world.telemetry.records.back().flags.has(Flag::kNoRoute));
}

TEST_CASE("retries go elsewhere, within the route's time", "[sim][waypoint][2.1.5]") {
  WaypointWorld world;
  HttpPod& bad = world.add_pod("bad", "10.0.3.1", "v1");
  world.add_pod("good", "10.0.3.2", "v1");
  model::HttpRoute route = route_to("", {{"", 1}});
  route.timeout = 30s;
  route.retries = model::RetryPolicy{};
  route.retries->attempts = 3;
  route.retries->per_try_timeout = 10s;
  route.retries->on = model::kRetry5xx;
  world.set_rules(rules_of({route}));
  SECTION("a reset before the answer") {
    bad.break_off = true;
    for (int i = 0; i < 10; ++i) CHECK(world.get("/").body == "good");
  }
  SECTION("a 503") {
    bad.status = 503;
    for (int i = 0; i < 10; ++i) CHECK(world.get("/").status == 200);
    HttpAnswer& posted = world.send({.method = "POST", .body = std::string(100'000, 'x')});
    world.finish(posted);
    CHECK(posted.body == "good");
  }
  SECTION("at most three slow tries fit") {
    world.pod("good").delay = bad.delay = 60s;
    base::TimePoint began = world.loop.now();
    HttpAnswer late = world.get("/");
    CHECK(late.status == 504);
    CHECK(late.body == "upstream request timeout");
    CHECK(world.loop.now() - began >= 30s);
    CHECK(world.loop.now() - began < 31s);
    CHECK(world.telemetry.records.back().flags.has(Flag::kUpstreamTimeout));
    CHECK(world.telemetry.records.back().details == "upstream_response_timeout");
  }
  SECTION("the last try's own time is up") {
    world.pod("good").delay = bad.delay = 60s;
    route.timeout = 0s;
    world.set_rules(rules_of({route}));
    CHECK(world.get("/").status == 504);
    CHECK(world.telemetry.records.back().details == "upstream_per_try_timeout");
    CHECK(world.telemetry.records.back().flags.short_text() == "URX,UT");
  }
  SECTION("nobody is there") {
    world.close(bad);
    world.close(world.pod("good"));
    HttpAnswer none = world.get("/");
    CHECK(none.status == 503);
    CHECK(none.body.starts_with("upstream connect error or disconnect/reset before headers."));
    CHECK(world.telemetry.records.back().flags.short_text() == "UF,URX");
    CHECK(world.telemetry.records.back().attempts == 4);
  }
}

TEST_CASE("policies deny at the waypoint with the client's own identity", "[sim][waypoint][2.6]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  model::HttpPolicy policy{"shop", "readers", model::HttpPolicy::Action::kAllow, false, "", {}, {}, false};
  model::HttpRule rule;
  rule.from.resize(1);
  rule.from[0].principals.any = {model::TextMatch::exact("cluster.local/ns/shop/sa/web")};
  rule.to.resize(1);
  rule.to[0].methods.any = {model::TextMatch::exact("GET")};
  rule.to[0].paths.any = {model::TextMatch::prefix("/api/")};
  policy.rules = {rule};
  bool by_selector = GENERATE(false, true);
  if (by_selector) policy.selector = model::LabelMap{{"app", "api"}};
  model::WaypointService rules;
  rules.guard.policies = {policy};
  world.set_rules(rules);
  CHECK(world.get("/api/x").status == 200);
  size_t served = pod.requests.size();
  for (auto& [path, account] :
       std::vector<std::pair<const char*, const char*>>{{"/admin", "web"},
                                                        {"/api/x", "intruder"},
                                                        {"/api/../admin", "web"},
                                                        {"/api/%2e%2e/admin", "web"}}) {
    HttpAnswer denied = world.get(path, {}, account);
    CHECK(denied.status == 403);
    CHECK(denied.body == "RBAC: access denied");
    CHECK(world.telemetry.records.back().details == "rbac_access_denied_matched_policy[none]");
    CHECK(world.telemetry.records.back().denied_by == "no ALLOW policy holds");
  }
  HttpAnswer& posted = world.send({.method = "POST", .path = "/api/x", .body = "x"});
  world.finish(posted);
  CHECK(posted.status == 403);
  CHECK(pod.requests.size() == served);
}

TEST_CASE("policies by selector mean the endpoint's port, and wait for its labels",
          "[sim][waypoint][2.6.5]") {
  WaypointWorld world;
  model::HttpPolicy policy;
  policy.ns = "shop";
  policy.name = "no-writes";
  policy.action = model::HttpPolicy::Action::kDeny;
  policy.rules.resize(1);
  policy.rules[0].to.resize(1);
  policy.rules[0].to[0].methods.any = {model::TextMatch::exact("DELETE")};
  policy.rules[0].to[0].ports.any = {8080};  // of the pod; the service's is 80
  policy.selector = model::LabelMap{{"app", "api"}};
  model::WaypointService rules;
  SECTION("the pod's port, not the service's") {
    HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
    rules.guard.policies = {policy};
    world.set_rules(rules);
    CHECK(world.get("/").status == 200);
    HttpAnswer& denied = world.send({.method = "DELETE"});
    world.finish(denied);
    CHECK(denied.status == 403);
    CHECK(pod.requests.size() == 1);
  }
  SECTION("of another namespace's endpoints, where that is named") {
    world.add_pod("a", "10.0.3.1", "v1");
    policy.ns = "istio-system";
    rules.guard.policies = {policy};
    world.set_rules(rules);
    HttpAnswer& passes = world.send({.method = "DELETE"});
    world.finish(passes);
    CHECK(passes.status == 200);
    policy.selector_ns = "shop";
    rules.guard.policies = {policy};
    world.set_rules(rules);
    HttpAnswer& denied = world.send({.method = "DELETE"});
    world.finish(denied);
    CHECK(denied.status == 403);
  }
  SECTION("an endpoint whose labels have not come gets nothing") {
    model::Workload unknown;
    unknown.uid = "c//Pod/shop/new";
    unknown.name = "new";
    unknown.ns = "shop";
    unknown.addresses = {*base::IpAddr::parse("10.0.3.9")};
    unknown.services = {{kApiService, {{80, 8080}}}};
    world.add({}, unknown);
    rules.guard.policies = {policy};
    world.set_rules(rules);
    HttpAnswer refused = world.get("/");
    CHECK(refused.status == 503);
    CHECK(refused.body == "no healthy upstream");
  }
}

TEST_CASE("circuit breakers open at exactly their bound", "[sim][waypoint][2.3.3]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  pod.delay = 10s;
  model::TrafficPolicy policy;
  policy.pool.connections_max = 2;
  policy.pool.pending_max = 3;
  world.set_backend(versions(policy));
  model::HttpRoute route = route_to("", {{"", 1}});
  route.retries = model::RetryPolicy{};
  route.retries->attempts = 0;
  world.set_rules(rules_of({route}));
  std::vector<HttpAnswer*> answers;
  for (int i = 0; i < 8; ++i) answers.push_back(&world.send({}));
  for (HttpAnswer* answer : answers) world.finish(*answer);
  int served = 0, refused = 0;
  for (HttpAnswer* answer : answers) {
    served += answer->status == 200;
    if (answer->status != 503) continue;
    ++refused;
    CHECK(answer->header("x-envoy-overloaded") == "true");
  }
  CHECK(served == 5);
  CHECK(refused == 3);
  CHECK(pod.connections == 2);
}

TEST_CASE("a failing endpoint is ejected, and comes back", "[sim][waypoint][2.3.4]") {
  WaypointWorld world;
  HttpPod& bad = world.add_pod("bad", "10.0.3.1", "v1");
  world.add_pod("good", "10.0.3.2", "v1");
  model::TrafficPolicy policy;
  policy.outliers = model::OutlierDetection{};
  policy.outliers->consecutive_5xx = 5;
  policy.outliers->interval = 10s;
  policy.outliers->base_ejection_time = 30s;
  policy.outliers->ejection_percent_max = 50;
  world.set_backend(versions(policy));
  model::HttpRoute route = route_to("", {{"", 1}});
  world.set_rules(rules_of({route}));
  bad.status = 500;
  for (int i = 0; i < 60; ++i) world.get("/");
  CHECK(bad.requests.size() == 5);
  bad.status = 200;
  world.loop.run_for(45s);
  for (int i = 0; i < 40; ++i) world.get("/");
  CHECK(bad.requests.size() > 10);
}

TEST_CASE("connections end after their share of requests", "[sim][waypoint][2.3.3]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  model::TrafficPolicy policy;
  policy.pool.requests_per_connection_max = 2;
  if (GENERATE(false, true)) policy.pool.upgrade = model::PoolLimits::Upgrade::kUpgrade;
  world.set_backend(versions(policy));
  for (int i = 0; i < 10; ++i) CHECK(world.get("/").status == 200);
  CHECK(pod.connections == 5);
}

TEST_CASE("bodies stream both ways", "[sim][waypoint]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  pod.echo = true;
  std::string body(3'000'000, 'b');
  HttpAnswer& answer = world.send({.method = "POST", .body = body, .http2 = GENERATE(true)});
  world.finish(answer);
  INFO(answer.error);
  CHECK(answer.status == 200);
  CHECK((answer.body == body));
  CHECK(pod.bytes_in == body.size());
}

TEST_CASE("gRPC messages of both directions are counted", "[sim][waypoint][5.1]") {
  WaypointWorld world;
  world.set_protocol(model::AppProtocol::kGrpc);
  world.add_pod("api-1", "10.0.2.1", "v1").echo = true;
  const std::string one("\0\0\0\0\3abc", 8);
  HttpAnswer& answer = world.send({.method = "POST",
                                   .path = "/test.Peer/Chat",
                                   .headers = {{"content-type", "application/grpc"}},
                                   .body = one + one + one,
                                   .http2 = true});
  world.finish(answer);
  CHECK(answer.body == one + one + one);
  REQUIRE_FALSE(world.telemetry.records.empty());
  CHECK(world.telemetry.records.back().request_messages == 3);
  CHECK(world.telemetry.records.back().response_messages == 3);
}

TEST_CASE("an answer that ends with its headers does so again", "[sim][waypoint]") {
  // gRPC reads a status among the headers only if nothing follows them.
  for (model::AppProtocol protocol : {model::AppProtocol::kHttp11, model::AppProtocol::kGrpc}) {
    WaypointWorld world;
    world.set_protocol(protocol);
    HttpPod& pod = world.add_pod("api-1", "10.0.2.1", "v1");
    pod.bare = true;
    pod.headers = {{"grpc-status", "5"}};
    HttpAnswer answer = world.get("/");
    CHECK(answer.status == 200);
    CHECK(answer.header("grpc-status") == "5");
    CHECK(answer.header("content-length") == "0");
    CHECK(answer.header("transfer-encoding").empty());
  }
}

TEST_CASE("a body that turns out malformed is answered with 400, once", "[sim][waypoint][7.2]") {
  const char* kHead = "PUT / HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n";
  for (const char* body :
       {"5x\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n5x\r\nhello\r\n0\r\n\r\n", "5\r\nhelloo\r\n0\r\n\r\n"}) {
    CAPTURE(body);
    WaypointWorld world;
    HttpPod& pod = world.add_pod("api-1", "10.0.2.1", "v1");
    pod.delay = 10s;
    std::string answer = world.raw(std::string(kHead) + body + "GET /second HTTP/1.1\r\nhost: api\r\n\r\n");
    CHECK_THAT(answer, Catch::StartsWith("HTTP/1.1 400 Bad Request\r\n"));
    CHECK(answer.find("HTTP/1.1", 1) == std::string::npos);
    CHECK(pod.requests.size() <= 1);
  }
}

TEST_CASE("what the waypoint answers itself", "[sim][waypoint][6]") {
  WaypointWorld world;
  world.add_pod("a", "10.0.3.1", "v1");
  model::HttpRoute moved = route_to("/old", {});
  moved.redirect = model::Redirect{};
  moved.redirect->path = {model::PathEdit::Kind::kFull, "/new", std::nullopt};
  model::HttpRoute fixed = route_to("/fixed", {});
  fixed.direct = model::DirectResponse{418, "teapot"};
  model::HttpRoute faulty = route_to("/fault", {{"", 1}});
  faulty.fault = model::FaultInjection{};
  faulty.fault->abort_status = 555;
  faulty.fault->abort_percent = 100;
  model::HttpRoute broken = route_to("/broken", {});
  broken.broken = "no";
  model::HttpRoute unknown = route_to("/unknown", {{"v9", 1}});
  model::HttpRoute empty = route_to("/empty", {{"v2", 1}});
  world.set_backend(versions());
  world.set_rules(rules_of({moved, fixed, faulty, broken, unknown, empty}));
  HttpAnswer redirected = world.get("/old/x?y=1");
  CHECK(redirected.status == 301);
  CHECK(redirected.header("location") == "http://api/new?y=1");
  CHECK(world.get("/fixed").body == "teapot");
  CHECK(world.get("/fault").status == 555);
  CHECK(world.telemetry.records.back().flags.short_text() == "FI");
  CHECK(world.get("/broken").status == 500);
  CHECK(world.get("/unknown").status == 503);
  CHECK(world.telemetry.records.back().flags.short_text() == "NC");
  HttpAnswer nobody = world.get("/empty");
  CHECK(nobody.status == 503);
  CHECK(nobody.body == "no healthy upstream");
  CHECK(world.telemetry.records.back().flags.short_text() == "UH");
  CHECK(world.get("/%zz").status == 400);
  HttpAnswer grpc = world.get("/broken", {{"content-type", "application/grpc"}});
  CHECK(grpc.status == 200);
  CHECK(grpc.header("grpc-status") == "14");
}

TEST_CASE("identities that a client claims in headers go no further", "[sim][waypoint][1.6]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  world.get("/", {{"x-forwarded-client-cert", "URI=spiffe://forged"},
                  {"x-envoy-peer-metadata", "x"},
                  {"x-envoy-max-retries", "9"},
                  {"x-forwarded-for", "192.0.2.1"}});
  REQUIRE(pod.requests.size() == 1);
  CHECK_FALSE(wire::find_header(pod.requests[0], "x-forwarded-client-cert"));
  CHECK_FALSE(wire::find_header(pod.requests[0], "x-envoy-peer-metadata"));
  CHECK_FALSE(wire::find_header(pod.requests[0], "x-envoy-max-retries"));
  CHECK(*wire::find_header(pod.requests[0], "x-forwarded-for") == "192.0.2.1");
  CHECK(*wire::find_header(pod.requests[0], "x-envoy-attempt-count") == "1");
}

}  // namespace culvert::test
