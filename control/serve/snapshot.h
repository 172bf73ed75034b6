// SPDX-License-Identifier: Apache-2.0
// Snapshot: what the control plane serves at one moment, encoded once and shared by all streams (spec
// control-plane section 1.3, apis section 6). Immutable.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/compile/compile.h"
#include "mesh/xds/waypoint_proto.h"

namespace culvert::control {

inline constexpr std::string_view kAddressType = "type.googleapis.com/istio.workload.Address";
inline constexpr std::string_view kAuthorizationType = "type.googleapis.com/istio.security.Authorization";

// One resource as it goes on the wire.
struct Resource {
  std::string version;  // lower-case hex of a content hash: equal on every replica and after a restart
  std::string value;    // serialized
  std::vector<std::string> aliases;  // "network/ip"; for on-demand streams
  // Not empty: only waypoints of this namespace get it; others get `for_others`, which tells no key.
  std::string owner_ns;
  std::shared_ptr<const Resource> for_others;

  const Resource& shown_to(std::string_view ns) const {
    return owner_ns.empty() || owner_ns == ns ? *this : *for_others;
  }
};
using ResourceRef = std::shared_ptr<const Resource>;
using ResourceTable = std::map<std::string, ResourceRef>;

struct Snapshot {
  uint64_t number = 0;  // grows with every change
  Compiled compiled;
  ResourceTable addresses;
  ResourceTable authorizations;
  // For waypoints only; of WaypointService each gets what is bound to it.
  ResourceTable waypoint_services, backends, workload_labels, settings;
  // For streams on demand; made when first asked for, since most meshes have none.
  struct Lookup {
    std::multimap<std::string, std::string> address_by_alias;      // "network/ip" to resource name
    std::multimap<std::string, std::string> workloads_of_service;  // "ns/host" to uid
  };
  const Lookup& lookup() const;

  // Whether `service` is bound to the waypoint "ns/name".
  bool bound(const std::string& service, std::string_view waypoint) const {
    auto found = compiled.waypoints_of.find(service);
    return found != compiled.waypoints_of.end() &&
           std::find(found->second.begin(), found->second.end(), waypoint) != found->second.end();
  }

  // `type` is one that is served.
  const ResourceTable& table(std::string_view type) const {
    if (type == kAddressType) return addresses;
    if (type == xds::kWaypointServiceType) return waypoint_services;
    if (type == xds::kBackendType) return backends;
    if (type == xds::kWorkloadLabelsType) return workload_labels;
    if (type == xds::kWaypointSettingsType) return settings;
    return authorizations;
  }

 private:
  mutable std::optional<Lookup> lookup_;  // control loop only
};
using SnapshotRef = std::shared_ptr<const Snapshot>;

// Encodes; what has not changed since `previous` (may be null) is taken over as it is.
SnapshotRef make_snapshot(Compiled compiled, const SnapshotRef& previous);

// Names whose resource is new, different or gone.
std::set<std::string> changed_names(const ResourceTable& before, const ResourceTable& after);

// 64-bit FNV-1a with a final mix, as lower-case hex: stable across builds and machines.
std::string content_hash(std::string_view bytes);

}  // namespace culvert::control
