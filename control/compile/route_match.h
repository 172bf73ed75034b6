// SPDX-License-Identifier: Apache-2.0
// HTTPRouteMatch of the Gateway API to a match of ours (spec waypoint section 2.4.2). Pure.
#pragma once

#include <string>
#include <string_view>

#include "mesh/kube/gateway_routes.h"
#include "mesh/model/route.h"
#include "net/base/result.h"

namespace culvert::control {

std::string lower_case(std::string_view text);

// kInvalid: an expression that cannot be compiled.
base::Result<model::RouteMatch> compile_route_match(const kube::HttpRouteMatch& match);

}  // namespace culvert::control
