// SPDX-License-Identifier: Apache-2.0
#include "control/deploy/kubernetes.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace culvert::control {

using json = nlohmann::ordered_json;
using base::Code;
using base::fail;
using base::Result;

namespace {

constexpr uint16_t kStatsPort = 15020;
constexpr uint16_t kPrometheusPort = 15090;
constexpr int kUser = 1337;
constexpr const char* kRootsDirectory = "/var/run/secrets/istio";
constexpr const char* kTokenDirectory = "/var/run/secrets/tokens";

// Texts that YAML 1.1 would take for something else are quoted.
bool is_plain(const std::string& text) {
  static constexpr std::string_view kWords[] = {"y", "yes", "on", "true", "n", "no", "off", "false", "null"};
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (std::find(std::begin(kWords), std::end(kWords), lower) != std::end(kWords)) return false;
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return !text.empty() && (letter(text[0]) || (text[0] == '/' && text.size() > 1)) &&
         std::all_of(text.begin(), text.end(), [&](char c) {
           return letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '/' || c == '_';
         });
}

std::string scalar(const json& value) {
  if (value.is_string() && is_plain(value.get_ref<const std::string&>())) return value.get<std::string>();
  return value.dump(-1, ' ', true, json::error_handler_t::replace);
}

// Block style, lists not indented, as kubectl prints. `first` is what stands before the first key: "- " began
// the item of a list.
void write_yaml(const json& value, size_t indent, std::string& out, bool in_item = false) {
  std::string pad(indent, ' ');
  auto child = [&](const json& one, size_t deeper) {
    if (one.is_structured() && !one.empty()) {
      out += '\n';
      write_yaml(one, deeper, out);
    } else {
      out += ' ' + scalar(one) + '\n';
    }
  };
  if (value.is_object()) {
    for (const auto& [key, one] : value.items()) {
      out += (in_item ? "" : pad) + scalar(key) + ':';
      in_item = false;
      child(one, one.is_array() ? indent : indent + 2);
    }
    return;
  }
  for (const json& one : value) {
    out += pad + "- ";
    if (one.is_object() && !one.empty()) {
      write_yaml(one, indent + 2, out, true);
    } else {
      out += scalar(one) + '\n';
    }
  }
}

std::string document(const json& object) {
  std::string out = "---\n";
  write_yaml(object, 0, out);
  return out;
}

json labels_of(const kube::Labels& labels) {
  json out = json::object();
  for (const auto& [key, value] : labels) out[key] = value;
  return out;
}

json metadata(const WaypointDeployment& deployment, const kube::Labels& more_annotations = {}) {
  json out = {
      {"name", deployment.name}, {"namespace", deployment.ns}, {"labels", labels_of(deployment.labels)}};
  kube::Labels annotations = deployment.annotations;
  for (const auto& [key, value] : more_annotations) annotations.emplace(key, value);
  if (!annotations.empty()) out["annotations"] = labels_of(annotations);
  return out;
}

json selector(const WaypointDeployment& deployment) {
  constexpr const char* kGatewayName = "gateway.networking.k8s.io/gateway-name";
  return {{kGatewayName, deployment.labels.at(kGatewayName)}};
}

json environment(const WaypointDeployment& deployment, const KubernetesOptions& options) {
  WaypointPlace place;
  place.control_address = options.control;
  place.root_path = fmt::format("{}/root-cert.pem", kRootsDirectory);
  place.token_path = fmt::format("{}/istio-token", kTokenDirectory);
  place.trust_domain = options.trust_domain;
  place.cluster_id = options.cluster_id;
  place.cluster_domain = options.cluster_domain;
  json out = json::array();
  for (const EnvironmentVariable& one : waypoint_environment(deployment, place)) {
    if (one.field_path.empty()) {
      out.push_back({{"name", one.name}, {"value", one.value}});
    } else {
      json field = {{"apiVersion", "v1"}, {"fieldPath", one.field_path}};
      out.push_back({{"name", one.name}, {"valueFrom", {{"fieldRef", std::move(field)}}}});
    }
  }
  return out;
}

json ports(const WaypointDeployment& deployment) {
  json out = json::array();
  auto add = [&](const std::string& name, uint16_t port) {
    out.push_back({{"name", name}, {"containerPort", port}, {"protocol", "TCP"}});
  };
  add("metrics", kStatsPort);
  for (const WaypointDeployment::Port& port : deployment.ports) add(port.name, port.port);
  add("http-envoy-prom", kPrometheusPort);
  return out;
}

json probe(int every_seconds, int failures) {
  json get = {{"path", "/healthz/ready"}, {"port", 15021}, {"scheme", "HTTP"}};
  return {{"httpGet", std::move(get)}, {"initialDelaySeconds", 1}, {"periodSeconds", every_seconds},
          {"timeoutSeconds", 1},       {"successThreshold", 1},    {"failureThreshold", failures}};
}

json container(const WaypointDeployment& deployment, const KubernetesOptions& options) {
  json mounts = json::array();
  mounts.push_back({{"name", "istiod-ca-cert"}, {"mountPath", kRootsDirectory}, {"readOnly", true}});
  mounts.push_back({{"name", "istio-token"}, {"mountPath", kTokenDirectory}, {"readOnly", true}});
  json security = {{"allowPrivilegeEscalation", false},
                   {"capabilities", {{"drop", json::array({"ALL"})}}},
                   {"privileged", false},
                   {"readOnlyRootFilesystem", true},
                   {"runAsGroup", kUser},
                   {"runAsNonRoot", true},
                   {"runAsUser", kUser},
                   {"seccompProfile", {{"type", "RuntimeDefault"}}}};
  json resources = {{"limits", {{"cpu", "2"}, {"memory", "1Gi"}}},
                    {"requests", {{"cpu", "100m"}, {"memory", "128Mi"}}}};
  return {{"name", "istio-proxy"},
          {"image", options.image},
          {"args", json::array({"proxy"})},
          {"env", environment(deployment, options)},
          {"ports", ports(deployment)},
          {"startupProbe", probe(1, 30)},
          {"readinessProbe", probe(15, 4)},
          {"resources", std::move(resources)},
          {"securityContext", std::move(security)},
          {"volumeMounts", std::move(mounts)}};
}

json volumes() {
  json token = {{"audience", "istio-ca"}, {"expirationSeconds", 43200}, {"path", "istio-token"}};
  json sources = json::array({{{"serviceAccountToken", std::move(token)}}});
  json out = json::array();
  out.push_back({{"name", "istio-token"}, {"projected", {{"sources", std::move(sources)}}}});
  out.push_back({{"name", "istiod-ca-cert"}, {"configMap", {{"name", "istio-ca-root-cert"}}}});
  return out;
}

json deployment_of(const WaypointDeployment& deployment, const KubernetesOptions& options) {
  kube::Labels labels = deployment.labels;
  for (const auto& [key, value] : deployment.pod_labels) labels[key] = value;
  kube::Labels annotations = deployment.annotations;
  annotations.insert({{"istio.io/rev", options.revision},
                      {"prometheus.io/path", "/stats/prometheus"},
                      {"prometheus.io/port", fmt::to_string(kStatsPort)},
                      {"prometheus.io/scrape", "true"}});
  json spec = {{"serviceAccountName", deployment.service_account},
               // Longer than the waypoint's own drain deadline.
               {"terminationGracePeriodSeconds", 60},
               {"containers", json::array({container(deployment, options)})},
               {"volumes", volumes()}};
  json pod = {{"metadata", {{"annotations", labels_of(annotations)}, {"labels", labels_of(labels)}}},
              {"spec", std::move(spec)}};
  return {{"apiVersion", "apps/v1"},
          {"kind", "Deployment"},
          {"metadata", metadata(deployment)},
          {"spec", {{"selector", {{"matchLabels", selector(deployment)}}}, {"template", std::move(pod)}}}};
}

json service_of(const WaypointDeployment& deployment) {
  json list = json::array();
  for (const WaypointDeployment::Port& port : deployment.ports) {
    json one = {{"name", port.name}};
    if (!port.app_protocol.empty()) one["appProtocol"] = port.app_protocol;
    one["port"] = port.port;
    one["protocol"] = "TCP";
    list.push_back(std::move(one));
  }
  auto type = deployment.annotations.find("networking.istio.io/service-type");
  json spec = {{"type", type == deployment.annotations.end() ? "ClusterIP" : type->second},
               {"ipFamilyPolicy", "PreferDualStack"}};
  if (deployment.address) spec["clusterIP"] = deployment.address->to_string();
  spec["ports"] = std::move(list);
  spec["selector"] = selector(deployment);
  return {{"apiVersion", "v1"},
          {"kind", "Service"},
          {"metadata", metadata(deployment, {{"networking.istio.io/traffic-distribution", "PreferClose"}})},
          {"spec", std::move(spec)}};
}

}  // namespace

std::string kubernetes_objects(const WaypointDeployment& deployment, const KubernetesOptions& options) {
  json account = {{"apiVersion", "v1"}, {"kind", "ServiceAccount"}, {"metadata", metadata(deployment)}};
  account["metadata"]["name"] = deployment.service_account;
  return document(account) + document(deployment_of(deployment, options)) + document(service_of(deployment));
}

Result<std::string> waypoint_gateway(const GatewayRequest& request) {
  static constexpr std::string_view kTraffic[] = {"", "service", "workload", "all", "none"};
  if (std::find(std::begin(kTraffic), std::end(kTraffic), request.traffic) == std::end(kTraffic))
    return fail(Code::kInvalid, "\"" + request.traffic + "\" must be service, workload, all or none");
  if (!is_dns_name(request.ns, 63, false))
    return fail(Code::kInvalid, "\"" + request.ns + "\" is no namespace");
  if (!is_dns_name(request.name, 253, true))
    return fail(Code::kInvalid, "\"" + request.name + "\" is no name");
  json labels = json::object();
  if (!request.revision.empty()) labels["istio.io/rev"] = request.revision;
  if (!request.traffic.empty()) labels["istio.io/waypoint-for"] = request.traffic;
  json meta = json::object();
  if (!labels.empty()) meta["labels"] = std::move(labels);
  meta["name"] = request.name;
  meta["namespace"] = request.ns;
  json listener = {{"name", "mesh"}, {"port", model::kHbonePort}, {"protocol", "HBONE"}};
  json gateway = {
      {"apiVersion", "gateway.networking.k8s.io/v1"},
      {"kind", "Gateway"},
      {"metadata", std::move(meta)},
      {"spec", {{"gatewayClassName", "istio-waypoint"}, {"listeners", json::array({std::move(listener)})}}}};
  return document(gateway).substr(4);
}

}  // namespace culvert::control
