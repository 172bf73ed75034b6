// SPDX-License-Identifier: Apache-2.0
// RateLimitPolicies as waypoints charge them: what they are bound to, their rules, what is said about them.
#include <algorithm>
#include <catch2/catch.hpp>

#include "test/unit/control/compile/objects.h"

namespace culvert::test {
namespace {

const std::string kMesh = R"(
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: way}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: way, namespace: shop}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status: {addresses: [{type: IPAddress, value: 10.0.0.5}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r, namespace: shop}
spec:
  hosts: [api]
  http:
  - {name: slow, match: [{uri: {prefix: /slow}}], route: [{destination: {host: api}}]}
  - {name: rest, route: [{destination: {host: api}}]}
)";

const std::string kRule = "{name: r1, limit: {requests: 10, per: 1s}}";

std::string policy(const std::string& targets, const std::string& rules, const std::string& more = "",
                   const std::string& ns = "shop") {
  return "---\napiVersion: policy.culvert.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {name: p, "
         "namespace: " +
         ns + "}\nspec: {targetRefs: [" + targets + "], rules: [" + rules + "]" + more + "}\n";
}
const std::string kService = "{group: \"\", kind: Service, name: api}";
const std::string kGateway = "{group: gateway.networking.k8s.io, kind: Gateway, name: way}";

std::string route(const std::string& more = "") {
  return "{group: networking.istio.io, kind: VirtualService, name: r" + more + "}";
}

const std::vector<model::RateLimitPolicy>& limits(const control::Compiled& mesh) {
  return mesh.waypoint_services.at("shop/api.shop.svc.cluster.local")->guard.rate_limits;
}

std::string warned(const control::Compiled& mesh) {
  std::string out;
  for (const auto& one : mesh.findings) {
    if (one.code == "MSH020") out += one.message + "\n";
  }
  return out;
}
using Catch::Contains;

}  // namespace

TEST_CASE("rate limits are bound to a service, its waypoint or its routes", "[waypoint-4.2]") {
  auto to = [](const std::string& targets) { return compile_yaml(kMesh + policy(targets, kRule)); };
  for (const std::string& whole : {kService, kGateway, kService + ", " + route()}) {
    INFO(whole);
    auto mesh = to(whole);
    REQUIRE(limits(mesh).size() == 1);
    REQUIRE(limits(mesh)[0].rules.size() == 1);
    CHECK(limits(mesh)[0].rules[0].route.empty());
    CHECK(warned(mesh).empty());
  }
  auto by_route = to(route());
  REQUIRE(limits(by_route).size() == 1);
  CHECK(limits(by_route)[0].rules.at(0).route == "VirtualService shop/r");
  auto by_rule = to(route(", sectionName: slow"));
  REQUIRE(limits(by_rule).size() == 1);
  CHECK(limits(by_rule)[0].rules.at(0).route == "slow");
  for (const std::string& nobody :
       {route(", sectionName: gone"), std::string("{group: \"\", kind: Service, name: web}")}) {
    INFO(nobody);
    auto mesh = to(nobody);
    CHECK(limits(mesh).empty());
    CHECK_THAT(warned(mesh), Contains("no effect: targetRefs names no"));
  }
  auto foreign = compile_yaml(kMesh + policy(kService, kRule, "", "other"));
  CHECK(limits(foreign).empty());
}

TEST_CASE("a rule keeps its figures, matches, sources and key", "[waypoint-4.2]") {
  auto mesh = compile_yaml(kMesh + policy(kService, R"({name: per-client,
    matches: [{path: {type: PathPrefix, value: /api}, method: GET, headers: [{name: X-A, value: b}]}, {path: {value: /}}],
    from: [{namespaces: [web], notPrincipals: ["cluster.local/ns/ops/sa/*"], serviceAccounts: [me]}],
    key: [SourcePrincipal, {header: X-Key}, {claim: sub}],
    limit: {requests: 100, per: 1m, burst: 200}, cost: {responseHeader: X-Cost}, maxKeys: 5})",
                                          ", mode: Shadow, response: {status: 503, headers: Both, "
                                          "grpcStatus: Unavailable}"));
  REQUIRE(limits(mesh).size() == 1);
  const model::RateLimitPolicy& out = limits(mesh)[0];
  CHECK(out.ns == "shop");
  CHECK(out.name == "p");
  CHECK(out.shadow);
  CHECK(out.status == 503);
  CHECK(out.grpc_status == 14);
  CHECK(out.headers == model::RateLimitPolicy::HeaderStyle::kBoth);
  REQUIRE(out.rules.size() == 1);
  const model::RateLimitRule& rule = out.rules[0];
  CHECK(rule.requests == 100);
  CHECK(rule.per == std::chrono::minutes(1));
  CHECK(rule.burst == 200);
  CHECK(rule.cost_header == "x-cost");
  CHECK(rule.keys_max == 5);
  REQUIRE(rule.matches.size() == 2);
  CHECK(rule.matches[0].path->kind() == model::TextMatch::Kind::kPathPrefix);
  CHECK(rule.matches[0].path->text() == "/api");
  CHECK(rule.matches[0].method->text() == "GET");
  CHECK(rule.matches[0].headers.at(0).name == "x-a");
  CHECK_FALSE(rule.matches[1].path);  // "/" is every path
  REQUIRE(rule.from.size() == 1);
  CHECK(rule.from[0].namespaces.any.at(0).text() == "web");
  CHECK(rule.from[0].principals.none.at(0).kind() == model::TextMatch::Kind::kPrefix);
  CHECK(rule.from[0].service_accounts.any.at(0) == model::ServiceAccountMatch{"shop", "me"});
  using Kind = model::RateLimitKey::Kind;
  CHECK(rule.key == std::vector<model::RateLimitKey>{
                        {Kind::kSourcePrincipal, ""}, {Kind::kHeader, "x-key"}, {Kind::kClaim, "sub"}});
}

TEST_CASE("a limit that is shared is divided among the ready replicas", "[waypoint-4.3]") {
  auto pod = [](const std::string& name, const std::string& ready, const std::string& gateway) {
    return "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
           ", namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: " + gateway +
           "}}\nstatus: {phase: Running, conditions: [{type: Ready, status: \"" + ready + "\"}]}\n";
  };
  std::string rule = "{name: r1, limit: {requests: 9, per: 1s, burst: 2, share: Divided}, cost: 2}";
  std::string pods = pod("a", "True", "way") + pod("b", "True", "way") + pod("c", "True", "way") +
                     pod("d", "False", "way") + pod("e", "True", "other");
  auto alone = compile_yaml(kMesh + policy(kService, rule));
  CHECK(limits(alone).at(0).rules.at(0).requests == 9);
  auto three = compile_yaml(kMesh + policy(kService, rule) + pods);
  CHECK(limits(three).at(0).rules.at(0).requests == 3);
  CHECK(limits(three).at(0).rules.at(0).burst == 1);
  CHECK(limits(three).at(0).rules.at(0).cost == 1);  // or nothing would ever pass
  auto each = compile_yaml(kMesh + policy(kService, kRule) + pods);
  CHECK(limits(each).at(0).rules.at(0).requests == 10);
}

TEST_CASE("what of a rule cannot be read makes it hold for everybody", "[waypoint-4.2]") {
  auto mesh = compile_yaml(
      kMesh + policy(kService,
                     "{name: r1, from: [{ipBlocks: [10.0.0.0/99]}, {namespaces: [web]}], matches: [{method: "
                     "GET}], limit: {requests: 1, per: 1s}}"));
  REQUIRE(limits(mesh).at(0).rules.size() == 1);
  CHECK(limits(mesh)[0].rules[0].from.empty());
  CHECK(limits(mesh)[0].rules[0].matches.empty());
  CHECK_THAT(warned(mesh), Contains("the rule holds for every request"));
}

TEST_CASE("a global limit is counted by its service", "[waypoint-4.3]") {
  const std::string counter =
      "---\napiVersion: v1\nkind: Service\nmetadata: {name: rl, namespace: shop}\nspec: "
      "{clusterIP: 10.96.0.8, selector: {app: rl}, ports: [{name: grpc, port: 8081}]}\n";
  const std::string rules =
      "{name: r1, scope: Global, limit: {requests: 5, per: 1s}, cost: {responseHeader: x-cost}}, "
      "{name: r2, limit: {requests: 5, per: 1s}}";
  auto with = [&](const std::string& backend, const std::string& more) {
    return compile_yaml(
        kMesh + counter +
        policy(kService, rules, ", global: {backendRef: " + backend + ", domain: shop" + more + "}"));
  };
  auto mesh = with("{name: rl, port: 8081}", ", timeout: 50ms, onFailure: Deny");
  const model::RateLimitPolicy& made = limits(mesh).at(0);
  CHECK(made.service ==
        model::RateLimitService{
            {"shop", "rl.shop.svc.cluster.local"}, 8081, "shop", std::chrono::milliseconds(50), true});
  CHECK(made.rules.at(0).global);
  CHECK_FALSE(made.rules.at(1).global);
  CHECK_THAT(warned(mesh), Contains("rule r1: cost.responseHeader: no effect with scope Global"));
  // Who cannot be asked is named, and every replica counts.
  struct Row {
    const char* backend;
    const char* says;
  };
  for (const Row& row :
       {Row{"{name: gone, port: 8081}", "there is no Service gone"},
        Row{"{name: rl, namespace: elsewhere, port: 8081}", "there is no Service elsewhere/rl"},
        Row{"{name: rl, port: 1}", "has no port 1"}}) {
    INFO(row.backend);
    auto lost = with(row.backend, "");
    CHECK_FALSE(limits(lost).at(0).service);
    CHECK_FALSE(limits(lost).at(0).rules.at(0).global);
    CHECK(limits(lost).at(0).rules.at(0).requests == 5);
    CHECK_THAT(warned(lost), Contains(row.says) && Contains("every replica"));
  }
}

}  // namespace culvert::test
