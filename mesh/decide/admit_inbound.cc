// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/admit_inbound.h"

#include <algorithm>
#include <variant>
#include <vector>

#include "mesh/decide/gateway.h"

namespace culvert::decide {
namespace {

using model::ServiceRef;
using model::Workload;
using model::WorkloadRef;

std::unexpected<Rejection> reject(uint16_t status, std::string reason) {
  return std::unexpected(Rejection{status, std::move(reason)});
}

struct Authority {
  std::variant<base::SocketAddr, std::string_view> where;  // ip:port, or a hostname
  uint16_t port = 0;
};

std::optional<Authority> parse_authority(std::string_view text) {
  if (auto address = base::SocketAddr::parse(text)) return Authority{*address, address->port};
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  auto port = base::parse_port(text.substr(colon + 1));
  auto hostname_char = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '*';
  };
  if (!port || !std::all_of(host.begin(), host.end(), hostname_char)) return std::nullopt;
  return Authority{host, *port};
}

// May traffic for `ip` enter here because this pod is the waypoint of whoever has that address?
bool is_waypoint_of(const model::MeshView& view, const Workload& local, const InboundRequest& request,
                    const base::IpAddr& ip) {
  auto found = view.find_address(request.network, ip, std::nullopt);
  if (const auto* service = std::get_if<ServiceRef>(&found)) {
    if ((*service)->waypoint && stands_behind(view, *(*service)->waypoint, local)) return true;
    const auto& weighted = (*service)->weighted_waypoints;
    return std::any_of(weighted.begin(), weighted.end(), [&](const model::WeightedWaypoint& choice) {
      return stands_behind(view, choice.destination, local);
    });
  }
  if (const auto* workload = std::get_if<WorkloadRef>(&found)) {
    return (*workload)->waypoint && stands_behind(view, *(*workload)->waypoint, local);
  }
  return false;
}

// The port of a service as this pod serves it; 0: it does not.
uint16_t port_here(const model::Service& service, const Workload& local, uint16_t service_port) {
  if (const auto* member = local.membership(service.key())) {
    for (const auto& mapping : member->ports) {
      if (mapping.service_port == service_port && mapping.target_port != 0) return mapping.target_port;
    }
  }
  const auto* listed = service.port(service_port);
  return listed ? listed->target_port : 0;
}

bool serves_port(const model::Service& service, const Workload& local, uint16_t port) {
  auto maps = [&](const model::PortMapping& mapping) { return mapping.target_port == port; };
  if (std::any_of(service.ports.begin(), service.ports.end(), maps)) return true;
  const auto* member = local.membership(service.key());
  return member && std::any_of(member->ports.begin(), member->ports.end(), maps);
}

// A VIP to name in a PROXY header: on our network, IPv4 first; then any other.
std::optional<base::IpAddr> vip_of(const model::Service& service, std::string_view network) {
  std::optional<base::IpAddr> best;
  int best_rank = -1;
  for (const auto& vip : service.vips) {
    int rank = (vip.network == network ? 2 : 0) + (vip.ip.is_v4() ? 1 : 0);
    if (rank > best_rank) {
      best = vip.ip;
      best_rank = rank;
    }
  }
  return best;
}

ServiceRef choose_service(const std::vector<ServiceRef>& candidates, const Workload& local, uint16_t port,
                          std::string_view forwarded_host) {
  for (const auto& service : candidates) {
    if (!forwarded_host.empty() && service->hostname == forwarded_host) return service;
  }
  for (const auto& service : candidates) {
    if (serves_port(*service, local, port)) return service;
  }
  return nullptr;
}

}  // namespace

ServiceRef service_of_port(const model::MeshView& view, const Workload& local, uint16_t port,
                           std::string_view forwarded_host) {
  std::vector<ServiceRef> candidates;
  for (const auto& member : local.services) {
    if (auto service = view.service(member.service.ns, member.service.hostname))
      candidates.push_back(service);
  }
  return choose_service(candidates, local, port, forwarded_host);
}

std::expected<Admission, Rejection> admit_inbound(const model::MeshView& view, const Workload& local,
                                                  const InboundRequest& request) {
  auto authority = parse_authority(request.authority);
  if (!authority) {
    return reject(
        400, "authority \"" + std::string(request.authority) + "\" is not address:port or hostname:port");
  }
  const auto* address = std::get_if<base::SocketAddr>(&authority->where);
  const base::IpAddr& here = request.connection_dst.ip;
  if (address && address->ip != here && !local.app_tunnel &&
      !is_waypoint_of(view, local, request, address->ip)) {
    return reject(400, "ip mismatch: " + here.to_string() + " != " + address->ip.to_string());
  }

  ServiceRef named;
  uint16_t port = authority->port;
  if (!address) {
    std::string_view host = std::get<std::string_view>(authority->where);
    named = view.service_by_host(host, local.ns.view());
    if (!named) return reject(503, "no service with hostname " + std::string(host));
    port = port_here(*named, local, authority->port);
    if (port == 0) {
      return reject(503, "service " + named->key().to_string() + " has no port " +
                             std::to_string(authority->port) + " on workload " + local.uid);
    }
  }
  if (std::find(request.illegal_ports.begin(), request.illegal_ports.end(), port) !=
      request.illegal_ports.end()) {
    return reject(503, "port " + std::to_string(port) + " belongs to the proxy itself");
  }

  Admission admission;
  admission.app = {here, port};
  if (local.app_tunnel) {
    admission.tunnel = local.app_tunnel;
    if (local.app_tunnel->port != 0) admission.app.port = local.app_tunnel->port;
    if (address) {
      admission.tunnel_target = *address;
    } else if (auto vip = vip_of(*named, request.network)) {
      admission.tunnel_target = {*vip, authority->port};
    } else {
      return reject(
          503, "service " + named->key().to_string() + " has no address to hand to the application tunnel");
    }
  }
  admission.service = named ? choose_service({named}, local, admission.app.port, request.forwarded_host)
                            : service_of_port(view, local, admission.app.port, request.forwarded_host);
  return admission;
}

}  // namespace culvert::decide
