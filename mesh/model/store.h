// SPDX-License-Identifier: Apache-2.0
// MeshStore: takes updates on the control loop and makes the next MeshView (design 3.13, spec apis section
// 2).
//
// The truth is what each workload says about itself (its services, ports and health); every index follows
// from it, so that updates may come in any order and always end in the same view. Endpoints of a service that
// has not come yet wait under its name. Not thread safe; its views are.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/model/identity.h"
#include "mesh/model/name.h"
#include "mesh/model/view.h"

namespace culvert::model {

// One response of the control plane, decoded. Updates are full replacements and are applied first, then the
// removals: a name in both ends up removed.
struct MeshUpdate {
  std::vector<Workload> workloads;
  std::vector<Service> services;
  std::vector<Policy> policies;
  std::vector<std::string>
      removed_addresses;                      // xDS names: a uid, or "ns/hostname"; unknown ones mean nothing
  std::vector<std::string> removed_policies;  // "ns/name"

  bool empty() const {
    return workloads.empty() && services.empty() && policies.empty() && removed_addresses.empty() &&
           removed_policies.empty();
  }
};

// What an update has changed.
struct MeshChange {
  ViewRef view;
  // A policy was added, updated or removed: live connections are to be checked again.
  bool policies_changed = false;
  // Identities of our node that now need a certificate: the first workload that speaks HBONE (or tunnels
  // natively) with it has come. Only if the node has a name.
  std::vector<Identity> local_identities_added;
  // Identities whose last workload on our node has gone.
  std::vector<Identity> local_identities_gone;
};

class MeshStore {
 public:
  // `node`: our node's name. Empty: every workload counts as local for MeshView::local_workload.
  explicit MeshStore(std::string node);
  ~MeshStore();
  MeshStore(const MeshStore&) = delete;
  MeshStore& operator=(const MeshStore&) = delete;

  MeshChange apply(MeshUpdate update);
  const ViewRef& view() const;
  // Share texts of what is fed to this store.
  NamePool& names();

  // xDS names held now, sorted: for a sweep after a reconnect without versions (spec apis section 3.4).
  std::vector<std::string> address_names() const;
  std::vector<std::string> policy_names() const;

  struct Stats {
    uint64_t updates = 0;            // calls of apply that changed anything
    uint64_t endpoint_rebuilds = 0;  // endpoint lists made anew; at most one per service and update
    size_t staged_services = 0;      // services unknown so far that workloads belong to
  };
  Stats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace culvert::model
