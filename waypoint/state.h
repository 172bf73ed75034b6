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

// Every label of `wanted` is on the pod.
bool covers(const model::LabelMap& wanted, const model::LabelMap& labels);
// Whether a policy bound by selector covers a pod; one that is not bound by selector does not.
template <class Policy>
bool selects(const Policy& policy, const model::Workload& workload, const model::WaypointView& l7) {
  return policy.selector && (policy.selector_everywhere || workload.ns == policy.ns) &&
         covers(*policy.selector, l7.labels(workload.uid));
}

}  // namespace culvert::waypoint
