// SPDX-License-Identifier: Apache-2.0
// resolve: what the authority of a CONNECT stands for, before it is answered (spec waypoint R1.1 to R1.4,
// 1.7). Pure. The Host header plays no part: the address that the client dialled chose.
//
// | authority                                     | answer                                        |
// |-----------------------------------------------|-----------------------------------------------|
// | a VIP or name of a service bound to us        | that service, if it declares the port         |
// | the address of a pod whose waypoint we are    | that pod                                      |
// | anything else                                 | 404: we are no open proxy                     |
// | from our own identity                         | 508: a loop                                   |
#pragma once

#include <expected>
#include <string>

#include "mesh/hbone/connect_headers.h"
#include "mesh/model/identity.h"
#include "waypoint/state.h"

namespace culvert::waypoint {

struct Addressed {
  // Either a service or a pod, with what we were told to do for it.
  model::ServiceRef service;
  model::WorkloadRef pod;
  model::WaypointServiceRef l7;
  uint16_t port = 0;         // of the service, or of the pod
  base::SocketAddr dialled;  // what the client dialled; of a name: the first VIP, or unspecified
  model::AppProtocol protocol = model::AppProtocol::kUnknown;
};

struct Refusal {
  uint16_t status = 404;
  std::string code;    // x-mesh-error, for programs
  std::string reason;  // for people
};

// Who we are.
struct Self {
  model::Identity identity;
  std::string network;
  base::IpAddr ip;      // of our own workload
  std::string gateway;  // our Gateway's name
};

std::expected<Addressed, Refusal> resolve(const MeshState& state, const Self& self,
                                          const model::Identity& client, const hbone::Authority& authority);

}  // namespace culvert::waypoint
