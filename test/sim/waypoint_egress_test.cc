// SPDX-License-Identifier: Apache-2.0
// Through a waypoint to what lies outside of the mesh: each resolution of a ServiceEntry (spec waypoint
// sections 1.4 and 2.5).
#include <catch2/catch.hpp>

#include "test/sim/waypoint_world.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;

constexpr char kOutsideVip[] = "240.240.0.9:80";

base::IpAddr ip(const char* text) { return *base::IpAddr::parse(text); }

// A ServiceEntry as the control plane tells it, bound to the waypoint, with HTTP on 80 and TLS on 443.
struct Outside {
  model::Service service;
  std::optional<model::Workload> workload;
  model::Backend backend;
};

Outside entry(const std::string& host) {
  Outside out;
  out.service.name = "ext";
  out.service.ns = "shop";
  out.service.hostname = host;
  out.service.vips = {{"", ip("240.240.0.9")}};
  out.service.ports = {{80, 8080, model::AppProtocol::kHttp11}, {443, 8443, model::AppProtocol::kTls}};
  out.backend.service = out.service.key();
  return out;
}

// DNS resolutions: the endpoint is a name.
Outside named(const std::string& host) {
  Outside out = entry(host);
  model::Workload& workload = out.workload.emplace();
  workload.uid = "c/networking.istio.io/ServiceEntry/shop/ext/" + host;
  workload.name = "ext";
  workload.ns = "shop";
  workload.hostname = host;
  workload.services = {{out.service.key(), {{80, 8080}, {443, 8443}}}};
  return out;
}

void put(WaypointWorld& world, const Outside& outside, base::Duration refresh = 60s) {
  model::WaypointUpdate update;
  model::WaypointService rules;
  rules.service = outside.service.key();
  update.services.push_back(std::move(rules));
  update.backends.push_back(outside.backend);
  update.settings.emplace().dns_refresh = refresh;
  update.settings->default_retries.attempts = 0;
  world.tell(std::move(update));
  world.add(outside.service, outside.workload);
}

HttpAnswer get(WaypointWorld& world, const std::string& host, const std::string& dialled = kOutsideVip) {
  HttpAnswer& answer = world.send({.dialled = dialled, .host = host});
  world.finish(answer);
  INFO(answer.error);
  return answer;
}

std::string client_hello(WaypointWorld& world, const std::string& server_name) {
  wire::TlsOptions options;
  options.server_names = {server_name};
  wire::TlsEngine engine(wire::TlsEngine::Role::kClient, world.issue_server("client"), options);
  REQUIRE(engine.handshake(world.loop.wall_now()).has_value());
  std::string bytes(engine.outgoing().size(), '\0');
  engine.outgoing().read({reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
  return bytes;
}

}  // namespace

TEST_CASE("resolution NONE: where the client was going, within the entry's addresses",
          "[sim][waypoint][egress][2.5]") {
  WaypointWorld world;
  Outside none = entry("any.example.com");
  none.service.vips.clear();
  none.service.cidr_vips = {{"", *base::Cidr::parse("203.0.113.0/24")},
                            {"", *base::Cidr::parse("127.0.0.0/8")},
                            {"", *base::Cidr::parse("169.254.0.0/16")}};
  none.service.load_balancing =
      model::LoadBalancing{{}, model::BalanceMode::kPassthrough, model::HealthPolicy::kAllowAll};
  put(world, none);
  HttpPod& server = world.add_outside("server", "203.0.113.7", 80);
  CHECK(get(world, "any.example.com", "203.0.113.7:80").body == "server");
  CHECK(get(world, "whatever.it.says", "203.0.113.7:80").body == "server");
  CHECK(server.connections == 1);
  CHECK(world.telemetry.records.back().upstream_address->to_string() == "203.0.113.7:80");
  // Another address is not the entry's, another port not declared.
  CHECK(world.connect("203.0.114.7:80") == 404);
  CHECK(world.connect("203.0.113.7:81") == 404);
  // The waypoint itself, and where clouds keep credentials, are nobody's way out.
  for (const char* forbidden : {"127.0.0.1:80", "169.254.169.254:80"}) {
    CHECK(get(world, "x", forbidden).status == 503);
    CHECK(world.telemetry.records.back().flags.short_text() == "UH");
  }
  HttpPod& bytes = world.add_outside("bytes", "203.0.113.9", 443);
  bytes.raw = "hello";
  CHECK(world.raw(client_hello(world, "any.example.com"), "web", "203.0.113.9:443") == "hello");
}

TEST_CASE("resolution DNS: every address, looked up again, the last good ones kept",
          "[sim][waypoint][egress][2.5]") {
  WaypointWorld world;
  HttpPod& one = world.add_outside("one", "203.0.113.1", 8080);
  HttpPod& two = world.add_outside("two", "203.0.113.2", 8080);
  world.network.names["api.example.com"] = {ip("203.0.113.1"), ip("203.0.113.2")};
  Outside dns = named("api.example.com");
  SECTION("all of them") {
    put(world, dns);
    for (int i = 0; i < 40; ++i) CHECK(get(world, "api.example.com").status == 200);
    CHECK(one.requests.size() > 5);
    CHECK(two.requests.size() > 5);
  }
  SECTION("DNS_ROUND_ROBIN: the first") {
    dns.backend.names = model::Backend::Names::kFirst;
    put(world, dns);
    for (int i = 0; i < 10; ++i) CHECK(get(world, "api.example.com").body == "one");
  }
  SECTION("what changes is noticed, what fails is not") {
    put(world, dns, 10s);
    CHECK(get(world, "api.example.com").status == 200);
    world.network.names["api.example.com"] = {ip("203.0.113.2")};
    world.loop.run_for(11s);
    get(world, "api.example.com");  // has it looked up beside
    world.loop.run_for(1s);
    for (int i = 0; i < 10; ++i) CHECK(get(world, "api.example.com").body == "two");
    world.network.names.clear();
    world.loop.run_for(1h);
    for (int i = 0; i < 10; ++i) CHECK(get(world, "api.example.com").body == "two");
  }
  SECTION("after a pause the first request already goes to the new address") {
    put(world, dns, 10s);
    CHECK(get(world, "api.example.com").status == 200);
    world.network.names["api.example.com"] = {ip("203.0.113.2")};
    world.loop.run_for(1h);
    CHECK(get(world, "api.example.com").body == "two");
  }
  SECTION("a name that nobody knows, until somebody does") {
    world.network.names.clear();
    put(world, dns);
    HttpAnswer nobody = get(world, "api.example.com");
    CHECK(nobody.status == 503);
    CHECK(nobody.body == "no healthy upstream");
    CHECK(world.telemetry.records.back().flags.short_text() == "UH");
    CHECK_THAT(world.telemetry.records.back().upstream_failure, Catch::Contains("no such name"));
    world.network.names["api.example.com"] = {ip("203.0.113.1")};
    world.loop.run_for(2s);
    CHECK(get(world, "api.example.com").body == "one");
  }
  SECTION("a resolver that is silent costs its time, and is asked once") {
    world.network.resolver_silent = true;
    put(world, dns);
    base::TimePoint began = world.loop.now();
    HttpAnswer& first = world.send({.dialled = kOutsideVip, .host = "api.example.com"});
    HttpAnswer& second = world.send({.dialled = kOutsideVip, .host = "api.example.com"});
    world.finish(first);
    world.finish(second);
    CHECK(first.status == 503);
    CHECK(second.status == 503);
    CHECK(world.loop.now() - began >= 5s);
    CHECK(world.loop.now() - began < 6s);
  }
  SECTION("an address of this machine is not believed") {
    world.network.names["api.example.com"] = {ip("127.0.0.1"), ip("10.0.9.9"), ip("169.254.169.254")};
    put(world, dns);
    CHECK(get(world, "api.example.com").status == 503);
    CHECK_THAT(world.telemetry.records.back().upstream_failure, Catch::Contains("may be dialled"));
  }
}

TEST_CASE("RACE_FIRST_TCP_CONNECT: whichever address answers first", "[sim][waypoint][egress][race]") {
  WaypointWorld world;
  HttpPod& silent = world.add_outside("silent", "203.0.113.1", 8080);
  world.add_outside("good", "203.0.113.2", 8080);
  world.network.names["api.example.com"] = {ip("203.0.113.1"), ip("203.0.113.2")};
  Outside dns = named("api.example.com");
  dns.backend.names = model::Backend::Names::kRace;
  put(world, dns);
  base::TimePoint began = world.loop.now();
  SECTION("the first does not answer") {
    silent.host->set_silent(true);
    CHECK(get(world, "api.example.com").body == "good");
    CHECK(world.loop.now() - began >= 250ms);
    CHECK(world.loop.now() - began < 1s);
  }
  SECTION("the first refuses") {
    world.close(silent);
    CHECK(get(world, "api.example.com").body == "good");
    CHECK(world.loop.now() - began < 250ms);
  }
  SECTION("the first is there") { CHECK(get(world, "api.example.com").body == "silent"); }
  SECTION("none is") {
    world.network.names["api.example.com"] = {ip("203.0.113.8"), ip("203.0.113.9")};
    HttpAnswer none = get(world, "api.example.com");
    CHECK(none.status == 503);
    CHECK(world.telemetry.records.back().flags.short_text() == "UF");
  }
}

TEST_CASE("resolution DYNAMIC_DNS: the name that the client says, if it lies inside",
          "[sim][waypoint][egress][dynamic]") {
  WaypointWorld world;
  HttpPod& one = world.add_outside("one", "203.0.113.1", 8080);
  world.add_outside("two", "203.0.113.2", 8080);
  world.network.names["one.example.com"] = {ip("203.0.113.1")};
  world.network.names["two.example.com"] = {ip("203.0.113.2")};
  world.network.names["evil.test"] = {ip("203.0.113.2")};
  world.network.names["inside.example.com"] = {ip("127.0.0.1"), ip("10.0.9.9")};
  Outside wild = named("*.example.com");
  SECTION("HTTP") {
    put(world, wild);
    CHECK(get(world, "one.example.com").body == "one");
    CHECK(get(world, "TWO.example.com:80").body == "two");
    CHECK(get(world, "one.example.com.").body == "one");
    CHECK(world.telemetry.records.back().cluster == "inbound-vip|80|http|*.example.com");
    for (const char* outside : {"evil.test", "example.com", ".example.com", "one.example.com.evil.test",
                                "a..example.com", "evilexample.com", "10.0.0.1"}) {
      CAPTURE(outside);
      HttpAnswer refused = get(world, outside);
      CHECK(refused.status == 404);
      CHECK(world.telemetry.records.back().flags.short_text() == "NR");
    }
    HttpAnswer unknown = get(world, "gone.example.com");
    CHECK(unknown.status == 503);
    CHECK(unknown.body == "DNS resolution failure");
    CHECK(world.telemetry.records.back().flags.short_text() == "DF");
    CHECK(get(world, "inside.example.com").body == "DNS resolution failure");
    CHECK(one.requests.size() == 2);
  }
  SECTION("a resolver that is silent for longer than connecting may take") {
    world.network.resolver_silent = true;
    wild.backend.policy.all.pool.connect_timeout = 1s;
    put(world, wild);
    base::TimePoint began = world.loop.now();
    CHECK(get(world, "one.example.com").body == "DNS resolution failure");
    CHECK(world.loop.now() - began < 2s);
  }
  SECTION("by server name") {
    put(world, wild);
    HttpPod& secured = world.add_outside("three", "203.0.113.3", 8443);
    secured.raw = "hello";
    world.network.names["three.example.com"] = {ip("203.0.113.3")};
    CHECK(world.raw(client_hello(world, "three.example.com"), "web", "240.240.0.9:443") == "hello");
    CHECK(world.raw(client_hello(world, "evil.test"), "web", "240.240.0.9:443").empty());
    CHECK(world.telemetry.records.back().flags.short_text() == "NR");
    CHECK(world.raw(client_hello(world, "gone.example.com"), "web", "240.240.0.9:443").empty());
    CHECK(world.telemetry.records.back().flags.short_text() == "DF");
  }
  SECTION("TLS of the waypoint's own goes by that name") {
    wild.backend.policy.all.tls.emplace().roots = world.roots();
    put(world, wild);
    one.tls = world.issue_server("one.example.com");
    CHECK(get(world, "one.example.com").body == "one");
    one.tls = world.issue_server("other.example.com");
    world.network.names["again.example.com"] = {ip("203.0.113.1")};
    CHECK(get(world, "again.example.com").status == 503);
    CHECK_THAT(world.telemetry.records.back().upstream_failure,
               Catch::Contains("is not for again.example.com"));
  }
  SECTION("however many names clients think of") {
    put(world, wild);
    for (int i = 0; i < 1500; ++i) {
      std::string name = "n" + std::to_string(i) + ".example.com";
      world.network.names[name] = {ip("203.0.113.1")};
      CHECK(get(world, name).status == 200);
    }
  }
}

TEST_CASE("an authorizer outside of the mesh is found by its name, the first time too",
          "[sim][waypoint][egress][2.6.6]") {
  WaypointWorld world;
  world.add_pod("api-1", "10.0.3.1", "v1");
  HttpPod& server = world.add_outside("checker", "203.0.113.1", 8080);
  world.network.names["check.example.com"] = {ip("203.0.113.1")};
  Outside checker = named("check.example.com");
  put(world, checker);
  model::Authorizer authorizer;
  authorizer.name = "outside";
  authorizer.http = true;
  authorizer.service = checker.service.key();
  authorizer.port = 80;
  authorizer.timeout = 2s;
  model::HttpPolicy policy;
  policy.ns = "shop";
  policy.name = "asked";
  policy.action = model::HttpPolicy::Action::kCustom;
  policy.provider = "outside";
  policy.rules.resize(1);
  model::WaypointService rules;
  rules.guard.policies = {policy};
  rules.guard.authorizers = {authorizer};
  world.set_rules(rules);
  CHECK(world.get("/").status == 200);
  CHECK(server.requests.size() == 1);
}

}  // namespace culvert::test
