// SPDX-License-Identifier: Apache-2.0
// What waypoints are told, from manifests: routes by ownership and visibility, guards by targetRefs,
// backends.
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
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: other}
spec: {clusterIP: 10.96.0.2, selector: {app: plain}, ports: [{name: http, port: 80}]}
)";

constexpr char kApi[] = "shop/api.shop.svc.cluster.local";

std::string route(const std::string& ns, const std::string& host, const std::string& more = "") {
  return "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: r, namespace: " +
         ns + "}\nspec:\n  hosts: [\"" + host + "\"]\n" + more +
         "  http: [{route: [{destination: {host: api.shop.svc.cluster.local, subset: v1}}]}]\n";
}

std::string policy(const std::string& spec, const std::string& ns = "shop") {
  return "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: " +
         ns + "}\nspec: " + spec + "\n";
}

size_t routes_of(const control::Compiled& mesh) {
  const auto& ports = mesh.waypoint_services.at(kApi)->routes.ports;
  return ports.empty() || !ports.front().http ? 0 : ports.front().http->size();
}

bool found(const control::Compiled& mesh, std::string_view code, std::string_view text) {
  return std::any_of(mesh.findings.begin(), mesh.findings.end(), [&](const control::Finding& one) {
    return one.code == code && one.message.find(text) != std::string::npos;
  });
}

const model::Guard& guard_of(const control::Compiled& mesh) { return mesh.waypoint_services.at(kApi)->guard; }

}  // namespace

TEST_CASE("services that are bound to a waypoint are told to it, and only those", "[waypoint-1.10]") {
  auto mesh = compile_yaml(kMesh);
  REQUIRE(mesh.waypoint_services.size() == 1);
  CHECK(mesh.waypoints_of.at(kApi) == std::vector<std::string>{"shop/way"});
  CHECK(mesh.backends.size() == 2);
  CHECK(mesh.settings);
}

TEST_CASE("a host belongs to its service's namespace", "[waypoint-1.4]") {
  auto own = compile_yaml(kMesh + route("shop", "api"));
  CHECK(routes_of(own) == 1);
  CHECK(own.waypoint_services.at(kApi)->routes.ports.front().http->front().targets.front().port == 80);
  auto wild = compile_yaml(kMesh + route("shop", "*.shop.svc.cluster.local"));
  CHECK(routes_of(wild) == 1);
  auto thief = compile_yaml(kMesh + route("other", "api.shop.svc.cluster.local"));
  CHECK(routes_of(thief) == 0);
  CHECK(found(thief, "MSH011", "belongs to namespace shop"));
  auto unbound = compile_yaml(kMesh + route("other", "plain"));
  CHECK(found(unbound, "MSH011", "has no waypoint"));
  auto gateway = compile_yaml(kMesh + route("shop", "api", "  gateways: [shop/edge]\n"));
  CHECK(routes_of(gateway) == 0);
}

TEST_CASE("a destination rule is looked for in the waypoint's, the service's, the root namespace",
          "[waypoint-1.4]") {
  auto rule = [](const std::string& ns, const std::string& host, int connections) {
    return "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d" +
           std::to_string(connections) + ", namespace: " + ns + "}\nspec: {host: \"" + host +
           "\", trafficPolicy: {connectionPool: {tcp: {maxConnections: " + std::to_string(connections) +
           "}}}}\n";
  };
  auto limit = [](const control::Compiled& mesh) {
    return mesh.backends.at(kApi)->policy.all.pool.connections_max;
  };
  std::string root = rule("istio-system", "*.svc.cluster.local", 1);
  std::string other = rule("other", "api.shop.svc.cluster.local", 2);
  std::string wild = rule("shop", "*.shop.svc.cluster.local", 3);
  std::string exact = rule("shop", "api", 4);
  CHECK(limit(compile_yaml(kMesh)) == model::kNoLimit);
  CHECK(limit(compile_yaml(kMesh + root)) == 1);
  auto foreign = compile_yaml(kMesh + other);
  CHECK(limit(foreign) == model::kNoLimit);
  CHECK(found(foreign, "MSH013", "in force for no service"));
  CHECK(limit(compile_yaml(kMesh + root + wild)) == 3);
  CHECK(limit(compile_yaml(kMesh + root + wild + exact)) == 4);
}

TEST_CASE("policies are bound by targetRefs", "[waypoint-2.6.5]") {
  auto to = [](const std::string& ref) { return policy("{targetRefs: [" + ref + "], rules: [{}]}"); };
  std::string service = "{kind: Service, group: \"\", name: api}";
  std::string gateway = "{kind: Gateway, group: gateway.networking.k8s.io, name: way}";
  CHECK(guard_of(compile_yaml(kMesh + to(service))).policies.size() == 1);
  CHECK(guard_of(compile_yaml(kMesh + to(gateway))).policies.size() == 1);
  CHECK(guard_of(compile_yaml(kMesh + to("{kind: Service, group: \"\", name: web}"))).policies.empty());
  auto foreign = compile_yaml(kMesh + policy("{targetRefs: [" + service + "], rules: [{}]}", "other"));
  CHECK(guard_of(foreign).policies.empty());
}

TEST_CASE("a policy's values keep their form", "[waypoint-2.6.2]") {
  auto mesh = compile_yaml(kMesh + policy(R"(
  targetRefs: [{kind: Service, group: "", name: api}]
  rules:
  - from: [{source: {principals: ["cluster.local/ns/shop/sa/web"], serviceAccounts: []}}]
    to: [{operation: {methods: [GET], paths: ["/api/*", "/u/{*}/x"], notPaths: ["*.bak"], hosts: ["*.A.com"], ports: ["80"]}}]
    when: [{key: "request.headers[X-Team]", values: ["*"]}, {key: "request.auth.claims[a][b]", notValues: [c]}])"));
  REQUIRE(guard_of(mesh).policies.size() == 1);
  REQUIRE(guard_of(mesh).policies[0].rules.size() == 1);
  using Kind = model::TextMatch::Kind;
  const model::HttpRule& rule = guard_of(mesh).policies[0].rules[0];
  const model::HttpOperation& operation = rule.to.at(0);
  CHECK(rule.from.at(0).principals.any.at(0).text() == "cluster.local/ns/shop/sa/web");
  CHECK(operation.paths.any.at(0).kind() == Kind::kPrefix);
  CHECK(operation.paths.any.at(0).text() == "/api/");
  CHECK(operation.paths.any.at(1).kind() == Kind::kPathTemplate);
  CHECK(operation.paths.none.at(0).kind() == Kind::kSuffix);
  CHECK(operation.hosts.any.at(0).text() == ".a.com");
  CHECK(operation.ports.any == std::vector<uint16_t>{80});
  CHECK(rule.when.at(0).name == "x-team");
  CHECK(rule.when.at(0).values.any.at(0).kind() == Kind::kPresent);
  CHECK(rule.when.at(1).path == std::vector<std::string>{"a", "b"});
}

TEST_CASE("what cannot be read never makes a policy weaker", "[waypoint-2.6]") {
  std::string bad = "rules: [{from: [{source: {ipBlocks: [\"10.0.0.0/99\"]}}]}]";
  std::string target = "{targetRefs: [{kind: Service, group: \"\", name: api}], ";
  auto allow = compile_yaml(kMesh + policy(target + bad + "}"));
  REQUIRE(guard_of(allow).policies.size() == 1);
  CHECK(guard_of(allow).policies[0].rules.empty());  // an ALLOW that allows nobody
  CHECK(found(allow, "IST0106", "matches nothing"));
  auto deny = compile_yaml(kMesh + policy(target + "action: DENY, " + bad + "}"));
  REQUIRE(guard_of(deny).policies.at(0).rules.size() == 1);
  CHECK(guard_of(deny).policies[0].rules[0] == model::HttpRule{});  // a DENY of everybody
}

TEST_CASE("tokens: where they are looked for, and whose keys", "[waypoint-2.7]") {
  control::CompileOptions options;
  options.jwks = [](const std::string& uri) { return "keys of " + uri; };
  auto mesh = compile_yaml(kMesh + R"(---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: t, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: api}]
  jwtRules:
  - {issuer: "https://a/", jwksUri: "https://a/keys", fromHeaders: [{name: X-Token}], audiences: [me]}
  - {issuer: "https://b/"}
)",
                           nullptr, options);
  REQUIRE(guard_of(mesh).authentications.size() == 1);
  const auto& rules = guard_of(mesh).authentications[0].rules;
  REQUIRE(rules.size() == 2);
  CHECK(rules[0].jwks == "keys of https://a/keys");
  CHECK(rules[0].places == std::vector<model::TokenPlace>{{model::TokenPlace::Kind::kHeader, "x-token", ""}});
  CHECK(rules[1].jwks == "keys of https://b/.well-known/openid-configuration");
  CHECK(rules[1].places.size() == 2);
}

}  // namespace culvert::test
