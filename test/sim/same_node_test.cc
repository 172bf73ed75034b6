// SPDX-License-Identifier: Apache-2.0
// Two pods of one node: one suite over the tunnel and the local path, which must not differ in anything but
// the way the bytes take (ztunnel/local_path.h).
#include <catch2/catch.hpp>

#include "test/sim/scenes.h"

namespace culvert::test {
namespace {

constexpr char kVip[] = "10.96.0.1:80";

void raise_one_node(World& world, bool local) {
  world.local_path = local;
  world.start_control();
  world.add_node("n1", "192.0.2.1");
  world.add_pod({.name = "web", .node = "n1", .ip = "10.0.1.1"});
  world.add_pod({.name = "api", .node = "n1", .ip = "10.0.1.2"});
  world.add_pod({.name = "admin", .node = "n1", .ip = "10.0.1.3"});
  world.add_service("api", "10.96.0.1", 80, 8080);
  world.serve_echo(world.pod("api"), 8080);
  world.start_proxy(world.node("n1"));
  world.settle();
}

// What the two paths must agree on: connections and bytes by every label.
std::string traffic(World& world) {
  std::string kept, text = world.metrics(world.node("n1"));
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    bool counts = line.starts_with("istio_tcp_connections_") || line.starts_with("istio_tcp_sent_") ||
                  line.starts_with("istio_tcp_received_");
    if (counts) kept += line + "\n";
  }
  return kept;
}

// The log without what differs by nature: times, ports, durations, and the mark itself.
size_t count_lines(const World& world, const std::string& text) {
  size_t count = 0;
  for (const std::string& line : world.log_lines()) count += line.find(text) != std::string::npos;
  return count;
}

constexpr char kNobodyFromWeb[] = R"(
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-web, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  action: DENY
  rules: [{from: [{source: {principals: ["cluster.local/ns/shop/sa/web"]}}]}]
)";
constexpr char kOnlyOneAddress[] = R"(
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: by-address, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  rules: [{from: [{source: {ipBlocks: ["10.0.1.1/32"]}}]}]
)";
constexpr char kStrict[] = R"(
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
)";
constexpr char kBehindWaypoint[] = R"(
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop, labels: {istio.io/use-waypoint: api}}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: tcp, port: 80, targetPort: 8080}]}
)";
// The waypoint is a pod of the same node that speaks HBONE itself, as ours do.
constexpr char kWaypoint[] = R"(
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: api, namespace: shop, labels: {istio.io/waypoint-for: service}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: IPAddress, value: 10.96.0.9}]}
---
apiVersion: v1
kind: Service
metadata: {name: waypoint, namespace: shop}
spec: {clusterIP: 10.96.0.9, selector: {app: admin}, ports: [{name: mesh, port: 15008, targetPort: 15008}]}
)";

}  // namespace

TEST_CASE("pods of one node: bytes, address, labels and lines", "[sim][world][local]") {
  std::string figures[2];
  size_t lines[2];
  for (bool local : {false, true}) {
    World world(31);
    raise_one_node(world, local);
    CallResult& by_vip = world.call(world.pod("web"), kVip, 300'000);
    CallResult& by_ip = world.call(world.pod("web"), "10.0.1.2:8080", 100'000);
    CallResult& itself = world.call(world.pod("api"), kVip, 1000);
    for (CallResult* result : {&by_vip, &by_ip, &itself}) {
      world.finish(*result);
      INFO(result->error);
      CHECK(result->clean_end);
      CHECK(result->intact);
      CHECK(result->received == result->sent);
    }
    SimPod& api = world.pod("api");
    CHECK(api.bytes_in == 401'000);
    CHECK(api.peers_seen == std::set<std::string>{"10.0.1.1", "10.0.1.2"});
    figures[local] = traffic(world);
    lines[local] = count_lines(world, "connection complete");
    CHECK(count_lines(world, "local=true") == (local ? lines[local] : 0));
    CHECK(world.metric(world.node("n1"), "culvert_local_connections_total") == (local ? 3 : 0));
    CHECK(count_lines(world, "src.identity=\"spiffe://cluster.local/ns/shop/sa/web\"") == 4);
    world.check_end();
  }
  CHECK(figures[true] == figures[false]);
  CHECK(figures[true].find("connection_security_policy=\"mutual_tls\"") != std::string::npos);
  CHECK(lines[true] == 6);
  CHECK(lines[false] == 6);
}

TEST_CASE("pods of one node: a policy closes what it forbids, and no other", "[sim][world][local]") {
  bool local = GENERATE(false, true);
  World world(32);
  raise_one_node(world, local);
  SimPod& api = world.pod("api");
  CallResult& web = world.call(world.pod("web"), kVip, 2'400'000, std::chrono::milliseconds(100));
  CallResult& admin = world.call(world.pod("admin"), kVip, 240'000, std::chrono::milliseconds(100));
  world.loop.run_for(std::chrono::seconds(2));
  REQUIRE(web.received > 0);
  world.put("policy", kNobodyFromWeb);
  CHECK(world.loop.run_until([&] { return web.done; }, std::chrono::seconds(1)));
  CHECK(web.received < 2'400'000);
  CHECK(web.intact);
  CHECK(world.logged("policy change"));
  CHECK(world.metric(world.node("n1"), "culvert_connections_closed_by_policy_total") == 1);
  uint64_t accepted = api.accepted;
  CallResult& again = world.call(world.pod("web"), kVip, 1000);
  world.finish(again);
  CHECK(again.received == 0);
  CHECK(api.accepted == accepted);
  CHECK(world.logged("policy rejection"));
  CHECK(world.logged("http status: 401"));
  world.finish(admin);
  CHECK(admin.received == 240'000);
  world.put("policy", "");
  world.loop.run_for(std::chrono::seconds(1));
  CallResult& after = world.call(world.pod("web"), kVip, 1000);
  world.finish(after);
  CHECK(after.received == 1000);
  world.check_end();
}

TEST_CASE("pods of one node: policies by address and strict mutual TLS", "[sim][world][local]") {
  bool local = GENERATE(false, true);
  World world(33);
  raise_one_node(world, local);
  world.add_pod({.name = "stranger", .node = "n1", .ip = "10.0.1.9", .enrolled = false});
  world.put("policy", kOnlyOneAddress);
  world.put("strict", kStrict);
  world.loop.run_for(std::chrono::seconds(1));
  SimPod& api = world.pod("api");
  CallResult& web = world.call(world.pod("web"), kVip, 1000);
  world.finish(web);
  CHECK(web.received == 1000);
  for (const char* refused : {"admin", "stranger"}) {
    uint64_t accepted = api.accepted;
    CallResult& result = world.call(world.pod(refused), "10.0.1.2:8080", 1000);
    world.finish(result);
    INFO(refused);
    CHECK(result.received == 0);
    CHECK(api.accepted == accepted);
  }
  CHECK(world.metric(world.node("n1"), "culvert_local_connections_total") == (local ? 2 : 0));
  world.check_end();
}

TEST_CASE("pods of one node: what a waypoint guards goes to the waypoint", "[sim][world][local]") {
  bool local = GENERATE(false, true);
  World world(34);
  raise_one_node(world, local);
  world.put("waypoint", kWaypoint);
  world.put("service-api", kBehindWaypoint);
  world.loop.run_for(std::chrono::seconds(1));
  SimPod& api = world.pod("api");
  CallResult& result = world.call(world.pod("web"), kVip, 1000);
  world.finish(result);
  CHECK(result.received == 0);  // nothing listens behind the one we name
  CHECK(api.accepted == 0);
  CHECK(world.logged("dst.addr=10.0.1.3:15008 dst.hbone_addr=10.96.0.1:80"));
  CHECK(world.metric(world.node("n1"), "culvert_local_connections_total") == 0);
  world.check_end();
}

TEST_CASE("pods of one node: nobody listens, and the application resets", "[sim][world][local]") {
  bool local = GENERATE(false, true);
  World world(35);
  raise_one_node(world, local);
  CallResult& nobody = world.call(world.pod("web"), "10.0.1.2:9999", 1000);
  world.finish(nobody);
  CHECK(nobody.received == 0);
  CHECK(world.logged("http status: 503"));
  CallResult& broken = world.call(world.pod("web"), kVip, 2'400'000, std::chrono::milliseconds(100));
  world.loop.run_for(std::chrono::seconds(2));
  world.pod("api").tasks->cancel_all();
  CHECK(world.loop.run_until([&] { return broken.done; }, std::chrono::seconds(5)));
  CHECK(broken.intact);
  world.check_end();
}

TEST_CASE("pods of one node: a drain waits for what is under way, until its deadline",
          "[sim][world][local]") {
  bool local = GENERATE(false, true);
  World world(36);
  raise_one_node(world, local);
  SimNode& node = world.node("n1");
  base::Duration deadline = node.proxy->config().drain_deadline;
  // One ends in time, one does not.
  CallResult& brief = world.call(world.pod("web"), kVip, 40'000, std::chrono::milliseconds(100));
  CallResult& lengthy = world.call(world.pod("admin"), kVip, 24'000'000, std::chrono::milliseconds(100));
  world.loop.run_for(std::chrono::milliseconds(500));
  node.proxy->shut_down("test");
  CHECK(world.loop.run_until([&] { return node.proxy_ended; }, deadline + std::chrono::seconds(1)));
  CHECK(brief.received == 40'000);
  world.loop.run_for(std::chrono::seconds(1));
  CHECK(lengthy.done);
  CHECK(lengthy.intact);
  CHECK(world.metric(node, "istio_tcp_connections_opened_total") == 4);
  CHECK(world.metric(node, "istio_tcp_connections_closed_total") == 4);
  world.kill_proxy(node);
  world.check_end();
}

namespace {

struct Party {
  const char* name;
  void (*vanish)(World&);
};
const Party kParties[] = {
    {"client pod", [](World& world) { world.delete_pod("web"); }},
    {"server pod", [](World& world) { world.delete_pod("api"); }},
    {"node proxy", [](World& world) { world.kill_proxy(world.node("n1")); }},
    {"every connection", [](World& world) { world.network.reset_connections(*world.pod("api").host); }},
};

bool day(const Party& party, bool local, size_t at) {
  World world(2000 + at, std::chrono::hours(24),
              {.latency = std::chrono::microseconds(200),
               .segment_gap = std::chrono::microseconds(7),
               .buffer_bytes = 8192,
               .fragment_bytes = 1000});
  raise_one_node(world, local);
  CallResult& result = world.call(world.pod("web"), kVip, 40'000);
  size_t seen = 0;
  bool done = false;
  world.loop.run_until([&] {
    done = result.done;
    return done || seen++ >= at;
  });
  INFO(party.name << " vanishes at moment " << at << (local ? " of a local path" : " of a tunnel"));
  party.vanish(world);
  world.loop.run_for(std::chrono::minutes(2));
  CHECK(result.intact);
  world.check_end();
  return !done;
}

}  // namespace

TEST_CASE("pods of one node: each party vanishes at each moment", "[sim][world][local]") {
  bool local = GENERATE(false, true);
  for (const Party& party : kParties) {
    size_t moments = 0;
    while (moments < 10'000 && day(party, local, moments)) moments += local ? 1 : 5;
    INFO(party.name);
    CHECK(moments > 30);
  }
}

}  // namespace culvert::test
