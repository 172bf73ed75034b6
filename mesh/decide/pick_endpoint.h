// SPDX-License-Identifier: Apache-2.0
// pick_endpoint: which endpoint of a service takes a connection (spec ztunnel section 2.3). Pure; chance is
// an argument.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "mesh/model/view.h"
#include "mesh/model/workload.h"
#include "net/base/ip.h"
#include "net/base/result.h"
#include "net/base/rng.h"

namespace culvert::decide {

enum class Resolution : unsigned char {
  kStandard,  // the service must list the port
  kWaypoint,  // a waypoint's service need not; an endpoint with an application tunnel then serves
};

struct PickedEndpoint {
  model::WorkloadRef workload;
  uint16_t port = 0;  // on the workload
};

// One endpoint of `service` for its port `service_port`, or nothing: no such port, nobody healthy, all
// weights zero, or a PASSTHROUGH service, which leaves the original destination.
std::optional<PickedEndpoint> pick_endpoint(const model::MeshView& view, const model::Workload& source,
                                            const model::Service& service, uint16_t service_port,
                                            Resolution resolution, base::Rng& rng);

// Which address of the workload to dial. `wanted` is used if it is one of them, else its family is preferred
// among what `families` admits. Nothing: the workload is reached by hostname or gateway.
std::optional<base::IpAddr> pick_address(const model::Workload& workload, const base::IpAddr& wanted,
                                         model::IpFamilies families);

// Which of several resolved addresses to dial: a random one of the wanted family, else a random other one.
// kNotFound if there is none (spec ztunnel section 2.5).
base::Result<base::IpAddr> pick_resolved(const std::vector<base::IpAddr>& resolved,
                                         const base::IpAddr& wanted, base::Rng& rng);

}  // namespace culvert::decide
