// SPDX-License-Identifier: Apache-2.0
// Client: who is at the other end of one CONNECT and what it dialled (spec waypoint R1.14). Immutable; shared
// by the stream's exchanges.
#pragma once

#include <memory>
#include <string>

#include "mesh/hbone/connect_headers.h"
#include "mesh/model/identity.h"
#include "waypoint/overload.h"
#include "waypoint/resolve.h"

namespace culvert::waypoint {

struct Client {
  model::Identity identity;  // proven by its certificate, and only by that
  base::SocketAddr address;  // of the HBONE connection: the pod's own
  base::SocketAddr local;    // our end of it
  hbone::Baggage baggage;
  std::string traceparent;  // of the CONNECT; identifies the tunnel stream, not a request
  // The pod that has this address, if it also has this identity.
  model::WorkloadRef workload;
  Addressed addressed;
  uint64_t connection_id = 0;
  // Requests under way on the connection of the client's pod, which may carry many CONNECTs.
  std::shared_ptr<Overload::Counter> requests;
};
using ClientRef = std::shared_ptr<const Client>;

}  // namespace culvert::waypoint
