// SPDX-License-Identifier: Apache-2.0
// What a waypoint's Gateway asks to be run (spec waypoint section 1.3, control-plane section 6): pure.
// Whoever runs it (processes.h on this machine, kubernetes.h in a cluster) starts from the same derivation.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control/compile/compile.h"

namespace culvert::control {

struct WaypointDeployment {
  struct Port {
    std::string name;
    uint16_t port = 0;
    std::string app_protocol;
    bool operator==(const Port&) const = default;
  };
  std::string ns;
  std::string name;             // of the Gateway, and of what is made for it
  std::string service_account;  // the identity is ns/service_account
  std::string class_name;
  kube::Labels labels;                  // of all that is made for it
  kube::Labels pod_labels;              // beside those
  kube::Labels annotations;             // of all that is made for it
  std::vector<Port> ports;              // of its Service: status-port first, then the listeners
  uint32_t replicas = 1;                // a lone process, or where a Deployment starts
  std::optional<base::IpAddr> address;  // asked for by the Gateway
  std::string parameters;               // parametersRef as "Kind name"; empty: none
  kube::Origin origin;

  std::string key() const { return ns + "/" + name; }
  // The pod of a waypoint that is a process.
  std::string pod_name() const { return name + "-0"; }
};

struct DerivedWaypoints {
  std::map<std::string, WaypointDeployment> deployments;  // by "ns/name" of the Gateway
  std::vector<Finding> findings;                          // Gateways that are not run, and why
};

// What may be part of a file's name and of an identity (RFC 1123).
bool is_dns_name(const std::string& text, size_t bytes_max, bool dots);

// Whose traffic it serves: istio.io/waypoint-for of the Gateway, else of its class.
std::string waypoint_traffic(const kube::Objects& objects, const kube::Gateway& gateway);

// Gateways of a waypoint class whose address nobody else has stated.
DerivedWaypoints derive_waypoints(const kube::Objects& objects);

// Where a waypoint runs. An empty `pod_name`, `node` or `address`: Kubernetes tells the container.
struct WaypointPlace {
  std::string pod_name;
  std::string node;
  std::optional<base::IpAddr> address;  // it listens there and nowhere else
  uint16_t admin_port = 15000;
  std::string control_address;  // https://host:port of xDS and CA
  std::string root_path;        // file with the roots of the control plane
  std::string token_path;
  std::string trust_domain;
  std::string cluster_id;
  std::string cluster_domain;
  std::string network;
  base::Duration drain = std::chrono::seconds(45);
};

struct EnvironmentVariable {
  std::string name;
  std::string value;
  std::string field_path;  // of the pod, in place of a value
};

// What mesh/config/waypoint_config.h reads.
std::vector<EnvironmentVariable> waypoint_environment(const WaypointDeployment& deployment,
                                                      const WaypointPlace& place);

}  // namespace culvert::control
