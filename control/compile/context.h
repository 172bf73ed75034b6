// SPDX-License-Identifier: Apache-2.0
// What the steps of one compilation share. Private to control/compile. Order: waypoints, services, policies,
// workloads, what waypoints are told (spec control-plane section 1.4).
#pragma once

#include <optional>
#include <set>

#include "control/compile/compile.h"

namespace culvert::control {

// A Gateway of a waypoint class with an address.
struct Waypoint {
  std::string ns;
  std::string name;
  std::optional<model::GatewayAddress> address;  // none: not ready
  std::string traffic = "service";               // istio.io/waypoint-for
  std::optional<model::AppTunnel> binding;
  std::string from = "Same";  // allowedRoutes.namespaces
  kube::LabelSelector from_selector;
};

struct WaypointBinding {
  std::optional<model::GatewayAddress> primary;
  std::vector<model::WeightedWaypoint> weighted;
  std::vector<std::string> names;  // "ns/name", the primary first
};

// A compiled Service with what membership needs of its source.
struct ServiceSource {
  std::shared_ptr<const kube::Service> service;
  std::shared_ptr<const kube::ServiceEntry> entry;  // exactly one of the two
  std::string hostname;
  // Of workloads; null: it selects none.
  const kube::Labels* selector() const {
    if (service) return &service->selector;
    return entry->workload_selector ? &*entry->workload_selector : nullptr;
  }
};

inline const std::string* label(const kube::Labels& labels, const std::string& key) {
  auto found = labels.find(key);
  return found == labels.end() ? nullptr : &found->second;
}
// Every entry of `selector` is in `labels`.
inline bool selects(const kube::Labels& selector, const kube::Labels& labels) {
  for (const auto& [key, value] : selector) {
    const std::string* have = label(labels, key);
    if (!have || *have != value) return false;
  }
  return true;
}

// Objects by a selector that is not empty, so that a workload is held only against those that may select it.
template <class T>
class SelectorIndex {
 public:
  void add(const kube::Labels& selector, T* object) {
    if (selector.empty()) return;
    const auto& [key, value] = *selector.begin();
    by_label_[key][value].push_back(object);
  }
  // Those whose first label is among `labels`; the caller looks at the whole selector.
  template <class Call>
  void each_candidate(const kube::Labels& labels, Call call) const {
    for (const auto& [key, by_value] : by_label_) {
      const std::string* value = label(labels, key);
      auto found = value ? by_value.find(*value) : by_value.end();
      if (found == by_value.end()) continue;
      for (T* object : found->second) call(*object);
    }
  }

 private:
  std::map<std::string, std::map<std::string, std::vector<T*>>> by_label_;
};

struct Context {
  const kube::Objects& objects;
  const CompileOptions& options;
  const Compiled* previous;
  Compiled& out;
  std::string network;
  std::map<std::string, Waypoint> waypoints;     // by "ns/name"
  std::map<std::string, ServiceSource> sources;  // by service key
  std::map<std::string, SelectorIndex<const ServiceSource>> sources_by_ns;
  // Policies that are sent and select workloads, and all PeerAuthentications, by namespace: a workload is
  // held against those of its own namespace and of the root namespace only.
  std::map<std::string, SelectorIndex<const kube::AuthorizationPolicy>> selector_policies;
  std::map<std::string, std::vector<const kube::PeerAuthentication*>> peer_authentications;

  // As it is in force; null: there is none.
  const std::shared_ptr<const model::Policy>* previous_policy(const std::string& key) const {
    if (!previous) return nullptr;
    auto found = previous->policies.find(key);
    return found == previous->policies.end() ? nullptr : &found->second;
  }
  void find(std::string code, Severity severity, const kube::Meta& meta, std::string_view kind,
            std::string message) {
    out.findings.push_back(
        {std::move(code), severity, meta.origin, std::string(kind) + " " + meta.key(), std::move(message)});
  }
};

// waypoints.cc
void compile_waypoints(Context& context);
// `workload`: the object is a workload, not a service.
WaypointBinding bind_waypoint(Context& context, const kube::Meta& meta, std::string_view kind, bool workload);
const Waypoint* waypoint_instance(const Context& context, const kube::Meta& meta);
// services.cc
void compile_services(Context& context);
model::AppProtocol app_protocol(std::string_view name, std::string_view protocol, uint16_t port);
// policies.cc
void compile_authorization_policies(Context& context);
// Names of selector policies on a workload, sorted. After compile_authorization_policies.
std::vector<std::string> selected_policies(const Context& context, const std::string& ns,
                                           const kube::Labels& labels);
// peer_auth.cc
void compile_peer_authentications(Context& context);
std::vector<std::string> peer_authentication_policies(const Context& context, const std::string& ns,
                                                      const kube::Labels& labels);
// workloads.cc
void compile_workloads(Context& context);
// waypoint_services.cc, after all others
void compile_waypoint_resources(Context& context);

// Oldest first; ties by namespace, then name, so that replicas agree.
bool older(const kube::Meta& a, const kube::Meta& b);

}  // namespace culvert::control
