// SPDX-License-Identifier: Apache-2.0
// A waypoint's Kubernetes objects, read back by what reads manifests (spec control-plane 6).
#include "control/deploy/kubernetes.h"

#include <catch2/catch.hpp>

#include "test/unit/control/deploy/manifests.h"

namespace culvert::control {
namespace {

using Catch::Contains;
using test::gateway;
using test::objects_of;

std::string rendered(const std::string& yaml) {
  DerivedWaypoints derived = derive_waypoints(*objects_of(yaml));
  REQUIRE(derived.deployments.size() == 1);
  KubernetesOptions options;
  options.image = "registry.example:5000/waypoint:0.1";
  return kubernetes_objects(derived.deployments.begin()->second, options);
}

TEST_CASE("the Service of a waypoint selects its pods and has its ports") {
  auto objects = objects_of(rendered(gateway("production/waypoint", "  labels: {team: payments}\n")));
  REQUIRE(objects->services.contains("production/waypoint"));
  const kube::Service& service = *objects->services.at("production/waypoint");
  CHECK(service.type == "ClusterIP");
  CHECK(service.selector == kube::Labels{{"gateway.networking.k8s.io/gateway-name", "waypoint"}});
  CHECK(service.meta.labels.at("gateway.istio.io/managed") == "istio.io-mesh-controller");
  CHECK(service.meta.labels.at("team") == "payments");
  CHECK(service.meta.annotations.at("networking.istio.io/traffic-distribution") == "PreferClose");
  REQUIRE(service.ports.size() == 2);
  CHECK(service.ports[0].name == "status-port");
  CHECK(service.ports[0].port == 15021);
  CHECK(service.ports[1].name == "mesh");
  CHECK(service.ports[1].port == 15008);
  CHECK(service.ports[1].app_protocol == "hbone");
  CHECK(objects->service_accounts.contains("production/waypoint"));
}

TEST_CASE("names, type and address follow the Gateway") {
  auto objects = objects_of(rendered(
      gateway("a/w",
              "  annotations: {gateway.istio.io/service-account: other, networking.istio.io/service-type: "
              "NodePort}\n",
              "  addresses: [{value: 10.96.7.7}]\n")));
  CHECK(objects->service_accounts.contains("a/other"));
  CHECK(objects->services.at("a/w")->type == "NodePort");
  CHECK(objects->services.at("a/w")->cluster_ips == std::vector<std::string>{"10.96.7.7"});
}

TEST_CASE("the Deployment: no privilege, probes, its token and roots, the pod's own facts") {
  std::string text = rendered(gateway("production/waypoint"));
  for (const char* part :
       {"kind: Deployment", "image: \"registry.example:5000/waypoint:0.1\"", "runAsNonRoot: true",
        "runAsUser: 1337", "readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false",
        "            drop:\n            - ALL\n", "audience: istio-ca", "expirationSeconds: 43200",
        "name: istio-ca-root-cert", "serviceAccountName: waypoint", "fieldPath: status.podIP",
        "value: \"https://istiod.istio-system.svc:15012\"", "path: /healthz/ready",
        "sidecar.istio.io/inject: \"false\"", "prometheus.io/port: \"15020\""}) {
    CHECK_THAT(text, Contains(part));
  }
  CHECK_THAT(text, !Contains("replicas"));  // an autoscaler's to say
  CHECK_THAT(text, !Contains("CULVERT_BIND"));
}

TEST_CASE("whatever an annotation holds is read back as it was") {
  for (const char* value : {"yes", "True", "null", "0x10", "1e3", "a: b", "- x", "# no", "two\\nlines", "",
                            "\\\"quoted\\\"", " edge ", "caf\xc3\xa9", "~", "*a", "&b", "{}", "2026-01-01"}) {
    std::string yaml =
        gateway("a/w", std::string("  annotations: {note: \"") + value + "\", \"odd key: \": x}\n");
    auto objects = objects_of(yaml);
    auto back = objects_of(rendered(yaml));
    INFO(value);
    CHECK(back->services.at("a/w")->meta.annotations.at("note") ==
          objects->gateways.at("a/w")->meta.annotations.at("note"));
  }
}

TEST_CASE("the Gateway that asks for a waypoint is one that is run") {
  GatewayRequest request;
  CHECK(waypoint_gateway(request).value() ==
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: waypoint\n"
        "  namespace: default\nspec:\n  gatewayClassName: istio-waypoint\n  listeners:\n  - name: mesh\n"
        "    port: 15008\n    protocol: HBONE\n");
  request = {"production", "wp", "all", "1-30"};
  auto objects = objects_of(waypoint_gateway(request).value());
  CHECK(derive_waypoints(*objects).deployments.contains("production/wp"));
  CHECK(waypoint_traffic(*objects, *objects->gateways.at("production/wp")) == "all");
  CHECK(objects->gateways.at("production/wp")->meta.labels.at("istio.io/rev") == "1-30");
  CHECK_FALSE(waypoint_gateway({"a", "w", "everything", ""}));
  CHECK_FALSE(waypoint_gateway({"a", "W", "", ""}));
  CHECK_FALSE(waypoint_gateway({"a.b", "w", "", ""}));
}

}  // namespace
}  // namespace culvert::control
