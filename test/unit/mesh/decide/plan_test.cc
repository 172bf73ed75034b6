// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/plan.h"

#include <catch2/catch.hpp>
#include <map>

#include "mesh/decide/pick_endpoint.h"
#include "test/unit/mesh/model/build_mesh.h"

namespace culvert::test {
namespace {

using base::Code;
using decide::Plan;
using decide::Protocol;
using model::BalanceMode;
using model::BalanceScope;
using model::LoadBalancing;

// A mesh under test, with the client pod 10.0.0.100 in namespace "ns".
struct World {
  model::MeshStore store{"node"};
  Workload source;
  base::Rng rng{7};

  World() {
    source = pod("ns", "client", {"10.0.0.100"});
    source.node = "node";
    add({source});
  }
  void add(std::vector<Workload> workloads, std::vector<Service> services = {}) {
    store.apply(update(std::move(workloads), std::move(services)));
  }
  base::Result<Plan> plan(std::string_view target) {
    return decide::plan_outbound(*store.view(), "", source, at(target), rng);
  }
  Plan must(std::string_view target) {
    auto result = plan(target);
    INFO((result ? "" : result.error().message()));
    REQUIRE(result);
    return *result;
  }
  // How often each workload is chosen, out of `draws`.
  std::map<std::string, int> spread(std::string_view target, int draws = 400) {
    std::map<std::string, int> counts;
    for (int i = 0; i < draws; ++i) {
      auto result = plan(target);
      ++counts[!result                        ? "error"
               : result->destination_workload ? result->destination_workload->name.str()
                                              : "none"];
    }
    return counts;
  }
};

Workload plain(Workload workload) {
  workload.protocol = model::TunnelProtocol::kNone;
  return workload;
}

std::vector<std::string> identities(const Plan& plan) {
  std::vector<std::string> result;
  for (const auto& identity : plan.allowed_identities) result.push_back(identity.principal());
  return result;
}

}  // namespace

TEST_CASE("R1 unknown address: TCP passthrough", "[R1]") {
  World world;
  auto plan = world.must("8.8.8.8:443");
  CHECK(plan.protocol == Protocol::kTcp);
  CHECK(plan.next_hop == at("8.8.8.8:443"));
  CHECK(plan.authority.empty());
  CHECK_FALSE(plan.destination_workload);
  CHECK_FALSE(plan.destination_service);
}

TEST_CASE("R2 known plain workload: TCP; R3 known HBONE workload: tunnel", "[R2][R3]") {
  World world;
  for (const char* node : {"node", "remote"}) {
    auto tcp = plain(pod("ns", "tcp", {"10.0.0.1"})), hbone = pod("ns", "hbone", {"10.0.0.2"});
    tcp.node = hbone.node = node;
    world.add({tcp, hbone});
    auto plan = world.must("10.0.0.1:80");
    CHECK(plan.protocol == Protocol::kTcp);
    CHECK(plan.next_hop == at("10.0.0.1:80"));
    CHECK(plan.destination_workload->name == "tcp");
    plan = world.must("10.0.0.2:80");
    CHECK(plan.protocol == Protocol::kHbone);
    CHECK(plan.next_hop == at("10.0.0.2:15008"));
    CHECK(plan.authority == "10.0.0.2:80");
    CHECK(identities(plan) == std::vector<std::string>{"cluster.local/ns/ns/sa/hbone"});
    CHECK_FALSE(plan.to_waypoint);
  }
}

TEST_CASE("an IPv6 authority stands in brackets", "[R3]") {
  World world;
  world.add({pod("ns", "six", {"2001:db8::1"})});
  CHECK(world.must("[2001:db8::1]:80").authority == "[2001:db8::1]:80");
}

TEST_CASE("R4 R5 R6 other networks", "[R4][R5][R6]") {
  World world;
  auto remote = pod("ns", "remote", {"10.9.0.1"});
  remote.network = "net2";
  member(remote, "ns/svc", {{80, 8080}});
  auto svc = service("ns", "svc", {"10.1.0.1"}, {{80, 8080}});
  world.add({remote}, {svc});
  auto result = world.plan("10.1.0.1:80");
  REQUIRE_FALSE(result);
  CHECK(result.error().message().find("no valid routing destination") != std::string::npos);

  remote.network_gateway = gateway("net2/10.9.9.9", 15009);
  world.add({remote});
  result = world.plan("10.1.0.1:80");
  REQUIRE_FALSE(result);
  CHECK(result.error().code() == Code::kUnsupported);
  CHECK(result.error().message().find("double HBONE") != std::string::npos);

  SECTION("a healthy local endpoint wins by FAILOVER [NETWORK]") {
    auto local = pod("ns", "local", {"10.0.0.1"});
    member(local, "ns/svc", {{80, 8080}});
    svc.load_balancing = LoadBalancing{{BalanceScope::kNetwork}, BalanceMode::kFailover, {}};
    world.add({local}, {svc});
    CHECK(world.spread("10.1.0.1:80") == std::map<std::string, int>{{"local", 400}});
    local.status = model::HealthStatus::kUnhealthy;
    world.add({local});
    CHECK(world.plan("10.1.0.1:80").error().code() == Code::kUnsupported);
  }
  SECTION("a service waypoint on another network") {
    auto waypoint = pod("ns", "waypoint", {"10.9.0.2"});
    waypoint.network = "net2";
    member(waypoint, "ns/waypoint", {{15008, 15008}});
    svc.waypoint = gateway("ns/waypoint");
    world.add({waypoint}, {svc, service("ns", "waypoint", {"10.1.0.9"}, {{15008, 15008}})});
    CHECK(world.plan("10.1.0.1:80").error().code() == Code::kUnsupported);
  }
}

TEST_CASE("R7 R8 workload waypoints", "[R7][R8]") {
  World world;
  auto waypoint = pod("ns", "waypoint", {"10.0.0.50"});
  member(waypoint, "ns/waypoint", {{15008, 15008}});
  auto waypoint_service = service("ns", "waypoint", {"10.1.0.50"}, {{15008, 15008}});
  auto target = pod("ns", "target", {"10.0.0.1"});

  SECTION("by address of the workload, of the service, and by name") {
    for (const char* reference : {"/10.0.0.50", "/10.1.0.50", "ns/waypoint"}) {
      target.waypoint = gateway(reference);
      world.add({waypoint, target}, {waypoint_service});
      INFO(reference);
      auto plan = world.must("10.0.0.1:80");
      CHECK(plan.protocol == Protocol::kHbone);
      CHECK(plan.to_waypoint);
      CHECK(plan.next_hop == at("10.0.0.50:15008"));
      CHECK(plan.authority == "10.0.0.1:80");
      CHECK(plan.destination_workload->name == "waypoint");
      CHECK(identities(plan) == std::vector<std::string>{"cluster.local/ns/ns/sa/waypoint"});
    }
  }
  SECTION("also when the families differ") {
    waypoint.addresses = {ip("2001:db8::50")};
    target.waypoint = gateway("ns/waypoint");
    world.add({waypoint, target}, {waypoint_service});
    auto plan = world.must("10.0.0.1:80");
    CHECK(plan.next_hop == at("[2001:db8::50]:15008"));
    CHECK(plan.authority == "10.0.0.1:80");
  }
  SECTION("the waypoint itself goes straight to the workload behind it") {
    for (const char* reference : {"/10.0.0.50", "/10.1.0.50", "ns/waypoint"}) {
      target.waypoint = gateway(reference);
      world.add({waypoint, target}, {waypoint_service});
      world.source = waypoint;
      INFO(reference);
      auto plan = world.must("10.0.0.1:80");
      CHECK_FALSE(plan.to_waypoint);
      CHECK(plan.next_hop == at("10.0.0.1:15008"));
    }
  }
  SECTION("the client's own waypoint is not used on the way out") {
    world.source.waypoint = gateway("ns/waypoint");
    world.add({waypoint, target, world.source}, {waypoint_service});
    CHECK_FALSE(world.must("10.0.0.1:80").to_waypoint);
  }
  SECTION("a waypoint that cannot be found refuses the traffic") {
    target.waypoint = gateway("ns/gone");
    world.add({target});
    auto result = world.plan("10.0.0.1:80");
    REQUIRE_FALSE(result);
    CHECK(result.error().message() == "unknown waypoint: ns/gone:15008");
    waypoint.status = model::HealthStatus::kUnhealthy;
    target.waypoint = gateway("ns/waypoint");
    world.add({waypoint, target}, {waypoint_service});
    CHECK_FALSE(world.plan("10.0.0.1:80"));
    waypoint_service.load_balancing =
        LoadBalancing{{}, BalanceMode::kPassthrough, model::HealthPolicy::kAllowAll};
    world.add({}, {waypoint_service});
    CHECK_FALSE(world.plan("10.0.0.1:80"));
  }
  SECTION("it is not used for traffic addressed to a service") {
    target.waypoint = gateway("ns/waypoint");
    member(target, "ns/svc", {{80, 8080}});
    world.add({waypoint, target}, {waypoint_service, service("ns", "svc", {"10.1.0.1"}, {{80, 0}})});
    auto plan = world.must("10.1.0.1:80");
    CHECK_FALSE(plan.to_waypoint);
    CHECK(plan.authority == "10.0.0.1:8080");
  }
}

TEST_CASE("R9 service waypoint with the VIP as authority", "[R9]") {
  World world;
  auto waypoint = pod("ns", "waypoint", {"10.0.0.50"});
  member(waypoint, "ns/waypoint", {{15008, 15008}});
  auto waypoint_service = service("ns", "waypoint", {"10.1.0.50"}, {{15008, 15008}});
  waypoint_service.subject_alt_names = {"spiffe://cluster.local/ns/ns/sa/extra", "junk"};
  auto svc = service("ns", "svc", {"10.1.0.1"}, {{80, 8080}});
  svc.waypoint = gateway("ns/waypoint");
  world.add({waypoint}, {waypoint_service, svc});
  auto plan = world.must("10.1.0.1:80");
  CHECK(plan.authority == "10.1.0.1:80");
  CHECK(plan.next_hop == at("10.0.0.50:15008"));
  CHECK(plan.destination_service->hostname == "svc");
  CHECK(plan.destination_workload->name == "waypoint");
  CHECK(identities(plan) ==
        std::vector<std::string>{"cluster.local/ns/ns/sa/extra", "cluster.local/ns/ns/sa/waypoint"});
  CHECK(plan.skipped_identities == std::vector<std::string>{"junk"});
  // Even the waypoint is not exempt when it addresses the service.
  world.source = waypoint;
  CHECK(world.must("10.1.0.1:80").to_waypoint);
}

TEST_CASE("R10 service without endpoints", "[R10]") {
  World world;
  world.add({}, {service("ns", "svc", {"10.1.0.1"}, {{80, 8080}})});
  auto result = world.plan("10.1.0.1:80");
  REQUIRE_FALSE(result);
  CHECK(result.error().code() == Code::kUnavailable);
  CHECK(result.error().message() == "no healthy upstream: 10.1.0.1:80");
  // A port the service does not list.
  auto a = pod("ns", "a", {"10.0.0.1"});
  world.add({member(a, "ns/svc", {{80, 8080}})});
  CHECK(world.plan("10.1.0.1:80"));
  CHECK_FALSE(world.plan("10.1.0.1:81"));
  // All weights zero.
  a.capacity = 0;
  world.add({a});
  CHECK_FALSE(world.plan("10.1.0.1:80"));
}

TEST_CASE("R11 named ports filter endpoints that lack them", "[R11]") {
  World world;
  auto has = pod("ns", "has", {"10.0.0.1"}), lacks = pod("ns", "lacks", {"10.0.0.2"});
  member(has, "ns/svc", {{80, 8080}});
  member(lacks, "ns/svc", {{443, 8443}});
  world.add({has, lacks}, {service("ns", "svc", {"10.1.0.1"}, {{80, 0}})});
  CHECK(world.spread("10.1.0.1:80") == std::map<std::string, int>{{"has", 400}});
  CHECK(world.must("10.1.0.1:80").authority == "10.0.0.1:8080");
}

TEST_CASE("R12 host network", "[R12]") {
  World world;
  auto one = plain(pod("ns", "one", {"192.168.0.1"})), two = plain(pod("ns", "two", {"192.168.0.1"}));
  one.network_mode = two.network_mode = model::NetworkMode::kHostNetwork;
  member(one, "ns/one", {{80, 8080}});
  member(two, "ns/two", {{80, 9090}});
  world.add({one, two}, {service("ns", "one", {"10.1.0.1"}, {{80, 8080}}),
                         service("ns", "two", {"10.1.0.2"}, {{80, 9090}})});
  CHECK(world.must("10.1.0.1:80").destination_workload->name == "one");
  CHECK(world.must("10.1.0.2:80").destination_workload->name == "two");
  CHECK(world.must("10.1.0.2:80").next_hop == at("192.168.0.1:9090"));
  auto direct = world.must("192.168.0.1:8080");
  CHECK(direct.protocol == Protocol::kTcp);
  CHECK_FALSE(direct.destination_workload);
}

TEST_CASE("R13 address families", "[R13]") {
  World world;
  auto dual = pod("ns", "dual", {"10.0.0.1", "2001:db8::1"});
  member(dual, "ns/svc", {{80, 8080}});
  auto svc = service("ns", "svc", {"10.1.0.1", "2001:db8:1::1"}, {{80, 8080}});
  using model::IpFamilies;
  struct Row {
    IpFamilies families;
    const char *from_v4, *from_v6;
  };
  for (const Row& row : {Row{IpFamilies::kAutomatic, "10.0.0.1:15008", "[2001:db8::1]:15008"},
                         Row{IpFamilies::kDual, "10.0.0.1:15008", "[2001:db8::1]:15008"},
                         Row{IpFamilies::kV4Only, "10.0.0.1:15008", "10.0.0.1:15008"},
                         Row{IpFamilies::kV6Only, "[2001:db8::1]:15008", "[2001:db8::1]:15008"}}) {
    svc.ip_families = row.families;
    world.add({dual}, {svc});
    CHECK(world.must("10.1.0.1:80").next_hop == at(row.from_v4));
    CHECK(world.must("[2001:db8:1::1]:80").next_hop == at(row.from_v6));
  }
  CHECK(world.must("10.0.0.1:80").next_hop == at("10.0.0.1:15008"));
  CHECK(world.must("[2001:db8::1]:80").next_hop == at("[2001:db8::1]:15008"));
  SECTION("no address of an admitted family") {
    dual.addresses = {ip("2001:db8::1")};
    svc.ip_families = IpFamilies::kV4Only;
    world.add({dual}, {svc});
    CHECK_FALSE(world.plan("10.1.0.1:80"));
  }
}

TEST_CASE("R14 PASSTHROUGH services", "[R14]") {
  World world;
  auto svc = service("ns", "svc", {"10.1.0.1"}, {{80, 8080}});
  svc.load_balancing = LoadBalancing{{}, BalanceMode::kPassthrough, model::HealthPolicy::kAllowAll};
  auto a = pod("ns", "a", {"10.0.0.1"});
  member(a, "ns/svc", {{80, 8080}});
  auto waypoint = pod("ns", "waypoint", {"10.0.0.50"});
  world.add({a, waypoint}, {svc});
  auto plan = world.must("10.1.0.1:80");
  CHECK(plan.protocol == Protocol::kTcp);
  CHECK(plan.next_hop == at("10.1.0.1:80"));
  CHECK_FALSE(plan.destination_service);
  svc.waypoint = gateway("/10.0.0.50");
  world.add({}, {svc});
  plan = world.must("10.1.0.1:80");
  CHECK(plan.to_waypoint);
  CHECK(plan.next_hop == at("10.0.0.50:15008"));
  CHECK(plan.authority == "10.1.0.1:80");
}

TEST_CASE("R15 ranks", "[R15]") {
  World world;
  world.source.locality = {"r1", "z1", "s1"};
  world.source.cluster_id = "c1";
  auto endpoint = [](std::string_view name, std::string_view address, std::string_view network,
                     model::Locality where) {
    auto w = pod("ns", name, {});
    if (!address.empty()) w.addresses = {ip(address)};
    w.network = network;
    w.locality = std::move(where);
    if (!network.empty()) w.network_gateway = gateway("net2/10.9.9.9");
    member(w, "ns/svc", {{80, 8080}});
    return w;
  };
  auto far = endpoint("far", "10.0.0.1", "", {"r2", "z9", ""});
  auto region = endpoint("region", "10.0.0.2", "", {"r1", "z2", ""});
  auto zone = endpoint("zone", "10.0.0.3", "", {"r1", "z1", "s2"});
  auto remote = endpoint("remote", "10.9.0.4", "net2", {"r1", "z1", "s1"});
  auto remote_region = endpoint("remote-region", "10.9.0.5", "net2", {"r1", "z2", ""});
  auto no_address = endpoint("nowhere", "", "", {"r1", "z1", "s1"});
  auto svc = service("ns", "svc", {"10.1.0.1"}, {{80, 8080}});
  auto choose = [&](std::vector<Workload> workloads, BalanceMode mode, std::vector<BalanceScope> scopes) {
    World fresh;
    fresh.source = world.source;
    svc.load_balancing = LoadBalancing{std::move(scopes), mode, {}};
    fresh.add(std::move(workloads), {svc});
    std::map<std::string, int> counts;
    for (int i = 0; i < 100; ++i) {
      auto picked = decide::pick_endpoint(*fresh.store.view(), fresh.source, svc, 80,
                                          decide::Resolution::kStandard, fresh.rng);
      ++counts[picked ? picked->workload->name.str() : "none"];
    }
    std::string names;
    for (const auto& [name, count] : counts) names += (names.empty() ? "" : " ") + name;
    return names;
  };
  using enum BalanceScope;
  constexpr auto kFailover = BalanceMode::kFailover, kStrict = BalanceMode::kStrict;
  const std::vector<BalanceScope> all = {kNetwork, kRegion, kZone};
  CHECK(choose({far, region}, kStrict, all) == "none");
  CHECK(choose({far, region, zone}, kStrict, all) == "zone");
  CHECK(choose({remote}, kStrict, all) == "none");
  CHECK(choose({remote}, kFailover, all) == "remote");
  CHECK(choose({far, remote}, kFailover, all) == "far");
  CHECK(choose({far, region, remote}, kFailover, all) == "region");
  CHECK(choose({far, region, zone, remote}, kFailover, all) == "zone");
  CHECK(choose({remote, remote_region}, kFailover, all) == "remote");
  CHECK(choose({far, region}, kFailover, {kRegion, kZone}) == "region");
  CHECK(choose({far, region, zone}, kFailover, {kZone, kRegion}) == "zone");
  CHECK(choose({far, region}, kFailover, {kNode}) == "far region");
  CHECK(choose({no_address}, kFailover, all) == "none");
  CHECK(choose({no_address, far}, kFailover, all) == "far");
  CHECK(choose({far, region, zone}, BalanceMode::kUnspecified, {}) == "far region zone");
}

TEST_CASE("R15 weights", "[R15]") {
  World world;
  auto light = pod("ns", "light", {"10.0.0.1"}), heavy = pod("ns", "heavy", {"10.0.0.2"}),
       off = pod("ns", "off", {"10.0.0.3"});
  light.capacity = 1;
  heavy.capacity = 9;
  off.capacity = 0;
  for (auto* w : {&light, &heavy, &off}) member(*w, "ns/svc", {{80, 8080}});
  world.add({light, heavy, off}, {service("ns", "svc", {"10.1.0.1"}, {{80, 8080}})});
  auto counts = world.spread("10.1.0.1:80", 2000);
  CHECK(counts["off"] == 0);
  CHECK(counts["light"] > 120);
  CHECK(counts["light"] < 280);
}

TEST_CASE("R16 port mapping: endpoint, then service, then application tunnel", "[R16]") {
  World world;
  auto a = pod("ns", "a", {"10.0.0.1"});
  auto svc = service("ns", "svc", {"10.1.0.1"}, {{80, 8080}});
  auto port = [&](decide::Resolution resolution) {
    world.add({a}, {svc});
    auto picked = decide::pick_endpoint(*world.store.view(), world.source, svc, 80, resolution, world.rng);
    return picked ? picked->port : 0;
  };
  using enum decide::Resolution;
  member(a, "ns/svc", {{80, 9090}});
  CHECK(port(kStandard) == 9090);
  a.services.clear();
  member(a, "ns/svc", {});
  CHECK(port(kStandard) == 8080);
  svc.ports.clear();
  CHECK(port(kStandard) == 0);
  CHECK(port(kWaypoint) == 0);
  a.app_tunnel = model::AppTunnel{model::AppTunnel::Protocol::kProxy, 15088};
  CHECK(port(kWaypoint) == 80);
  CHECK(port(kStandard) == 0);
}

TEST_CASE("R17 weighted waypoints", "[R17][apis12]") {
  World world;
  auto one = pod("ns", "one", {"10.0.0.50"}), two = pod("ns", "two", {"10.0.0.51"}),
       spare = pod("ns", "spare", {"10.0.0.52"});
  auto svc = service("ns", "svc", {"10.1.0.1"}, {{80, 8080}});
  svc.waypoint = gateway("/10.0.0.52");
  auto spread = [&](std::vector<std::pair<const char*, uint32_t>> weights) {
    svc.weighted_waypoints.clear();
    for (auto [where, weight] : weights) svc.weighted_waypoints.push_back({gateway(where), weight});
    world.add({one, two, spare}, {svc});
    return world.spread("10.1.0.1:80", 1000);
  };
  CHECK(spread({})["spare"] == 1000);
  CHECK(spread({{"/10.0.0.50", 100}, {"/10.0.0.51", 0}})["one"] == 1000);
  CHECK(spread({{"/10.0.0.50", 0}, {"/10.0.0.51", 100}})["two"] == 1000);
  CHECK(spread({{"/10.0.0.50", 0}, {"/10.0.0.51", 0}})["spare"] == 1000);
  auto split = spread({{"/10.0.0.50", 75}, {"/10.0.0.51", 25}});
  CHECK(split["one"] > 690);
  CHECK(split["one"] < 810);
  CHECK(split["one"] + split["two"] == 1000);
  // Nothing may be used: refuse, do not go around.
  svc.waypoint.reset();
  CHECK(spread({{"/10.0.0.50", 0}})["error"] == 1000);
}

TEST_CASE("hostname workloads are to be resolved by the caller") {
  World world;
  auto external = plain(pod("ns", "ext", {}));
  external.hostname = "db.example.com";
  member(external, "ns/svc", {{5432, 5432}});
  world.add({external}, {service("ns", "svc", {"10.1.0.1"}, {{5432, 5432}})});
  auto plan = world.must("10.1.0.1:5432");
  CHECK(plan.resolve == "db.example.com");
  plan.use_address(ip("203.0.113.5"));
  CHECK(plan.next_hop == at("203.0.113.5:5432"));
  CHECK(plan.authority.empty());

  external.protocol = model::TunnelProtocol::kHbone;
  world.add({external});
  plan = world.must("10.1.0.1:5432");
  CHECK(plan.resolve == "db.example.com");
  plan.use_address(ip("2001:db8::5"));
  CHECK(plan.next_hop == at("[2001:db8::5]:15008"));
  CHECK(plan.authority == "[2001:db8::5]:5432");

  base::Rng rng(1);
  CHECK(decide::pick_resolved({ip("1.1.1.1"), ip("::1")}, ip("10.0.0.1"), rng) == ip("1.1.1.1"));
  CHECK(decide::pick_resolved({ip("::1")}, ip("10.0.0.1"), rng) == ip("::1"));
  CHECK_FALSE(decide::pick_resolved({}, ip("10.0.0.1"), rng));
}

TEST_CASE("service identities come before the workload's own") {
  World world;
  auto a = pod("ns", "a", {"10.0.0.1"});
  member(a, "ns/svc", {{80, 8080}});
  auto svc = service("ns", "svc", {"10.1.0.1"}, {{80, 8080}});
  svc.subject_alt_names = {"spiffe://cluster.local/ns/ns/sa/first", "not-spiffe",
                           "spiffe://cluster.local/ns/ns/sa/second"};
  world.add({a}, {svc});
  CHECK(identities(world.must("10.1.0.1:80")) == std::vector<std::string>{"cluster.local/ns/ns/sa/first",
                                                                          "cluster.local/ns/ns/sa/second",
                                                                          "cluster.local/ns/ns/sa/a"});
}

TEST_CASE("a VIP of another network than its endpoints still resolves", "[apis16]") {
  World world;
  auto a = pod("ns", "a", {"10.0.0.1"});
  member(a, "ns/svc", {{80, 8080}});
  world.add({a}, {service("ns", "svc", {"remote/127.10.0.2"}, {{80, 8080}})});
  auto plan =
      decide::plan_outbound(*world.store.view(), "remote", world.source, at("127.10.0.2:80"), world.rng);
  // The VIP is known on NETWORK, endpoints are looked for on the source's own network: nothing there.
  REQUIRE_FALSE(plan);
  world.source.network = "remote";
  plan = decide::plan_outbound(*world.store.view(), "remote", world.source, at("127.10.0.2:80"), world.rng);
  REQUIRE_FALSE(plan);
  CHECK(plan.error().message().find("no valid routing destination") != std::string::npos);
}

}  // namespace culvert::test
