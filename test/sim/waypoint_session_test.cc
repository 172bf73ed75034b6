// SPDX-License-Identifier: Apache-2.0
// Sessions that stay with an endpoint, from the manifest to what clients keep (gap G9).
#include <catch2/catch.hpp>
#include <set>

#include "test/sim/manifests.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;

std::string pod(const std::string& name, const std::string& ip, const std::string& version) {
  return "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
         ", namespace: shop, labels: {app: echo, version: " + version +
         "}}\nspec: {nodeName: n3}\nstatus: {phase: Running, podIP: " + ip +
         ", conditions: [{type: Ready, status: \"True\"}]}\n";
}
std::string service(const std::string& name, const std::string& vip, const std::string& more) {
  return "---\napiVersion: v1\nkind: Service\nmetadata: {name: " + name +
         ", namespace: shop}\nspec: {clusterIP: " + vip + ", selector: {app: echo" + more +
         "}, ports: [{name: http, port: 80, targetPort: 8080}]}\n";
}
const std::string kServices = service("echo", "10.96.1.1", "") +
                              service("echo-v1", "10.96.1.2", ", version: v1") +
                              service("echo-v2", "10.96.1.3", ", version: v2");
const std::string kPods =
    pod("a", "10.0.3.1", "v1") + pod("b", "10.0.3.2", "v1") + pod("c", "10.0.3.3", "v2");

std::string route(const std::string& session) {
  return "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: "
         "shop}\nspec: {parentRefs: [{group: \"\", kind: Service, name: echo}], rules: [{retry: {codes: "
         "[503], attempts: 2}, sessionPersistence: "
         "{" +
         session +
         "}, backendRefs: [{name: echo-v1, port: 80, weight: 1}, {name: echo-v2, port: 80, weight: 1}]}]}\n";
}

struct Sessions : WaypointWorld {
  explicit Sessions(const std::string& manifests) { learn(*this, kServices + kPods + manifests); }
  HttpAnswer ask(const std::string& token = "", const std::string& name = "culvert-session") {
    Request request{.dialled = "10.96.1.1:80", .host = "echo"};
    if (!token.empty() && name.starts_with("x-")) request.headers = {{name, token}};
    if (!token.empty() && !name.starts_with("x-")) request.headers = {{"cookie", name + "=" + token}};
    HttpAnswer& answer = send(std::move(request));
    finish(answer);
    CHECK(answer.status == 200);
    return answer;
  }
  static std::string token(const HttpAnswer& answer) {
    std::string cookie = answer.header("set-cookie");
    return cookie.substr(0, cookie.find(';')).substr(cookie.find('=') + 1);
  }
  HttpPod& a = listen("a", "10.0.3.1", 8080);
  HttpPod& b = listen("b", "10.0.3.2", 8080);
  HttpPod& c = listen("c", "10.0.3.3", 8080);
};

}  // namespace

TEST_CASE("a cookie holds a client to its endpoint, before weights", "[sim][waypoint][G9]") {
  Sessions world(route(""));
  std::set<std::string> seen;
  for (int client = 0; client < 12; ++client) {
    HttpAnswer first = world.ask();
    CHECK_THAT(first.header("set-cookie"), Catch::StartsWith("culvert-session="));
    std::string token = Sessions::token(first);
    seen.insert(first.body);
    for (int i = 0; i < 8; ++i) {
      HttpAnswer next = world.ask(token);
      CHECK(next.body == first.body);
      CHECK(next.header("set-cookie").empty());
    }
  }
  CHECK(seen == std::set<std::string>{"a", "b", "c"});
}

TEST_CASE("an endpoint that is gone gives way to another, which is told", "[sim][waypoint][G9]") {
  Sessions world(route(""));
  HttpAnswer first = world.ask();
  std::string token = Sessions::token(first);
  SECTION("out of the service") {
    std::string rest;
    if (first.body != "a") rest += pod("a", "10.0.3.1", "v1");
    if (first.body != "b") rest += pod("b", "10.0.3.2", "v1");
    if (first.body != "c") rest += pod("c", "10.0.3.3", "v2");
    std::string gone = first.body == "a" ? "10.0.3.1" : first.body == "b" ? "10.0.3.2" : "10.0.3.3";
    std::string broken = pod(first.body, gone, first.body == "c" ? "v2" : "v1");
    broken.replace(broken.find("\"True\""), 6, "\"False\"");
    // The destination of a single endpoint needs another one to give way to.
    learn(world,
          kServices + rest + broken + pod("d", "10.0.3.4", first.body == "c" ? "v2" : "v1") + route(""));
    HttpPod& d = world.listen("d", "10.0.3.4", 8080);
    HttpAnswer next = world.ask(token);
    CHECK(next.body != first.body);
    std::string other = Sessions::token(next);
    CHECK_FALSE(other.empty());
    CHECK(world.ask(other).body == next.body);
    (void)d;
  }
  SECTION("failing, so that the request is tried again") {
    // One whose destination has another endpoint.
    while (first.body == "c") first = world.ask();
    world.pod(first.body).status = 503;
    HttpAnswer next = world.ask(Sessions::token(first));
    CHECK(next.body != first.body);
    world.pod(first.body).status = 200;
    CHECK(world.ask(Sessions::token(next)).body == next.body);
  }
}

TEST_CASE("a token that nobody sealed chooses nothing", "[sim][waypoint][G9]") {
  Sessions world(route(""));
  std::string token = Sessions::token(world.ask());
  token[token.size() / 2] = token[token.size() / 2] == 'A' ? 'B' : 'A';
  HttpAnswer answer = world.ask(token);
  CHECK_FALSE(answer.header("set-cookie").empty());
}

TEST_CASE("sessions by header, and their ends", "[sim][waypoint][G9]") {
  Sessions world(route("type: Header, sessionName: X-Who, absoluteTimeout: 1h, idleTimeout: 10m"));
  HttpAnswer first = world.ask();
  std::string token = first.header("x-who");
  REQUIRE_FALSE(token.empty());
  CHECK(world.ask(token, "x-who").body == first.body);
  CHECK(world.ask(token, "x-who").header("x-who").empty());
  // Told again while it is used, and over after an hour all the same.
  std::string kept = token;
  for (int i = 0; i < 11; ++i) {
    world.loop.run_for(5min);
    HttpAnswer next = world.ask(kept, "x-who");
    CHECK(next.body == first.body);
    kept = next.header("x-who");
    REQUIRE_FALSE(kept.empty());
  }
  std::set<std::string> seen;
  world.loop.run_for(6min);
  for (int i = 0; i < 20; ++i) seen.insert(world.ask(kept, "x-who").body);
  CHECK(seen.size() > 1);
}

TEST_CASE("a service's own sessions hold where no route speaks of any", "[sim][waypoint][G9]") {
  Sessions world(
      "---\napiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {name: "
      "p, "
      "namespace: shop}\nspec: {targetRefs: [{group: \"\", kind: Service, name: echo}], sessionPersistence: "
      "{sessionName: own, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}}\n");
  HttpAnswer first = world.ask();
  CHECK_THAT(first.header("set-cookie"), Catch::EndsWith("; Path=/; HttpOnly; Max-Age=3600"));
  for (int i = 0; i < 10; ++i) CHECK(world.ask(Sessions::token(first), "own").body == first.body);
}

}  // namespace culvert::test
