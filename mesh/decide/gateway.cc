// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/gateway.h"

#include <algorithm>

#include "mesh/decide/pick_endpoint.h"

namespace culvert::decide {
namespace {

using model::Destination;
using model::GatewayAddress;
using model::NamespacedHostname;
using model::NetworkAddress;
using model::ServiceRef;
using model::WorkloadRef;

Destination look_up(const model::MeshView& view, const GatewayAddress& reference) {
  if (const auto* address = std::get_if<NetworkAddress>(&reference.destination)) {
    return view.find_address(address->network, address->ip, std::nullopt);
  }
  const auto& host = std::get<NamespacedHostname>(reference.destination);
  return view.find_hostname(host.ns, host.hostname);
}

bool owns_address_of(const model::Workload& a, const model::Workload& b) {
  if (a.network != b.network) return false;
  return std::any_of(b.addresses.begin(), b.addresses.end(), [&](const base::IpAddr& ip) {
    return std::find(a.addresses.begin(), a.addresses.end(), ip) != a.addresses.end();
  });
}

}  // namespace

Upstream find_upstream(const model::MeshView& view, std::string_view network, const model::Workload& source,
                       const base::SocketAddr& target, Resolution resolution, base::Rng& rng) {
  if (auto service = view.service_at(network, target.ip, source.ns.view())) {
    auto picked = pick_endpoint(view, source, *service, target.port, resolution, rng);
    if (!picked) return {nullptr, service, 0};
    return {picked->workload, service, picked->port};
  }
  return {view.workload_at(network, target.ip), nullptr, target.port};
}

base::Result<Gateway> resolve_waypoint(const model::MeshView& view, const model::Workload& source,
                                       const GatewayAddress& reference, const base::IpAddr& target,
                                       base::Rng& rng) {
  uint16_t port = reference.hbone_mtls_port;
  auto unknown = [&](std::string_view why) {
    return base::fail(base::Code::kNotFound, "unknown waypoint: " + reference.to_string() + std::string(why));
  };
  if (const auto* address = std::get_if<NetworkAddress>(&reference.destination)) {
    auto upstream =
        find_upstream(view, address->network, source, {address->ip, port}, Resolution::kWaypoint, rng);
    if (!upstream.workload) return unknown(upstream.service ? " has no healthy endpoint" : "");
    return Gateway{upstream.workload, upstream.service, upstream.port, address->ip};
  }
  const auto& host = std::get<NamespacedHostname>(reference.destination);
  Destination found = view.find_hostname(host.ns, host.hostname);
  if (const auto* service = std::get_if<ServiceRef>(&found)) {
    auto picked = pick_endpoint(view, source, **service, port, Resolution::kWaypoint, rng);
    if (!picked) return unknown(" has no healthy endpoint");
    return Gateway{picked->workload, *service, picked->port, target};
  }
  if (const auto* workload = std::get_if<WorkloadRef>(&found))
    return Gateway{*workload, nullptr, port, target};
  return unknown("");
}

bool stands_behind(const model::MeshView& view, const GatewayAddress& reference,
                   const model::Workload& workload) {
  Destination found = look_up(view, reference);
  if (const auto* service = std::get_if<ServiceRef>(&found))
    return workload.membership((*service)->key()) != nullptr;
  if (const auto* other = std::get_if<WorkloadRef>(&found)) return owns_address_of(**other, workload);
  return false;
}

}  // namespace culvert::decide
