// SPDX-License-Identifier: Apache-2.0
#include "control/serve/snapshot.h"

#include <fmt/format.h>

#include "mesh/xds/to_proto.h"

namespace culvert::control {

std::string content_hash(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  hash ^= hash >> 32;
  hash *= 0x9e3779b97f4a7c15ULL;
  hash ^= hash >> 29;
  return fmt::format("{:016x}", hash);
}

namespace {

ResourceRef make_resource(std::string value, std::vector<std::string> aliases) {
  auto resource = std::make_shared<Resource>();
  resource->version = content_hash(value);
  resource->value = std::move(value);
  resource->aliases = std::move(aliases);
  return resource;
}

std::vector<std::string> aliases_of(const model::Workload& workload) {
  std::vector<std::string> out;
  for (const base::IpAddr& ip : workload.addresses) {
    out.push_back(model::NetworkAddress{workload.network, ip}.to_string());
  }
  return out;
}

std::vector<std::string> aliases_of(const model::Service& service) {
  std::vector<std::string> out;
  for (const model::NetworkAddress& vip : service.vips) out.push_back(vip.to_string());
  for (const model::NetworkCidr& vip : service.cidr_vips) {
    out.push_back(fmt::format("{}/{}", vip.network.view(), vip.range.to_string()));
  }
  return out;
}

}  // namespace

namespace {

// Finds names that are asked for in ascending order, in one walk over a table.
template <class Table>
class Walk {
 public:
  explicit Walk(const Table& table) : at_(table.begin()), end_(table.end()) {}
  // Null: there is none.
  const typename Table::mapped_type* find(const std::string& name) {
    while (at_ != end_ && at_->first < name) ++at_;
    return at_ != end_ && at_->first == name ? &at_->second : nullptr;
  }

 private:
  typename Table::const_iterator at_, end_;
};

template <class Visit>
void each_tls(model::Backend& backend, Visit visit) {
  auto look = [&](model::PortedPolicy& policy) {
    if (policy.all.tls) visit(*policy.all.tls);
    for (auto& [port, one] : policy.by_port) {
      if (one.tls) visit(*one.tls);
    }
  };
  look(backend.policy);
  for (model::Subset& subset : backend.subsets) look(subset.policy);
}

// A private key goes to the waypoints of its own namespace and to nobody else; for the others the backend
// refuses.
ResourceRef encode_backend(const model::Backend& backend) {
  model::Backend open = backend;
  std::string owner;
  each_tls(open, [&](model::BackendTls& tls) {
    if (tls.key_owner.empty()) return;
    owner = tls.key_owner;
    tls = {};
    tls.broken = "its client certificate is for waypoints of namespace " + owner;
  });
  ResourceRef full = make_resource(xds::encode(backend), {});
  if (owner.empty()) return full;
  auto guarded = std::make_shared<Resource>(*full);
  guarded->owner_ns = std::move(owner);
  guarded->for_others = make_resource(xds::encode(open), {});
  return guarded;
}

// Encodes `now` into `out`. `before` and `encoded` are of the snapshot in force: what is as it was is taken
// over.
template <class T, class Encode>
void encode_all(const std::map<std::string, std::shared_ptr<const T>>& now,
                const std::map<std::string, std::shared_ptr<const T>>& before, const ResourceTable& encoded,
                ResourceTable& out, Encode encode) {
  Walk objects(before);
  Walk resources(encoded);
  for (const auto& [name, object] : now) {
    const std::shared_ptr<const T>* old = objects.find(name);
    const ResourceRef* kept = resources.find(name);
    bool same = old && kept && (*old == object || **old == *object);
    out.insert_or_assign(out.end(), name, same ? *kept : encode(*object));
  }
}

}  // namespace

SnapshotRef make_snapshot(Compiled compiled, const SnapshotRef& previous) {
  static const Snapshot nothing;
  const Snapshot& before = previous ? *previous : nothing;
  auto out = std::make_shared<Snapshot>();
  out->number = before.number + 1;
  auto address = [](const auto& object) {
    return make_resource(xds::encode_address(object), aliases_of(object));
  };
  encode_all(compiled.workloads, before.compiled.workloads, before.addresses, out->addresses, address);
  encode_all(compiled.services, before.compiled.services, before.addresses, out->addresses, address);
  encode_all(
      compiled.policies, before.compiled.policies, before.authorizations, out->authorizations,
      [](const model::Policy& policy) { return make_resource(xds::encode_authorization(policy), {}); });
  auto plain = [](const auto& object) { return make_resource(xds::encode(object), {}); };
  encode_all(compiled.waypoint_services, before.compiled.waypoint_services, before.waypoint_services,
             out->waypoint_services, plain);
  encode_all(compiled.backends, before.compiled.backends, before.backends, out->backends, encode_backend);
  encode_all(compiled.workload_labels, before.compiled.workload_labels, before.workload_labels,
             out->workload_labels, plain);
  if (compiled.settings) out->settings.emplace(xds::kSettingsName, plain(*compiled.settings));
  out->compiled = std::move(compiled);
  return out;
}

const Snapshot::Lookup& Snapshot::lookup() const {
  if (lookup_) return *lookup_;
  lookup_.emplace();
  for (const auto& [name, workload] : compiled.workloads) {
    for (const model::Membership& member : workload->services) {
      lookup_->workloads_of_service.emplace(member.service.to_string(), name);
    }
  }
  for (const auto& [name, resource] : addresses) {
    for (const std::string& alias : resource->aliases) lookup_->address_by_alias.emplace(alias, name);
  }
  return *lookup_;
}

std::set<std::string> changed_names(const ResourceTable& before, const ResourceTable& after) {
  std::set<std::string> names;
  auto a = before.begin();
  auto b = after.begin();
  while (a != before.end() || b != after.end()) {
    if (b == after.end() || (a != before.end() && a->first < b->first)) {
      names.insert(a++->first);
    } else if (a == before.end() || b->first < a->first) {
      names.insert(b++->first);
    } else {
      if (a->second != b->second && a->second->version != b->second->version) names.insert(a->first);
      ++a;
      ++b;
    }
  }
  return names;
}

}  // namespace culvert::control
