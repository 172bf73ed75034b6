// SPDX-License-Identifier: Apache-2.0
// What a waypoint reference stands for (spec ztunnel 2.4, below the table, and 4.2 step 2). Internal to
// mesh/decide.
#pragma once

#include <vector>

#include "mesh/model/view.h"
#include "mesh/model/workload.h"
#include "net/base/ip.h"
#include "net/base/result.h"
#include "net/base/rng.h"

namespace culvert::decide {

// Where traffic addressed to `target` on `network` would go: a service's endpoint first, else the workload
// that has the address. `workload` is null if nothing was found.
struct Upstream {
  model::WorkloadRef workload;
  model::ServiceRef service;  // also set when the service has no usable endpoint
  uint16_t port = 0;
};
enum class Resolution : unsigned char;
Upstream find_upstream(const model::MeshView& view, std::string_view network, const model::Workload& source,
                       const base::SocketAddr& target, Resolution resolution, base::Rng& rng);

struct Gateway {
  model::WorkloadRef workload;
  model::ServiceRef service;  // null if referenced as a workload
  uint16_t port = 0;
  base::IpAddr family_hint;
};
// One proxy behind the reference, or kNotFound "unknown waypoint: ...".
base::Result<Gateway> resolve_waypoint(const model::MeshView& view, const model::Workload& source,
                                       const model::GatewayAddress& reference, const base::IpAddr& target,
                                       base::Rng& rng);

// Whether `workload` is one of the proxies behind the reference; its health does not matter.
bool stands_behind(const model::MeshView& view, const model::GatewayAddress& reference,
                   const model::Workload& workload);

}  // namespace culvert::decide
