// SPDX-License-Identifier: Apache-2.0
// compile: objects to what the proxies need (spec control-plane sections 1 and 2). Pure: the same objects
// give the same result; nothing is read but the arguments.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/compile/telemetry.h"
#include "mesh/kube/objects.h"
#include "mesh/model/policy.h"
#include "mesh/model/waypoint.h"
#include "mesh/model/workload.h"

namespace culvert::control {

// Who carries out what policies bound by selector say about HTTP.
enum class SelectorL7 : unsigned char {
  kWaypoint,  // the waypoint of the workloads they select; without one they refuse
  kUpstream,  // nobody, as in Istio's ambient mode
};

struct CompileOptions {
  std::string cluster_id = "Kubernetes";
  std::string trust_domain = "cluster.local";
  std::string cluster_domain = "cluster.local";
  std::string root_namespace = "istio-system";
  std::string system_namespace = "istio-system";  // carries topology.istio.io/network
  SelectorL7 selector_l7 = SelectorL7::kWaypoint;
  // The stable VIP of a Service or ServiceEntry host that has none; an error leaves it without.
  std::function<base::Result<base::IpAddr>(const std::string& key)> allocate_vip;
  // The key set behind a URI as it was last fetched; empty: none, and its tokens are refused. Null: none at
  // all.
  std::function<std::string(const std::string& uri)> jwks;
  std::string session_key;           // for waypoints, see WaypointSettings
  TraceCollectors trace_collectors;  // of tracing providers that meshConfig does not define
};

enum class Severity : unsigned char { kInfo, kWarning, kError };
std::string_view to_string(Severity severity);

// What a user should know about an object (spec section 7.2; MSH codes are ours).
struct Finding {
  std::string code;
  Severity severity = Severity::kWarning;
  kube::Origin origin;
  std::string object;  // "AuthorizationPolicy production/api"
  std::string message;
};

// What the status of an object says (spec control-plane section 3). Types and reasons are those of the
// Gateway API and of Istio, which programs read; messages are ours.
struct Condition {
  std::string type;
  bool holds = false;
  std::string reason;
  std::string message;
};
struct PartStatus {
  std::string name;  // a parent as "Service shop/api", then ":port" and " section name" if given; a listener
  std::vector<Condition> conditions;
};
struct ObjectStatus {
  int64_t observed_generation = 0;  // 0: it is not counted
  std::vector<Condition> conditions;
  std::vector<PartStatus> parents;    // of routes
  std::vector<PartStatus> listeners;  // of Gateways
};

// Keys are xDS names.
struct Compiled {
  std::map<std::string, std::shared_ptr<const model::Workload>> workloads;
  std::map<std::string, std::shared_ptr<const model::Service>> services;
  std::map<std::string, std::shared_ptr<const model::Policy>> policies;
  // For waypoints; each sees the services that are bound to it.
  std::map<std::string, std::shared_ptr<const model::WaypointService>> waypoint_services;
  std::map<std::string, std::shared_ptr<const model::Backend>> backends;
  std::map<std::string, std::shared_ptr<const model::WorkloadLabels>> workload_labels;
  std::shared_ptr<const model::WaypointSettings> settings;  // null in an empty compilation only
  // "ns/name" of the waypoints of a service, the primary first; by service.
  std::map<std::string, std::vector<std::string>> waypoints_of;
  std::map<std::string, ObjectStatus> status;  // by "HTTPRoute ns/name"
  std::vector<Finding> findings;               // in a stable order
};

// istio-waypoint, culvert-waypoint, or a GatewayClass of the mesh controller.
bool is_waypoint_class(const kube::Objects& objects, const std::string& class_name);

// `previous` is the result in force: a policy with values that cannot be read keeps its form there.
Compiled compile(const kube::Objects& objects, const CompileOptions& options,
                 const Compiled* previous = nullptr);

}  // namespace culvert::control
