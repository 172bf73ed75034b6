// SPDX-License-Identifier: Apache-2.0
#include "control/serve/snapshot.h"

#include <catch2/catch.hpp>

#include "test/unit/control/serve/compiled.h"

namespace culvert::test {
namespace {

using control::changed_names;
using control::make_snapshot;

TEST_CASE("a snapshot numbers its changes and takes unchanged resources over", "[apis18]") {
  auto first =
      make_snapshot(compiled({pod("ns", "a", {"10.0.0.1"}), pod("ns", "b", {"10.0.0.2"})},
                             {service("ns", "web.ns.svc", {"240.0.0.1"}, {{80, 8080}})}, {policy("ns", "p")}),
                    nullptr);
  Workload changed = pod("ns", "b", {"10.0.0.2"});
  changed.status = model::HealthStatus::kUnhealthy;
  // Equal values in new objects: what a compilation gives.
  auto second =
      make_snapshot(compiled({pod("ns", "a", {"10.0.0.1"}), changed},
                             {service("ns", "web.ns.svc", {"240.0.0.1"}, {{80, 8080}})}, {policy("ns", "p")}),
                    first);
  CHECK(second->number == first->number + 1);
  CHECK(second->addresses.at(uid("ns", "a")).get() == first->addresses.at(uid("ns", "a")).get());
  CHECK(second->authorizations.at("ns/p").get() == first->authorizations.at("ns/p").get());
  CHECK(changed_names(first->addresses, second->addresses) == std::set<std::string>{uid("ns", "b")});
  CHECK(changed_names(first->authorizations, second->authorizations).empty());
}

TEST_CASE("changed names are the new, the different and the gone", "[apis18]") {
  auto first = make_snapshot(compiled({pod("ns", "a", {"10.0.0.1"}), pod("ns", "b", {"10.0.0.2"})}), nullptr);
  auto second = make_snapshot(compiled({pod("ns", "b", {"10.0.0.9"}), pod("ns", "c", {"10.0.0.3"})}), first);
  CHECK(changed_names(first->addresses, second->addresses) ==
        std::set<std::string>{uid("ns", "a"), uid("ns", "b"), uid("ns", "c")});
  CHECK(changed_names(second->addresses, second->addresses).empty());
  CHECK(changed_names({}, first->addresses).size() == 2);
}

TEST_CASE("a version depends on content alone", "[apis19]") {
  auto one = make_snapshot(compiled({pod("ns", "a", {"10.0.0.1"})}), nullptr);
  auto other = make_snapshot(compiled({pod("ns", "z", {"10.0.0.8"}), pod("ns", "a", {"10.0.0.1"})}), nullptr);
  CHECK(one->addresses.at(uid("ns", "a"))->version == other->addresses.at(uid("ns", "a"))->version);
  CHECK(one->addresses.at(uid("ns", "a"))->version != other->addresses.at(uid("ns", "z"))->version);
  CHECK(one->addresses.at(uid("ns", "a"))->version.size() == 16);
}

TEST_CASE("aliases and members find what an on-demand client asks for", "[apis17]") {
  Workload a = pod("ns", "a", {"10.0.0.1", "fd00::1"});
  member(a, "ns/web.ns.svc", {{80, 8080}});
  auto snapshot = make_snapshot(compiled({a, pod("ns", "a2", {"10.0.0.1"})},
                                         {service("ns", "web.ns.svc", {"240.0.0.1"}, {{80, 8080}})}),
                                nullptr);
  CHECK(snapshot->lookup().address_by_alias.count("/10.0.0.1") == 2);
  CHECK(snapshot->lookup().address_by_alias.count("/fd00::1") == 1);
  REQUIRE(snapshot->lookup().address_by_alias.count("/240.0.0.1") == 1);
  CHECK(snapshot->lookup().address_by_alias.find("/240.0.0.1")->second == "ns/web.ns.svc");
  REQUIRE(snapshot->lookup().workloads_of_service.count("ns/web.ns.svc") == 1);
  CHECK(snapshot->lookup().workloads_of_service.find("ns/web.ns.svc")->second == uid("ns", "a"));
}

}  // namespace
}  // namespace culvert::test
