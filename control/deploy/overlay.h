// SPDX-License-Identifier: Apache-2.0
// The manifests as they would read if an API server wrote down what runs: a Gateway's status address, a Pod
// for its waypoint. Pure.
#pragma once

#include <map>

#include "control/deploy/derive.h"

namespace culvert::control {

struct RunningWaypoint {
  base::IpAddr address;
  std::string node;
  // It has been ready once: its Gateway has the address from then on, also while it is not ready, so that
  // traffic is refused rather than sent around it (spec control-plane section 1.12).
  bool programmed = false;
  bool ready = false;
};

// `running` by the keys of `deployments`; those without an entry there are left out.
kube::ObjectsRef with_waypoints(const kube::ObjectsRef& objects,
                                const std::map<std::string, WaypointDeployment>& deployments,
                                const std::map<std::string, RunningWaypoint>& running);

}  // namespace culvert::control
