// SPDX-License-Identifier: Apache-2.0
// from_proto: the edge where protobuf resources become mesh/model values (spec apis sections 1.1 and 1.2).
//
// A resource with a bad address length, an enum number we do not know, a gateway without destination or a
// port above 65535 is refused as a whole, and so is a policy with an address that does not parse: dropping
// one entry of a `not_` list would widen what it matches. The earlier version of a refused resource stays in
// use.
#pragma once

#include <string_view>
#include <variant>

#include "mesh/model/name.h"
#include "mesh/model/policy.h"
#include "mesh/model/workload.h"
#include "net/base/bytes.h"
#include "net/base/result.h"

namespace culvert::xds {

inline constexpr std::string_view kAddressType = "type.googleapis.com/istio.workload.Address";
inline constexpr std::string_view kAuthorizationType = "type.googleapis.com/istio.security.Authorization";

using AddressResource = std::variant<model::Workload, model::Service>;

// `bytes` is a serialized istio.workload.Address; `xds_name` the name it was sent under, which must be the
// uid or "ns/hostname" of what is inside (removals come by that name). Empty `xds_name`: not compared.
base::Result<AddressResource> decode_address(base::ByteView bytes, std::string_view xds_name,
                                             model::NamePool& names);
// `bytes` is a serialized istio.security.Authorization.
base::Result<model::Policy> decode_authorization(base::ByteView bytes, std::string_view xds_name,
                                                 model::NamePool& names);

}  // namespace culvert::xds
