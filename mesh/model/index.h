// SPDX-License-Identifier: Apache-2.0
// The maps of a MeshView and how their keys hash and compare. Internal to mesh/model.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "mesh/model/hash_trie.h"
#include "mesh/model/policy.h"
#include "mesh/model/workload.h"

namespace culvert::model {

// A workload as endpoint of one service. `membership` indexes workload->services.
struct Endpoint {
  WorkloadRef workload;
  uint32_t membership = 0;
  const List<PortMapping>& ports() const { return workload->services[membership].ports; }
};
using EndpointList = std::vector<Endpoint>;

namespace detail {

inline size_t mix(size_t a, size_t b) {
  return (a ^ (b + 0x9e3779b97f4a7c15ULL + (a << 6) + (a >> 2))) * 0xff51afd7ed558ccdULL >> 7;
}

struct TextTraits {
  static size_t hash(std::string_view text) { return mix(std::hash<std::string_view>()(text), 0); }
  static std::strong_ordering compare(std::string_view a, std::string_view b) { return a <=> b; }
};

struct AddressKeyView {
  std::string_view network;
  base::IpAddr ip;
};
struct AddressTraits {
  template <class K>
  static size_t hash(const K& key) {
    return mix(std::hash<base::IpAddr>()(key.ip), std::hash<std::string_view>()(key.network));
  }
  template <class A, class B>
  static std::strong_ordering compare(const A& a, const B& b) {
    if (auto order = a.ip <=> b.ip; order != 0) return order;
    return std::string_view(a.network) <=> std::string_view(b.network);
  }
};

struct CidrKeyView {
  std::string_view network;
  base::Cidr range;
};
struct CidrTraits {
  template <class K>
  static size_t hash(const K& key) {
    return mix(std::hash<base::IpAddr>()(key.range.base()),
               std::hash<std::string_view>()(key.network) + static_cast<size_t>(key.range.prefix_bits()));
  }
  template <class A, class B>
  static std::strong_ordering compare(const A& a, const B& b) {
    if (auto order = a.range <=> b.range; order != 0) return order;
    return std::string_view(a.network) <=> std::string_view(b.network);
  }
};

struct HostKeyView {
  std::string_view ns;
  std::string_view hostname;
};
struct HostTraits {
  template <class K>
  static size_t hash(const K& key) {
    return mix(std::hash<std::string_view>()(key.hostname), std::hash<std::string_view>()(key.ns));
  }
  template <class A, class B>
  static std::strong_ordering compare(const A& a, const B& b) {
    if (auto order = std::string_view(a.hostname) <=> std::string_view(b.hostname); order != 0) return order;
    return std::string_view(a.ns) <=> std::string_view(b.ns);
  }
};

// A pod of our own node as the node agent names it. Points into its workload.
struct LocalKeyView {
  std::string_view ns;
  std::string_view name;
  std::string_view service_account;
  auto operator<=>(const LocalKeyView&) const = default;
};
struct LocalTraits {
  static size_t hash(const LocalKeyView& key) {
    std::hash<std::string_view> text;
    return mix(text(key.name), mix(text(key.ns), text(key.service_account)));
  }
  static std::strong_ordering compare(const LocalKeyView& a, const LocalKeyView& b) { return a <=> b; }
};

// Several workloads under one key; the last inserted stands last.
using WorkloadSet = std::vector<WorkloadRef>;
using ServiceSet = std::vector<ServiceRef>;
using PolicySet = std::vector<PolicyRef>;
using EndpointsRef = std::shared_ptr<const EndpointList>;

using WorkloadsByUid = HashTrie<std::string_view, WorkloadRef, TextTraits>;
using WorkloadsByAddress = HashTrie<NetworkAddress, WorkloadSet, AddressTraits>;
using WorkloadsByHost = HashTrie<NamespacedHostname, WorkloadSet, HostTraits>;
using WorkloadsLocal = HashTrie<LocalKeyView, WorkloadSet, LocalTraits>;
using ServicesByKey = HashTrie<NamespacedHostname, ServiceRef, HostTraits>;
using ServicesByHost = HashTrie<Name, ServiceSet, TextTraits>;
using ServicesByVip = HashTrie<NetworkAddress, ServiceSet, AddressTraits>;
using ServicesByCidr = HashTrie<NetworkCidr, ServiceSet, CidrTraits>;
using EndpointsByService = HashTrie<NamespacedHostname, EndpointsRef, HostTraits>;
using PoliciesByKey = HashTrie<Name, PolicyRef, TextTraits>;
using PoliciesByScope = HashTrie<Name, PolicySet, TextTraits>;  // "" is global

// Everything a view is made of; copying it shares every map.
struct ViewData {
  WorkloadsByUid workloads;
  WorkloadsByAddress workloads_by_address;
  WorkloadsByHost workloads_by_host;
  WorkloadsLocal workloads_local;
  ServicesByKey services;
  ServicesByHost services_by_host;
  ServicesByVip services_by_vip;
  ServicesByCidr services_by_cidr;
  // Prefix lengths that occur in services_by_cidr, longest first.
  std::vector<int> cidr_bits_v4;
  std::vector<int> cidr_bits_v6;
  EndpointsByService endpoints;
  PoliciesByKey policies;
  PoliciesByScope policies_by_scope;
  uint64_t generation = 0;
};

}  // namespace detail
}  // namespace culvert::model
