// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/admit_inbound.h"

#include <array>
#include <catch2/catch.hpp>

#include "test/unit/mesh/model/build_mesh.h"

namespace culvert::test {
namespace {

using decide::admit_inbound;

constexpr std::array<uint16_t, 3> kIllegalPorts = {15001, 15006, 15008};

struct World {
  model::MeshStore store{"node"};
  Workload local = pod("ns", "local", {"10.0.0.1"});

  void add(std::vector<Workload> workloads, std::vector<Service> services = {}) {
    store.apply(update(std::move(workloads), std::move(services)));
  }
  auto admit(std::string_view authority, std::string_view forwarded_host = {}) {
    store.apply(update({local}));
    auto stored = store.view()->workload(local.uid);
    return admit_inbound(*store.view(), *stored,
                         {authority, at("10.0.0.1:15008"), "", kIllegalPorts, forwarded_host});
  }
  int status(std::string_view authority) {
    auto result = admit(authority);
    return result ? 200 : result.error().status;
  }
};

}  // namespace

TEST_CASE("authorities", "[I2]") {
  World world;
  for (const char* bad :
       {"", ":", ":80", "10.0.0.1", "10.0.0.1:", "10.0.0.1:70000", "10.0.0.1:x", "host", "host:", "ho st:80",
        "[::1:80", "::1:80", "a/b:80", "host:80:80", "[host]:80", "host:-1", "h\xc3\xa9:80"}) {
    INFO(bad);
    CHECK(world.status(bad) == 400);
  }
  CHECK(world.status("10.0.0.1:80") == 200);
}

TEST_CASE("I1 the pod's own address", "[I1]") {
  World world;
  auto admitted = world.admit("10.0.0.1:8080");
  REQUIRE(admitted);
  CHECK(admitted->app == at("10.0.0.1:8080"));
  CHECK_FALSE(admitted->tunnel);
}

TEST_CASE("I2 another address is refused", "[I2][I5]") {
  World world;
  world.add({pod("ns", "other", {"10.0.0.2"})}, {service("ns", "svc", {"10.1.0.1"}, {{80, 8080}})});
  auto result = world.admit("10.0.0.2:80");
  REQUIRE_FALSE(result);
  CHECK(result.error().status == 400);
  CHECK(result.error().reason == "ip mismatch: 10.0.0.1 != 10.0.0.2");
  CHECK(world.status("10.1.0.1:80") == 400);
  CHECK(world.status("1.2.3.4:80") == 400);
}

TEST_CASE("I1 a waypoint admits what is attached to it", "[I1][I2]") {
  World world;
  member(world.local, "ns/waypoint", {{15008, 15008}});
  auto waypoint_service = service("ns", "waypoint", {"10.1.0.50"}, {{15008, 15008}});
  auto target = pod("ns", "target", {"10.0.0.2"});
  auto svc = service("ns", "svc", {"10.1.0.1"}, {{80, 8080}});

  for (const char* reference : {"/10.0.0.1", "/10.1.0.50", "ns/waypoint"}) {
    INFO(reference);
    target.waypoint = gateway(reference);
    svc.waypoint = gateway(reference);
    world.add({target}, {waypoint_service, svc});
    CHECK(world.status("10.0.0.2:80") == 200);
    CHECK(world.status("10.1.0.1:80") == 200);
    // The address of the authority counts for nothing further: it goes to this pod.
    CHECK(world.admit("10.0.0.2:80")->app == at("10.0.0.1:80"));
  }
  SECTION("one of several weighted") {
    svc.waypoint = gateway("ns/elsewhere");
    svc.weighted_waypoints = {{gateway("ns/elsewhere"), 90}, {gateway("ns/waypoint"), 10}};
    world.add({}, {svc});
    CHECK(world.status("10.1.0.1:80") == 200);
  }
  SECTION("not attached") {
    target.waypoint = svc.waypoint = gateway("ns/elsewhere");
    world.add({target}, {svc});
    CHECK(world.status("10.0.0.2:80") == 400);
    CHECK(world.status("10.1.0.1:80") == 400);
  }
  SECTION("the other kind of attachment does not help") {
    target.waypoint.reset();
    member(target, "ns/svc", {{80, 8080}});
    svc.waypoint = gateway("ns/waypoint");
    world.add({target}, {svc});
    CHECK(world.status("10.0.0.2:80") == 400);
    CHECK(world.status("10.1.0.1:80") == 200);
  }
}

TEST_CASE("I3 hostname authorities", "[I3]") {
  World world;
  member(world.local, "ns/named.ns.svc", {{80, 9090}});
  member(world.local, "ns/numeric.ns.svc", {});
  world.add({}, {service("ns", "named.ns.svc", {"10.1.0.1"}, {{80, 0}}),
                 service("ns", "numeric.ns.svc", {"10.1.0.2"}, {{80, 8080}})});
  CHECK(world.admit("numeric.ns.svc:80")->app == at("10.0.0.1:8080"));
  CHECK(world.admit("named.ns.svc:80")->app == at("10.0.0.1:9090"));
  CHECK(world.admit("named.ns.svc:80")->service->hostname == "named.ns.svc");
  CHECK(world.status("named.ns.svc:81") == 503);
  CHECK(world.status("unknown.ns.svc:80") == 503);
}

TEST_CASE("our own listeners are never a destination", "[I6]") {
  World world;
  for (uint16_t port : kIllegalPorts) CHECK(world.status("10.0.0.1:" + std::to_string(port)) == 503);
  // Also when a service maps there.
  world.add({}, {service("ns", "svc", {"10.1.0.1"}, {{80, 15008}})});
  CHECK(world.status("svc:80") == 503);
}

TEST_CASE("I8 application tunnels", "[I1][I8]") {
  World world;
  world.local.app_tunnel = model::AppTunnel{model::AppTunnel::Protocol::kProxy, 15088};
  auto admitted = world.admit("10.1.0.1:80");
  REQUIRE(admitted);
  CHECK(admitted->app == at("10.0.0.1:15088"));
  CHECK(admitted->tunnel_target == at("10.1.0.1:80"));
  CHECK(admitted->tunnel->protocol == model::AppTunnel::Protocol::kProxy);

  SECTION("port zero keeps the target port") {
    world.local.app_tunnel->port = 0;
    CHECK(world.admit("10.0.0.1:80")->app == at("10.0.0.1:80"));
  }
  SECTION("hostname: a VIP of ours, IPv4 first, with the service port") {
    world.add({}, {service("ns", "svc", {"2001:db8::1", "other/10.3.0.1", "10.1.0.7"}, {{80, 8080}}),
                   service("ns", "far", {"other/2001:db8::9", "other/10.3.0.9"}, {{80, 8080}}),
                   service("ns", "headless", {}, {{80, 8080}})});
    auto by_name = world.admit("svc:80");
    REQUIRE(by_name);
    CHECK(by_name->tunnel_target == at("10.1.0.7:80"));
    CHECK(by_name->app == at("10.0.0.1:15088"));
    CHECK(world.admit("far:80")->tunnel_target == at("10.3.0.9:80"));
    CHECK(world.status("headless:80") == 503);
  }
}

TEST_CASE("which service a connection belongs to") {
  World world;
  member(world.local, "ns/a", {{80, 8080}});
  member(world.local, "ns/b", {{80, 8080}});
  member(world.local, "ns/c", {{90, 9090}});
  world.add({}, {service("ns", "a", {}, {{80, 0}}), service("ns", "b", {}, {{80, 8080}}),
                 service("ns", "c", {}, {{90, 0}})});
  CHECK(world.admit("10.0.0.1:8080")->service->hostname == "a");
  CHECK(world.admit("10.0.0.1:8080", "b")->service->hostname == "b");
  CHECK(world.admit("10.0.0.1:9090")->service->hostname == "c");
  CHECK_FALSE(world.admit("10.0.0.1:1234")->service);
}

}  // namespace culvert::test
