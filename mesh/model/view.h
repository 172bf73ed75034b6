// SPDX-License-Identifier: Apache-2.0
// MeshView: everything a proxy knows about the mesh at one moment; immutable, indexed, shared (design 3.13).
// Lookup rules: spec ztunnel section 2.2. Built by MeshStore on the control loop, read on every loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "mesh/model/index.h"
#include "mesh/model/policy.h"
#include "mesh/model/workload.h"

namespace culvert::model {

class MeshStore;
class MeshView;
using ViewRef = std::shared_ptr<const MeshView>;

// What an address or a name stands for; monostate: nothing known.
using Destination = std::variant<std::monostate, WorkloadRef, ServiceRef>;

class MeshView {
 public:
  // A mesh of nothing, for the time before the first update.
  static ViewRef empty();

  // --- workloads ---
  // Null if unknown.
  WorkloadRef workload(std::string_view uid) const;
  // By (network, ip); never one of host network. Several: pod with HBONE, pod, HBONE, any; then the latest.
  WorkloadRef workload_at(std::string_view network, const base::IpAddr& ip) const;
  // All that claim the address, in order of insertion.
  std::span<const WorkloadRef> workloads_at(std::string_view network, const base::IpAddr& ip) const;
  // Workloads of external hosts, by their hostname.
  WorkloadRef workload_by_hostname(std::string_view ns, std::string_view hostname) const;
  // A pod of our own node by what the node agent says about it, never by address (spec ztunnel 2.1 step 4).
  WorkloadRef local_workload(std::string_view ns, std::string_view name,
                             std::string_view service_account) const;

  // --- services ---
  // Where several namespaces own the host or address: visible to the client, then its own namespace, then
  // canonical (the last), then `preferred_ns`, then the first seen. No `client_ns`: no visibility filter.
  ServiceRef service(std::string_view ns, std::string_view hostname) const;
  ServiceRef service_by_host(std::string_view hostname, std::optional<std::string_view> client_ns,
                             std::string_view preferred_ns = {}) const;
  // Exact VIP; if nothing visible, the CIDR VIPs ranked by (own namespace, prefix length, canonical).
  ServiceRef service_at(std::string_view network, const base::IpAddr& ip,
                        std::optional<std::string_view> client_ns) const;
  // Health-filtered endpoints; valid as long as this view.
  std::span<const Endpoint> endpoints(const NamespacedHostname& service) const;

  // --- either ---
  // Workload first, then service.
  Destination find_address(std::string_view network, const base::IpAddr& ip,
                           std::optional<std::string_view> client_ns) const;
  // Exact service (no visibility filter), then a workload of that hostname.
  Destination find_hostname(std::string_view ns, std::string_view hostname) const;

  // --- policies ---
  PolicyRef policy(std::string_view key) const;  // "ns/name"
  std::span<const PolicyRef> global_policies() const;
  std::span<const PolicyRef> namespace_policies(std::string_view ns) const;

  // --- listing, for admin views; order is stable but means nothing ---
  void each_workload(const std::function<void(const WorkloadRef&)>& call) const;
  void each_service(const std::function<void(const ServiceRef&)>& call) const;
  void each_policy(const std::function<void(const PolicyRef&)>& call) const;
  size_t workload_count() const { return data_.workloads.size(); }
  size_t service_count() const { return data_.services.size(); }
  size_t policy_count() const { return data_.policies.size(); }
  // Grows with every change of the store.
  uint64_t generation() const { return data_.generation; }

 private:
  friend class MeshStore;
  explicit MeshView(detail::ViewData data) : data_(std::move(data)) {}
  detail::ViewData data_;
};

}  // namespace culvert::model
