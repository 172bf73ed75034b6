// SPDX-License-Identifier: Apache-2.0
// What is valid and surprises: subsets, network policies. Pitfalls of policies by selector stand in
// selector_l7_test.cc.
#include <catch2/catch.hpp>

#include "test/unit/control/compile/objects.h"

namespace culvert::test {
namespace {

const std::string kMesh = R"(
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/use-waypoint: way}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: way, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: IPAddress, value: 10.0.0.5}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: shop}
spec: {hosts: [api], http: [{route: [{destination: {host: api, subset: v2}}]}]}
)";
const std::string kPod = R"(---
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: shop, labels: {app: api, version: v1}}
spec: {nodeName: n}
status: {phase: Running, podIP: 10.1.0.1}
)";

std::string rule(const std::string& subsets, const std::string& host = "api") {
  return "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: api, namespace: "
         "shop}\nspec: {host: " +
         host + ", subsets: [" + subsets + "]}\n";
}
const std::string kV1 = "{name: v1, labels: {version: v1}}", kV2 = "{name: v2, labels: {version: v2}}";

// "object: message" of each.
std::vector<std::string> found(const std::string& manifests, const std::string& code = "IST0173") {
  std::vector<std::string> out;
  for (const control::Finding& one : compile_yaml(kMesh + manifests).findings) {
    if (one.code == code) out.push_back(one.object + ": " + one.message);
  }
  return out;
}

}  // namespace

TEST_CASE("a route to a subset that nobody defines", "[control-7.2]") {
  for (const std::string& rules : {std::string(), rule(kV1)}) {
    std::vector<std::string> all = found(kPod + rules);
    REQUIRE(all.size() == 1);
    CHECK_THAT(all[0], Catch::StartsWith("VirtualService shop/api: "));
    CHECK_THAT(all[0], Catch::Contains("\"v2\""));
  }
}

TEST_CASE("a subset of nobody", "[control-7.2]") {
  for (const char* host : {"api", "api.shop.svc.cluster.local"}) {
    std::vector<std::string> all = found(kPod + rule(kV1 + ", " + kV2, host));
    REQUIRE(all.size() == 1);
    CHECK_THAT(all[0], Catch::StartsWith("DestinationRule shop/api: "));
    CHECK_THAT(all[0], Catch::Contains("\"v2\""));
  }
  // Without any endpoint nothing is known of labels.
  CHECK(found(rule(kV1 + ", " + kV2)).empty());
}

TEST_CASE("network policies that shut the mesh out", "[control-7.2]") {
  std::string meshed = kPod;
  meshed.replace(meshed.find("labels:"), 0, "annotations: {ambient.istio.io/redirection: enabled}, ");
  auto policy = [](const std::string& spec, const std::string& name = "np") {
    return "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " + name +
           ", namespace: shop}\nspec: {" + spec + "}\n";
  };
  auto says = [&](const std::string& manifests) {
    std::vector<std::string> all = found(manifests, "MSH007");
    return all.empty() ? "" : all.front();
  };
  const std::string web = "{from: [{podSelector: {}}], ports: [{port: 8080}]}";
  std::string both = says(meshed + policy("podSelector: {matchLabels: {app: api}}, ingress: [" + web + "]"));
  CHECK_THAT(both, Catch::StartsWith("NetworkPolicy shop/np: workload api-1"));
  CHECK_THAT(both, Catch::Contains("15008"));
  CHECK_THAT(both, Catch::Contains("169.254.7.127"));
  // An empty list lets nobody in, no list of rules neither.
  CHECK_THAT(says(meshed + policy("podSelector: {}")), Catch::Contains("15008"));
  CHECK_THAT(says(meshed + policy("podSelector: {}, ingress: [{ports: [{port: 15008, protocol: UDP}]}]")),
             Catch::Contains("15008"));
  CHECK_THAT(says(meshed +
                  policy("podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 15008}]}]")),
             !Catch::Contains("15008") && Catch::Contains("169.254.7.127"));
  const std::string tunnels = "{ports: [{port: 15000, endPort: 15100}]}";
  const std::string probes = "{from: [{ipBlock: {cidr: 169.254.7.127/32}}]}";
  CHECK(says(meshed + policy("podSelector: {}, ingress: [" + tunnels + ", " + probes + "]")).empty());
  CHECK(says(meshed + policy("podSelector: {}, ingress: [{}]")).empty());
  CHECK(says(meshed + policy("podSelector: {}, policyTypes: [Egress]")).empty());
  CHECK(says(meshed + policy("podSelector: {matchLabels: {app: other}}")).empty());
  CHECK(says(kPod + policy("podSelector: {}")).empty());
  // What one shuts out another lets in.
  CHECK(says(meshed + policy("podSelector: {}") + policy("podSelector: {}, ingress: [{}]", "open")).empty());
}

}  // namespace culvert::test
