// SPDX-License-Identifier: Apache-2.0
// Policies bound by selector that speak of HTTP: what the waypoint is told, what the node proxy in front of
// the pod then decides, case by case. The node proxy's verdict is asked of the function it uses itself.
#include <algorithm>
#include <catch2/catch.hpp>

#include "mesh/decide/authorize.h"
#include "mesh/model/store.h"
#include "test/unit/control/compile/objects.h"

namespace culvert::test {
namespace {

using control::Compiled;
using control::CompileOptions;

std::string gateway(const std::string& name, const std::string& traffic = "service", bool ready = true) {
  return "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: " + name +
         ", namespace: shop, labels: {istio.io/waypoint-for: " + traffic +
         "}}\nspec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: "
         "HBONE}]}\n" +
         (ready ? "status: {addresses: [{type: IPAddress, value: 10.0.0.5}]}\n" : "");
}

std::string service(const std::string& name, const std::string& labels, const std::string& selector) {
  return "---\napiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", namespace: shop, labels: {" +
         labels + "}}\nspec: {clusterIP: 10.96.0." + std::to_string(name.size()) + ", selector: {" +
         selector + "}, ports: [{name: http, port: 80, targetPort: 8080}]}\n";
}

std::string pod(const std::string& name, const std::string& labels, const std::string& ip) {
  return "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: shop, labels: {" +
         labels +
         "}, annotations: {ambient.istio.io/redirection: enabled}}\nspec: {serviceAccountName: api, "
         "containers: [{name: c}]}\nstatus: {phase: Running, podIP: " +
         ip + "}\n";
}

std::string policy(const std::string& name, const std::string& spec, const std::string& ns = "shop",
                   const std::string& annotations = "") {
  return "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " + name +
         ", namespace: " + ns + ", annotations: {" + annotations + "}}\nspec: {" + spec + "}\n";
}

std::string tokens(const std::string& spec, const std::string& ns = "shop") {
  return "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: jwt, "
         "namespace: " +
         ns + "}\nspec: {" + spec + "jwtRules: [{issuer: i, jwks: '{\"keys\": []}'}]}\n";
}

const std::string kUse = "istio.io/use-waypoint: way";
const std::string kApi = "selector: {matchLabels: {app: api}}";
const std::string kGet = "{to: [{operation: {methods: [GET]}}]}";
const std::string kFromWeb = "{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}";
const std::string kFromWay = "{from: [{source: {principals: [cluster.local/ns/shop/sa/way]}}]}";

// Pod api-1 (app: api) behind Service api, bound to waypoint way; pod other-1 that no waypoint serves.
std::string bound_mesh() {
  return gateway("way") + service("api", kUse, "app: api") + service("other", "", "app: other") +
         pod("api-1", "app: api, version: v1", "10.1.0.1") + pod("other-1", "app: other", "10.1.0.2");
}

// May somebody of that service account (in shop; "" plaintext) connect to the pod's port?
bool admits(const Compiled& mesh, const std::string& account, const std::string& to = "api-1",
            uint16_t port = 8080) {
  model::MeshStore store("");
  model::MeshUpdate update;
  for (const auto& [name, one] : mesh.policies) update.policies.push_back(*one);
  model::ViewRef view = store.apply(std::move(update)).view;
  const model::Workload& workload = *mesh.workloads.at("Kubernetes//Pod/shop/" + to);
  decide::ConnectionFacts facts;
  facts.source_ip = *base::IpAddr::parse("10.1.0.99");
  if (!account.empty()) facts.source = model::Identity{"cluster.local", "shop", account};
  facts.destination = {workload.addresses.front(), port};
  decide::Verdict verdict = decide::authorize(*view, workload, facts);
  CHECK(verdict.unknown.empty());
  return verdict.allowed();
}

// "ns/name" with its selector, of each policy in a guard.
std::vector<std::string> told(const Compiled& mesh,
                              const std::string& service = "api.shop.svc.cluster.local") {
  std::vector<std::string> out;
  for (const model::HttpPolicy& one : mesh.waypoint_services.at("shop/" + service)->guard.policies) {
    std::string text = one.ns + "/" + one.name;
    if (one.selector) {
      text += one.selector_everywhere ? "@*" : one.selector_ns.empty() ? "" : "@" + one.selector_ns;
      for (const auto& [key, value] : *one.selector) text += " " + key + "=" + value;
    }
    out.push_back(text);
  }
  return out;
}

std::string finding(const Compiled& mesh, std::string_view code) {
  for (const control::Finding& one : mesh.findings) {
    if (one.code == code) return one.object + ": " + one.message;
  }
  return "";
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("whom the node proxy admits, where a waypoint is bound and where none is",
          "[policy][waypoint-2.6.5]") {
  struct Row {
    const char* what;
    std::string policies;
    // bound: the waypoint, web directly, plaintext directly; then web where nothing is bound
    bool way, web, plain, unbound;
  };
  std::string get = "rules: [" + kGet + "]";
  const Row rows[] = {
      {"no policy", "", true, true, true, true},
      {"ALLOW of HTTP", policy("p", kApi + ", " + get), true, false, false, false},
      {"ALLOW with a principal and HTTP",
       policy("p", kApi + ", rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}], to: "
                          "[{operation: {methods: [GET]}}]}]"),
       true, false, false, false},
      {"ALLOW: rules without HTTP admit directly too",
       policy("p", kApi + ", rules: [" + kGet + ", " + kFromWeb + "]"), true, true, false, true},
      {"ALLOW of HTTP beside one without",
       policy("p", kApi + ", " + get) + policy("q", kApi + ", rules: [" + kFromWeb + "]"), true, true, false,
       true},
      {"ALLOW without HTTP alone stays the node proxy's", policy("q", kApi + ", rules: [" + kFromWeb + "]"),
       false, true, false, true},
      {"the whole namespace", policy("p", get), true, false, false, false},
      {"the whole mesh", policy("p", get, "istio-system"), true, false, false, false},
      {"allow nothing, and HTTP for some", policy("nothing", "") + policy("p", kApi + ", " + get), true,
       false, false, false},
      {"DENY of HTTP", policy("p", kApi + ", action: DENY, " + get), true, false, false, false},
      {"DENY of HTTP on another port",
       policy("p", kApi + ", action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['9090']}}]}]"),
       true, true, true, true},
      {"DENY of a principal's HTTP",
       policy("p",
              kApi +
                  ", action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}], "
                  "to: [{operation: {methods: [GET]}}]}]"),
       true, false, true, false},
      {"DENY of one principal or another's token",
       policy("p",
              kApi + ", action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/x]}}, "
                     "{source: {requestPrincipals: [i/s]}}]}]"),
       true, false, false, false},
      {"DENY of HTTP in the whole namespace", policy("p", "action: DENY, " + get), true, false, false, false},
      {"DENY of HTTP in the whole mesh", policy("p", "action: DENY, " + get, "istio-system"), true, false,
       false, false},
      {"DENY of HTTP; the waypoint judges the rest of the policies too",
       policy("p", kApi + ", action: DENY, " + get) + policy("q", kApi + ", rules: [" + kFromWeb + "]"), true,
       false, false, false},
      {"DENY without HTTP stays the node proxy's",
       policy("q", kApi + ", action: DENY, rules: [{from: [{source: {notPrincipals: "
                          "[cluster.local/ns/shop/sa/web]}}]}]"),
       false, true, false, true},
      {"DENY without HTTP beside one with: the waypoint judges both",
       policy("p", kApi + ", action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['1']}}]}]") +
           policy("q", kApi + ", action: DENY, rules: [{from: [{source: {notPrincipals: "
                              "[cluster.local/ns/shop/sa/web]}}]}]"),
       true, true, false, true},
      {"a DENY for all but the waypoint remains that",
       policy("p", kApi + ", " + get) +
           policy("q", kApi + ", action: DENY, rules: [{from: [{source: {notPrincipals: "
                              "[cluster.local/ns/shop/sa/way]}}]}]"),
       true, false, false, false},
      {"tokens", tokens(kApi + ", "), true, false, false, false},
      {"tokens of the whole namespace", tokens(""), true, false, false, false},
      {"tokens of the whole mesh", tokens("", "istio-system"), true, false, false, false},
      {"tokens, and whom L4 allows", tokens(kApi + ", ") + policy("q", kApi + ", rules: [" + kFromWeb + "]"),
       true, true, false, true},
      {"CUSTOM", policy("p", kApi + ", action: CUSTOM, provider: {name: x}, rules: [{}]"), true, false, false,
       false},
      {"AUDIT decides nothing", policy("p", kApi + ", action: AUDIT, " + get), true, true, true, true},
      {"a dry run decides nothing", policy("p", kApi + ", " + get, "shop", "istio.io/dry-run: 'true'"), true,
       true, true, true},
      {"other pods", policy("p", "selector: {matchLabels: {app: x}}, " + get), true, true, true, true},
      {"another namespace's", policy("p", get, "elsewhere"), true, true, true, true},
      {"trust domains are part of principals",
       policy("p", kApi + ", rules: [{from: [{source: {trustDomains: [cluster.local]}}]}]"), true, true,
       false, true},
      {"a foreign trust domain's", policy("p", kApi + ", rules: [{from: [{source: {trustDomains: [a.b]}}]}]"),
       false, false, false, false},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    Compiled bound = compile_yaml(bound_mesh() + row.policies);
    CHECK(admits(bound, "way") == row.way);
    CHECK(admits(bound, "web") == row.web);
    CHECK(admits(bound, "") == row.plain);
    Compiled unbound =
        compile_yaml(service("api", "", "app: api") + pod("api-1", "app: api", "10.1.0.1") + row.policies);
    CHECK(admits(unbound, "web") == row.unbound);
  }
}

TEST_CASE("which waypoints are admitted to which pods", "[policy][waypoint-2.6.5]") {
  std::string get = policy("p", kApi + ", rules: [" + kGet + "]") +
                    policy("d", kApi + ", action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]");
  std::string api1 = pod("api-1", "app: api", "10.1.0.1");
  SECTION("a pod of two services, one of them not bound") {
    Compiled mesh = compile_yaml(gateway("way") + service("api", kUse, "app: api") +
                                 service("plain", "", "app: api") + api1 + get);
    CHECK(admits(mesh, "way"));
    CHECK_FALSE(admits(mesh, "web"));
    CHECK(finding(mesh, "MSH002").find("no waypoint that is ready is bound to shop/plain") !=
          std::string::npos);
  }
  SECTION("a pod of two services with a waypoint each") {
    Compiled mesh = compile_yaml(gateway("way") + gateway("side") + service("api", kUse, "app: api") +
                                 service("more", "istio.io/use-waypoint: side", "app: api") + api1 + get);
    CHECK(admits(mesh, "way"));
    CHECK(admits(mesh, "side"));
    CHECK_FALSE(admits(mesh, "web"));
    CHECK(told(mesh, "more.shop.svc.cluster.local") == told(mesh));
    CHECK(mesh.findings.empty());
  }
  SECTION("two pods of one policy, each behind its own") {
    Compiled mesh =
        compile_yaml(gateway("way") + gateway("side") + service("api", kUse, "app: api, version: v1") +
                     service("more", "istio.io/use-waypoint: side", "app: api, version: v2") +
                     pod("api-1", "app: api, version: v1", "10.1.0.1") +
                     pod("api-2", "app: api, version: v2", "10.1.0.2") + get);
    CHECK(admits(mesh, "way", "api-1"));
    CHECK_FALSE(admits(mesh, "side", "api-1"));
    CHECK(admits(mesh, "side", "api-2"));
    CHECK_FALSE(admits(mesh, "way", "api-2"));
  }
  SECTION("a canary waypoint") {
    std::string canary = kUse + ", istio.io/use-waypoint-canary: next";
    Compiled mesh =
        compile_yaml(gateway("way") + gateway("next") + service("api", canary, "app: api") + api1 + get);
    CHECK(admits(mesh, "way"));
    CHECK(admits(mesh, "next"));
    CHECK_FALSE(admits(mesh, "web"));
    CHECK(mesh.waypoints_of.at("shop/api.shop.svc.cluster.local").size() == 2);
  }
  SECTION("a waypoint that is not ready") {
    Compiled mesh =
        compile_yaml(gateway("way", "service", false) + service("api", kUse, "app: api") + api1 + get);
    CHECK_FALSE(admits(mesh, "way"));
    CHECK_FALSE(admits(mesh, "web"));
    CHECK(finding(mesh, "MSH002").find("shop/api") != std::string::npos);
  }
  SECTION("a pod that uses a waypoint itself") {
    std::string pod_way = pod("api-1", "app: api, istio.io/use-waypoint: way", "10.1.0.1");
    Compiled mesh = compile_yaml(gateway("way", "workload") + pod_way + get);
    CHECK(admits(mesh, "way"));
    CHECK_FALSE(admits(mesh, "web"));
    CHECK(told(mesh, "pods@way") == Texts{"shop/d app=api", "shop/p app=api"});
    CHECK(mesh.waypoints_of.at("shop/pods@way") == Texts{"shop/way"});
    CHECK(mesh.findings.empty());
  }
  SECTION("a waypoint for all: pods addressed as such meet the same rules there") {
    Compiled mesh = compile_yaml(gateway("way", "all") + service("api", kUse, "app: api") + api1 + get);
    CHECK(told(mesh, "pods@way") == told(mesh));
  }
  SECTION("a service of another namespace does not know of this one's policies") {
    std::string slice = R"(---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: away, labels: {istio.io/use-waypoint: way, istio.io/use-waypoint-namespace: shop}}
spec: {clusterIP: 10.96.0.77, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: far-1, namespace: away, labels: {kubernetes.io/service-name: far}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.1], targetRef: {kind: Pod, namespace: shop, name: api-1}}]
)";
    Compiled mesh = compile_yaml(gateway("way") + api1 + get + slice);
    CHECK_FALSE(admits(mesh, "way"));
  }
  SECTION("an instance's own account, or the one the Gateway names") {
    std::string instance =
        "---\napiVersion: v1\nkind: Pod\nmetadata: {name: way-0, namespace: shop, labels: "
        "{gateway.networking.k8s.io/gateway-name: way}}\nspec: {serviceAccountName: custom, "
        "containers: [{name: c}]}\nstatus: {phase: Running, podIP: 10.1.0.50}\n";
    Compiled mesh = compile_yaml(gateway("way") + service("api", kUse, "app: api") + api1 + get + instance);
    CHECK(admits(mesh, "custom"));
    CHECK_FALSE(admits(mesh, "way"));
  }
  SECTION("what stands in for others is not behind a waypoint") {
    std::string instance =
        "---\napiVersion: v1\nkind: Pod\nmetadata: {name: way-0, namespace: shop, labels: "
        "{gateway.networking.k8s.io/gateway-name: way}}\nspec: {serviceAccountName: way, "
        "containers: [{name: c}]}\nstatus: {phase: Running, podIP: 10.1.0.50}\n";
    Compiled mesh = compile_yaml(bound_mesh() + instance + tokens(""));
    CHECK(admits(mesh, "web", "way-0"));
  }
}

TEST_CASE("what a waypoint is told of policies without targetRefs", "[policy][waypoint-2.6.5]") {
  struct Row {
    const char* what;
    std::string policies;
    Texts told;
  };
  std::string get = "rules: [" + kGet + "]";
  std::string web = "rules: [" + kFromWeb + "]";
  const Row rows[] = {
      {"nothing", "", {}},
      {"none without HTTP, for the node proxy has them", policy("q", kApi + ", " + web), {}},
      {"one with HTTP, for the pods it selects", policy("p", kApi + ", " + get), {"shop/p app=api"}},
      {"also where the service selects more",
       policy("p", "selector: {matchLabels: {app: api, version: v2}}, " + get),
       {"shop/p app=api version=v2"}},
      {"not if it can select none of its pods", policy("p", "selector: {matchLabels: {app: x}}, " + get), {}},
      {"of the namespace", policy("p", get), {"shop/p"}},
      {"of the mesh", policy("p", get, "istio-system"), {"istio-system/p@*"}},
      {"of another namespace", policy("p", get, "elsewhere"), {}},
      {"those without HTTP where others have it",
       policy("p", kApi + ", " + get) + policy("q", web),
       {"shop/p app=api", "shop/q app=api"}},
      {"and only there",
       policy("p", "selector: {matchLabels: {app: api, version: v2}}, " + get) +
           policy("q", kApi + ", " + web),
       {"shop/p app=api version=v2", "shop/q app=api version=v2"}},
      {"of the mesh, within the namespace",
       policy("p", kApi + ", " + get) + policy("nothing", "", "istio-system"),
       {"istio-system/nothing@shop app=api", "shop/p app=api"}},
      {"once, if one place includes the other",
       policy("p", kApi + ", " + get) +
           policy("r", "selector: {matchLabels: {app: api, version: v2}}, " + get) + policy("q", web),
       {"shop/p app=api", "shop/q app=api", "shop/r app=api version=v2"}},
      {"where tokens are looked at", tokens(kApi + ", ") + policy("q", web), {"shop/q app=api"}},
      {"an ALLOW for the waypoint itself is the node proxy's",
       policy("p", kApi + ", " + get) + policy("q", kApi + ", rules: [" + kFromWay + ", " + kFromWeb + "]"),
       {"shop/p app=api"}},
      {"a dry run with HTTP",
       policy("p", kApi + ", " + get, "shop", "istio.io/dry-run: 'true'"),
       {"shop/p app=api"}},
      {"a dry run with HTTP does not bring others along",
       policy("p", kApi + ", " + get, "shop", "istio.io/dry-run: 'true'") + policy("q", web),
       {"shop/p app=api"}},
      {"AUDIT", policy("p", kApi + ", action: AUDIT, rules: [{}]"), {"shop/p app=api"}},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    CHECK(told(compile_yaml(bound_mesh() + row.policies)) == row.told);
  }
}

TEST_CASE("a DENY rule about the last hop is not held against clients", "[policy]") {
  Compiled mesh = compile_yaml(
      bound_mesh() + policy("p", kApi + ", rules: [" + kGet + "]") +
      policy(
          "q",
          kApi +
              ", action: DENY, rules: [{from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/way]}}]}, "
              "{from: [{source: {namespaces: [evil]}}]}]"));
  const auto& policies = mesh.waypoint_services.at("shop/api.shop.svc.cluster.local")->guard.policies;
  REQUIRE(policies.size() == 2);
  REQUIRE(policies[1].rules.size() == 1);
  CHECK(policies[1].rules[0].from.at(0).namespaces.any.size() == 1);
}

TEST_CASE("a route's other services bring their policies along", "[policy]") {
  std::string route = R"(---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r, namespace: shop}
spec: {hosts: [api], http: [{route: [{destination: {host: other}}]}]}
)";
  std::string rules = policy("p", "selector: {matchLabels: {app: other}}, rules: [" + kGet + "]");
  CHECK(told(compile_yaml(bound_mesh() + rules)).empty());
  CHECK(told(compile_yaml(bound_mesh() + rules + route)) == Texts{"shop/p app=other"});
}

TEST_CASE("tokens looked at by selector, and the labels of every workload", "[waypoint-2.7]") {
  Compiled mesh = compile_yaml(bound_mesh() + tokens(kApi + ", ") + R"(---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: shop, labels: {app: api}}
spec: {address: 10.2.0.1, labels: {version: v3}}
)");
  const auto& guard = mesh.waypoint_services.at("shop/api.shop.svc.cluster.local")->guard;
  REQUIRE(guard.authentications.size() == 1);
  CHECK(guard.authentications[0].selector == model::LabelMap{{"app", "api"}});
  CHECK(mesh.workload_labels.size() == mesh.workloads.size());
  model::LabelMap vm = {{"app", "api"}, {"version", "v3"}};
  CHECK(mesh.workload_labels.at("Kubernetes/networking.istio.io/WorkloadEntry/shop/vm")->labels == vm);
}

TEST_CASE("CUSTOM by selector is asked at the waypoint, of the endpoints it covers", "[policy]") {
  Compiled mesh = compile_yaml(
      bound_mesh() + policy("p", kApi + ", action: CUSTOM, provider: {name: x}, rules: [" + kGet + "]"));
  const auto& policies = mesh.waypoint_services.at("shop/api.shop.svc.cluster.local")->guard.policies;
  REQUIRE(policies.size() == 1);
  CHECK(policies[0].action == model::HttpPolicy::Action::kCustom);
  CHECK(policies[0].selector == model::LabelMap{{"app", "api"}});
  CHECK(finding(mesh, "MSH026").find("has no provider x") != std::string::npos);
}

TEST_CASE("without a waypoint it is said what is refused and what to do", "[policy][CP7]") {
  std::string api = service("api", "", "app: api");
  Compiled allow = compile_yaml(api + policy("p", kApi + ", rules: [" + kGet + "]"));
  CHECK(finding(allow, "MSH002").find("no waypoint that is ready is bound to shop/api: label the Service") !=
        std::string::npos);
  Compiled deny = compile_yaml(api + policy("p", kApi + ", action: DENY, rules: [" + kGet + "]"));
  CHECK(finding(deny, "MSH001").find("shop/api") != std::string::npos);
  Compiled token = compile_yaml(api + tokens(""));
  CHECK(finding(token, "MSH002").find("RequestAuthentication shop/jwt: only a waypoint looks at tokens") ==
        0);
  Compiled lonely =
      compile_yaml(pod("api-1", "app: api", "10.1.0.1") + policy("p", kApi + ", rules: [" + kGet + "]"));
  CHECK(finding(lonely, "MSH002").find("api-1 stands behind no waypoint") != std::string::npos);
  CHECK(compile_yaml(gateway("way") + service("api", kUse, "app: api") +
                     policy("p", kApi + ", rules: [" + kGet + "]"))
            .findings.empty());
}

TEST_CASE("with --selector-l7=upstream it is as in Istio", "[policy]") {
  CompileOptions options;
  options.selector_l7 = control::SelectorL7::kUpstream;
  struct Row {
    const char* what;
    std::string policies;
    bool way, web;
  };
  const Row rows[] = {
      {"ALLOW of HTTP allows nobody", policy("p", kApi + ", rules: [" + kGet + "]"), false, false},
      {"DENY of HTTP does nothing", policy("p", kApi + ", action: DENY, rules: [" + kGet + "]"), true, true},
      {"nor with a principal beside",
       policy("p",
              kApi +
                  ", action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}], "
                  "to: [{operation: {methods: [GET]}}]}]"),
       true, true},
      {"in one operation its L4 part denies",
       policy("p", kApi + ", action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['8080']}}]}]"),
       false, false},
      {"tokens are ignored", tokens(kApi + ", "), true, true},
      {"CUSTOM is not sent", policy("p", kApi + ", action: CUSTOM, provider: {name: x}, rules: [{}]"), true,
       true},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    Compiled mesh = compile_yaml(bound_mesh() + row.policies, nullptr, options);
    CHECK(admits(mesh, "way") == row.way);
    CHECK(admits(mesh, "web") == row.web);
    CHECK(told(mesh).empty());
    CHECK(mesh.waypoint_services.at("shop/api.shop.svc.cluster.local")->guard.authentications.empty());
    CHECK_FALSE(mesh.findings.empty());
  }
}

TEST_CASE("principals go by every name of our trust domain", "[policy][CP2.2]") {
  CompileOptions options;
  options.trust_domain = "new.example";
  std::string mesh_config = R"(---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "trustDomainAliases: [old.example]"}
)";
  struct Row {
    std::string written;
    Texts kept;  // "kind text"
  };
  const Row rows[] = {
      {"principals: [cluster.local/ns/a/sa/b]", {"0 new.example/ns/a/sa/b", "0 old.example/ns/a/sa/b"}},
      {"principals: [old.example/ns/a/sa/b]", {"0 new.example/ns/a/sa/b", "0 old.example/ns/a/sa/b"}},
      {"principals: ['old.example/ns/a/*']", {"1 new.example/ns/a/", "1 old.example/ns/a/"}},
      {"principals: ['old*']", {"1 old", "1 new.example/", "1 old.example/"}},
      {"principals: ['*ld.example/ns/a/sa/b']",
       {"2 ld.example/ns/a/sa/b", "0 new.example/ns/a/sa/b", "0 old.example/ns/a/sa/b"}},
      {"principals: ['*/ns/a/sa/b']", {"2 /ns/a/sa/b"}},
      {"principals: [third.example/ns/a/sa/b]", {"0 third.example/ns/a/sa/b"}},
      {"principals: ['*']", {"3 "}},
      {"trustDomains: [cluster.local]", {"1 new.example/", "1 old.example/"}},
      {"trustDomains: ['third*', old.example]", {"1 third", "1 new.example/", "1 old.example/"}},
      {"trustDomains: ['*']", {"3 "}},
  };
  for (const Row& row : rows) {
    INFO(row.written);
    Compiled mesh = compile_yaml(
        mesh_config + policy("p", "rules: [{from: [{source: {" + row.written + "}}]}]"), nullptr, options);
    const model::Policy& made = *mesh.policies.at("shop/p");
    REQUIRE(made.rules.size() == 1);
    Texts kept;
    for (const model::StringMatch& match : made.rules[0].clauses.at(0).matches.at(0).principals) {
      kept.push_back(std::to_string(static_cast<int>(match.kind)) + " " + match.text.str());
    }
    CHECK(kept == row.kept);
  }
}

TEST_CASE("pitfalls of policies by selector", "[control-7.2]") {
  auto says = [](const Compiled& mesh, const std::string& code) {
    std::string out;
    for (const auto& one : mesh.findings) {
      if (one.code == code) out += one.message;
    }
    return out;
  };
  auto with = [&](const std::string& spec, const std::string& mesh = bound_mesh()) {
    return compile_yaml(mesh + policy("p", spec));
  };
  SECTION("MSH004: the waypoint is shut out") {
    CHECK_THAT(says(with(kApi + ", rules: [" + kFromWeb + "]"), "MSH004"),
               Catch::Contains("cluster.local/ns/shop/sa/way"));
    CHECK(says(with(kApi + ", rules: [" + kFromWeb + ", " + kFromWay + "]"), "MSH004").empty());
    CHECK(says(with(kApi + ", rules: [{from: [{source: {namespaces: [shop]}}]}]"), "MSH004").empty());
    CHECK(says(with(kApi + ", rules: [{from: [{source: {principals: [\"*/sa/way\"]}}]}]"), "MSH004").empty());
    CHECK(says(with(kApi + ", action: DENY, rules: [" + kFromWeb + "]"), "MSH004").empty());
    // Let in because some rule needs it.
    CHECK(says(with(kApi + ", rules: [" + kFromWeb + ", " + kGet + "]"), "MSH004").empty());
    CHECK(says(with("selector: {matchLabels: {app: other}}, rules: [" + kFromWeb + "]"), "MSH004").empty());
  }
  SECTION("MSH008: a Service's port") {
    CHECK_THAT(says(with(kApi + ", rules: [{to: [{operation: {ports: [\"80\"]}}]}]"), "MSH008"),
               Catch::Contains("write 8080"));
    CHECK(says(with(kApi + ", rules: [{to: [{operation: {ports: [\"8080\"]}}]}]"), "MSH008").empty());
    CHECK(says(with(kApi + ", rules: [{to: [{operation: {ports: [\"9999\"]}}]}]"), "MSH008").empty());
    CHECK_THAT(says(with(kApi + ", rules: [{when: [{key: destination.port, values: [\"80\"]}]}]"), "MSH008"),
               Catch::Contains("write 8080"));
  }
  SECTION("IST0127: nobody is covered") {
    CHECK_THAT(says(with("selector: {matchLabels: {app: apo}}, rules: [" + kFromWeb + "]"), "IST0127"),
               Catch::Contains("labels"));
    CHECK(says(with(kApi + ", rules: [" + kFromWeb + "]"), "IST0127").empty());
    // Manifests without any workload say nothing about it.
    CHECK(says(with("selector: {matchLabels: {app: apo}}, rules: [" + kFromWeb + "]", gateway("way")),
               "IST0127")
              .empty());
  }
}

}  // namespace culvert::test
