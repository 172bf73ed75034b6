// SPDX-License-Identifier: Apache-2.0
// How a waypoint goes on to its endpoints: versions, lifetimes, TLS and PROXY headers (spec waypoint sections
// 1.5, 1.6, 2.3.3, 2.3.5).
#include <catch2/catch.hpp>
#include <tuple>

#include "test/sim/waypoint_world.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;

}  // namespace

TEST_CASE("useClientProtocol goes on in the client's version", "[sim][waypoint][2.3.3]") {
  bool http2 = GENERATE(false, true);
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  pod.http2 = http2;
  model::TrafficPolicy policy;
  policy.pool.use_client_protocol = true;
  world.set_backend(versions(policy));
  world.set_protocol(http2 ? model::AppProtocol::kHttp11 : model::AppProtocol::kGrpc);
  HttpAnswer& answer = world.send({.http2 = http2});
  world.finish(answer);
  INFO(answer.error);
  CHECK(answer.status == 200);
  CHECK(world.telemetry.records.back().upstream_version ==
        (http2 ? conn::HttpVersion::k2 : conn::HttpVersion::k11));
}

TEST_CASE("a TCP connection ends when it is idle or old enough", "[sim][waypoint][2.3.3]") {
  WaypointWorld world;
  world.set_protocol(model::AppProtocol::kTcp);
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  pod.raw = "hello";
  pod.raw_waits = true;
  model::TrafficPolicy policy;
  base::TimePoint began = world.loop.now();
  SECTION("idle") {
    policy.pool.tcp_idle_timeout = 30s;
    world.set_backend(versions(policy));
    CHECK(world.raw("x") == "hello");
    CHECK(world.loop.now() - began >= 30s);
    CHECK(world.loop.now() - began < 34s);
    CHECK(world.telemetry.records.back().flags.short_text() == "-");
    CHECK(world.telemetry.records.back().termination == "tcp_session_idle_timeout");
  }
  SECTION("old") {
    policy.pool.connection_duration_max = 20s;
    world.set_backend(versions(policy));
    CHECK(world.raw("x") == "hello");
    CHECK(world.loop.now() - began >= 20s);
    CHECK(world.loop.now() - began < 21s);
    CHECK(world.telemetry.records.back().flags.short_text() == "DT");
    CHECK(world.telemetry.records.back().termination == "max_connection_duration_reached");
  }
}

TEST_CASE("bytes of a TCP connection are told while it lasts", "[sim][waypoint][5.1]") {
  WaypointWorld world;
  world.set_protocol(model::AppProtocol::kTcp);
  HttpPod& pod = world.add_pod("one", "10.0.3.1", "v1");
  pod.raw = "answer";
  pod.raw_waits = true;
  CHECK(world.raw("hello") == "answer");
  REQUIRE(world.telemetry.tcp_told.size() == 1);
  CHECK(world.telemetry.tcp_told[0].received == 5);
  CHECK(world.telemetry.tcp_told[0].sent == 6);
  CHECK(world.telemetry.tcp_told[0].after < 6s);
  world.loop.run_for(10min);
  REQUIRE(world.telemetry.records.size() == 1);
  CHECK(*world.telemetry.records[0].times.end - world.telemetry.records[0].times.start > 1min);
  pod.raw_waits = false;
  CHECK(world.raw("hi", "other") == "answer");
  world.loop.run_for(1s);
  REQUIRE(world.telemetry.tcp_told.size() == 2);
  CHECK(world.telemetry.tcp_told[1].received == 2);
}

TEST_CASE("the client's identity goes upstream where it is asked for, and only the proven one",
          "[sim][waypoint][1.6][xfcc]") {
  bool asked = GENERATE(false, true);
  WaypointWorld world;
  world.config().tell_client_identity = asked;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  CHECK(world.get("/", {{"x-forwarded-client-cert", "By=x;URI=spiffe://forged"}}).status == 200);
  REQUIRE(pod.requests.size() == 1);
  const std::string* said = wire::find_header(pod.requests[0], "x-forwarded-client-cert");
  REQUIRE((said != nullptr) == asked);
  if (asked) {
    CHECK(*said == "By=spiffe://cluster.local/ns/shop/sa/waypoint;URI=spiffe://cluster.local/ns/shop/sa/web");
  }
}

namespace {

model::TrafficPolicy with_tls(const model::BackendTls& tls) {
  model::TrafficPolicy policy;
  policy.tls = tls;
  return policy;
}

model::HttpRoute tried_once() {
  model::HttpRoute route = route_to("", {{"", 1}});
  route.retries = model::RetryPolicy{};
  route.retries->attempts = 0;
  return route;
}

}  // namespace

TEST_CASE("TLS towards endpoints, inside the connection", "[sim][waypoint][2.3.5]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  world.set_rules(rules_of({tried_once()}));
  model::BackendTls tls;
  tls.roots = world.roots();
  std::string refusal;
  SECTION("by the service's own name") { pod.tls = world.issue_server(kApiService.hostname.str()); }
  SECTION("by a name for SNI") {
    pod.tls = world.issue_server("api.example");
    tls.server_name = "api.example";
  }
  SECTION("by other names than it asks for") {
    pod.tls = world.issue_server("san.example");
    tls.server_name = "api.example";
    tls.subject_alt_names = {"other.example", "san.example"};
  }
  SECTION("by a URI") {
    pod.tls = world.issue({"cluster.local", "shop", "api"});
    tls.subject_alt_names = {"spiffe://cluster.local/ns/shop/sa/api"};
  }
  SECTION("over HTTP/2") {
    pod.tls = world.issue_server(kApiService.hostname.str());
    world.set_protocol(model::AppProtocol::kGrpc);
  }
  SECTION("with a certificate of our own") {
    pod.tls = world.issue_server(kApiService.hostname.str());
    std::tie(tls.certificate, tls.key) = world.issue_pem("spiffe://cluster.local/client");
  }
  SECTION("whoever it is, where that is said") {
    pod.tls = world.issue_server("nobody");
    tls.verify = false;
  }
  SECTION("another name") {
    pod.tls = world.issue_server("wrong.example");
    refusal = "is not for api.shop";
  }
  SECTION("another URI") {
    pod.tls = world.issue({"cluster.local", "shop", "intruder"});
    tls.subject_alt_names = {"spiffe://cluster.local/ns/shop/sa/api"};
    refusal = "is not for spiffe://";
  }
  SECTION("an authority that nobody trusts") {
    pod.tls = world.issue_server(kApiService.hostname.str());
    WaypointWorld other(2);
    tls.roots = other.roots();
    refusal = "certificate";
  }
  SECTION("an endpoint that speaks no TLS") { refusal = "tls handshake"; }
  SECTION("what the control plane could not carry out") {
    tls.broken = "there is no Secret";
    refusal = "there is no Secret";
  }
  SECTION("roots of the system where there are none") {
    tls.roots.clear();
    refusal = "no roots here";
  }
  world.set_backend(versions(with_tls(tls)));
  HttpAnswer answer = world.get("/");
  INFO(answer.body);
  if (refusal.empty()) {
    CHECK(answer.status == 200);
    CHECK(pod.alpn ==
          (world.telemetry.records.back().upstream_version == conn::HttpVersion::k2 ? "h2" : "http/1.1"));
    CHECK(pod.client_uris.empty() == tls.certificate.empty());
  } else {
    CHECK(answer.status == 503);
    CHECK_THAT(answer.body, Catch::Contains(refusal));
    CHECK(world.telemetry.records.back().flags.short_text() == "UF");
    for (const wire::Headers& got : pod.requests) CHECK_FALSE(wire::find_header(got, ":path"));
  }
}

TEST_CASE("connections of before serve nobody once TLS is asked for, or asked for otherwise",
          "[sim][waypoint][2.3.5]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  world.set_rules(rules_of({tried_once()}));
  CHECK(world.get("/").status == 200);
  model::BackendTls tls;
  tls.roots = world.roots();
  pod.tls = world.issue_server(kApiService.hostname.str());
  world.set_backend(versions(with_tls(tls)));
  CHECK(world.get("/").status == 200);
  CHECK(pod.alpn == "http/1.1");
  CHECK(pod.connections == 2);
  tls.server_name = "other.example";
  world.set_backend(versions(with_tls(tls)));
  CHECK(world.get("/").status == 503);
  CHECK(pod.connections == 3);
  // Not even one that was on its way.
  WaypointWorld slow;
  slow.set_rules(rules_of({tried_once()}));
  HttpPod& far = slow.add_pod("b", "10.0.3.1", "v1");
  far.tls = slow.issue_server(kApiService.hostname.str());
  tls.server_name.clear();
  tls.roots = slow.roots();
  slow.set_backend(versions(with_tls(tls)));
  far.handshake_delay = 1s;
  HttpAnswer& waiting = slow.send({});
  slow.loop.run_for(500ms);
  tls.server_name = "other.example";
  slow.set_backend(versions(with_tls(tls)));
  HttpAnswer& next = slow.send({});
  slow.finish(waiting);
  slow.finish(next);
  CHECK(waiting.status == 503);
  CHECK(next.status == 503);
  CHECK(far.requests.empty());
}

TEST_CASE("a PROXY header comes before all else, also before TLS", "[sim][waypoint][2.3.5][R1.8]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  model::TrafficPolicy policy;
  policy.proxy_protocol = 1;
  pod.proxied = true;
  if (GENERATE(false, true)) {
    pod.tls = world.issue_server(kApiService.hostname.str());
    policy.tls.emplace().roots = world.roots();
  }
  world.set_backend(versions(policy));
  CHECK(world.get("/").status == 200);
  CHECK_THAT(pod.proxy_line,
             Catch::StartsWith("PROXY TCP4 10.0.1.11 10.96.0.1 ") && Catch::EndsWith(" 80\r\n"));
  // A connection that says who its client is serves no other.
  CHECK(world.get("/", {}, "other").status == 200);
  CHECK_THAT(pod.proxy_line, Catch::StartsWith("PROXY TCP4 10.0.1.12 10.96.0.1 "));
  CHECK(pod.connections == 2);
}

TEST_CASE("a tunnel by CONNECT, for connections without HTTP", "[sim][waypoint][2.3.5]") {
  WaypointWorld world;
  world.set_protocol(model::AppProtocol::kTcp);
  HttpPod& proxy = world.add_pod("a", "10.0.3.1", "v1");
  model::TrafficPolicy policy;
  policy.tunnel = model::HttpTunnel{"far.example:443", ""};
  std::string why;
  bool served = false;
  SECTION("granted") {
    proxy.raw = "HTTP/1.1 200 Connection established\r\nx: y\r\n\r\nhello";
    served = true;
  }
  SECTION("inside TLS") {
    proxy.raw = "HTTP/1.1 200 OK\r\n\r\nhello";
    proxy.tls = world.issue_server(kApiService.hostname.str());
    policy.tls.emplace().roots = world.roots();
    served = true;
  }
  SECTION("refused") {
    proxy.raw = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 5\r\n\r\nhello";
    why = "it answered 407";
  }
  SECTION("no HTTP") {
    proxy.raw = "SSH-2.0-x\r\nhello";
    why = "does not answer in HTTP";
  }
  SECTION("no answer") {
    proxy.raw = "HTTP/1.1 200";
    proxy.raw_waits = true;
    why = "deadline";
  }
  SECTION("what the control plane could not carry out") {
    proxy.raw = "hello";
    policy.tunnel->broken = "no POST";
    why = "no POST";
  }
  world.set_backend(versions(policy));
  CHECK(world.raw("x") == (served ? "hello" : ""));
  world.loop.run_for(2s);  // the server closes
  REQUIRE_FALSE(world.telemetry.records.empty());
  const waypoint::RequestRecord& record = world.telemetry.records.back();
  if (served) {
    CHECK(proxy.raw_request == "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n");
    CHECK(record.flags.empty());
  } else {
    CHECK_THAT(record.upstream_failure, Catch::Contains(why));
    CHECK(record.flags.has(waypoint::Flag::kUpstreamFailure));
  }
}

}  // namespace culvert::test
