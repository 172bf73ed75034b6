// SPDX-License-Identifier: Apache-2.0
// The path of a request, normalised once for router, policy and upstream alike (spec waypoint section 7.1).
#pragma once

#include <string>
#include <string_view>

#include "mesh/model/waypoint.h"
#include "net/base/result.h"

namespace culvert::decide {

struct RequestPath {
  std::string path;   // starts with '/', or is "*"
  std::string query;  // with its '?', or empty
  std::string whole() const { return path + query; }
};

// `target` is an origin-form target, "*" (OPTIONS only; the caller's business), with or without a fragment,
// which is dropped. kInvalid, answered with 400: control bytes, spaces, bytes above 127, broken "%zz"
// triplets, a path that leads above the root, one that does not start with '/'. With kNone only control
// bytes, spaces and a missing '/' are refused.
base::Result<RequestPath> normalize_path(std::string_view target,
                                         model::WaypointSettings::PathNormalization how);

}  // namespace culvert::decide
