// SPDX-License-Identifier: Apache-2.0
// `culvert waypoint`: the manifests of waypoints, and how far the running ones are (spec control-plane
// section 7.1: the columns of upstream's tools). Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "control/cli/render.h"
#include "control/deploy/kubernetes.h"

namespace culvert::control {

struct WaypointObjects {
  std::string yaml;
  std::vector<Finding> refused;  // Gateways for which there is nothing to print
};
// The Kubernetes objects of every waypoint Gateway among these manifests.
base::Result<WaypointObjects> waypoint_objects(const std::vector<std::string>& paths,
                                               const KubernetesOptions& options);

enum class WaypointView : unsigned char { kList, kStatus };
// `json` is culvertd's /debug/waypoints. `ns` empty: all.
base::Result<std::string> render_waypoints(WaypointView view, std::string_view json, const std::string& ns,
                                           OutputFormat format);

}  // namespace culvert::control
