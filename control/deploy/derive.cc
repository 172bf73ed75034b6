// SPDX-License-Identifier: Apache-2.0
#include "control/deploy/derive.h"

#include <fmt/format.h>

#include <algorithm>

namespace culvert::control {

namespace {

constexpr const char* kGatewayName = "gateway.networking.k8s.io/gateway-name";
constexpr const char* kGatewayClassName = "gateway.networking.k8s.io/gateway-class-name";
constexpr const char* kManaged = "gateway.istio.io/managed";
constexpr uint16_t kReadinessPort = 15021;
constexpr size_t kPortNameBytesMax = 63;

const std::string* find(const kube::Labels& labels, const std::string& key) {
  auto found = labels.find(key);
  return found == labels.end() ? nullptr : &found->second;
}

bool reserved(const std::string& key) { return key.starts_with("gateway.networking.k8s.io/"); }

kube::Labels copied(const std::optional<kube::Labels>& own, const kube::Labels& of_gateway) {
  kube::Labels out;
  for (const auto& [key, value] : own ? *own : of_gateway) {
    if (!reserved(key) && key != "kubectl.kubernetes.io/last-applied-configuration") out[key] = value;
  }
  return out;
}

std::vector<WaypointDeployment::Port> ports_of(const kube::Gateway& gateway) {
  std::vector<WaypointDeployment::Port> out = {{"status-port", kReadinessPort, "tcp"}};
  for (const kube::Gateway::Listener& listener : gateway.listeners) {
    std::string name = listener.name;
    std::replace(name.begin(), name.end(), '.', '-');
    name.resize(std::min(name.size(), kPortNameBytesMax));
    bool taken = std::any_of(out.begin(), out.end(), [&](const auto& port) { return port.name == name; });
    if (name.empty() || taken) name = fmt::format("port-{}", listener.port);
    out.push_back({std::move(name), listener.port, listener.protocol == "HBONE" ? "hbone" : ""});
  }
  return out;
}

// Why this Gateway cannot be run; empty: it can.
std::string refusal(const kube::Objects& objects, const kube::Gateway& gateway,
                    const WaypointDeployment& deployment) {
  if (!is_dns_name(deployment.ns, 63, false) || !is_dns_name(deployment.name, 253, true))
    return "its namespace or name is no DNS name";
  if (!is_dns_name(deployment.service_account, 253, true)) {
    return fmt::format("gateway.istio.io/service-account \"{}\" is no name", deployment.service_account);
  }
  bool hbone = gateway.listeners.size() == 1 && gateway.listeners[0].port == model::kHbonePort &&
               gateway.listeners[0].protocol == "HBONE";
  if (!hbone) {
    return fmt::format("ListenersNotValid: a waypoint has exactly one listener, port {} and protocol HBONE",
                       model::kHbonePort);
  }
  if (gateway.addresses.size() > 1) return "AddressNotUsable: spec.addresses names more than one";
  if (!gateway.addresses.empty() && !deployment.address) {
    return fmt::format("AddressNotUsable: spec.addresses \"{}\" is no IP address",
                       gateway.addresses[0].value);
  }
  if (objects.pods.contains(deployment.ns + "/" + deployment.pod_name())) {
    return fmt::format("there is a Pod {}/{} already; rename one of the two", deployment.ns,
                       deployment.pod_name());
  }
  return {};
}

WaypointDeployment derive(const kube::Gateway& gateway) {
  WaypointDeployment out;
  out.ns = gateway.meta.ns;
  out.name = out.service_account = gateway.meta.name;
  out.class_name = gateway.class_name;
  out.origin = gateway.meta.origin;
  out.parameters = gateway.parameters;
  if (const std::string* account = find(gateway.meta.annotations, "gateway.istio.io/service-account"))
    out.service_account = *account;
  out.labels = copied(gateway.infrastructure_labels, gateway.meta.labels);
  out.labels[kGatewayName] = gateway.meta.name;
  out.labels[kGatewayClassName] = gateway.class_name;
  out.labels[kManaged] = "istio.io-mesh-controller";
  out.pod_labels = {{"istio.io/dataplane-mode", "none"},
                    {"networking.istio.io/tunnel", "http"},
                    {"service.istio.io/canonical-name", gateway.meta.name},
                    {"service.istio.io/canonical-revision", "latest"},
                    {"sidecar.istio.io/inject", "false"}};
  out.annotations = copied(gateway.infrastructure_annotations, gateway.meta.annotations);
  out.ports = ports_of(gateway);
  if (gateway.addresses.size() == 1 && gateway.addresses[0].type == "IPAddress") {
    if (auto ip = base::IpAddr::parse(gateway.addresses[0].value)) out.address = *ip;
  }
  return out;
}

}  // namespace

bool is_dns_name(const std::string& text, size_t bytes_max, bool dots) {
  auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= bytes_max && alphanumeric(text.front()) &&
         alphanumeric(text.back()) && text.find("..") == std::string::npos &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return alphanumeric(c) || c == '-' || (dots && c == '.'); });
}

std::string waypoint_traffic(const kube::Objects& objects, const kube::Gateway& gateway) {
  constexpr const char* kFor = "istio.io/waypoint-for";
  if (const std::string* own = find(gateway.meta.labels, kFor)) return *own;
  auto found = objects.gateway_classes.find(gateway.class_name);
  const std::string* inherited =
      found == objects.gateway_classes.end() ? nullptr : find(found->second->meta.labels, kFor);
  return inherited ? *inherited : "service";
}

DerivedWaypoints derive_waypoints(const kube::Objects& objects) {
  DerivedWaypoints out;
  std::map<base::IpAddr, std::string> owners;  // of addresses asked for
  for (const auto& [key, gateway] : objects.gateways) {
    // One with an address is run by whoever wrote that.
    if (!is_waypoint_class(objects, gateway->class_name) || !gateway->status_addresses.empty()) continue;
    if (gateway->meta.deleting) continue;
    WaypointDeployment deployment = derive(*gateway);
    std::string problem = refusal(objects, *gateway, deployment);
    if (problem.empty() && deployment.address) {
      auto [owner, first] = owners.emplace(*deployment.address, key);
      if (!first) {
        problem = fmt::format("AddressNotUsable: Gateway {} asks for {} too", owner->second,
                              deployment.address->to_string());
      }
    }
    if (!problem.empty()) {
      out.findings.push_back({"IST0171", Severity::kError, gateway->meta.origin, "Gateway " + key,
                              "no waypoint is started: " + problem});
      continue;
    }
    out.deployments.emplace(key, std::move(deployment));
  }
  return out;
}

std::vector<EnvironmentVariable> waypoint_environment(const WaypointDeployment& deployment,
                                                      const WaypointPlace& place) {
  std::vector<EnvironmentVariable> out;
  auto text = [&](const char* name, std::string value) {
    if (!value.empty()) out.push_back({name, std::move(value), {}});
  };
  auto told = [&](const char* name, std::string value, const char* field) {
    bool by_pod = value.empty();
    out.push_back({name, std::move(value), by_pod ? field : ""});
  };
  text("GATEWAY_NAME", deployment.name);
  text("POD_NAMESPACE", deployment.ns);
  text("SERVICE_ACCOUNT", deployment.service_account);
  told("POD_NAME", place.pod_name, "metadata.name");
  told("NODE_NAME", place.node, "spec.nodeName");
  told("INSTANCE_IP", place.address ? place.address->to_string() : "", "status.podIP");
  if (place.address) text("CULVERT_BIND", place.address->to_string());
  if (place.admin_port != 15000) text("CULVERT_ADMIN_PORT", fmt::to_string(place.admin_port));
  text("XDS_ADDRESS", place.control_address);
  text("CA_ADDRESS", place.control_address);
  text("XDS_ROOT_CA", place.root_path);
  text("CA_ROOT_CA", place.root_path);
  text("AUTH_TOKEN", place.token_path);
  text("TRUST_DOMAIN", place.trust_domain);
  text("CLUSTER_ID", place.cluster_id);
  text("CLUSTER_DOMAIN", place.cluster_domain);
  text("NETWORK", place.network);
  const std::string* tell = find(deployment.annotations, "ambient.istio.io/xfcc-include-client-identity");
  if (tell && *tell == "true") text("CULVERT_TELL_CLIENT_IDENTITY", "true");
  text("TERMINATION_DRAIN_DURATION", base::format_duration(place.drain));
  return out;
}

}  // namespace culvert::control
