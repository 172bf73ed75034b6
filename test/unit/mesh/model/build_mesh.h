// SPDX-License-Identifier: Apache-2.0
// Short ways to write down a mesh in tests of mesh/model, mesh/decide and mesh/xds.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mesh/model/store.h"

namespace culvert::test {

using model::Service;
using model::Workload;

inline base::IpAddr ip(std::string_view text) { return base::IpAddr::parse(text).value(); }
inline base::SocketAddr at(std::string_view text) { return base::SocketAddr::parse(text).value(); }
inline base::Cidr cidr(std::string_view text) { return base::Cidr::parse(text).value(); }

// A healthy HBONE pod "cluster1//Pod/<ns>/<name>" with the service account `name`.
inline Workload pod(std::string_view ns, std::string_view name, std::initializer_list<std::string_view> ips) {
  Workload workload;
  workload.uid = "cluster1//Pod/" + std::string(ns) + "/" + std::string(name);
  workload.name = std::string(name);
  workload.ns = ns;
  for (auto text : ips) workload.addresses.push_back(ip(text));
  workload.protocol = model::TunnelProtocol::kHbone;
  workload.trust_domain = "cluster.local";
  workload.service_account = name;
  workload.cluster_id = "Kubernetes";
  return workload;
}

inline Workload& member(Workload& workload, std::string_view service,
                        std::initializer_list<std::pair<uint16_t, uint16_t>> ports) {
  model::Membership membership{model::NamespacedHostname::parse(service).value(), {}};
  for (auto [from, to] : ports) membership.ports.push_back({from, to});
  workload.services.push_back(std::move(membership));
  return workload;
}

// `vips` as "ip" (our network) or "network/ip".
inline Service service(std::string_view ns, std::string_view hostname,
                       std::initializer_list<std::string_view> vips,
                       std::initializer_list<std::pair<uint16_t, uint16_t>> ports) {
  Service result;
  result.name = hostname.substr(0, hostname.find('.'));
  result.ns = ns;
  result.hostname = hostname;
  for (auto text : vips) {
    size_t slash = text.find('/');
    if (slash == std::string_view::npos) {
      result.vips.push_back({"", ip(text)});
    } else {
      result.vips.push_back({text.substr(0, slash), ip(text.substr(slash + 1))});
    }
  }
  for (auto [from, to] : ports) result.ports.push_back({from, to});
  return result;
}

inline model::GatewayAddress gateway(std::string_view text, uint16_t port = 15008) {
  size_t slash = text.find('/');
  if (auto address = base::IpAddr::parse(text.substr(slash + 1))) {
    return {model::NetworkAddress{text.substr(0, slash), *address}, port};
  }
  return {model::NamespacedHostname{text.substr(0, slash), text.substr(slash + 1)}, port};
}

inline model::MeshUpdate update(std::vector<Workload> workloads, std::vector<Service> services = {},
                                std::vector<model::Policy> policies = {}) {
  return {std::move(workloads), std::move(services), std::move(policies), {}, {}};
}
inline model::MeshUpdate removal(std::vector<std::string> names) {
  return {{}, {}, {}, std::move(names), {}};
}

}  // namespace culvert::test
