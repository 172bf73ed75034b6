// SPDX-License-Identifier: Apache-2.0
// External authorization: requests that wait for an authorizer's word, from the client to the pod.
#include <catch2/catch.hpp>

#include "net/wire/grpc_frame.h"
#include "proto/ext_authz.pb.h"
#include "test/sim/waypoint_world.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
using model::HttpPolicy;
namespace pb = envoy::service::auth::v3;

const model::NamespacedHostname kOpaService{"auth", "opa.auth.svc.cluster.local"};
constexpr uint16_t kPort = 9191;

// A pod api-1 behind the waypoint, and an authorizer of another namespace.
struct AuthorizerWorld : WaypointWorld {
  explicit AuthorizerWorld(bool http, const model::NamespacedHostname& name = kOpaService) {
    pod = &add_pod("api-1", "10.0.3.1", "v1");
    opa = &add_side("opa", "10.0.4.1", name, kPort);
    opa->http2 = !http;
    authorizer.name = "opa";
    authorizer.http = http;
    authorizer.service = name;
    authorizer.port = kPort;
    authorizer.timeout = 2s;
  }
  // Everything below /admin asks.
  void publish_rules() {
    model::HttpRule rule;
    rule.to.resize(1);
    rule.to[0].paths.any = {model::TextMatch::prefix("/admin")};
    policy.rules = {rule};
    rules.guard.policies = {policy};
    rules.guard.authorizers = {authorizer};
    set_rules(rules);
  }
  void answer_grpc(const pb::CheckResponse& response) {
    opa->body = wire::grpc_frame(response.SerializeAsString());
    opa->trailers = {{"grpc-status", "0"}};
  }
  pb::HttpRequest asked() const {
    base::ByteQueue queue;
    queue.append(base::as_bytes(opa->bodies.back()));
    pb::CheckRequest request;
    REQUIRE(request.ParseFromString(**wire::take_grpc_message(queue, 1 << 20)));
    check = request;
    return request.attributes().request().http();
  }
  const waypoint::RequestRecord& last() { return telemetry.records.back(); }

  HttpPod* pod = nullptr;
  HttpPod* opa = nullptr;
  model::Authorizer authorizer;
  HttpPolicy policy{"shop", "outside", HttpPolicy::Action::kCustom, false, "opa", {}, {}, false, ""};
  model::WaypointService rules;
  mutable pb::CheckRequest check;
};

std::string header(const wire::Headers& headers, std::string_view name) {
  const std::string* found = wire::find_header(headers, name);
  return found ? *found : "";
}

}  // namespace

TEST_CASE("an HTTP authorizer is asked, and what it allows goes on as it changed it",
          "[sim][waypoint][2.6.6]") {
  AuthorizerWorld world(true);
  world.authorizer.path_prefix = "/check";
  world.authorizer.request_headers = {model::TextMatch::prefix("x-ask")};
  world.authorizer.more_headers = {{"x-from", "mesh"}};
  world.authorizer.to_upstream_on_allow = {model::TextMatch::exact("x-user"),
                                           model::TextMatch::exact("content-length")};
  world.authorizer.to_client_on_allow = {model::TextMatch::exact("x-seen")};
  bool selector = GENERATE(false, true);
  if (selector) world.policy.selector = model::LabelMap{{"app", "api"}};
  world.publish_rules();
  world.opa->headers = {{"x-user", "ada"}, {"x-seen", "yes"}, {"x-other", "no"}};

  CHECK(world.get("/open").status == 200);
  CHECK(world.opa->requests.empty());

  HttpAnswer answer =
      world.get("/admin?a=1",
                {{"x-ask-1", "q"}, {"x-secret", "s"}, {"x-user", "forged"}, {"authorization", "Bearer t"}});
  CHECK(answer.status == 200);
  CHECK(answer.body == "api-1");
  CHECK(answer.header("x-seen") == "yes");
  CHECK(answer.header("x-other").empty());
  REQUIRE(world.opa->requests.size() == 1);
  const wire::Headers& asked = world.opa->requests[0];
  CHECK(header(asked, ":method") == "GET");
  CHECK(header(asked, ":path") == "/check/admin?a=1");
  CHECK(header(asked, ":authority") == "api");
  CHECK(header(asked, "x-ask-1") == "q");
  CHECK(header(asked, "x-from") == "mesh");
  CHECK(header(asked, "authorization") == "Bearer t");
  CHECK(header(asked, "x-secret").empty());
  CHECK(header(asked, "content-length") == "0");
  const wire::Headers& upstream = world.pod->requests.back();
  CHECK(header(upstream, "x-user") == "ada");
  CHECK(header(upstream, "x-secret") == "s");
  // What frames the request is not the authorizer's.
  CHECK(header(upstream, "content-length").empty());
  CHECK(world.last().flags.empty());
  CHECK(world.telemetry.questions == std::vector<std::string>{"opa allowed"});
}

TEST_CASE("an HTTP authorizer's refusal is the client's answer", "[sim][waypoint][2.6.6][6]") {
  AuthorizerWorld world(true);
  bool named = GENERATE(false, true);
  if (named) world.authorizer.to_client_on_deny = {model::TextMatch::prefix("x-why")};
  world.publish_rules();
  world.opa->status = 401;
  world.opa->body = "who are you?";
  world.opa->headers = {
      {"x-why-1", "token"}, {"x-more", "m"}, {"www-authenticate", "Bearer"}, {"content-type", "text/x-sad"}};
  HttpAnswer answer = world.get("/admin");
  CHECK(answer.status == 401);
  CHECK(answer.body == "who are you?");
  CHECK(answer.header("x-why-1") == "token");
  CHECK(answer.header("www-authenticate") == "Bearer");
  CHECK(answer.header("x-more") == (named ? "" : "m"));
  CHECK(answer.header("content-type") == (named ? "text/plain" : "text/x-sad"));
  CHECK(world.pod->requests.empty());
  CHECK(world.last().flags.short_text() == "UAEX");
  CHECK(world.last().details == "ext_authz_denied");
  CHECK(world.last().denied_by == "ns[shop]-policy[outside]-rule[0]");
  CHECK(world.last().status == 401);
  CHECK(world.telemetry.questions == std::vector<std::string>{"opa denied"});
}

TEST_CASE("an authorizer that fails refuses, or lets pass with failOpen", "[sim][waypoint][2.6.6]") {
  AuthorizerWorld world(true);
  world.authorizer.status_on_error = 418;
  world.authorizer.fail_open = GENERATE(false, true);
  world.publish_rules();
  SECTION("it is late") { world.opa->delay = 3s; }
  SECTION("it answers 5xx") { world.opa->status = 503; }
  SECTION("it breaks off") { world.opa->break_off = true; }
  SECTION("it is gone") { world.close(*world.opa); }
  SECTION("it speaks no HTTP") { world.opa->raw = "nonsense"; }
  base::TimePoint begun = world.loop.now();
  HttpAnswer answer = world.get("/admin");
  CHECK(world.loop.now() - begun < 3s);
  if (world.authorizer.fail_open) {
    CHECK(answer.status == 200);
    CHECK(world.last().flags.empty());
    CHECK(world.telemetry.questions == std::vector<std::string>{"opa error_allowed"});
  } else {
    CHECK(answer.status == 418);
    CHECK(answer.body.empty());
    CHECK(world.last().flags.short_text() == "UAEX");
    CHECK(world.last().details == "ext_authz_error");
    CHECK(world.pod->requests.empty());
    CHECK(world.telemetry.questions == std::vector<std::string>{"opa error"});
  }
}

TEST_CASE("an authorizer sees the body it asks for, and the pod has all of it", "[sim][waypoint][2.6.6]") {
  AuthorizerWorld world(true);
  world.authorizer.body = model::Authorizer::Body{1000, GENERATE(false, true), false};
  world.publish_rules();
  bool http2 = GENERATE(false, true);
  world.pod->echo = true;
  auto post = [&](size_t bytes) {
    HttpAnswer& answer =
        world.send({.method = "POST", .path = "/admin", .body = std::string(bytes, 'b'), .http2 = http2});
    world.finish(answer);
    return answer;
  };
  HttpAnswer whole = post(1000);
  CHECK(whole.status == 200);
  CHECK(whole.body.size() == 1000);
  REQUIRE(world.opa->bodies.size() == 1);
  CHECK(world.opa->bodies[0] == std::string(1000, 'b'));
  CHECK(header(world.opa->requests[0], "content-length") == "1000");
  HttpAnswer longer = post(300'000);
  if (world.authorizer.body->partial) {
    CHECK(longer.status == 200);
    CHECK(longer.body.size() == 300'000);
    CHECK(world.opa->bodies.back() == std::string(1000, 'b'));
    CHECK(header(world.opa->requests.back(), "x-envoy-auth-partial-body") == "true");
  } else {
    CHECK(longer.status == 413);
    CHECK(longer.body == "Payload Too Large");
    CHECK(world.last().details == "request_payload_too_large");
    CHECK(world.opa->bodies.size() == 1);
    CHECK(world.pod->requests.size() == 1);
    CHECK(header(world.opa->requests[0], "x-envoy-auth-partial-body") == "false");
  }
}

TEST_CASE("whoever expects 100-continue is told to go on while the body is for the authorizer",
          "[sim][waypoint][2.6.6]") {
  AuthorizerWorld world(true);
  world.authorizer.body = model::Authorizer::Body{1000, false, false};
  world.publish_rules();
  HttpAnswer& answer = world.send(
      {.method = "POST", .path = "/admin", .headers = {{"expect", "100-continue"}}, .body = "hello"});
  world.finish(answer);
  CHECK(answer.status == 200);
  CHECK(world.opa->bodies.back() == "hello");
  CHECK(header(world.pod->requests.back(), "expect").empty());
}

TEST_CASE("a client that goes while its authorizer thinks leaves nothing behind", "[sim][waypoint][2.6.6]") {
  AuthorizerWorld world(true);
  world.authorizer.timeout = 600s;
  world.opa->delay = 1h;
  world.publish_rules();
  world.raw("GET /admin HTTP/1.1\r\nhost: api\r\n\r\n");  // for two minutes
  world.loop.run_for(10s);
  REQUIRE_FALSE(world.telemetry.records.empty());
  CHECK(world.last().flags.has(waypoint::Flag::kDownstreamClosed));
  CHECK(world.last().status == 0);
  CHECK(world.pod->requests.empty());
}

TEST_CASE("a gRPC authorizer is told who asks for what", "[sim][waypoint][2.6.6]") {
  AuthorizerWorld world(false);
  bool bytes = GENERATE(false, true);
  world.authorizer.body = model::Authorizer::Body{1000, false, bytes};
  world.publish_rules();
  pb::CheckResponse response;
  auto* ok = response.mutable_ok_response();
  auto add = [](auto* option, const std::string& name, const std::string& value) {
    option->mutable_header()->set_key(name);
    option->mutable_header()->set_value(value);
    return option;
  };
  add(ok->add_headers(), "X-User", "ada");
  add(ok->add_headers(), "x-tag", "two")->mutable_append()->set_value(true);
  add(ok->add_headers(), "host", "evil");
  add(ok->add_headers(), ":path", "/evil");
  add(ok->add_headers(), "x-bad", "a\r\nb: c");
  ok->add_headers_to_remove("x-secret");
  ok->add_query_parameters_to_remove("token");
  add(ok->add_response_headers_to_add(), "x-seen", "yes");
  world.answer_grpc(response);

  HttpAnswer& answer = world.send({.method = "POST",
                                   .path = "/admin?token=t&a=1",
                                   .headers = {{"x-secret", "s"}, {"x-tag", "one"}, {"x-odd", "\xff\xfe"}},
                                   .body = std::string("caf\xc3\xa9\xff")});
  world.finish(answer);
  CHECK(answer.status == 200);
  CHECK(answer.header("x-seen") == "yes");
  CHECK(header(world.opa->requests.back(), ":path") == "/envoy.service.auth.v3.Authorization/Check");
  CHECK(header(world.opa->requests.back(), "grpc-timeout") == "2000m");
  pb::HttpRequest asked = world.asked();
  CHECK(asked.method() == "POST");
  CHECK(asked.path() == "/admin?token=t&a=1");
  CHECK(asked.host() == "api");
  CHECK(asked.protocol() == "HTTP/1.1");
  CHECK(asked.headers().at("x-secret") == "s");
  CHECK(asked.headers().at("x-odd") == "!!");
  CHECK(asked.body() == (bytes ? "" : "caf\xc3\xa9!"));
  CHECK(asked.raw_body() == (bytes ? std::string("caf\xc3\xa9\xff") : ""));
  CHECK(asked.size() == 6);
  CHECK(world.check.attributes().source().principal() == "spiffe://cluster.local/ns/shop/sa/web");
  CHECK(world.check.attributes().destination().principal() == "spiffe://cluster.local/ns/shop/sa/waypoint");
  CHECK(world.check.attributes().destination().address().socket_address().address() == "10.96.0.1");
  CHECK(world.check.attributes().request().time().seconds() > 0);
  const wire::Headers& upstream = world.pod->requests.back();
  CHECK(header(upstream, "x-user") == "ada");
  CHECK(header(upstream, "x-secret").empty());
  CHECK(header(upstream, ":path") == "/admin?a=1");
  CHECK(header(upstream, ":authority") == "api");
  CHECK(header(upstream, "x-bad").empty());
  std::vector<std::string> tags;
  for (const auto& [name, value] : upstream) {
    if (name == "x-tag") tags.push_back(value);
  }
  CHECK(tags == std::vector<std::string>{"one", "two"});
}

TEST_CASE("a gRPC authorizer's refusal, and answers that are none", "[sim][waypoint][2.6.6]") {
  AuthorizerWorld world(false);
  world.publish_rules();
  pb::CheckResponse response;
  response.mutable_status()->set_code(7);
  SECTION("with an answer of its own") {
    response.mutable_denied_response()->mutable_status()->set_code(302);
    auto* header = response.mutable_denied_response()->add_headers()->mutable_header();
    header->set_key("Location");
    header->set_value("https://login.example/");
    response.mutable_denied_response()->set_body("go there");
    world.answer_grpc(response);
    HttpAnswer answer = world.get("/admin");
    CHECK(answer.status == 302);
    CHECK(answer.header("location") == "https://login.example/");
    CHECK(answer.body == "go there");
    CHECK(world.last().details == "ext_authz_denied");
  }
  SECTION("with nothing but its status") {
    world.answer_grpc(response);
    CHECK(world.get("/admin").status == 403);
    CHECK(world.last().details == "ext_authz_denied");
  }
  SECTION("the call fails") {
    world.opa->bare = true;
    world.opa->headers = {{"grpc-status", "14"}, {"grpc-message", "busy"}};
    CHECK(world.get("/admin").status == 403);
    CHECK(world.last().details == "ext_authz_error");
  }
  SECTION("the message is none") {
    world.opa->body = wire::grpc_frame("\xff\xff\xff");
    world.opa->trailers = {{"grpc-status", "0"}};
    CHECK(world.get("/admin").status == 403);
    CHECK(world.last().details == "ext_authz_error");
  }
  SECTION("status 0 without a message") {
    world.opa->bare = true;
    world.opa->headers = {{"grpc-status", "0"}};
    CHECK(world.get("/admin").status == 403);
    CHECK(world.last().details == "ext_authz_error");
  }
  CHECK(world.pod->requests.empty());
  CHECK(world.last().flags.short_text() == "UAEX");
}

TEST_CASE("several providers are asked in the order of their policies, none twice",
          "[sim][waypoint][2.6.6]") {
  AuthorizerWorld world(true);
  HttpPod& second = world.add_side("second", "10.0.4.2", {"auth", "second.auth.svc.cluster.local"}, kPort);
  world.publish_rules();
  model::Authorizer other = world.authorizer;
  other.name = "second";
  other.service = {"auth", "second.auth.svc.cluster.local"};
  world.rules.guard.authorizers.push_back(other);
  HttpPolicy again = world.policy;
  again.name = "again";
  again.selector = model::LabelMap{{"app", "api"}};
  HttpPolicy next = world.policy;
  next.name = "next";
  next.provider = "second";
  world.rules.guard.policies = {world.policy, again, next};
  world.set_rules(world.rules);
  CHECK(world.get("/admin").status == 200);
  CHECK(world.telemetry.questions == std::vector<std::string>{"opa allowed", "second allowed"});
  second.status = 403;
  CHECK(world.get("/admin").status == 403);
  CHECK(world.last().denied_by == "ns[shop]-policy[next]-rule[0]");
  world.opa->status = 403;
  second.requests.clear();
  CHECK(world.get("/admin").status == 403);
  CHECK(second.requests.empty());
}

TEST_CASE("routes go by the request as it came, unless clearRouteCache", "[sim][waypoint][2.6.6][1.9]") {
  AuthorizerWorld world(true);
  world.authorizer.clear_route_cache = GENERATE(false, true);
  world.authorizer.to_upstream_on_allow = {model::TextMatch::exact("x-user")};
  model::HttpRoute admins = route_to("", {{"", 1}});
  admins.matches.resize(1);
  admins.matches[0].headers = {{"x-user", model::TextMatch::exact("ada"), false}};
  admins.direct = model::DirectResponse{299, "admins"};
  world.rules = rules_of({admins, route_to("", {{"", 1}})});
  world.publish_rules();
  world.opa->headers = {{"x-user", "ada"}};
  HttpAnswer answer = world.get("/admin");
  CHECK(answer.status == (world.authorizer.clear_route_cache ? 299 : 200));
}

}  // namespace culvert::test
