// SPDX-License-Identifier: Apache-2.0
#include "mesh/model/view.h"

#include <tuple>

namespace culvert::model {
namespace {

// Pod with HBONE 3, pod 2, HBONE 1, any other 0 (spec ztunnel section 2.2).
int rank_of(const Workload& workload) {
  return (workload.is_pod() ? 2 : 0) + (workload.protocol == TunnelProtocol::kHbone ? 1 : 0);
}

// The highest rank; among equals the last inserted.
WorkloadRef best_workload(const detail::WorkloadSet* set) {
  if (!set) return nullptr;
  const WorkloadRef* best = nullptr;
  int best_rank = -1;
  for (const auto& workload : *set) {
    if (int rank = rank_of(*workload); rank >= best_rank) {
      best = &workload;
      best_rank = rank;
    }
  }
  return best ? *best : nullptr;
}

bool visible(const Service& service, std::optional<std::string_view> client_ns) {
  return !client_ns || service.visibility == Visibility::kPublic || service.ns == *client_ns;
}

ServiceRef best_service(const detail::ServiceSet* set, std::optional<std::string_view> client_ns,
                        std::string_view preferred_ns) {
  if (!set) return nullptr;
  const ServiceRef *own = nullptr, *canonical = nullptr, *preferred = nullptr, *first = nullptr;
  for (const auto& service : *set) {
    if (!visible(*service, client_ns)) continue;
    if (client_ns && service->ns == *client_ns) own = &service;
    if (service->canonical) canonical = &service;
    if (!preferred_ns.empty() && service->ns == preferred_ns) preferred = &service;
    if (!first) first = &service;
  }
  for (const ServiceRef* choice : {own, canonical, preferred, first}) {
    if (choice) return *choice;
  }
  return nullptr;
}

std::span<const PolicyRef> span_of(const detail::PolicySet* set) {
  return set ? std::span<const PolicyRef>(*set) : std::span<const PolicyRef>();
}

}  // namespace

ViewRef MeshView::empty() { return ViewRef(new MeshView(detail::ViewData())); }

WorkloadRef MeshView::workload(std::string_view uid) const {
  const WorkloadRef* found = data_.workloads.find(uid);
  return found ? *found : nullptr;
}

WorkloadRef MeshView::workload_at(std::string_view network, const base::IpAddr& ip) const {
  return best_workload(data_.workloads_by_address.find(detail::AddressKeyView{network, ip}));
}

std::span<const WorkloadRef> MeshView::workloads_at(std::string_view network, const base::IpAddr& ip) const {
  const auto* found = data_.workloads_by_address.find(detail::AddressKeyView{network, ip});
  return found ? std::span<const WorkloadRef>(*found) : std::span<const WorkloadRef>();
}

WorkloadRef MeshView::workload_by_hostname(std::string_view ns, std::string_view hostname) const {
  return best_workload(data_.workloads_by_host.find(detail::HostKeyView{ns, hostname}));
}

WorkloadRef MeshView::local_workload(std::string_view ns, std::string_view name,
                                     std::string_view service_account) const {
  return best_workload(data_.workloads_local.find(detail::LocalKeyView{ns, name, service_account}));
}

ServiceRef MeshView::service(std::string_view ns, std::string_view hostname) const {
  const ServiceRef* found = data_.services.find(detail::HostKeyView{ns, hostname});
  return found ? *found : nullptr;
}

ServiceRef MeshView::service_by_host(std::string_view hostname, std::optional<std::string_view> client_ns,
                                     std::string_view preferred_ns) const {
  return best_service(data_.services_by_host.find(hostname), client_ns, preferred_ns);
}

ServiceRef MeshView::service_at(std::string_view network, const base::IpAddr& ip,
                                std::optional<std::string_view> client_ns) const {
  if (auto exact =
          best_service(data_.services_by_vip.find(detail::AddressKeyView{network, ip}), client_ns, {})) {
    return exact;
  }
  const ServiceRef* best = nullptr;
  std::tuple<bool, int, bool> best_rank;
  for (int bits : ip.is_v6() ? data_.cidr_bits_v6 : data_.cidr_bits_v4) {
    auto range = base::Cidr::make(ip, bits);
    if (!range) continue;
    const auto* found = data_.services_by_cidr.find(detail::CidrKeyView{network, *range});
    if (!found) continue;
    for (const auto& service : *found) {
      if (!visible(*service, client_ns)) continue;
      std::tuple rank(client_ns && service->ns == *client_ns, bits, service->canonical);
      if (!best || rank > best_rank) {
        best = &service;
        best_rank = rank;
      }
    }
  }
  return best ? *best : nullptr;
}

std::span<const Endpoint> MeshView::endpoints(const NamespacedHostname& service) const {
  const auto* found = data_.endpoints.find(service);
  return found ? std::span<const Endpoint>(**found) : std::span<const Endpoint>();
}

Destination MeshView::find_address(std::string_view network, const base::IpAddr& ip,
                                   std::optional<std::string_view> client_ns) const {
  if (auto workload = workload_at(network, ip)) return workload;
  if (auto service = service_at(network, ip, client_ns)) return service;
  return std::monostate();
}

Destination MeshView::find_hostname(std::string_view ns, std::string_view hostname) const {
  if (auto exact = service(ns, hostname)) return exact;
  if (auto workload = workload_by_hostname(ns, hostname)) return workload;
  return std::monostate();
}

PolicyRef MeshView::policy(std::string_view key) const {
  const PolicyRef* found = data_.policies.find(key);
  return found ? *found : nullptr;
}

std::span<const PolicyRef> MeshView::global_policies() const {
  return span_of(data_.policies_by_scope.find(std::string_view()));
}

std::span<const PolicyRef> MeshView::namespace_policies(std::string_view ns) const {
  // "" is the key of the global ones, which no namespace may borrow.
  return ns.empty() ? std::span<const PolicyRef>() : span_of(data_.policies_by_scope.find(ns));
}

void MeshView::each_workload(const std::function<void(const WorkloadRef&)>& call) const {
  data_.workloads.for_each(call);
}
void MeshView::each_service(const std::function<void(const ServiceRef&)>& call) const {
  data_.services.for_each(call);
}
void MeshView::each_policy(const std::function<void(const PolicyRef&)>& call) const {
  data_.policies.for_each(call);
}

}  // namespace culvert::model
