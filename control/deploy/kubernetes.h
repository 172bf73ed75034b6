// SPDX-License-Identifier: Apache-2.0
// A waypoint as Kubernetes objects (spec control-plane section 6): ServiceAccount, Deployment and Service
// from the same derivation that processes start from. Pure; what is printed is applied by whoever asked.
#pragma once

#include <string>

#include "control/deploy/derive.h"

namespace culvert::control {

struct KubernetesOptions {
  std::string image;  // of the waypoint
  std::string control = "https://istiod.istio-system.svc:15012";
  std::string trust_domain = "cluster.local";
  std::string cluster_id = "Kubernetes";
  std::string cluster_domain = "cluster.local";
  std::string revision = "default";  // istio.io/rev of the pods
};

// YAML documents, each begun by "---".
std::string kubernetes_objects(const WaypointDeployment& deployment, const KubernetesOptions& options);

struct GatewayRequest {
  std::string ns = "default";
  std::string name = "waypoint";
  std::string traffic;   // istio.io/waypoint-for; empty: not said
  std::string revision;  // istio.io/rev; empty: not said
};
// The manifest that asks for a waypoint. An error: a name that no API server takes, or an unknown traffic.
base::Result<std::string> waypoint_gateway(const GatewayRequest& request);

}  // namespace culvert::control
