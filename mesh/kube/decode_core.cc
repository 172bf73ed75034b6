// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "mesh/kube/decode.h"
#include "mesh/kube/decode_kinds.h"

namespace culvert::kube {

LabelSelector decode_selector(const Cursor& selector) {
  LabelSelector out;
  for (const auto& [key, value] : selector.at("matchLabels").fields()) {
    out.requirements.push_back({key, LabelSelector::Op::kIn, {value.text()}});
  }
  for (const Cursor& item : selector.at("matchExpressions").items()) {
    LabelSelector::Requirement requirement{item.at("key").text(), LabelSelector::Op::kExists,
                                           item.at("values").texts()};
    std::string op = item.at("operator").text();
    if (op == "In") {
      requirement.op = LabelSelector::Op::kIn;
    } else if (op == "NotIn") {
      requirement.op = LabelSelector::Op::kNotIn;
    } else if (op == "DoesNotExist") {
      requirement.op = LabelSelector::Op::kDoesNotExist;
    } else if (op != "Exists") {
      item.at("operator").fail(fmt::format("\"{}\" must be In, NotIn, Exists or DoesNotExist", op));
    }
    out.requirements.push_back(std::move(requirement));
  }
  return out;
}

namespace {

void add_ports(const Cursor& containers, bool restartable_only, std::vector<ContainerPort>& out) {
  for (const Cursor& container : containers.items()) {
    if (restartable_only && container.at("restartPolicy").text() != "Always") continue;
    for (const Cursor& port : container.at("ports").items()) {
      out.push_back(
          {port.at("name").text(), port.at("containerPort").port(), port.at("protocol").text("TCP")});
    }
  }
}

}  // namespace

Pod decode_pod(const Cursor& root, Meta meta) {
  Pod pod;
  pod.meta = std::move(meta);
  Cursor spec = root.at("spec");
  pod.node = spec.at("nodeName").text();
  pod.service_account = spec.at("serviceAccountName").text("default");
  if (pod.service_account.empty()) pod.service_account = "default";
  if (!is_kube_name(pod.service_account)) {
    spec.at("serviceAccountName").fail(fmt::format("\"{}\" is not a Kubernetes name", pod.service_account));
  }
  pod.host_network = spec.at("hostNetwork").flag();
  add_ports(spec.at("containers"), false, pod.ports);
  add_ports(spec.at("initContainers"), true, pod.ports);
  Cursor status = root.at("status");
  pod.phase = status.at("phase").text();
  for (const Cursor& ip : status.at("podIPs").items()) pod.ips.push_back(ip.at("ip").text());
  std::string single = status.at("podIP").text();
  if (pod.ips.empty() && !single.empty()) pod.ips.push_back(single);
  for (const Cursor& condition : status.at("conditions").items()) {
    if (condition.at("type").text() == "Ready") pod.ready = condition.at("status").text() == "True";
  }
  return pod;
}

Service decode_service(const Cursor& root, Meta meta) {
  Service service;
  service.meta = std::move(meta);
  Cursor spec = root.at("spec");
  service.type = spec.at("type").text("ClusterIP");
  service.cluster_ips = spec.at("clusterIPs").texts();
  std::string single = spec.at("clusterIP").text();
  if (service.cluster_ips.empty() && !single.empty()) service.cluster_ips.push_back(single);
  service.ip_families = spec.at("ipFamilies").texts();
  service.selector = spec.at("selector").labels();
  service.internal_local = spec.at("internalTrafficPolicy").text() == "Local";
  service.traffic_distribution = spec.at("trafficDistribution").text();
  service.publish_not_ready = spec.at("publishNotReadyAddresses").flag();
  for (const Cursor& item : spec.at("ports").items()) {
    ServicePort port{item.at("name").text(),
                     item.at("port").port(),
                     item.at("protocol").text("TCP"),
                     item.at("appProtocol").text(),
                     0,
                     ""};
    if (port.port == 0) item.fail("port must be from 1 to 65535");
    Cursor target = item.at("targetPort");
    std::string text = target.text();
    if (text.empty()) {
      port.target_port = port.port;
    } else if (std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= '0' && c <= '9'; })) {
      port.target_port = static_cast<uint16_t>(target.integer(1, 65535, 1));
    } else {
      port.target_name = text;
    }
    service.ports.push_back(std::move(port));
  }
  return service;
}

EndpointSlice decode_endpoint_slice(const Cursor& root, Meta meta) {
  EndpointSlice slice;
  slice.meta = std::move(meta);
  if (auto found = slice.meta.labels.find("kubernetes.io/service-name"); found != slice.meta.labels.end()) {
    slice.service = found->second;
  }
  slice.address_type = root.at("addressType").text("IPv4");
  for (const Cursor& item : root.at("endpoints").items()) {
    EndpointSlice::Endpoint endpoint;
    endpoint.addresses = item.at("addresses").texts();
    Cursor ready = item.at("conditions").at("ready");
    if (!ready.absent()) endpoint.ready = ready.flag();
    Cursor target = item.at("targetRef");
    endpoint.target_kind = target.at("kind").text();
    endpoint.target_ns = target.at("namespace").text();
    endpoint.target_name = target.at("name").text();
    endpoint.target_uid = target.at("uid").text();
    slice.endpoints.push_back(std::move(endpoint));
  }
  for (const Cursor& item : root.at("ports").items()) {
    slice.ports.push_back({item.at("name").text(), item.at("port").port(), item.at("protocol").text("TCP")});
  }
  return slice;
}

PodBinding decode_pod_binding(const Cursor& root, Meta meta) {
  PodBinding binding;
  binding.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"uid", "node", "redirection", "ips"});
  binding.pod_uid = spec.at("uid").text();
  binding.node = spec.at("node").text();
  binding.redirection = spec.at("redirection").text();
  if (binding.redirection != "enabled" && binding.redirection != "pending") {
    spec.at("redirection").fail(fmt::format("\"{}\" must be enabled or pending", binding.redirection));
  }
  binding.ips = spec.at("ips").texts();
  return binding;
}

namespace {

std::vector<Gateway::Address> decode_gateway_addresses(const Cursor& at) {
  std::vector<Gateway::Address> out;
  for (const Cursor& item : at.items())
    out.push_back({item.at("type").text("IPAddress"), item.at("value").text()});
  return out;
}

}  // namespace

Gateway decode_gateway(const Cursor& root, Meta meta) {
  Gateway gateway;
  gateway.meta = std::move(meta);
  Cursor spec = root.at("spec");
  gateway.class_name = spec.at("gatewayClassName").text();
  for (const Cursor& item : spec.at("listeners").items()) {
    Gateway::Listener listener;
    listener.name = item.at("name").text();
    listener.port = item.at("port").port();
    listener.protocol = item.at("protocol").text();
    Cursor namespaces = item.at("allowedRoutes").at("namespaces");
    listener.has_allowed_routes = !namespaces.absent();
    listener.from = namespaces.at("from").text("Same");
    listener.selector = decode_selector(namespaces.at("selector"));
    gateway.listeners.push_back(std::move(listener));
  }
  gateway.addresses = decode_gateway_addresses(spec.at("addresses"));
  Cursor infrastructure = spec.at("infrastructure");
  if (Cursor labels = infrastructure.at("labels"); !labels.absent())
    gateway.infrastructure_labels = labels.labels();
  if (Cursor annotations = infrastructure.at("annotations"); !annotations.absent())
    gateway.infrastructure_annotations = annotations.labels();
  if (Cursor parameters = infrastructure.at("parametersRef"); !parameters.absent())
    gateway.parameters = parameters.at("kind").text() + " " + parameters.at("name").text();
  gateway.status_addresses = decode_gateway_addresses(root.at("status").at("addresses"));
  return gateway;
}

GatewayClass decode_gateway_class(const Cursor& root, Meta meta) {
  return {std::move(meta), root.at("spec").at("controllerName").text()};
}

NetworkPolicy decode_network_policy(const Cursor& root, Meta meta) {
  NetworkPolicy out;
  out.meta = std::move(meta);
  Cursor spec = root.at("spec");
  out.pods = decode_selector(spec.at("podSelector"));
  std::vector<std::string> types = spec.at("policyTypes").texts();
  out.restricts = types.empty() || std::find(types.begin(), types.end(), "Ingress") != types.end();
  for (const Cursor& one : spec.at("ingress").items()) {
    NetworkPolicy::Rule rule;
    rule.any_port = one.at("ports").items().empty();
    rule.any_peer = one.at("from").items().empty();
    for (const Cursor& port : one.at("ports").items()) {
      if (port.at("protocol").text("TCP") != "TCP") continue;
      std::string text = port.at("port").text();
      auto first = base::parse_port(text);
      if (text.empty()) {
        rule.ports.push_back({0, 65535});
      } else if (first) {
        rule.ports.push_back({*first, port.at("endPort").port(*first)});
      }
    }
    for (const Cursor& peer : one.at("from").items()) {
      if (auto block = base::Cidr::parse(peer.at("ipBlock").at("cidr").text())) rule.blocks.push_back(*block);
    }
    out.ingress.push_back(std::move(rule));
  }
  return out;
}

}  // namespace culvert::kube
