// SPDX-License-Identifier: Apache-2.0
// plan_outbound: what to do with a connection a pod has opened (design 3.14, spec ztunnel section 2.4). Pure:
// no lookup, no clock, no I/O; the caller resolves a hostname if the plan says so, then dials.
//
// | the original destination T is                        | plan |
// |------------------------------------------------------|------|
// | a service with a waypoint                            | HBONE to the waypoint, authority T |
// | a service nobody can serve                           | error "no healthy upstream" |
// | unknown, host network, or a PASSTHROUGH service      | TCP to T |
// | behind a network gateway                             | error kUnsupported: double HBONE is not built in |
// | a workload with a waypoint we are not                | HBONE to the waypoint, authority T |
// | a workload that speaks HBONE (or behind a service)   | HBONE to it on 15008, authority ip:target port |
// | any other workload                                   | TCP to ip:target port |
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/model/identity.h"
#include "mesh/model/view.h"
#include "mesh/model/workload.h"
#include "net/base/ip.h"
#include "net/base/result.h"
#include "net/base/rng.h"

namespace culvert::decide {

enum class Protocol : unsigned char { kTcp, kHbone };
std::string_view to_string(Protocol protocol);  // "TCP", "HBONE"

struct Plan {
  Protocol protocol = Protocol::kTcp;
  // Where to dial. If `resolve` is not empty its ip is unspecified until `use_address` was called.
  base::SocketAddr next_hop;
  // Resolve this name first, then choose with pick_resolved(addresses, original.ip, rng).
  std::string resolve;
  // CONNECT authority (HBONE only): "ip:port", v6 in brackets; the VIP untranslated towards a waypoint.
  std::string authority;
  // One of these must be the peer (HBONE only): the service's subject alternative names, then the workload's
  // own identity. The order is part of the tunnel pool's key.
  std::vector<model::Identity> allowed_identities;
  bool to_waypoint = false;
  // For telemetry. The destination workload is the one dialled (the waypoint, if there is one).
  model::WorkloadRef destination_workload;
  model::ServiceRef destination_service;
  base::SocketAddr original;
  // Texts among the service's subject alternative names that are no identities; log them as warnings.
  std::vector<std::string> skipped_identities;

  // Completes a plan with `resolve`: sets next_hop and, towards an endpoint, the authority.
  void use_address(base::IpAddr ip);
  // The port on the workload itself, as the authority carries it.
  uint16_t target_port = 0;
};

// `network` is our own (NETWORK); `source` the pod that connects; `target` the original destination.
// Errors: kUnavailable (no healthy upstream), kNotFound (unknown waypoint, no route), kUnsupported (double
// HBONE). Each closes the connection: traffic is refused, never sent around a waypoint.
base::Result<Plan> plan_outbound(const model::MeshView& view, std::string_view network,
                                 const model::Workload& source, base::SocketAddr target, base::Rng& rng);

}  // namespace culvert::decide
