// SPDX-License-Identifier: Apache-2.0
// MeshState: what a waypoint knows about the mesh at one moment; immutable, shared by all loops. Held for the
// length of an exchange, so that a change never shows half.
#pragma once

#include "mesh/model/view.h"
#include "mesh/model/waypoint.h"

namespace culvert::waypoint {

struct MeshState {
  model::ViewRef mesh = model::MeshView::empty();
  model::WaypointViewRef l7 = model::WaypointView::empty();
};
using MeshStateRef = std::shared_ptr<const MeshState>;

}  // namespace culvert::waypoint
