// SPDX-License-Identifier: Apache-2.0
// Manifests as their users write them, compiled by the control plane and told to a world's waypoint:
// services, workloads, routes, backends, settings. Servers are started by WaypointWorld::listen.
#pragma once

#include <string>

#include "control/compile/compile.h"
#include "test/sim/waypoint_world.h"

namespace culvert::test {

// Namespace shop, bound to the world's waypoint.
extern const char kWaypointManifest[];

// What was compiled, for a look at its findings and status. A document that cannot be read fails the test.
control::Compiled learn(WaypointWorld& world, const std::string& manifests);

}  // namespace culvert::test
