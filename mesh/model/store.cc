// SPDX-License-Identifier: Apache-2.0
#include "mesh/model/store.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

namespace culvert::model {
namespace {

using detail::ServiceSet;
using detail::WorkloadSet;

template <class Map>
struct BuilderFor;
template <class Key, class Value, class Traits>
struct BuilderFor<HashTrie<Key, Value, Traits>> {
  using type = HashTrieBuilder<Key, Value, Traits>;
};
template <class Map>
using Builder = typename BuilderFor<Map>::type;

// Puts `next` where `old` stood, else at the end; takes `old` out if there is no `next`. `old` may be null.
template <class Ref>
void put(std::vector<Ref>& set, const Ref& old, const Ref& next) {
  auto at = old ? std::find(set.begin(), set.end(), old) : set.end();
  if (at == set.end()) {
    if (next) set.push_back(next);
  } else if (next) {
    *at = next;
  } else {
    set.erase(at);
  }
}

// Changes the set under `key` and drops the key with its last entry.
template <class B, class Key, class Ref>
void put_under(B& builder, const Key& key, const Ref& old, const Ref& next) {
  auto& set = builder.edit(key);
  put(set, old, next);
  if (set.empty()) {
    builder.erase(key);
  } else {
    set.shrink_to_fit();
  }
}

// Takes `old` out under the keys it had and `next` has not; puts `next` under its own.
template <class B, class Key, class Ref>
void move_keys(B& builder, const std::vector<Key>& old_keys, const std::vector<Key>& next_keys,
               const Ref& old, const Ref& next) {
  for (const auto& key : old_keys) {
    if (std::find(next_keys.begin(), next_keys.end(), key) == next_keys.end()) {
      put_under(builder, key, old, Ref());
    }
  }
  for (const auto& key : next_keys) put_under(builder, key, old, next);
}

// Drops repetitions; the order means something (the first address is the preferred one).
template <class T>
void drop_repeated(std::vector<T>& items) {
  std::vector<T> seen;
  for (auto& item : items) {
    if (std::find(seen.begin(), seen.end(), item) == seen.end()) seen.push_back(std::move(item));
  }
  items = std::move(seen);
  items.shrink_to_fit();
}

// clear() would go on walking as many buckets as the largest update has ever needed.
template <class Map>
void forget(Map& map) {
  Map().swap(map);
}

template <class T>
List<T> without_repeated(const List<T>& items) {
  std::vector<T> out = items.to_vector();
  drop_repeated(out);
  return out.size() == items.size() ? items : List<T>(out);
}

}  // namespace

class MeshStore::Impl {
 public:
  explicit Impl(std::string node) : node_(std::move(node)), view_(MeshView::empty()) {}

  MeshChange apply(MeshUpdate update);
  std::vector<std::string> address_names();

  NamePool names_;
  Stats stats_;
  std::string node_;
  ViewRef view_;
  Builder<detail::PoliciesByKey> policies_;
  // Services that workloads belong to, whether known or not, with all endpoints, healthy or not.
  std::unordered_map<NamespacedHostname, std::shared_ptr<EndpointList>> members_;
  Builder<detail::ServicesByKey> services_;

 private:
  // What one update does to the endpoints of one service.
  struct EndpointChange {
    std::unordered_set<const Workload*> removed;
    EndpointList added;
  };
  struct LocalCount {
    size_t all = 0;
    size_t tunnelled = 0;
  };

  void set_workload(Workload workload);
  void share_lists(Workload& workload);
  void remove_workload(WorkloadRef old);
  void index_workload(const WorkloadRef& old, const WorkloadRef& next);
  void index_local(const WorkloadRef& old, const WorkloadRef& next);
  void set_service(Service service);
  void index_service(const ServiceRef& old, const ServiceRef& next);
  void count_cidr(const base::Cidr& range, int by);
  void remove_address(const std::string& name);
  void set_policy(Policy policy);
  void index_policy(const PolicyRef& old, const PolicyRef& next);
  void count_local(const Workload& workload, bool add);
  bool is_local(const Workload& workload) const { return node_.empty() || workload.node == node_; }
  void settle_endpoints();
  void report_identities(MeshChange& change);
  void publish();

  Builder<detail::WorkloadsByUid> workloads_;
  Builder<detail::WorkloadsByAddress> workloads_by_address_;
  Builder<detail::WorkloadsByHost> workloads_by_host_;
  Builder<detail::WorkloadsLocal> workloads_local_;
  Builder<detail::ServicesByHost> services_by_host_;
  Builder<detail::ServicesByVip> services_by_vip_;
  Builder<detail::ServicesByCidr> services_by_cidr_;
  std::map<int, size_t, std::greater<>> cidr_bits_v4_;
  std::map<int, size_t, std::greater<>> cidr_bits_v6_;
  Builder<detail::EndpointsByService> endpoints_;
  Builder<detail::PoliciesByScope> policies_by_scope_;
  std::unordered_map<Identity, LocalCount> local_;

  // Only during one apply:
  std::unordered_map<NamespacedHostname, EndpointChange> endpoint_changes_;
  std::vector<WorkloadRef> replaced_;  // keeps the addresses in `removed` from being used again
  std::unordered_map<Identity, LocalCount> local_before_;
  bool changed_ = false;
  bool policies_changed_ = false;
};

MeshChange MeshStore::Impl::apply(MeshUpdate update) {
  changed_ = policies_changed_ = false;
  for (auto& service : update.services) set_service(std::move(service));
  for (auto& workload : update.workloads) set_workload(std::move(workload));
  for (auto& policy : update.policies) set_policy(std::move(policy));
  for (const auto& name : update.removed_addresses) remove_address(name);
  for (const auto& key : update.removed_policies) {
    if (const PolicyRef* old = policies_.find(std::string_view(key))) index_policy(PolicyRef(*old), nullptr);
  }
  settle_endpoints();

  MeshChange change;
  change.policies_changed = policies_changed_;
  report_identities(change);
  if (changed_) publish();
  change.view = view_;
  return change;
}

void MeshStore::Impl::set_workload(Workload workload) {
  workload.addresses = without_repeated(workload.addresses);
  std::vector<Membership> services = workload.services.to_vector();
  std::sort(services.begin(), services.end(),
            [](const Membership& a, const Membership& b) { return a.service < b.service; });
  auto same = [](const Membership& a, const Membership& b) { return a.service == b.service; };
  services.erase(std::unique(services.begin(), services.end(), same), services.end());
  workload.services = services;
  share_lists(workload);
  const WorkloadRef* known = workloads_.find(workload.uid.view());
  WorkloadRef old = known ? *known : nullptr;
  if (old && *old == workload) return;
  index_workload(old, std::make_shared<const Workload>(std::move(workload)));
}

// Endpoints of one service are much alike: what is the same in the latest of them is held once.
void MeshStore::Impl::share_lists(Workload& workload) {
  if (workload.services.empty()) return;
  const NamespacedHostname& service = workload.services.front().service;
  const Workload* like = nullptr;
  if (auto change = endpoint_changes_.find(service);
      change != endpoint_changes_.end() && !change->second.added.empty()) {
    like = change->second.added.back().workload.get();
  } else if (auto members = members_.find(service); members != members_.end() && !members->second->empty()) {
    like = members->second->back().workload.get();
  }
  if (!like) return;
  if (like->services == workload.services) workload.services = like->services;
  if (like->authorization_policies == workload.authorization_policies)
    workload.authorization_policies = like->authorization_policies;
}

void MeshStore::Impl::remove_workload(WorkloadRef old) { index_workload(old, nullptr); }

void MeshStore::Impl::index_workload(const WorkloadRef& old, const WorkloadRef& next) {
  changed_ = true;
  std::vector<NetworkAddress> old_keys, next_keys;
  auto address_keys = [](const WorkloadRef& workload, std::vector<NetworkAddress>& keys) {
    // A host network address belongs to the node, not to the workload.
    if (!workload || workload->network_mode == NetworkMode::kHostNetwork) return;
    for (const auto& ip : workload->addresses) keys.push_back({workload->network, ip});
  };
  address_keys(old, old_keys);
  address_keys(next, next_keys);
  move_keys(workloads_by_address_, old_keys, next_keys, old, next);

  std::vector<NamespacedHostname> old_host, next_host;
  if (old && !old->hostname.empty()) old_host.push_back({old->ns, old->hostname});
  if (next && !next->hostname.empty()) next_host.push_back({next->ns, next->hostname});
  move_keys(workloads_by_host_, old_host, next_host, old, next);

  index_local(old, next);
  if (old) {
    for (const auto& member : old->services) endpoint_changes_[member.service].removed.insert(old.get());
    replaced_.push_back(old);
  }
  if (next) {
    for (uint32_t i = 0; i < next->services.size(); ++i) {
      endpoint_changes_[next->services[i].service].added.push_back({next, i});
    }
    workloads_.set(next->uid.view(), next);
  } else {
    workloads_.erase(old->uid.view());
  }
}

void MeshStore::Impl::index_local(const WorkloadRef& old, const WorkloadRef& next) {
  // The keys point into the workloads, so a set is always stored again under the key of its last one.
  auto change = [&](const Workload& at, const WorkloadRef& out, const WorkloadRef& in) {
    detail::LocalKeyView key{at.ns, at.name, at.service_account};
    const WorkloadSet* known = workloads_local_.find(key);
    WorkloadSet set = known ? *known : WorkloadSet();
    put(set, out, in);
    if (set.empty()) {
      workloads_local_.erase(key);
      return;
    }
    const Workload& last = *set.back();
    workloads_local_.set({last.ns, last.name, last.service_account}, std::move(set));
  };
  if (old && is_local(*old)) {
    change(*old, old, nullptr);
    count_local(*old, false);
  }
  if (next && is_local(*next)) {
    change(*next, nullptr, next);
    count_local(*next, true);
  }
}

void MeshStore::Impl::count_local(const Workload& workload, bool add) {
  if (node_.empty()) return;
  Identity identity = workload.identity();
  LocalCount& count = local_[identity];
  local_before_.try_emplace(identity, count);
  bool tunnelled = workload.protocol == TunnelProtocol::kHbone || workload.native_tunnel;
  count.all += add ? 1 : -1;
  if (tunnelled) count.tunnelled += add ? 1 : -1;
}

void MeshStore::Impl::report_identities(MeshChange& change) {
  for (const auto& [identity, before] : local_before_) {
    auto now = local_.find(identity);
    if (!before.tunnelled && now->second.tunnelled) change.local_identities_added.push_back(identity);
    if (before.all && !now->second.all) change.local_identities_gone.push_back(identity);
    if (!now->second.all) local_.erase(now);
  }
  std::sort(change.local_identities_added.begin(), change.local_identities_added.end());
  std::sort(change.local_identities_gone.begin(), change.local_identities_gone.end());
  forget(local_before_);
}

void MeshStore::Impl::set_service(Service service) {
  drop_repeated(service.vips);
  drop_repeated(service.cidr_vips);
  const ServiceRef* known = services_.find(service.key());
  ServiceRef old = known ? *known : nullptr;
  if (old && *old == service) return;
  index_service(old, std::make_shared<const Service>(std::move(service)));
}

void MeshStore::Impl::index_service(const ServiceRef& old, const ServiceRef& next) {
  changed_ = true;
  static const std::vector<NetworkAddress> kNoVips;
  static const std::vector<NetworkCidr> kNoCidrs;
  move_keys(services_by_vip_, old ? old->vips : kNoVips, next ? next->vips : kNoVips, old, next);
  move_keys(services_by_cidr_, old ? old->cidr_vips : kNoCidrs, next ? next->cidr_vips : kNoCidrs, old, next);
  if (old) {
    for (const auto& cidr : old->cidr_vips) count_cidr(cidr.range, -1);
  }
  if (next) {
    for (const auto& cidr : next->cidr_vips) count_cidr(cidr.range, 1);
  }
  NamespacedHostname key = (next ? next : old)->key();
  put_under(services_by_host_, key.hostname, old, next);
  if (next) {
    services_.set(key, next);
  } else {
    services_.erase(key);
  }
  // Its endpoints appear with it, vanish with it, or are filtered anew.
  if (!old || !next || old->admits_unhealthy() != next->admits_unhealthy()) endpoint_changes_[key];
}

void MeshStore::Impl::count_cidr(const base::Cidr& range, int by) {
  auto& counts = range.base().is_v6() ? cidr_bits_v6_ : cidr_bits_v4_;
  size_t& count = counts[range.prefix_bits()];
  count += static_cast<size_t>(by);
  if (count == 0) counts.erase(range.prefix_bits());
}

void MeshStore::Impl::remove_address(const std::string& name) {
  if (const WorkloadRef* workload = workloads_.find(std::string_view(name))) {
    remove_workload(*workload);
    return;
  }
  // More than one slash: a workload we never had.
  auto key = NamespacedHostname::parse(name);
  if (!key) return;
  if (const ServiceRef* service = services_.find(*key)) index_service(ServiceRef(*service), nullptr);
}

void MeshStore::Impl::set_policy(Policy policy) {
  const PolicyRef* known = policies_.find(std::string_view(policy.key()));
  PolicyRef old = known ? *known : nullptr;
  if (old && *old == policy) return;
  index_policy(old, std::make_shared<const Policy>(std::move(policy)));
}

void MeshStore::Impl::index_policy(const PolicyRef& old, const PolicyRef& next) {
  changed_ = policies_changed_ = true;
  auto scope_keys = [](const PolicyRef& policy) -> std::vector<Name> {
    if (!policy || policy->scope == PolicyScope::kWorkloadSelector) return {};
    if (policy->scope == PolicyScope::kGlobal) return {Name()};
    // A namespace policy without a namespace would land among the global ones; from_proto refuses it.
    return policy->ns.empty() ? std::vector<Name>() : std::vector<Name>{policy->ns};
  };
  move_keys(policies_by_scope_, scope_keys(old), scope_keys(next), old, next);
  Name key = (next ? next : old)->key();
  if (next) {
    policies_.set(key, next);
  } else {
    policies_.erase(key);
  }
}

void MeshStore::Impl::settle_endpoints() {
  for (auto& [key, change] : endpoint_changes_) {
    auto& members = members_[key];
    if (!change.removed.empty() || !change.added.empty()) {
      auto next = std::make_shared<EndpointList>();
      next->reserve((members ? members->size() : 0) + change.added.size());
      auto keep = [&](const Endpoint& endpoint) { return !change.removed.contains(endpoint.workload.get()); };
      if (members) std::copy_if(members->begin(), members->end(), std::back_inserter(*next), keep);
      std::copy_if(change.added.begin(), change.added.end(), std::back_inserter(*next), keep);
      members = std::move(next);
    }
    const ServiceRef* service = services_.find(key);
    detail::EndpointsRef visible;
    if (service && members && !members->empty()) {
      auto usable = [&](const Endpoint& endpoint) {
        return (*service)->admits_unhealthy() || endpoint.workload->status == HealthStatus::kHealthy;
      };
      if (std::all_of(members->begin(), members->end(), usable)) {
        visible = members;
      } else {
        auto some = std::make_shared<EndpointList>();
        std::copy_if(members->begin(), members->end(), std::back_inserter(*some), usable);
        if (!some->empty()) visible = std::move(some);
      }
      ++stats_.endpoint_rebuilds;
    }
    if (visible) {
      endpoints_.set(key, std::move(visible));
    } else {
      endpoints_.erase(key);
    }
    if (!members || members->empty()) members_.erase(key);
  }
  forget(endpoint_changes_);
  replaced_.clear();
}

void MeshStore::Impl::publish() {
  ++stats_.updates;
  detail::ViewData data;
  data.workloads = workloads_.snapshot();
  data.workloads_by_address = workloads_by_address_.snapshot();
  data.workloads_by_host = workloads_by_host_.snapshot();
  data.workloads_local = workloads_local_.snapshot();
  data.services = services_.snapshot();
  data.services_by_host = services_by_host_.snapshot();
  data.services_by_vip = services_by_vip_.snapshot();
  data.services_by_cidr = services_by_cidr_.snapshot();
  for (const auto& [bits, count] : cidr_bits_v4_) data.cidr_bits_v4.push_back(bits);
  for (const auto& [bits, count] : cidr_bits_v6_) data.cidr_bits_v6.push_back(bits);
  data.endpoints = endpoints_.snapshot();
  data.policies = policies_.snapshot();
  data.policies_by_scope = policies_by_scope_.snapshot();
  data.generation = view_->generation() + 1;
  view_ = ViewRef(new MeshView(std::move(data)));
}

MeshStore::MeshStore(std::string node) : impl_(std::make_unique<Impl>(std::move(node))) {}
MeshStore::~MeshStore() = default;
MeshChange MeshStore::apply(MeshUpdate update) { return impl_->apply(std::move(update)); }
const ViewRef& MeshStore::view() const { return impl_->view_; }
NamePool& MeshStore::names() { return impl_->names_; }

std::vector<std::string> MeshStore::address_names() const {
  std::vector<std::string> names;
  view()->each_workload([&](const WorkloadRef& workload) { names.push_back(workload->uid.str()); });
  view()->each_service([&](const ServiceRef& service) { names.push_back(service->key().to_string()); });
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> MeshStore::policy_names() const {
  std::vector<std::string> names;
  view()->each_policy([&](const PolicyRef& policy) { names.push_back(policy->key()); });
  std::sort(names.begin(), names.end());
  return names;
}

MeshStore::Stats MeshStore::stats() const {
  Stats stats = impl_->stats_;
  for (const auto& [key, members] : impl_->members_) {
    if (!impl_->services_.find(key)) ++stats.staged_services;
  }
  return stats;
}

}  // namespace culvert::model
