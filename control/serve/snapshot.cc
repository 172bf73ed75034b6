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

// The resource of an object that is as it was, or null.
template <class T>
ResourceRef unchanged(const std::map<std::string, std::shared_ptr<const T>>& before,
                      const ResourceTable& encoded, const std::string& name, const T& now) {
  auto old = before.find(name);
  if (old == before.end() || !(old->second.get() == &now || *old->second == now)) return nullptr;
  auto resource = encoded.find(name);
  return resource == encoded.end() ? nullptr : resource->second;
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

SnapshotRef make_snapshot(Compiled compiled, const SnapshotRef& previous) {
  static const Snapshot nothing;
  const Snapshot& before = previous ? *previous : nothing;
  auto out = std::make_shared<Snapshot>();
  out->number = before.number + 1;
  for (const auto& [name, workload] : compiled.workloads) {
    ResourceRef kept = unchanged(before.compiled.workloads, before.addresses, name, *workload);
    out->addresses[name] = kept ? kept : make_resource(xds::encode_address(*workload), aliases_of(*workload));
    for (const model::Membership& member : workload->services) {
      out->workloads_of_service.emplace(member.service.to_string(), name);
    }
  }
  for (const auto& [name, service] : compiled.services) {
    ResourceRef kept = unchanged(before.compiled.services, before.addresses, name, *service);
    out->addresses[name] = kept ? kept : make_resource(xds::encode_address(*service), aliases_of(*service));
  }
  for (const auto& [name, policy] : compiled.policies) {
    ResourceRef kept = unchanged(before.compiled.policies, before.authorizations, name, *policy);
    out->authorizations[name] = kept ? kept : make_resource(xds::encode_authorization(*policy), {});
  }
  for (const auto& [name, resource] : out->addresses) {
    for (const std::string& alias : resource->aliases) out->address_by_alias.emplace(alias, name);
  }
  out->compiled = std::move(compiled);
  return out;
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
