// SPDX-License-Identifier: Apache-2.0
// Policies that come and go while connections are open (spec ztunnel section 6).
#include <catch2/catch.hpp>

#include "test/sim/scenes.h"

namespace culvert::test {
namespace {

constexpr char kNobodyFromWeb[] = R"(
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-web, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  action: DENY
  rules: [{from: [{source: {principals: ["cluster.local/ns/shop/sa/web"]}}]}]
)";
constexpr char kOnlyAdmin[] = R"(
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-admin, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  rules: [{from: [{source: {principals: ["cluster.local/ns/shop/sa/admin"]}}]}]
)";

}  // namespace

TEST_CASE("a policy ends the connection it forbids, and no other", "[sim][world]") {
  World world(11);
  raise_two_nodes(world);
  world.add_pod({.name = "admin", .node = "n1", .ip = "10.0.1.2"});
  world.loop.run_for(std::chrono::seconds(1));
  SimPod& api = world.pod("api");
  const char* policy = GENERATE(kNobodyFromWeb, kOnlyAdmin);
  // Each goes on for about a minute.
  CallResult& web = world.call(world.pod("web"), kApi, 2'400'000, std::chrono::milliseconds(100));
  CallResult& admin = world.call(world.pod("admin"), kApi, 2'400'000, std::chrono::milliseconds(100));
  world.loop.run_for(std::chrono::seconds(10));
  REQUIRE(web.received > 0);
  world.put("policy", policy);
  bool closed = world.loop.run_until([&] { return web.done; }, std::chrono::seconds(1));
  CHECK(closed);
  CHECK(web.received < 2'400'000);
  CHECK(web.intact);
  uint64_t accepted = api.accepted;
  CallResult& again = world.call(world.pod("web"), kApi, 1000);
  world.finish(again);
  CHECK(again.received == 0);
  CHECK(api.accepted == accepted);  // a denied connection never reaches the application
  CHECK(world.logged("policy rejection"));
  CHECK(world.logged("http status: 401"));  // the client's node proxy is told, and says so
  world.finish(admin);
  CHECK(admin.received == 2'400'000);
  CHECK(admin.clean_end);
  world.put("policy", "");
  world.loop.run_for(std::chrono::seconds(1));
  CallResult& after = world.call(world.pod("web"), kApi, 1000);
  world.finish(after);
  CHECK(after.received == 1000);
  world.check_end();
}

TEST_CASE("strict mutual TLS refuses plaintext from outside the mesh", "[sim][world]") {
  World world(12);
  raise_two_nodes(world);
  world.add_pod({.name = "stranger", .node = "n1", .ip = "10.0.1.9", .enrolled = false});
  world.loop.run_for(std::chrono::seconds(1));
  SimPod& api = world.pod("api");
  CallResult& open = world.call(world.pod("stranger"), "10.0.2.1:8080", 1000);
  world.finish(open);
  CHECK(open.received == 1000);
  CHECK(world.plaintext_runs > 0);  // as it must be: nobody encrypts for the stranger
  world.plaintext_runs = 0;
  world.put("strict", R"(
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
)");
  world.loop.run_for(std::chrono::seconds(1));
  uint64_t accepted = api.accepted;
  CallResult& refused = world.call(world.pod("stranger"), "10.0.2.1:8080", 1000);
  world.finish(refused);
  CHECK(refused.received == 0);
  CHECK(api.accepted == accepted);
  CallResult& inside = world.call(world.pod("web"), kApi, 1000);
  world.finish(inside);
  CHECK(inside.received == 1000);
  world.plaintext_runs = 0;  // the stranger's own attempt
  world.check_end();
}

// The node proxies of a mesh in which api stands behind a waypoint, whose pod here is any with its account:
// what the waypoint itself decides is tested in waypoint_test.cc.
TEST_CASE("nobody goes around the waypoint that enforces a pod's policies", "[sim][world][waypoint-2.6.5]") {
  World world(13);
  raise_two_nodes(world);
  world.add_pod({.name = "way", .node = "n1", .ip = "10.0.1.3"});
  world.add_pod({.name = "prometheus", .node = "n1", .ip = "10.0.1.4"});
  world.add_pod({.name = "stranger", .node = "n1", .ip = "10.0.1.9", .enrolled = false});
  constexpr char kPod[] = "10.0.2.1:8080";
  world.put("policy", R"(
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  rules:
  - from: [{source: {principals: ["cluster.local/ns/shop/sa/web"]}}]
    to: [{operation: {methods: [GET]}}]
  - from: [{source: {principals: ["cluster.local/ns/shop/sa/prometheus"]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-puts, namespace: shop}
spec: {selector: {matchLabels: {app: api}}, action: DENY, rules: [{to: [{operation: {methods: [PUT], ports: ["9"]}}]}]}
)");
  world.loop.run_for(std::chrono::seconds(1));
  auto received = [&](const char* from) {
    CallResult& result = world.call(world.pod(from), kPod, 1000);
    world.finish(result);
    return result.received;
  };
  // No waypoint yet: what only HTTP could allow is refused.
  CHECK(received("web") == 0);
  CHECK(received("way") == 0);
  CHECK(received("prometheus") == 1000);
  world.put("waypoint", R"(
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: way, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: IPAddress, value: 10.0.1.3}]}
)");
  world.put("service-api", R"(
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop, labels: {istio.io/use-waypoint: way}}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
)");
  world.loop.run_for(std::chrono::seconds(1));
  uint64_t accepted = world.pod("api").accepted;
  CHECK(received("web") == 0);
  CHECK(received("stranger") == 0);
  CHECK(world.pod("api").accepted == accepted);  // a denied connection never reaches the application
  CHECK(received("way") == 1000);
  CHECK(received("prometheus") == 1000);  // L4 alone allows it
  world.put("waypoint", "");
  world.loop.run_for(std::chrono::seconds(1));
  CHECK(received("way") == 0);
  world.plaintext_runs = 0;  // the stranger's own attempt
  world.check_end();
}

}  // namespace culvert::test
