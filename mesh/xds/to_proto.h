// SPDX-License-Identifier: Apache-2.0
// to_proto: mesh/model values as serialized protobuf resources, the other direction of from_proto. Used by
// the control plane. The bytes are deterministic: equal values give equal bytes in one build.
#pragma once

#include <string>

#include "mesh/model/policy.h"
#include "mesh/model/workload.h"

namespace culvert::xds {

// istio.workload.Address. Defaults that the receiver fills in (cluster.local, default, Kubernetes, capacity
// 1) are left out.
std::string encode_address(const model::Workload& workload);
std::string encode_address(const model::Service& service);
// istio.security.Authorization.
std::string encode_authorization(const model::Policy& policy);

}  // namespace culvert::xds
