// SPDX-License-Identifier: Apache-2.0
// What the steps of one compilation share. Private to control/compile. Order: waypoints, services, policies,
// workloads, what waypoints are told (spec control-plane section 1.4).
#pragma once

#include <optional>
#include <set>

#include "control/compile/compile.h"
#include "control/compile/guards.h"
#include "control/compile/selector.h"

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

// An AuthorizationPolicy without targetRefs (selector_l7.cc).
struct SelectorPolicy {
  const kube::AuthorizationPolicy* source = nullptr;
  Coverage coverage;
  bool needs_waypoint = false;  // some rule can be judged by a waypoint only
  // For node proxies: the resource its workloads name; empty: it holds by its scope, or is not sent.
  std::string by_name;
  // Of a DENY that workloads name: what it came to, and which rules speak of the last hop (about_hop).
  std::vector<model::PolicyRule> denies;
  std::vector<bool> denies_hop;
  std::vector<std::string> unguarded;  // workloads it covers that have no waypoint
  bool guarded = false;                // some have
  std::string missing;                 // for it to be carried out as written; empty: nothing
  bool covers_some = false;            // workload
};

struct SelectorTokens {
  const kube::RequestAuthentication* source = nullptr;
  Coverage coverage;
  std::vector<std::string> unguarded;
  bool guarded = false;
  std::string missing;  // as above
};

// All of them. The vectors are filled before the indexes and do not grow afterwards.
struct SelectorPolicies {
  std::vector<SelectorPolicy> policies;  // oldest first
  std::vector<SelectorTokens> tokens;    // oldest first; none with SelectorL7::kUpstream
  CoverageIndex<SelectorPolicy> covering;
  CoverageIndex<SelectorTokens> tokens_covering;
  std::map<std::string, std::vector<std::string>> waypoint_accounts;  // by "ns/name" of a waypoint
  std::set<std::string> hop_accounts;                                 // "ns/account" of every waypoint
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
  // By namespace: a workload is held against those of its own namespace and of the root namespace only.
  std::map<std::string, std::vector<const kube::PeerAuthentication*>> peer_authentications;
  SelectorPolicies selectors = {};
  const kube::MeshConfig* mesh = nullptr;  // null: none was given

  // As it is in force; null: there is none.
  const std::shared_ptr<const model::Policy>* previous_policy(const std::string& key) const {
    if (!previous) return nullptr;
    auto found = previous->policies.find(key);
    return found == previous->policies.end() ? nullptr : &found->second;
  }
  ObjectStatus& status(std::string_view kind, const kube::Meta& meta) {
    ObjectStatus& of = out.status[std::string(kind) + " " + meta.key()];
    of.observed_generation = meta.generation;
    return of;
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
// Of services: whether gateways send to the waypoint as clients of the mesh do.
bool ingress_use_waypoint(const Context& context, const kube::Meta& meta);
// Whose services and workloads may use it.
std::set<std::string> allowed_namespaces(const Context& context, const Waypoint& waypoint);
const Waypoint* waypoint_instance(const Context& context, const kube::Meta& meta);
// services.cc
void compile_services(Context& context);
model::AppProtocol app_protocol(std::string_view name, std::string_view protocol, uint16_t port);
// policies.cc, after plan_selector_policies
void compile_authorization_policies(Context& context);
// selector_l7.cc, after services
void plan_selector_policies(Context& context);
// It names the principal of a waypoint, and so speaks of who connects last, not of the client.
bool about_hop(const Context& context, const kube::AuthorizationPolicy::Rule& rule);
// Names of policies a workload lists, in the order of section 2.6; `waypoints`: "ns/name" of those its
// traffic may come from.
std::vector<std::string> attached_policies(Context& context, const std::string& name, const kube::Meta& meta,
                                           const std::set<std::string>& waypoints);
void report_selector_policies(Context& context);
// selector_guard.cc
// Some pod of the service may be covered. Goes by selectors: pods come and go, rules should not.
bool may_cover(const Coverage& coverage, const ServiceSource& source);
// What covers endpoints that a waypoint sends to: those of `services`, and any pod of `namespaces`.
struct WaypointReach {
  std::vector<const ServiceSource*> services;
  std::set<std::string> namespaces;
};
void compile_selector_guard(Context& context, const WaypointReach& reach, model::Guard& out);
// peer_auth.cc
void compile_peer_authentications(Context& context);
std::vector<std::string> peer_authentication_policies(const Context& context, const std::string& ns,
                                                      const kube::Labels& labels);
// workloads.cc
void compile_workloads(Context& context);
// pitfalls.cc, after all others
void report_pitfalls(Context& context);
// status.cc, after all others
void compile_status(Context& context);
// waypoint_services.cc
const kube::MeshConfig* pick_mesh_config(Context& context);
// After all others.
void compile_waypoint_resources(Context& context);

// Oldest first; ties by namespace, then name, so that replicas agree.
bool older(const kube::Meta& a, const kube::Meta& b);

}  // namespace culvert::control
