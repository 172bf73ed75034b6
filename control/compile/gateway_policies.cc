// SPDX-License-Identifier: Apache-2.0
// BackendTLSPolicy and XBackendTrafficPolicy (spec waypoint section 2.5). A TLS policy that cannot be carried
// out makes its backend refuse: it never falls back to plaintext.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "control/compile/gateway_routes.h"

namespace culvert::control {

namespace {

template <class T>
std::vector<const T*> oldest_first(const kube::Table<T>& table) {
  std::vector<const T*> out;
  for (const auto& [key, object] : table) out.push_back(object.get());
  std::sort(out.begin(), out.end(), [](const T* a, const T* b) { return older(a->meta, b->meta); });
  return out;
}

// The reference of `policy` to that service, of the policy's own namespace; null: there is none.
template <class Policy>
const kube::TargetRef* reference(const Policy& policy, const ServiceSource& source) {
  const kube::Meta& meta = source.service ? source.service->meta : source.entry->meta;
  std::string_view kind = source.service ? "Service" : "ServiceEntry";
  for (const kube::TargetRef& ref : policy.target_refs) {
    bool here = policy.meta.ns == meta.ns && (ref.ns.empty() || ref.ns == meta.ns);
    if (here && ref.kind == kind && ref.name == meta.name) return &ref;
  }
  return nullptr;
}

// By a port's name; 0: there is none of that name.
uint16_t port_of(const ServiceSource& source, const std::string& section) {
  if (source.service) {
    for (const kube::ServicePort& port : source.service->ports) {
      if (port.name == section) return port.port;
    }
    return 0;
  }
  for (const kube::ServiceEntry::Port& port : source.entry->ports) {
    if (port.name == section) return port.number;
  }
  return 0;
}

model::BackendTls tls_of(const kube::BackendTlsPolicy& policy, const kube::Objects& objects) {
  model::BackendTls out;
  out.server_name = policy.hostname;
  // They take the place of the hostname, which stays what is asked for by SNI.
  for (const auto& name : policy.subject_alt_names) out.subject_alt_names.push_back(name.value);
  for (const kube::BackendTlsPolicy::CaRef& ref : policy.ca_refs) {
    auto map = objects.config_maps.find(policy.meta.ns + "/" + ref.name);
    const std::string* roots = nullptr;
    if (ref.kind == "ConfigMap" && map != objects.config_maps.end()) {
      auto found = map->second->data.find("ca.crt");
      if (found != map->second->data.end()) roots = &found->second;
    }
    if (!roots || roots->empty()) {
      out.broken = fmt::format("its BackendTLSPolicy names {} {}, which has no ca.crt or is not there",
                               ref.kind, ref.name);
      return out;
    }
    out.roots += *roots;
    if (!out.roots.ends_with('\n')) out.roots += '\n';
  }
  return out;
}

// For one port, or for all.
template <class Change>
void change(model::PortedPolicy& policy, uint16_t port, Change apply) {
  if (port != 0) {
    policy.by_port.try_emplace(port, policy.all);
    apply(policy.by_port.at(port));
    return;
  }
  apply(policy.all);
  for (auto& [number, one] : policy.by_port) apply(one);
}

template <class Change>
void change(model::Backend& backend, uint16_t port, Change apply) {
  change(backend.policy, port, apply);
  for (model::Subset& subset : backend.subsets) change(subset.policy, port, apply);
}

}  // namespace

GatewayPolicies::GatewayPolicies(Context& context)
    : context_(context),
      tls_(oldest_first(context.objects.backend_tls_policies)),
      traffic_(oldest_first(context.objects.backend_traffic_policies)) {}

void GatewayPolicies::apply(const std::string& key, const ServiceSource& source, model::Backend& out) {
  // What names a port goes before what names the whole; of equals the oldest counts.
  std::map<uint16_t, const kube::BackendTlsPolicy*> by_port;
  for (const kube::BackendTlsPolicy* policy : tls_) {
    const kube::TargetRef* ref = reference(*policy, source);
    if (!ref) continue;
    uint16_t port = ref->section_name.empty() ? 0 : port_of(source, ref->section_name);
    if (!ref->section_name.empty() && port == 0) continue;
    in_force_.insert(policy);
    if (!by_port.emplace(port, policy).second) {
      context_.find("MSH025", Severity::kWarning, policy->meta, "BackendTLSPolicy",
                    fmt::format("no effect on {}: an older one is in force", key));
    }
  }
  // The whole first (port 0), then the ports.
  for (const auto& [port, policy] : by_port) {
    model::BackendTls tls = tls_of(*policy, context_.objects);
    if (!tls.broken.empty()) {
      context_.find("MSH025", Severity::kError, policy->meta, "BackendTLSPolicy",
                    fmt::format("{} refuses: {}", key, tls.broken));
    }
    change(out, port, [&](model::TrafficPolicy& to) { to.tls = tls; });
  }
  for (const kube::BackendTrafficPolicy* policy : traffic_) {
    if (!reference(*policy, source)) continue;
    in_force_.insert(policy);
  }
  auto keeps = std::find_if(traffic_.begin(), traffic_.end(), [&](const kube::BackendTrafficPolicy* policy) {
    return policy->session && reference(*policy, source);
  });
  if (keeps != traffic_.end()) {
    model::SessionPersistence session = compile_session(*(*keeps)->session);
    change(out, 0, [&](model::TrafficPolicy& to) { to.session = session; });
  }
  auto first = std::find_if(traffic_.begin(), traffic_.end(), [&](const kube::BackendTrafficPolicy* policy) {
    return policy->retry && reference(*policy, source);
  });
  if (first == traffic_.end()) return;
  // A floor of retries per time, as retries at once: those of one second.
  const auto& retry = *(*first)->retry;
  double seconds = std::max(1e-3, std::chrono::duration<double>(retry.min_rate_interval).count());
  double floor = std::ceil(std::min(1e6, retry.min_rate_count / seconds));
  model::RetryBudget budget{retry.budget_percent, static_cast<uint32_t>(floor)};
  change(out, 0, [&](model::TrafficPolicy& to) { to.retry_budget = budget; });
}

void GatewayPolicies::report() {
  auto unfelt = [&](const auto& policies, std::string_view kind) {
    for (const auto* policy : policies) {
      if (in_force_.contains(policy)) continue;
      context_.find("MSH025", Severity::kWarning, policy->meta, kind,
                    "no effect: targetRefs names no Service or ServiceEntry of its own namespace, or no port "
                    "of it");
    }
  };
  unfelt(tls_, "BackendTLSPolicy");
  unfelt(traffic_, "XBackendTrafficPolicy");
}

}  // namespace culvert::control
