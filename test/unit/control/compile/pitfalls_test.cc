// SPDX-License-Identifier: Apache-2.0
// What is valid and surprises: subsets. Pitfalls of policies by selector stand in selector_l7_test.cc.
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
std::vector<std::string> found(const std::string& manifests) {
  std::vector<std::string> out;
  for (const control::Finding& one : compile_yaml(kMesh + manifests).findings) {
    if (one.code == "IST0173") out.push_back(one.object + ": " + one.message);
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

}  // namespace culvert::test
