// SPDX-License-Identifier: Apache-2.0
// Every answer of the waypoint's own, reached from outside (spec waypoint section 6).
//
// | answers                                                        | test |
// |----------------------------------------------------------------|-----------------------------------------|
// | no route, cluster unknown, invalid backend, nobody healthy,    | waypoint_test.cc: what the waypoint | |
// fault, redirect, direct response, bad path, gRPC form          | answers itself                          |
// | connection refused, timed out, closed, reset, protocol error   | here: what breaks upstream | | retried,
// timeouts of route and try, per-try                    | waypoint_seed_test.cc, waypoint_test.cc | |
// overflow                                                       | waypoint_seed_test.cc                   |
// | policy, limit, token, CUSTOM                                   | waypoint_guard_test.cc | | overload |
// waypoint_overload_test.cc               | | 400, 405, 408, 414, 417, 426, 431, 505 and upgrades | here:
// what clients do wrong             |
#include <catch2/catch.hpp>

#include "test/sim/waypoint_world.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kBroken =
    "upstream connect error or disconnect/reset before headers. reset reason: ";

model::HttpRoute once() {
  model::HttpRoute route = route_to("", {{"", 1}});
  route.retries = model::RetryPolicy{};
  route.retries->attempts = 0;
  return route;
}

std::string status_line(const std::string& answer) { return answer.substr(0, answer.find("\r\n")); }
std::string body_of(const std::string& answer) {
  size_t end = answer.find("\r\n\r\n");
  return end == std::string::npos ? "" : answer.substr(end + 4);
}

}  // namespace

TEST_CASE("what breaks upstream is said as upstream says it", "[sim][waypoint][6]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  world.set_rules(rules_of({once()}));
  auto told = [&](const HttpAnswer& answer, int status, const std::string& reason, const char* flags) {
    CHECK(answer.status == status);
    CHECK_THAT(answer.body, Catch::StartsWith(std::string(kBroken) + reason));
    CHECK(answer.header("content-type") == "text/plain");
    CHECK(world.telemetry.records.back().flags.short_text() == flags);
    CHECK_THAT(world.telemetry.records.back().details,
               Catch::StartsWith("upstream_reset_before_response_started{"));
  };
  SECTION("nobody listens") {
    world.close(pod);
    told(world.get("/"), 503, "remote connection failure", "UF");
  }
  SECTION("nobody answers the dial") {
    pod.host->set_silent(true);
    base::TimePoint began = world.loop.now();
    told(world.get("/"), 503, "connection timeout", "UF");
    CHECK(world.loop.now() - began >= 10s);
    CHECK(world.loop.now() - began < 11s);
  }
  SECTION("the connection ends before an answer") {
    pod.break_off = true;
    told(world.get("/"), 503, "connection termination", "UC");
  }
  SECTION("a reset before the answer") {
    world.set_protocol(model::AppProtocol::kHttp2);
    pod.break_off = true;
    told(world.get("/"), 503, "remote reset", "UR");
  }
  SECTION("something that is not HTTP") {
    pod.raw = "\r\n";
    told(world.get("/"), 502, "protocol error", "UPE");
  }
  SECTION("another protocol, whose server then waits") {
    pod.raw = "SSH-2.0-OpenSSH_9.2p1\r\n";
    pod.raw_waits = true;
    base::TimePoint began = world.loop.now();
    told(world.get("/"), 502, "protocol error", "UPE");
    CHECK(world.loop.now() - began < 1s);
  }
  SECTION("an answer that ends too early never looks complete") {
    pod.raw = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    HttpAnswer answer = world.get("/");
    CHECK_FALSE(answer.error.empty());
    CHECK(world.telemetry.records.back().flags.short_text() == "UC");
    CHECK(world.telemetry.records.back().details ==
          "upstream_reset_after_response_started{connection_termination}");
  }
  SECTION("gRPC is told in its own way") {
    world.close(pod);
    HttpAnswer answer = world.get("/", {{"content-type", "application/grpc"}});
    CHECK(answer.status == 200);
    CHECK(answer.header("content-type") == "application/grpc");
    CHECK(answer.header("grpc-status") == "14");
    CHECK_THAT(answer.header("grpc-message"), Catch::StartsWith(std::string(kBroken)));
    CHECK(answer.body.empty());
  }
  SECTION("HEAD gets no body") {
    world.close(pod);
    HttpAnswer& answer = world.send({.method = "HEAD"});
    world.finish(answer);
    CHECK(answer.status == 503);
    CHECK(answer.body.empty());
    CHECK(std::stoul(answer.header("content-length")) > kBroken.size());
  }
}

TEST_CASE("what clients do wrong is answered in their own words", "[sim][waypoint][6][7.2]") {
  struct Case {
    std::string request, line, body, flags, details;
  };
  std::string big(70'000, 'a');
  const std::vector<Case> cases{
      {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request", "Bad Request", "DPE", ""},
      {"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "HTTP/1.1 400 Bad Request", "Bad Request", "DPE", ""},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
       "HTTP/1.1 400 Bad Request", "Bad Request", "DPE", ""},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
       "HTTP/1.1 400 Bad Request", "Bad Request", "DPE", ""},
      {"GET / HTTP/1.1\r\nhost: a\r\nx-big: " + big + "\r\n\r\n",
       "HTTP/1.1 431 Request Header Fields Too Large", "Request Header Fields Too Large", "DPE",
       "http1.headers_too_large"},
      {"GET / HTTP/1.0\r\nhost: a\r\n\r\n", "HTTP/1.1 426 Upgrade Required", "Upgrade Required", "-",
       "low_version"},
      {"GET / HTTP/1.9\r\nhost: a\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported", "", "DPE", ""},
      {"GET / HTTP/1.1\r\nhost: a\r\nexpect: magic\r\n\r\n", "HTTP/1.1 417 Expectation Failed", "", "-", ""},
      {"TRACE / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "HTTP/1.1 405 Method Not Allowed", "", "-",
       "method_not_allowed"},
      {"GET /../x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "HTTP/1.1 400 Bad Request", "", "-",
       "path_normalization_failed"},
      {"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: tcp\r\n\r\n",
       "HTTP/1.1 403 Forbidden", "", "-", "upgrade_failed"},
      {"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ", "HTTP/1.1 408 Request Timeout", "request header timeout", "-",
       "request_header_timeout"},
  };
  for (const Case& one : cases) {
    CAPTURE(one.request.substr(0, 100));
    WaypointWorld world;
    HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
    std::string answer = world.raw(one.request);
    CHECK(status_line(answer) == one.line);
    CHECK(body_of(answer) == one.body);
    REQUIRE(world.telemetry.records.size() == 1);
    CHECK(world.telemetry.records[0].flags.short_text() == one.flags);
    if (!one.details.empty()) CHECK(world.telemetry.records[0].details == one.details);
    CHECK(pod.requests.empty());
  }
}

// Common clients ask for h2c with every first request; 403 would lock them out, and Envoy ignores it too
// (RFC 9110 section 7.8 lets it).
TEST_CASE("an upgrade to h2c is not taken up, and the request goes on without it", "[sim][waypoint][6]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  std::string answer = world.raw(
      "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings, close\r\nupgrade: h2c\r\n"
      "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n");
  CHECK(status_line(answer) == "HTTP/1.1 200 OK");
  REQUIRE(pod.requests.size() == 1);
  CHECK_FALSE(wire::find_header(pod.requests[0], "upgrade"));
  CHECK_FALSE(wire::find_header(pod.requests[0], "http2-settings"));
}

TEST_CASE("a stream on which nothing moves is ended", "[sim][waypoint][6][7.4]") {
  WaypointWorld world;
  world.add_pod("a", "10.0.3.1", "v1").delay = 10h;
  HttpAnswer& answer = world.send({});
  base::TimePoint began = world.loop.now();
  world.finish(answer, 2h);
  CHECK(answer.status == 504);
  CHECK(answer.body == "stream timeout");
  CHECK(world.loop.now() - began >= 1h);
  CHECK(world.loop.now() - began < 1h + 1min);
  CHECK(world.telemetry.records.back().flags.short_text() == "SI");
  CHECK(world.telemetry.records.back().details == "stream_idle_timeout");
}

}  // namespace culvert::test
