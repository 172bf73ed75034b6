// SPDX-License-Identifier: Apache-2.0
// From YAML to what proxies get (spec control-plane section 10, Policy and Workloads).
#include "control/compile/compile.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "test/unit/control/compile/objects.h"

namespace culvert::control {
namespace {

using test::compile_yaml;

const std::string kPod = R"(
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: production, labels: {app: api}, annotations: {ambient.istio.io/redirection: enabled}}
spec:
  nodeName: n1
  serviceAccountName: api
  containers: [{ports: [{name: web, containerPort: 8080}]}]
status: {podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
)";

std::vector<std::string> policies_of(const Compiled& compiled) {
  std::vector<std::string> out;
  for (const model::Name& name :
       compiled.workloads.at("Kubernetes//Pod/production/api-1")->authorization_policies) {
    out.push_back(name.str());
    // Never a name without its policy: the proxy would have to refuse everything.
    CHECK(compiled.policies.contains(name.str()));
  }
  return out;
}

std::string peer_authentication(const std::string& ns, const std::string& name, const std::string& spec) {
  return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " + name +
         ", namespace: " + ns + "}\nspec: " + spec + "\n---\n";
}

}  // namespace

TEST_CASE("a pod with a service", "[workloads]") {
  Compiled out = compile_yaml(kPod + R"(
apiVersion: v1
kind: Service
metadata: {name: api, namespace: production}
spec:
  clusterIP: 10.96.0.10
  selector: {app: api}
  ports: [{port: 80, targetPort: web, name: http}, {port: 81, targetPort: nowhere}, {port: 53, protocol: UDP}]
)");
  const auto& workload = *out.workloads.at("Kubernetes//Pod/production/api-1");
  CHECK(workload.protocol == model::TunnelProtocol::kHbone);
  CHECK(workload.addresses.size() == 2);
  CHECK(workload.canonical_name == "api");
  REQUIRE(workload.services.size() == 1);
  CHECK(workload.services[0].service.to_string() == "production/api.production.svc.cluster.local");
  REQUIRE(workload.services[0].ports.size() == 1);
  CHECK(workload.services[0].ports[0].target_port == 8080);
  const auto& service = *out.services.at("production/api.production.svc.cluster.local");
  CHECK(service.ports.size() == 2);
  CHECK(service.vips.at(0).ip.to_string() == "10.96.0.10");
  CHECK(service.canonical);
}

TEST_CASE("pods come and go by address and phase", "[workloads]") {
  auto with = [](const std::string& status) {
    return compile_yaml("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: " + status + "\n").workloads;
  };
  CHECK(with("{}").empty());
  CHECK(with("{podIP: 10.0.0.1, phase: Succeeded}").empty());
  CHECK(with("{podIP: 10.0.0.1, phase: Failed}").empty());
  CHECK(with("{podIP: nonsense}").empty());
  CHECK(with("{podIP: 10.0.0.1, phase: Pending}").begin()->second->status == model::HealthStatus::kUnhealthy);
  CHECK(with("{podIP: 10.0.0.1, phase: Running}").begin()->second->status == model::HealthStatus::kHealthy);
}

TEST_CASE("selector policies are attached to the workloads they select", "[policy]") {
  auto action = GENERATE(as<std::string>{}, "ALLOW", "DENY");
  Compiled out = compile_yaml(
      kPod + "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n" +
      "metadata: {name: p, namespace: production}\nspec:\n  selector: {matchLabels: {app: api}}\n" +
      "  action: " + action + "\n" + R"(
  rules:
  - from: [{source: {principals: ["cluster.local/ns/production/sa/web", "*"]}}]
    to: [{operation: {ports: ["8080"]}}]
    when: [{key: source.ip, notValues: ["10.9.0.0/16"]}]
)");
  CHECK(policies_of(out) == std::vector<std::string>{"production/p"});
  const model::Policy& policy = *out.policies.at("production/p");
  CHECK(policy.scope == model::PolicyScope::kWorkloadSelector);
  REQUIRE(policy.rules.size() == 1);
  REQUIRE(policy.rules[0].clauses.size() == 3);
  CHECK(policy.rules[0].clauses[0].matches[0].destination_ports == std::vector<uint16_t>{8080});
  CHECK(policy.rules[0].clauses[1].matches[0].principals.size() == 2);
  CHECK(policy.rules[0].clauses[2].matches[0].not_source_ips.size() == 1);
}

TEST_CASE("HTTP attributes never weaken a policy at the node proxy", "[policy]") {
  struct Case {
    const char* action;
    const char* rule;
    size_t rules;    // that remain
    size_t clauses;  // of the first
  };
  auto c = GENERATE(values<Case>({
      {"ALLOW", "{to: [{operation: {methods: [GET]}}]}", 0, 0},
      {"ALLOW", "{from: [{source: {principals: [a]}}], to: [{operation: {methods: [GET], ports: ['80']}}]}",
       0, 0},
      {"ALLOW", "{from: [{source: {principals: [a]}}]}", 1, 1},
      {"ALLOW", "{}", 1, 0},
      {"DENY", "{}", 1, 0},
      {"DENY", "{to: [{operation: {methods: [GET]}}]}", 1, 0},
      {"DENY", "{to: [{operation: {methods: [GET], ports: ['80']}}]}", 1, 1},
      {"DENY", "{from: [{source: {principals: [a]}}], to: [{operation: {methods: [GET]}}]}", 1, 1},
      {"DENY", "{from: [{source: {principals: [a]}}, {source: {requestPrincipals: [b]}}]}", 1, 0},
      {"DENY",
       "{from: [{source: {principals: [a]}}], to: [{operation: {ports: ['80']}}, {operation: {paths: "
       "[/x]}}]}",
       1, 1},
      // Values nobody can read: an ALLOW allows nobody, a DENY all that the rest of the rule leaves.
      {"ALLOW", "{from: [{source: {ipBlocks: [garbage]}}]}", 0, 0},
      {"ALLOW", "{from: [{source: {notPrincipals: ['']}}]}", 0, 0},
      {"DENY", "{from: [{source: {ipBlocks: [garbage]}}]}", 1, 0},
      {"DENY", "{from: [{source: {principals: ['']}}]}", 1, 0},
      {"DENY", "{to: [{operation: {notPorts: ['80', http]}}]}", 1, 0},
      {"DENY", "{when: [{key: source.ip, values: [10.0.0.0/33]}]}", 1, 0},
      {"DENY", "{from: [{source: {ipBlocks: [garbage]}}, {source: {principals: [a]}}]}", 1, 1},
      {"DENY", "{from: [{source: {ipBlocks: [garbage]}}], to: [{operation: {ports: ['80']}}]}", 1, 1},
  }));
  Compiled out = compile_yaml(std::string("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
                                          "metadata: {name: p, namespace: a}\nspec: {selector: {matchLabels: "
                                          "{app: api}}, action: ") +
                              c.action + ", rules: [" + c.rule + "]}\n");
  INFO(c.action << " " << c.rule);
  const model::Policy& policy = *out.policies.at("a/p");
  REQUIRE(policy.rules.size() == c.rules);
  if (c.rules > 0) CHECK(policy.rules[0].clauses.size() == c.clauses);
}

TEST_CASE("a policy that becomes unreadable keeps its last good form", "[policy][CP2.2]") {
  auto denying = [](const std::string& blocks, const Compiled* previous) {
    return compile_yaml(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: a}\n"
        "spec: {action: DENY, rules: [{from: [{source: {ipBlocks: [" +
            blocks + "]}}]}]}\n",
        previous);
  };
  Compiled good = denying("10.1.0.0/16, 10.2.0.0/16", nullptr);
  CHECK(good.findings.empty());
  for (const char* bad : {"10.1.0.0/99", "10.1.0.0/16, 10.2.0.0/166"}) {
    Compiled kept = denying(bad, &good);
    CHECK(*kept.policies.at("a/p") == *good.policies.at("a/p"));
    REQUIRE_FALSE(kept.findings.empty());
    CHECK(std::any_of(kept.findings.begin(), kept.findings.end(), [](const Finding& finding) {
      return finding.message == "what was in force before stays in force";
    }));
    // And it is still kept at the next change of something else.
    CHECK(*denying(bad, &kept).policies.at("a/p") == *good.policies.at("a/p"));
  }
  CHECK(*denying("10.3.0.0/16", &good).policies.at("a/p") != *good.policies.at("a/p"));
}

TEST_CASE("scopes, root namespace, unsupported actions", "[policy]") {
  auto scope = [](const std::string& ns, const std::string& spec) {
    Compiled out = compile_yaml(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: " + ns +
        "}\nspec: " + spec + "\n");
    return out.policies.empty() ? std::string("none")
                                : std::string(model::to_string(out.policies.begin()->second->scope));
  };
  CHECK(scope("a", "{}") == "Namespace");
  CHECK(scope("istio-system", "{}") == "Global");
  CHECK(scope("a", "{selector: {}}") == "Namespace");
  CHECK(scope("a", "{selector: {matchLabels: {x: y}}}") == "WorkloadSelector");
  CHECK(scope("a", "{action: AUDIT, rules: [{}]}") == "none");
  // It denies until a waypoint can ask.
  CHECK(scope("a", "{selector: {matchLabels: {x: y}}, action: CUSTOM, provider: {name: ext}, rules: [{}]}") ==
        "WorkloadSelector");
  CHECK(scope("a", "{targetRefs: [{kind: Service, name: x, group: ''}], rules: [{}]}") == "none");
}

TEST_CASE("what PeerAuthentication puts on a workload", "[policy]") {
  const std::string strict = "istio-system/istio_converted_static_strict";
  const std::string converted = "production/converted_peer_authentication_w";
  struct Case {
    std::string root, ns, workload;  // modes; empty: no such policy
    std::string ports;
    std::vector<std::string> expected;
  };
  auto c = GENERATE_COPY(values<Case>({
      {"", "", "", "", {}},
      {"STRICT", "", "", "", {strict}},
      {"STRICT", "PERMISSIVE", "", "", {}},
      {"PERMISSIVE", "STRICT", "", "", {strict}},
      {"STRICT", "UNSET", "", "", {strict}},
      {"STRICT", "", "PERMISSIVE", "", {}},
      {"STRICT", "", "DISABLE", "", {}},
      {"", "", "STRICT", "", {strict}},
      {"", "", "STRICT", "'80': {mode: PERMISSIVE}", {converted}},
      {"", "", "STRICT", "'80': {mode: DISABLE}", {converted}},
      {"", "", "STRICT", "'80': {mode: STRICT}", {strict}},
      {"", "", "PERMISSIVE", "'80': {mode: STRICT}", {converted}},
      {"", "", "PERMISSIVE", "'80': {mode: PERMISSIVE}", {}},
      {"STRICT", "", "UNSET", "'80': {mode: PERMISSIVE}", {converted}},
      {"STRICT", "", "UNSET", "'80': {mode: DISABLE}", {strict}},
      {"STRICT", "UNSET", "UNSET", "'80': {mode: PERMISSIVE}", {converted}},
      {"", "", "UNSET", "'80': {mode: STRICT}", {converted}},
  }));
  std::string yaml = kPod;
  if (!c.root.empty()) yaml += peer_authentication("istio-system", "m", "{mtls: {mode: " + c.root + "}}");
  if (!c.ns.empty()) yaml += peer_authentication("production", "n", "{mtls: {mode: " + c.ns + "}}");
  if (!c.workload.empty()) {
    yaml += peer_authentication("production", "w",
                                "{selector: {matchLabels: {app: api}}, mtls: {mode: " + c.workload +
                                    "}, portLevelMtls: {" + c.ports + "}}");
  }
  INFO(c.root << "/" << c.ns << "/" << c.workload << " " << c.ports);
  CHECK(policies_of(compile_yaml(yaml)) == c.expected);
}

TEST_CASE("of an install file only meshConfig is acted on, and lint says what is not", "[control-1.1]") {
  auto told = [](const std::string& yaml, const std::string& code) {
    std::string out;
    for (const auto& one : compile_yaml(yaml).findings) {
      if (one.code == code) out += std::string(to_string(one.severity)) + " " + one.message + "\n";
    }
    return out;
  };
  using Catch::Contains;
  auto install = [](const std::string& spec) {
    return "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: i, namespace: "
           "istio-system}\nspec: " +
           spec + "\n";
  };
  CHECK(told(install("{meshConfig: {}}"), "MSH023").empty());
  CHECK_THAT(
      told(install("{profile: demo, components: {}}"), "MSH023"),
      Contains("Info only an installer acts on") && Contains("spec.components") && Contains("spec.profile"));
  CHECK_THAT(told(install("{meshConfig: {enableAutoMtls: false, dnsRefreshRate: 5s}}"), "MSH023"),
             Contains("Warning meshConfig.enableAutoMtls: no effect") && !Contains("dnsRefreshRate"));
  CHECK_THAT(told(install("{meshConfig: {trustDomain: example.org}}"), "MSH023"), Contains("trustDomain"));
  CHECK_THAT(told(install("{meshConfig: {ingressClass: x}}"), "MSH022"), Contains("is not acted on"));
  auto ns = [](const std::string& labels) {
    return "apiVersion: v1\nkind: Namespace\nmetadata: {name: n, labels: {" + labels + "}}\n";
  };
  CHECK_THAT(told(ns("istio-injection: enabled"), "MSH006"),
             Contains("Warning") && Contains("istio.io/dataplane-mode: ambient"));
  CHECK_THAT(told(ns("istio-injection: enabled, istio.io/dataplane-mode: ambient"), "MSH006"),
             Contains("Info") && Contains("take the label away"));
  CHECK_THAT(told("apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system, labels: {istio-injection: "
                  "enabled}}\n",
                  "MSH006"),
             Contains("Info") && Contains("take the label away"));
  CHECK(told(ns("istio-injection: disabled"), "MSH006").empty());
}

}  // namespace culvert::control
