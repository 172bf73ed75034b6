// SPDX-License-Identifier: Apache-2.0
#include "mesh/model/store.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "net/base/rng.h"
#include "test/unit/mesh/model/build_mesh.h"

namespace culvert::test {
namespace {

using model::HealthStatus;
using model::MeshStore;
using model::MeshUpdate;
using model::Policy;
using model::PolicyScope;
using model::Visibility;

std::vector<std::string> endpoint_names(const model::MeshView& view, std::string_view service_key) {
  std::vector<std::string> names;
  for (const auto& endpoint : view.endpoints(*model::NamespacedHostname::parse(service_key))) {
    names.push_back(endpoint.workload->name.str());
  }
  std::sort(names.begin(), names.end());
  return names;
}
using Names = std::vector<std::string>;

Policy policy(std::string_view ns, std::string_view name, PolicyScope scope) {
  Policy result;
  result.ns = ns;
  result.name = name;
  result.scope = scope;
  return result;
}

Service cidr_service(std::string_view ns, std::string_view hostname, std::string_view network,
                     std::string_view range) {
  Service result = service(ns, hostname, {}, {{80, 80}});
  result.cidr_vips.push_back({network, cidr(range)});
  return result;
}

}  // namespace

TEST_CASE("a batch with the service in the middle stages nothing and makes its endpoints once",
          "[apis6][R19]") {
  auto a = pod("ns", "a", {"10.0.0.1"}), b = pod("ns", "b", {"10.0.0.2"}), c = pod("ns", "c", {"10.0.0.3"});
  for (auto* workload : {&a, &b, &c}) member(*workload, "ns/svc", {{80, 8080}});
  auto svc = service("ns", "svc", {"10.1.0.1"}, {{80, 0}});

  SECTION("one batch") {
    MeshStore store("node");
    store.apply(update({a, b, c}, {svc}));
    CHECK(endpoint_names(*store.view(), "ns/svc") == Names{"a", "b", "c"});
    CHECK(store.stats().staged_services == 0);
    CHECK(store.stats().endpoint_rebuilds == 1);
  }
  SECTION("endpoints first") {
    MeshStore store("node");
    store.apply(update({a, b, c}));
    CHECK(store.stats().staged_services == 1);
    CHECK(endpoint_names(*store.view(), "ns/svc").empty());
    store.apply(update({}, {svc}));
    CHECK(endpoint_names(*store.view(), "ns/svc") == Names{"a", "b", "c"});
    CHECK(store.stats().staged_services == 0);
    CHECK(store.stats().endpoint_rebuilds == 1);
  }
  SECTION("a staged endpoint that is removed again does not come back") {
    MeshStore store("node");
    store.apply(update({a, b}));
    store.apply(removal({a.uid.str()}));
    store.apply(update({}, {svc}));
    CHECK(endpoint_names(*store.view(), "ns/svc") == Names{"b"});
  }
}

TEST_CASE("health decides at every order of events", "[apis7][R19]") {
  auto good = pod("ns", "good", {"10.0.0.1"});
  member(good, "ns/svc", {{80, 8080}});
  auto bad = good;
  bad.uid = bad.uid + "2";
  bad.name = "bad";
  bad.addresses = {ip("10.0.0.2")};
  bad.status = HealthStatus::kUnhealthy;
  auto only_healthy = service("ns", "svc", {"10.1.0.1"}, {{80, 8080}});
  auto all = only_healthy;
  all.load_balancing =
      model::LoadBalancing{{}, model::BalanceMode::kUnspecified, model::HealthPolicy::kAllowAll};

  MeshStore store("node");
  store.apply(update({good, bad}, {only_healthy}));
  CHECK(endpoint_names(*store.view(), "ns/svc") == Names{"good"});
  store.apply(update({}, {all}));
  CHECK(endpoint_names(*store.view(), "ns/svc") == Names{"bad", "good"});
  store.apply(update({}, {only_healthy}));
  CHECK(endpoint_names(*store.view(), "ns/svc") == Names{"good"});

  SECTION("an endpoint that turns unhealthy is evicted") {
    good.status = HealthStatus::kUnhealthy;
    store.apply(update({good}));
    CHECK(endpoint_names(*store.view(), "ns/svc").empty());
    good.status = HealthStatus::kHealthy;
    store.apply(update({good}));
    CHECK(endpoint_names(*store.view(), "ns/svc") == Names{"good"});
  }
  SECTION("a workload that leaves the service is detached") {
    good.services.clear();
    store.apply(update({good}));
    CHECK(endpoint_names(*store.view(), "ns/svc").empty());
    CHECK(store.view()->workload(good.uid));
  }
  SECTION("a deleted service has no endpoints; coming back it has those that still name it") {
    store.apply(removal({"ns/svc"}));
    CHECK(endpoint_names(*store.view(), "ns/svc").empty());
    CHECK_FALSE(store.view()->service("ns", "svc"));
    store.apply(update({}, {only_healthy}));
    CHECK(endpoint_names(*store.view(), "ns/svc") == Names{"good"});
  }
}

TEST_CASE("updates come before removals in one batch", "[apis7]") {
  auto a = pod("ns", "a", {"10.0.0.1"});
  MeshStore store("node");
  store.apply(update({a}));
  auto both = update({a});
  both.removed_addresses = {a.uid.str()};
  store.apply(std::move(both));
  CHECK_FALSE(store.view()->workload(a.uid));

  // Replacing a workload removes its old endpoint and keeps the new one.
  member(a, "ns/svc", {{80, 8080}});
  store.apply(update({a}, {service("ns", "svc", {}, {{80, 8080}})}));
  a.capacity = 7;
  store.apply(update({a}));
  CHECK(endpoint_names(*store.view(), "ns/svc") == Names{"a"});
}

TEST_CASE("removing what is not there does nothing", "[apis9]") {
  MeshStore store("node");
  store.apply(update({pod("ns", "a", {"10.0.0.1"})}));
  auto before = store.view();
  auto change =
      store.apply(removal({"/invalid", "", "ns/unknown", "/", "a/b/c/d/e/f", "cluster1//Pod/ns/zzz", "//"}));
  CHECK(change.view == before);
}

TEST_CASE("several workloads on one address", "[apis10][R19]") {
  auto entry = pod("ns", "entry", {"10.0.0.1"});
  entry.uid = "cluster1/networking.istio.io/WorkloadEntry/ns/entry";
  auto plain = pod("ns", "plain", {"10.0.0.1"});
  plain.protocol = model::TunnelProtocol::kNone;
  auto hbone = pod("ns", "hbone", {"10.0.0.1"});
  MeshStore store("node");
  store.apply(update({hbone, plain, entry}));
  CHECK(store.view()->workload_at("", ip("10.0.0.1"))->name == "hbone");
  store.apply(removal({hbone.uid.str()}));
  CHECK(store.view()->workload_at("", ip("10.0.0.1"))->name == "plain");
  store.apply(removal({plain.uid.str()}));
  CHECK(store.view()->workload_at("", ip("10.0.0.1"))->name == "entry");
  store.apply(removal({entry.uid.str()}));
  CHECK_FALSE(store.view()->workload_at("", ip("10.0.0.1")));

  SECTION("equals: the last inserted") {
    auto second = hbone;
    second.uid = second.uid + "-2";
    second.name = "second";
    store.apply(update({hbone, second}));
    CHECK(store.view()->workload_at("", ip("10.0.0.1"))->name == "second");
  }
}

TEST_CASE("host network workloads are never found by address", "[apis10][R12]") {
  auto host = pod("ns", "host", {"192.168.0.1"});
  host.network_mode = model::NetworkMode::kHostNetwork;
  MeshStore store("node");
  store.apply(update({host}));
  CHECK_FALSE(store.view()->workload_at("", ip("192.168.0.1")));
  CHECK(store.view()->workload(host.uid));
  // Becoming an ordinary pod it appears, and the other way round.
  host.network_mode = model::NetworkMode::kStandard;
  store.apply(update({host}));
  CHECK(store.view()->workload_at("", ip("192.168.0.1")));
  host.network_mode = model::NetworkMode::kHostNetwork;
  store.apply(update({host}));
  CHECK_FALSE(store.view()->workload_at("", ip("192.168.0.1")));
}

TEST_CASE("an address that changes hands belongs to one at a time") {
  auto a = pod("ns", "a", {"10.0.0.1"}), b = pod("ns", "b", {"10.0.0.1"});
  MeshStore store("node");
  store.apply(update({a}));
  auto change = update({b});
  change.removed_addresses = {a.uid.str()};
  store.apply(std::move(change));
  CHECK(store.view()->workload_at("", ip("10.0.0.1"))->name == "b");
  CHECK(store.view()->workloads_at("", ip("10.0.0.1")).size() == 1);
  b.addresses = {ip("10.0.0.9")};
  store.apply(update({b}));
  CHECK_FALSE(store.view()->workload_at("", ip("10.0.0.1")));
  CHECK(store.view()->workload_at("", ip("10.0.0.9"))->name == "b");
  CHECK_FALSE(store.view()->workload_at("other", ip("10.0.0.9")));
}

TEST_CASE("one VIP in several namespaces", "[R18][apis11]") {
  auto a = service("a", "svc.example", {"10.1.0.1"}, {{80, 80}});
  auto b = service("b", "svc.example", {"10.1.0.1"}, {{80, 80}});
  auto c = service("c", "svc.example", {"10.1.0.1"}, {{80, 80}});
  c.canonical = true;
  MeshStore store("node");
  store.apply(update({}, {a, b, c}));
  auto by_vip = [&](std::string_view ns) {
    return store.view()->service_at("", ip("10.1.0.1"), ns)->ns.str();
  };
  CHECK(by_vip("b") == "b");
  CHECK(by_vip("other") == "c");
  CHECK(store.view()->service_by_host("svc.example", "a")->ns == "a");
  CHECK(store.view()->service_by_host("svc.example", "other")->ns == "c");
  c.canonical = false;
  store.apply(update({}, {c}));
  CHECK(by_vip("other") == "a");
  CHECK(store.view()->service_by_host("svc.example", "other", "b")->ns == "b");

  SECTION("visibility") {
    a.visibility = Visibility::kNamespace;
    store.apply(update({}, {a}));
    CHECK(by_vip("other") == "b");
    CHECK(by_vip("a") == "a");
    CHECK(store.view()->service_by_host("svc.example", std::nullopt)->ns == "a");
    CHECK(store.view()->service_by_host("svc.example", "other")->ns == "b");
  }
}

TEST_CASE("CIDR VIPs", "[apis11][R18]") {
  MeshStore store("node");
  auto wide = cidr_service("a", "wide", "", "10.0.0.0/8"),
       narrow = cidr_service("b", "narrow", "", "10.1.0.0/16");
  auto six = cidr_service("b", "six", "", "2001:db8::/32"),
       other = cidr_service("b", "other", "net2", "10.1.2.0/24");
  store.apply(update({}, {wide, narrow, six, other}));
  auto find = [&](std::string_view network, std::string_view address, std::string_view ns) -> std::string {
    auto found = store.view()->service_at(network, ip(address), ns);
    return found ? found->hostname.str() : "none";
  };
  CHECK(find("", "10.1.2.3", "x") == "narrow");
  CHECK(find("", "10.2.2.3", "x") == "wide");
  CHECK(find("", "11.0.0.1", "x") == "none");
  CHECK(find("", "2001:db8::7", "x") == "six");
  CHECK(find("", "2001:db9::7", "x") == "none");
  CHECK(find("net2", "10.1.2.3", "x") == "other");
  CHECK(find("net2", "10.1.3.3", "x") == "none");
  // Our namespace outranks a longer prefix elsewhere.
  CHECK(find("", "10.1.2.3", "a") == "wide");

  SECTION("exact beats CIDR, unless it is hidden") {
    auto exact = service("c", "exact", {"10.1.2.3"}, {{80, 80}});
    exact.visibility = Visibility::kNamespace;
    store.apply(update({}, {exact}));
    CHECK(find("", "10.1.2.3", "c") == "exact");
    CHECK(find("", "10.1.2.3", "x") == "narrow");
  }
  SECTION("deleting cleans up") {
    store.apply(removal({"b/narrow", "b/six"}));
    CHECK(find("", "10.1.2.3", "x") == "wide");
    CHECK(find("", "2001:db8::7", "x") == "none");
    store.apply(removal({"a/wide"}));
    CHECK(find("", "10.1.2.3", "x") == "none");
  }
  SECTION("canonical decides between equals") {
    auto twin = cidr_service("c", "twin", "", "10.1.0.0/16");
    twin.canonical = true;
    store.apply(update({}, {twin}));
    CHECK(find("", "10.1.2.3", "x") == "twin");
  }
}

TEST_CASE("workload and service on one address", "[R18]") {
  MeshStore store("node");
  store.apply(update({pod("ns", "a", {"10.0.0.1"})}, {service("ns", "svc", {"10.0.0.1"}, {{80, 80}})}));
  auto found = store.view()->find_address("", ip("10.0.0.1"), "ns");
  CHECK(std::holds_alternative<model::WorkloadRef>(found));
  CHECK(std::holds_alternative<model::ServiceRef>(store.view()->find_hostname("ns", "svc")));
  CHECK(std::holds_alternative<std::monostate>(store.view()->find_hostname("other", "svc")));
}

TEST_CASE("workloads by hostname") {
  auto external = pod("ns", "ext", {});
  external.hostname = "example.com";
  MeshStore store("node");
  store.apply(update({external}));
  CHECK(std::holds_alternative<model::WorkloadRef>(store.view()->find_hostname("ns", "example.com")));
  store.apply(removal({external.uid.str()}));
  CHECK(std::holds_alternative<std::monostate>(store.view()->find_hostname("ns", "example.com")));
}

TEST_CASE("local workloads and their identities", "[E7]") {
  auto here = pod("ns", "a", {"10.0.0.1"});
  here.node = "node";
  auto there = pod("ns", "b", {"10.0.0.2"});
  there.node = "elsewhere";
  MeshStore store("node");
  auto change = store.apply(update({here, there}));
  CHECK(change.local_identities_added == std::vector{here.identity()});
  CHECK(store.view()->local_workload("ns", "a", "a"));
  CHECK_FALSE(store.view()->local_workload("ns", "b", "b"));
  CHECK_FALSE(store.view()->local_workload("ns", "a", "other"));

  auto twin = here;
  twin.uid = twin.uid + "-2";
  twin.name = "a2";
  change = store.apply(update({twin}));
  CHECK(change.local_identities_added.empty());
  change = store.apply(removal({here.uid.str()}));
  CHECK(change.local_identities_gone.empty());
  CHECK_FALSE(store.view()->local_workload("ns", "a", "a"));
  change = store.apply(removal({twin.uid.str()}));
  CHECK(change.local_identities_gone == std::vector{here.identity()});

  SECTION("a plain workload needs no certificate until it speaks HBONE") {
    here.protocol = model::TunnelProtocol::kNone;
    CHECK(store.apply(update({here})).local_identities_added.empty());
    here.protocol = model::TunnelProtocol::kHbone;
    CHECK(store.apply(update({here})).local_identities_added.size() == 1);
  }
  SECTION("a pod moved to another node is forgotten") {
    store.apply(update({here}));
    here.node = "elsewhere";
    CHECK(store.apply(update({here})).local_identities_gone.size() == 1);
  }
  SECTION("without a node name every workload is local") {
    MeshStore dedicated("");
    CHECK(dedicated.apply(update({there})).local_identities_added.empty());
    CHECK(dedicated.view()->local_workload("ns", "b", "b"));
  }
}

TEST_CASE("policies are indexed by name and scope", "[apis13][A7]") {
  MeshStore store("node");
  auto change = store.apply(update(
      {}, {}, {policy("ns", "p", PolicyScope::kNamespace), policy("root", "g", PolicyScope::kGlobal)}));
  CHECK(change.policies_changed);
  CHECK(store.view()->namespace_policies("ns").size() == 1);
  CHECK(store.view()->global_policies().size() == 1);
  CHECK(store.view()->namespace_policies("").empty());
  // The same again changes nothing.
  CHECK_FALSE(store.apply(update({}, {}, {policy("ns", "p", PolicyScope::kNamespace)})).policies_changed);

  change = store.apply(update({}, {}, {policy("ns", "p", PolicyScope::kWorkloadSelector)}));
  CHECK(change.policies_changed);
  CHECK(store.view()->namespace_policies("ns").empty());
  CHECK(store.view()->policy("ns/p"));
  MeshUpdate gone;
  gone.removed_policies = {"ns/p", "ns/unknown"};
  CHECK(store.apply(std::move(gone)).policies_changed);
  CHECK_FALSE(store.view()->policy("ns/p"));
  CHECK(store.policy_names() == Names{"root/g"});
}

TEST_CASE("a view stays as it was") {
  MeshStore store("node");
  auto a = pod("ns", "a", {"10.0.0.1"});
  store.apply(update({a}));
  auto before = store.view();
  store.apply(removal({a.uid.str()}));
  CHECK(before->workload(a.uid));
  CHECK(before->workload_at("", ip("10.0.0.1")));
  CHECK_FALSE(store.view()->workload(a.uid));
  CHECK(store.view()->generation() == before->generation() + 1);
}

TEST_CASE("any order of updates ends in the same view", "[apis7]") {
  // The same final resources, reached by random detours, must answer the same questions.
  auto final_state = [](MeshStore& store) {
    std::vector<Workload> workloads;
    for (int i = 0; i < 20; ++i) {
      auto w = pod("ns", "p" + std::to_string(i), {});
      w.addresses = {base::IpAddr::v4(10, 0, 0, static_cast<uint8_t>(i))};
      if (i % 3) member(w, "ns/svc", {{80, static_cast<uint16_t>(8000 + i)}});
      if (i % 5 == 0) w.status = HealthStatus::kUnhealthy;
      workloads.push_back(std::move(w));
    }
    store.apply(update(std::move(workloads), {service("ns", "svc", {"10.1.0.1"}, {{80, 0}})}));
    std::vector<std::string> extra;
    for (int i = 20; i < 40; ++i) extra.push_back("cluster1//Pod/ns/p" + std::to_string(i));
    store.apply(removal(std::move(extra)));
  };
  MeshStore straight("node");
  final_state(straight);
  auto expected = endpoint_names(*straight.view(), "ns/svc");
  for (uint64_t seed = 0; seed < 20; ++seed) {
    base::Rng rng(seed);
    MeshStore store("node");
    for (int step = 0; step < 60; ++step) {
      auto w = pod("ns", "p" + std::to_string(rng.below(40)), {});
      w.addresses = {base::IpAddr::v4(10, 0, 0, static_cast<uint8_t>(rng.below(40)))};
      if (rng.below(2)) member(w, "ns/svc", {{80, 1}});
      if (rng.below(2)) w.status = HealthStatus::kUnhealthy;
      switch (rng.below(4)) {
        case 0: store.apply(removal({w.uid.str()})); break;
        case 1: store.apply(removal({"ns/svc"})); break;
        case 2: {
          auto svc = service("ns", "svc", {"10.1.0.2"}, {{80, 80}});
          if (rng.below(2)) svc.load_balancing = model::LoadBalancing{{}, {}, model::HealthPolicy::kAllowAll};
          store.apply(update({}, {svc}));
          break;
        }
        default: store.apply(update({w}));
      }
    }
    final_state(store);
    INFO("seed " << seed);
    CHECK(endpoint_names(*store.view(), "ns/svc") == expected);
    CHECK(store.view()->workload_count() == 20);
    CHECK_FALSE(store.view()->service_at("", ip("10.1.0.2"), std::nullopt));
    for (int i = 0; i < 40; ++i) {
      auto found = store.view()->workload_at("", base::IpAddr::v4(10, 0, 0, static_cast<uint8_t>(i)));
      CHECK((found ? found->name : "") == (i < 20 ? "p" + std::to_string(i) : ""));
    }
  }
}

}  // namespace culvert::test
