// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/plan.h"

#include "mesh/decide/gateway.h"
#include "mesh/decide/pick_endpoint.h"

namespace culvert::decide {
namespace {

using base::Code;
using model::GatewayAddress;
using model::Service;
using model::ServiceRef;
using model::Workload;
using model::WorkloadRef;

// The service's extra identities, then the workload's own: this order is part of the tunnel pool's key.
void set_identities(Plan& plan, const Service* service, const Workload& workload) {
  if (service) {
    for (const auto& text : service->subject_alt_names) {
      if (auto identity = model::Identity::parse(text)) {
        plan.allowed_identities.push_back(*std::move(identity));
      } else {
        plan.skipped_identities.push_back(text);
      }
    }
  }
  plan.allowed_identities.push_back(workload.identity());
}

// Where to dial `workload`: one of its addresses, or its hostname to be resolved.
base::Result<> set_next_hop(Plan& plan, const Workload& workload, const Service* service, uint16_t port,
                            const base::IpAddr& wanted) {
  auto families = service ? service->ip_families : model::IpFamilies::kAutomatic;
  plan.next_hop.port = port;
  if (auto ip = pick_address(workload, wanted, families)) {
    plan.use_address(*ip);
  } else if (!workload.hostname.empty()) {
    plan.resolve = workload.hostname.str();
  } else {
    return base::fail(Code::kNotFound, "no valid routing destination for workload: " + workload.uid);
  }
  return {};
}

std::unexpected<base::Error> double_hbone(const base::SocketAddr& target, const Workload& upstream) {
  return base::fail(Code::kUnsupported, target.to_string() + " is on network \"" + upstream.network.str() +
                                            "\", which needs double HBONE through a network gateway; "
                                            "this build has none");
}

base::Result<Plan> through_waypoint(const model::MeshView& view, const Workload& source, Plan plan,
                                    const GatewayAddress& reference, bool across_networks, base::Rng& rng) {
  auto gateway = resolve_waypoint(view, source, reference, plan.original.ip, rng);
  if (!gateway) return base::fail(std::move(gateway).error());
  const Workload& waypoint = *gateway->workload;
  if (across_networks && waypoint.network != source.network) return double_hbone(plan.original, waypoint);
  plan.protocol = Protocol::kHbone;
  plan.to_waypoint = true;
  plan.authority = plan.original.to_string();
  plan.target_port = plan.original.port;
  plan.destination_workload = gateway->workload;
  set_identities(plan, gateway->service.get(), waypoint);
  CULVERT_TRY(set_next_hop(plan, waypoint, gateway->service.get(), gateway->port, gateway->family_hint));
  return plan;
}

// One of the weighted waypoints by weight, else the single one. Null: the service has none.
base::Result<const GatewayAddress*> choose_waypoint(const Service& service, base::Rng& rng) {
  uint64_t total = 0;
  for (const auto& choice : service.weighted_waypoints) total += choice.weight;
  if (total > 0) {
    uint64_t draw = rng.below(total);
    for (const auto& choice : service.weighted_waypoints) {
      if (draw < choice.weight) return &choice.destination;
      draw -= choice.weight;
    }
  }
  if (service.waypoint) return &*service.waypoint;
  if (service.weighted_waypoints.empty()) return nullptr;
  // It has waypoints and none may be used: going around them is not ours to decide.
  return base::fail(Code::kNotFound,
                    "unknown waypoint: all weights of " + service.key().to_string() + " are zero");
}

Plan passthrough(Plan plan) {
  plan.protocol = Protocol::kTcp;
  plan.next_hop = plan.original;
  plan.target_port = plan.original.port;
  return plan;
}

base::Result<Plan> to_endpoint(Plan plan, const Upstream& upstream) {
  const Workload& workload = *upstream.workload;
  plan.destination_workload = upstream.workload;
  plan.destination_service = upstream.service;
  plan.target_port = upstream.port;
  uint16_t port = upstream.port;
  if (workload.protocol == model::TunnelProtocol::kHbone) {
    plan.protocol = Protocol::kHbone;
    port = model::kHbonePort;
    set_identities(plan, upstream.service.get(), workload);
  }
  CULVERT_TRY(set_next_hop(plan, workload, upstream.service.get(), port, plan.original.ip));
  return plan;
}

}  // namespace

std::string_view to_string(Protocol protocol) { return protocol == Protocol::kHbone ? "HBONE" : "TCP"; }

void Plan::use_address(base::IpAddr ip) {
  next_hop.ip = ip;
  if (protocol == Protocol::kHbone && !to_waypoint) authority = base::SocketAddr{ip, target_port}.to_string();
}

base::Result<Plan> plan_outbound(const model::MeshView& view, std::string_view network,
                                 const Workload& source, base::SocketAddr target, base::Rng& rng) {
  Plan plan;
  plan.original = target;

  // 1: a service with a waypoint.
  auto addressed = view.find_address(network, target.ip, source.ns.view());
  if (const auto* service = std::get_if<ServiceRef>(&addressed)) {
    auto waypoint = choose_waypoint(**service, rng);
    if (!waypoint) return base::fail(std::move(waypoint).error());
    if (*waypoint) {
      plan.destination_service = *service;
      return through_waypoint(view, source, std::move(plan), **waypoint, true, rng);
    }
  }

  // 2, 3: nothing to choose from.
  Upstream upstream = find_upstream(view, source.network, source, target, Resolution::kStandard, rng);
  if (!upstream.workload) {
    ServiceRef service = upstream.service;
    if (!service) {
      if (const auto* named = std::get_if<ServiceRef>(&addressed)) service = *named;
    }
    if (service && !service->passthrough()) {
      return base::fail(Code::kUnavailable, "no healthy upstream: " + target.to_string());
    }
    return passthrough(std::move(plan));
  }
  const Workload& workload = *upstream.workload;

  // 4: behind a network gateway.
  if (workload.network != source.network) {
    if (!upstream.service)
      return base::fail(Code::kNotFound, "no service for target address: " + target.to_string());
    if (!workload.network_gateway) {
      return base::fail(Code::kNotFound, "no valid routing destination for workload: " + workload.uid);
    }
    return double_hbone(target, workload);
  }

  // 5: a workload with a waypoint, addressed as such, unless we are that waypoint.
  if (!upstream.service && workload.waypoint) {
    const GatewayAddress& reference = *workload.waypoint;
    if (!stands_behind(view, reference, source)) {
      return through_waypoint(view, source, std::move(plan), reference, false, rng);
    }
  }

  // 6, 7: straight to the endpoint.
  return to_endpoint(std::move(plan), upstream);
}

}  // namespace culvert::decide
