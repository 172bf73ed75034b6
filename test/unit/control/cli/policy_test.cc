// SPDX-License-Identifier: Apache-2.0
// `culvert policy`: who enforces what, and selector policies in their form with targetRefs.
#include <catch2/catch.hpp>
#include <fstream>

#include "control/cli/manifests.h"
#include "control/cli/policy_command.h"
#include "test/unit/control/serve/temp_dir.h"

namespace culvert::test {
namespace {

using control::PolicyCommand;

const char kMesh[] = R"(
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: way, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: IPAddress, value: 10.0.0.5}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop, labels: {istio.io/use-waypoint: way}}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: shop, labels: {app: api}, annotations: {ambient.istio.io/redirection: enabled}}
spec: {serviceAccountName: api, containers: [{name: c}]}
status: {phase: Running, podIP: 10.1.0.1}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  rules:
  - from: [{source: {principals: ["cluster.local/ns/shop/sa/web"]}}]
    to: [{operation: {methods: [GET], paths: ["/a\"b/*"], ports: ["8080"]}}]
    when: [{key: "request.headers[x]", values: ["*"]}]
  - from: [{source: {namespaces: [monitoring]}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  jwtRules: [{issuer: "https://i", jwks: "{\"keys\": []}", audiences: [me], fromHeaders: [{name: x, prefix: "T "}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: l4, namespace: shop}
spec: {selector: {matchLabels: {app: none}}, rules: [{from: [{source: {namespaces: [shop]}}]}]}
)";

class Directory {
 public:
  explicit Directory(const std::string& text) { write("mesh.yaml", text); }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(dir_.path() + "/" + name) << text;
  }
  PolicyCommand command(const std::string& name = "") const { return {{dir_.path()}, name, {}}; }

 private:
  TempDir dir_;
};

bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

}  // namespace

TEST_CASE("explain says who enforces a policy, for whom and how", "[CP7]") {
  Directory dir(kMesh);
  auto all = control::explain_policies(dir.command());
  REQUIRE(all);
  INFO(*all);
  CHECK(has(*all, "AuthorizationPolicy shop/readers: ALLOW, 2 rules (1 with HTTP attributes)\n"));
  CHECK(has(*all, "covers pods with app=api in namespace shop"));
  CHECK(
      has(*all, "  waypoint shop/way   shop/api.shop.svc.cluster.local   2 rules, the client's identity\n"));
  CHECK(has(*all,
            "  node proxy          shop/api-1                        ALLOW 1 rule; admits "
            "cluster.local/ns/shop/sa/way, and whom L4 alone allows\n"));
  CHECK(has(*all, "tokens are looked at"));
  CHECK(has(*all, "AuthorizationPolicy shop/l4: ALLOW, 1 rule\n"));
  CHECK(has(*all, "enforced nowhere"));
  auto one = control::explain_policies(dir.command("shop/l4"));
  REQUIRE(one);
  CHECK(one->starts_with("AuthorizationPolicy shop/l4"));
  CHECK_FALSE(has(*one, "readers"));
  auto none = control::explain_policies(dir.command("shop/x"));
  REQUIRE_FALSE(none);
  CHECK(has(none.error().message(), "shop/x"));
}

TEST_CASE("explain as culvertd runs with --selector-l7=upstream", "[CP7]") {
  Directory dir(kMesh);
  PolicyCommand command = dir.command("shop/readers");
  command.compile.selector_l7 = control::SelectorL7::kUpstream;
  auto text = control::explain_policies(command);
  REQUIRE(text);
  INFO(*text);
  CHECK_FALSE(has(*text, "waypoint shop/way"));
  CHECK(has(*text, "ALLOW 1 rule\n"));
  CHECK(has(*text, "[MSH002]"));
}

TEST_CASE("convert: what it prints is enforced as the selector form is", "[CP7]") {
  Directory dir(kMesh);
  auto converted = control::convert_policies(dir.command());
  REQUIRE(converted);
  INFO(converted->yaml);
  CHECK(converted->left_out.empty());
  CHECK(has(converted->yaml, "targetRefs:\n    - {group: \"\", kind: Service, name: \"api\"}\n"));
  CHECK_FALSE(has(converted->yaml, "\"l4\""));  // the node proxy enforces it as it is
  // In place of what it came from.
  std::string rest(kMesh);
  Directory other(rest.substr(0, rest.find("---\napiVersion: security")));
  other.write("policies.yaml", converted->yaml);
  auto manifests = control::read_manifests(other.command().paths);
  REQUIRE(manifests);
  for (const auto& problem : manifests->problems) FAIL_CHECK(problem.message);
  control::Compiled made = control::compile(*manifests->objects, {});
  CHECK(made.findings.empty());
  const model::Guard& guard = made.waypoint_services.at("shop/api.shop.svc.cluster.local")->guard;
  REQUIRE(guard.policies.size() == 1);
  REQUIRE(guard.policies[0].rules.size() == 2);
  CHECK_FALSE(guard.policies[0].selector);
  const model::HttpOperation& to = guard.policies[0].rules[0].to.at(0);
  CHECK(to.ports.any == std::vector<uint16_t>{80});  // the service's
  CHECK(to.paths.any.at(0).text() == "/a\"b/");
  REQUIRE(guard.authentications.size() == 1);
  CHECK(guard.authentications[0].rules.at(0).places.at(0).prefix == "T ");
  // The node proxy admits the waypoint and what L4 alone allows.
  const model::Policy& node = *made.policies.at("shop/readers-node");
  REQUIRE(node.rules.size() == 2);
  CHECK(node.rules[1].clauses.at(0).matches.at(0).principals.at(0).text == "cluster.local/ns/shop/sa/way");
}

TEST_CASE("convert: many services, ports of their own, and what has no such form", "[CP7]") {
  std::string services, rest(kMesh);
  for (int i = 0; i < 17; ++i) {
    services += "---\napiVersion: v1\nkind: Service\nmetadata: {name: s" + std::to_string(i) +
                ", namespace: many}\nspec: {selector: {app: x}, ports: [{port: 80, targetPort: 8080}]}\n";
  }
  std::string policy = R"(---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: many}
spec: {action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}
)";
  Directory wide(services + policy);
  auto converted = control::convert_policies(wide.command());
  REQUIRE(converted);
  CHECK(has(converted->yaml, "name: \"p-1\""));
  CHECK(has(converted->yaml, "name: \"p-2\""));
  CHECK(has(converted->yaml, "# No waypoint is bound to these Services"));

  std::string lonely = policy;
  lonely.replace(lonely.find("many"), 4, "none");
  Directory without(services + lonely);
  auto left = control::convert_policies(without.command());
  REQUIRE(left);
  CHECK(left->yaml.empty());
  REQUIRE(left->left_out.size() == 1);
  CHECK(has(left->left_out[0], "no Service here selects the pods it covers"));

  std::string root = policy;
  root.replace(root.find("many"), 4, "istio-system");
  Directory mesh_wide(root);
  auto all = control::convert_policies(mesh_wide.command());
  REQUIRE(all);
  CHECK(has(all->yaml, "kind: GatewayClass, name: \"istio-waypoint\""));
}

}  // namespace culvert::test
