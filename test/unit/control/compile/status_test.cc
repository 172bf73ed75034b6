// SPDX-License-Identifier: Apache-2.0
// Conditions of objects (spec control-plane section 3): one row of its table after the other.
#include <catch2/catch.hpp>

#include "test/unit/control/compile/objects.h"

namespace culvert::test {
namespace {

using control::Compiled;
using control::Condition;

// Two waypoints: "way" is ready, "slow" has no address yet.
const std::string kMesh = R"(
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: way, namespace: shop, generation: 4}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}, {name: web, port: 80, protocol: HTTP}]
status: {addresses: [{type: IPAddress, value: 10.0.0.5}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: slow, namespace: shop}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio-waypoint}
spec: {controllerName: istio.io/mesh-controller}
---
)";

std::string service(const std::string& labels, const std::string& annotations = "") {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: shop, labels: {" + labels +
         "}, annotations: {" + annotations +
         "}}\nspec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80}]}\n---\n";
}
const std::string kBound = service("istio.io/use-waypoint: way");

std::string policy(const std::string& spec, const std::string& ns = "shop") {
  return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: " + ns +
         "}\nspec: " + spec + "\n---\n";
}

// "True Reason", or "" without such a condition.
std::string find(const std::vector<Condition>& conditions, const std::string& type) {
  for (const Condition& one : conditions) {
    if (one.type == type) return (one.holds ? "True " : "False ") + one.reason;
  }
  return "";
}
std::string condition(const Compiled& mesh, const std::string& object, const std::string& type) {
  auto status = mesh.status.find(object);
  return status == mesh.status.end() ? "" : find(status->second.conditions, type);
}
std::string message(const Compiled& mesh, const std::string& object, const std::string& type) {
  for (const Condition& one : mesh.status.at(object).conditions) {
    if (one.type == type) return one.message;
  }
  return "";
}

}  // namespace

TEST_CASE("WaypointBound of services", "[control-3][TestWaypointStatus]") {
  auto bound = [](const std::string& labels, const std::string& annotations = "") {
    return condition(compile_yaml(kMesh + service(labels, annotations)), "Service shop/api",
                     "istio.io/WaypointBound");
  };
  CHECK(bound("") == "");
  CHECK(bound("istio.io/use-waypoint: none") == "");
  CHECK(bound("istio.io/use-waypoint: way") == "True WaypointAccepted");
  CHECK(bound("istio.io/use-waypoint: slow") == "False WaypointIsNotReady");
  CHECK(bound("istio.io/use-waypoint: nope") == "False WaypointIsNotReady");
  CHECK(bound("istio.io/use-waypoint: way, istio.io/use-waypoint-namespace: else") ==
        "False WaypointIsNotReady");
  Compiled canary = compile_yaml(kMesh + service("istio.io/use-waypoint: way, istio.io/use-waypoint-canary: "
                                                 "way, istio.io/ingress-use-waypoint: \"true\""));
  CHECK(condition(canary, "Service shop/api", "istio.io/WaypointBound") == "True WaypointAccepted");
  std::string text = message(canary, "Service shop/api", "istio.io/WaypointBound");
  CHECK_THAT(text, Catch::Contains("shop/way"));
  CHECK_THAT(text, Catch::Contains("CanarySameAsPrimary"));
  CHECK_THAT(text, Catch::Contains("ingress"));
}

TEST_CASE("a waypoint for workloads is no waypoint for services", "[control-3]") {
  std::string mesh = kMesh;
  mesh.replace(mesh.find("{name: way, namespace: shop, generation: 4}"), 43,
               "{name: way, namespace: shop, labels: {istio.io/waypoint-for: workload}}");
  CHECK(condition(compile_yaml(mesh + kBound), "Service shop/api", "istio.io/WaypointBound") ==
        "False UnsupportedTrafficType");
}

TEST_CASE("entries that only a waypoint carries out", "[control-3]") {
  auto missing = [](const std::string& more, const std::string& host) {
    return condition(
        compile_yaml(kMesh +
                     "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: "
                     "shop, " +
                     more + "}\nspec: {hosts: [\"" + host +
                     "\"], resolution: DYNAMIC_DNS, ports: [{number: 443, name: https, protocol: TLS}]}\n"),
        "ServiceEntry shop/e", "istio.io/WaypointMissing");
  };
  CHECK(missing("labels: {}", "*.example.com") == "True NoWaypointForWildcardService");
  CHECK(missing("labels: {istio.io/use-waypoint: way}", "*.example.com") == "");
  CHECK(missing("annotations: {istio.io/connect-strategy: RACE_FIRST_TCP_CONNECT}", "a.example.com") ==
        "True NoWaypointForRacingConnectStrategy");
  CHECK(missing("labels: {}", "a.example.com") == "");
}

TEST_CASE("policies without targets: what node proxies and waypoints carry out", "[control-3]") {
  struct Row {
    const char *spec, *bound, *node, *waypoint;
  };
  constexpr char kL4[] = "{rules: [{from: [{source: {namespaces: [shop]}}]}]}";
  constexpr char kL7[] = "{rules: [{to: [{operation: {methods: [GET]}}]}]}";
  constexpr char kAudit[] = "{action: AUDIT, rules: [{to: [{operation: {methods: [GET]}}]}]}";
  for (const Row& row : {Row{kL4, "way", "True Accepted", ""}, Row{kL4, "none", "True Accepted", ""},
                         Row{kL7, "way", "True Accepted", "True Accepted"},
                         Row{kL7, "none", "True UnsupportedValue", "False AncestorNotBound"},
                         Row{kAudit, "way", "True Accepted", "True Accepted"},
                         Row{kAudit, "none", "False UnsupportedValue", "False AncestorNotBound"}}) {
    INFO(row.spec << " " << row.bound);
    Compiled mesh =
        compile_yaml(kMesh + service(std::string("istio.io/use-waypoint: ") + row.bound) + policy(row.spec));
    CHECK(condition(mesh, "AuthorizationPolicy shop/p", "ZtunnelAccepted") == row.node);
    CHECK(condition(mesh, "AuthorizationPolicy shop/p", "WaypointAccepted") == row.waypoint);
  }
  control::CompileOptions upstream;
  upstream.selector_l7 = control::SelectorL7::kUpstream;
  auto strict = [&](const char* spec) {
    return condition(compile_yaml(kMesh + kBound + policy(spec), nullptr, upstream),
                     "AuthorizationPolicy shop/p", "ZtunnelAccepted");
  };
  CHECK(strict(kL4) == "True Accepted");
  CHECK(strict(kL7) == "True UnsupportedValue");
  CHECK(strict(kAudit) == "False UnsupportedValue");
}

TEST_CASE("policies with targets", "[control-3]") {
  auto accepted = [](const std::string& refs, const std::string& ns = "shop",
                     const std::string& svc = kBound) {
    return condition(compile_yaml(kMesh + svc + policy("{targetRefs: [" + refs + "]}", ns)),
                     "AuthorizationPolicy " + ns + "/p", "WaypointAccepted");
  };
  const std::string api = "{kind: Service, group: \"\", name: api}",
                    nope = "{kind: Service, group: \"\", name: nope}",
                    gateway = "{kind: Gateway, group: gateway.networking.k8s.io, name: way}",
                    whole = "{kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint}";
  CHECK(accepted(api) == "True Accepted");
  CHECK(accepted(gateway) == "True Accepted");
  CHECK(accepted(api + ", " + gateway) == "True Accepted");
  CHECK(accepted(api, "shop", service("")) == "False AncestorNotBound");
  CHECK(accepted(nope) == "False TargetNotFound");
  CHECK(accepted(api + ", " + nope) == "True PartiallyInvalid");
  CHECK(accepted(nope + ", " + whole) == "False Invalid");
  CHECK(accepted(whole) == "False Invalid");
  CHECK(accepted(whole, "istio-system") == "True Accepted");
}

TEST_CASE("Gateways, their listeners and their class", "[control-3]") {
  Compiled mesh = compile_yaml(kMesh + kBound);
  const control::ObjectStatus& way = mesh.status.at("Gateway shop/way");
  CHECK(way.observed_generation == 4);
  CHECK(find(way.conditions, "Accepted") == "True ListenersNotValid");
  CHECK(find(way.conditions, "Programmed") == "True Programmed");
  CHECK(message(mesh, "Gateway shop/way", "Programmed") == "10.0.0.5:15008");
  CHECK(find(way.conditions, "ResolvedRefs") == "True ResolvedRefs");
  REQUIRE(way.listeners.size() == 2);
  CHECK(find(way.listeners[0].conditions, "Accepted") == "True Accepted");
  CHECK(find(way.listeners[0].conditions, "Conflicted") == "False NoConflicts");
  CHECK(find(way.listeners[1].conditions, "Accepted") == "False UnsupportedProtocol");
  CHECK(condition(mesh, "Gateway shop/slow", "Accepted") == "True Accepted");
  CHECK(condition(mesh, "Gateway shop/slow", "Programmed") == "False AddressNotAssigned");
  CHECK(condition(mesh, "GatewayClass istio-waypoint", "Accepted") == "True Accepted");
}

}  // namespace culvert::test
