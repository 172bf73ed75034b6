// SPDX-License-Identifier: Apache-2.0
// MeshState: what a waypoint knows about the mesh at one moment; immutable, shared by all loops. Held for the
// length of an exchange, so that a change never shows half.
#pragma once

#include <optional>
#include <string_view>

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
// Whether a policy bound by selector covers a pod; one that is not bound by selector does not. None: it
// cannot be told, since the pod's labels have not come yet.
template <class Policy>
std::optional<bool> selects(const Policy& policy, const model::Workload& workload,
                            const model::WaypointView& l7) {
  if (!policy.selector) return false;
  std::string_view ns = policy.ns;
  if constexpr (requires { policy.selector_ns; }) {
    if (!policy.selector_ns.empty()) ns = policy.selector_ns;
  }
  if (!policy.selector_everywhere && workload.ns != ns) return false;
  if (policy.selector->empty()) return true;
  // Outside of the mesh there are no labels.
  static const model::LabelMap kNone;
  const model::LabelMap* labels = workload.uid.empty() ? &kNone : l7.known_labels(workload.uid);
  if (!labels) return std::nullopt;
  return covers(*policy.selector, *labels);
}

// All of `policies` can be held against the pod.
template <class Policies>
bool can_tell(const Policies& policies, const model::Workload& workload, const model::WaypointView& l7) {
  for (const auto& policy : policies) {
    if (!selects(policy, workload, l7)) return false;
  }
  return true;
}

}  // namespace culvert::waypoint
