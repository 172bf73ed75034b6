// SPDX-License-Identifier: Apache-2.0
// What a Gateway asks to be run, and what is refused (spec waypoint 1.3, control-plane 6).
#include "control/deploy/derive.h"

#include <catch2/catch.hpp>

#include "test/unit/control/deploy/manifests.h"

namespace culvert::control {
namespace {

using test::gateway;
using test::objects_of;

WaypointDeployment only(const std::string& yaml) {
  DerivedWaypoints derived = derive_waypoints(*objects_of(yaml));
  for (const Finding& finding : derived.findings) UNSCOPED_INFO(finding.message);
  REQUIRE(derived.deployments.size() == 1);
  CHECK(derived.findings.empty());
  return derived.deployments.begin()->second;
}

std::string refusal(const std::string& yaml) {
  DerivedWaypoints derived = derive_waypoints(*objects_of(yaml));
  if (derived.findings.empty()) return "";
  CHECK(derived.findings[0].severity == Severity::kError);
  CHECK(derived.findings[0].code == "IST0171");
  CHECK(derived.findings[0].origin.line > 0);
  return derived.findings[0].object + ": " + derived.findings[0].message;
}

std::map<std::string, std::string> as_map(const std::vector<EnvironmentVariable>& variables) {
  std::map<std::string, std::string> out;
  for (const auto& one : variables)
    out[one.name] = one.field_path.empty() ? one.value : "<" + one.field_path + ">";
  return out;
}

TEST_CASE("a Gateway of the waypoint class: names, identity, labels, ports") {
  WaypointDeployment made = only(gateway("production/waypoint", "  labels: {team: payments}\n"));
  CHECK(made.key() == "production/waypoint");
  CHECK(made.service_account == "waypoint");
  CHECK(made.pod_name() == "waypoint-0");
  CHECK(made.replicas == 1);
  CHECK_FALSE(made.address);
  CHECK(made.labels == kube::Labels{{"team", "payments"},
                                    {"gateway.istio.io/managed", "istio.io-mesh-controller"},
                                    {"gateway.networking.k8s.io/gateway-name", "waypoint"},
                                    {"gateway.networking.k8s.io/gateway-class-name", "istio-waypoint"}});
  CHECK(made.pod_labels == kube::Labels{{"istio.io/dataplane-mode", "none"},
                                        {"networking.istio.io/tunnel", "http"},
                                        {"service.istio.io/canonical-name", "waypoint"},
                                        {"service.istio.io/canonical-revision", "latest"},
                                        {"sidecar.istio.io/inject", "false"}});
  CHECK(made.ports ==
        std::vector<WaypointDeployment::Port>{{"status-port", 15021, "tcp"}, {"mesh", 15008, "hbone"}});
}

TEST_CASE("infrastructure replaces what is copied from the Gateway; reserved keys stay ours") {
  WaypointDeployment made = only(gateway(
      "a/w",
      "  labels: {team: payments}\n  annotations: {note: theirs, gateway.istio.io/service-account: other}\n",
      "  infrastructure:\n    labels: {tier: l7, gateway.networking.k8s.io/gateway-name: evil}\n"
      "    annotations: {cost: low}\n"));
  CHECK_FALSE(made.labels.contains("team"));
  CHECK(made.labels.at("tier") == "l7");
  CHECK(made.labels.at("gateway.networking.k8s.io/gateway-name") == "w");
  CHECK(made.annotations == kube::Labels{{"cost", "low"}});
  CHECK(made.service_account == "other");
}

TEST_CASE("classes: istio-waypoint, our own, and any of the mesh controller; no other") {
  auto with_class = [](const std::string& name) {
    std::string yaml = gateway("a/w");
    return yaml.replace(yaml.find("istio-waypoint"), 14, name);
  };
  CHECK(derive_waypoints(*objects_of(with_class("culvert-waypoint"))).deployments.size() == 1);
  CHECK(derive_waypoints(*objects_of(with_class("istio"))).deployments.empty());
  CHECK(derive_waypoints(*objects_of(with_class("istio"))).findings.empty());
  std::string of_class =
      "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\n"
      "metadata: {name: mine, labels: {istio.io/waypoint-for: all}}\n"
      "spec: {controllerName: istio.io/mesh-controller}\n";
  auto objects = objects_of(with_class("mine") + of_class);
  CHECK(derive_waypoints(*objects).deployments.size() == 1);
  CHECK(waypoint_traffic(*objects, *objects->gateways.at("a/w")) == "all");
}

TEST_CASE("a Gateway whose status has an address is run by somebody else") {
  std::string yaml = gateway("a/w");
  yaml.insert(yaml.find("---"), "status: {addresses: [{type: IPAddress, value: 10.1.2.3}]}\n");
  CHECK(derive_waypoints(*objects_of(yaml)).deployments.empty());
  CHECK(refusal(yaml).empty());
}

TEST_CASE("what cannot be run is refused in words") {
  using Catch::Contains;
  CHECK_THAT(refusal(gateway("a/w", "", "  listeners: [{name: mesh, port: 15009, protocol: HBONE}]\n")),
             Contains("Gateway a/w: no waypoint is started: ListenersNotValid"));
  CHECK_THAT(refusal(gateway("a/w", "", "  listeners: [{name: mesh, port: 15008, protocol: HTTP}]\n")),
             Contains("ListenersNotValid"));
  CHECK_THAT(refusal(gateway("a/w", "", "  listeners: []\n")), Contains("ListenersNotValid"));
  CHECK_THAT(refusal(gateway("a/w", "",
                             "  listeners: [{name: mesh, port: 15008, protocol: HBONE}, "
                             "{name: more, port: 15088, protocol: HBONE}]\n")),
             Contains("ListenersNotValid"));
  CHECK_THAT(refusal(gateway("a/w", "", "  addresses: [{value: 10.1.1.1}, {value: 10.1.1.2}]\n")),
             Contains("names more than one"));
  CHECK_THAT(refusal(gateway("a/w", "", "  addresses: [{type: Hostname, value: w.example}]\n")),
             Contains("\"w.example\" is no IP address"));
  CHECK_THAT(
      refusal(gateway("a/w") + "apiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: w-0}\nspec: {}\n"),
      Contains("there is a Pod a/w-0 already"));
  CHECK_THAT(refusal(gateway("a/w", "  annotations: {gateway.istio.io/service-account: \"a:b\"}\n")),
             Contains("\"a:b\" is no name"));
}

TEST_CASE("names become files and identities: whatever is no DNS name is refused") {
  // Decoding refuses most of these; another source of objects may not.
  auto refused = [](const std::string& ns, const std::string& name) {
    kube::Objects objects;
    auto gateway = std::make_shared<kube::Gateway>(*objects_of(test::gateway("a/w"))->gateways.at("a/w"));
    gateway->meta.ns = ns;
    gateway->meta.name = name;
    objects.gateways[gateway->meta.key()] = std::move(gateway);
    return derive_waypoints(objects).deployments.empty();
  };
  CHECK_FALSE(refused("a-1", "w.x-2"));
  for (const char* name : {"", "..", "a..b", "-w", "w-", ".w", "W", "w_x", "w/../x", "w x", "w\n"}) {
    INFO(name);
    CHECK(refused("a", name));
    CHECK(refused(name, "w"));
  }
  CHECK(refused("a.b", "w"));
  CHECK(refused("a", std::string(254, 'w')));
}

TEST_CASE("an address that is asked for; of two that ask for the same the second is refused") {
  std::string address = "  addresses: [{type: IPAddress, value: 10.1.1.1}]\n";
  CHECK(only(gateway("a/w", "", address)).address == *base::IpAddr::parse("10.1.1.1"));
  std::string both = gateway("a/w", "", address) + gateway("b/w", "", address);
  CHECK(derive_waypoints(*objects_of(both)).deployments.contains("a/w"));
  CHECK_THAT(refusal(both),
             Catch::Contains("Gateway b/w") && Catch::Contains("Gateway a/w asks for 10.1.1.1 too"));
}

TEST_CASE("the environment is what waypoint_config.h reads; what is not known the pod tells") {
  WaypointDeployment made = only(gateway("production/waypoint"));
  WaypointPlace place;
  place.pod_name = "waypoint-0";
  place.node = "node1";
  place.address = *base::IpAddr::parse("10.97.0.5");
  place.admin_port = 15107;
  place.control_address = "https://10.10.0.100:15012";
  place.root_path = "/s/root.pem";
  place.token_path = "/s/token";
  place.trust_domain = "cluster.local";
  place.network = "net1";
  place.drain = std::chrono::seconds(10);
  CHECK(as_map(waypoint_environment(made, place)) ==
        std::map<std::string, std::string>{{"GATEWAY_NAME", "waypoint"},
                                           {"POD_NAMESPACE", "production"},
                                           {"SERVICE_ACCOUNT", "waypoint"},
                                           {"POD_NAME", "waypoint-0"},
                                           {"NODE_NAME", "node1"},
                                           {"INSTANCE_IP", "10.97.0.5"},
                                           {"CULVERT_BIND", "10.97.0.5"},
                                           {"CULVERT_ADMIN_PORT", "15107"},
                                           {"XDS_ADDRESS", "https://10.10.0.100:15012"},
                                           {"CA_ADDRESS", "https://10.10.0.100:15012"},
                                           {"XDS_ROOT_CA", "/s/root.pem"},
                                           {"CA_ROOT_CA", "/s/root.pem"},
                                           {"AUTH_TOKEN", "/s/token"},
                                           {"TRUST_DOMAIN", "cluster.local"},
                                           {"NETWORK", "net1"},
                                           {"TERMINATION_DRAIN_DURATION", "10s"}});
  auto in_cluster = as_map(waypoint_environment(made, {}));
  CHECK(in_cluster.at("POD_NAME") == "<metadata.name>");
  CHECK(in_cluster.at("NODE_NAME") == "<spec.nodeName>");
  CHECK(in_cluster.at("INSTANCE_IP") == "<status.podIP>");
  CHECK_FALSE(in_cluster.contains("CULVERT_BIND"));
  CHECK_FALSE(in_cluster.contains("CULVERT_ADMIN_PORT"));
  made.annotations["ambient.istio.io/xfcc-include-client-identity"] = "true";
  CHECK(as_map(waypoint_environment(made, {})).at("CULVERT_TELL_CLIENT_IDENTITY") == "true");
}

}  // namespace
}  // namespace culvert::control
