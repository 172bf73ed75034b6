// SPDX-License-Identifier: Apache-2.0
// What a waypoint knows, as JSON, for its admin port.
#pragma once

#include <string>

#include "mesh/config/waypoint_config.h"
#include "mesh/model/view.h"
#include "mesh/model/waypoint.h"

namespace culvert::waypoint {

std::string config_dump(const config::WaypointConfig& config, const model::MeshView& mesh,
                        const model::WaypointView& l7);

}  // namespace culvert::waypoint
