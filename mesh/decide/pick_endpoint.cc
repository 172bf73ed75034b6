// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/pick_endpoint.h"

#include <algorithm>

namespace culvert::decide {
namespace {

using model::BalanceMode;
using model::BalanceScope;
using model::Workload;

struct Candidate {
  const model::Endpoint* endpoint;
  uint16_t port;
};

// Endpoint mapping, then the service's own, then (towards a waypoint) its application tunnel; 0: none.
uint16_t target_port(const model::Endpoint& endpoint, const model::PortMapping* listed, uint16_t service_port,
                     Resolution resolution) {
  for (const auto& mapping : endpoint.ports()) {
    if (mapping.service_port == service_port && mapping.target_port != 0) return mapping.target_port;
  }
  if (listed && listed->target_port != 0) return listed->target_port;
  const auto& tunnel = endpoint.workload->app_tunnel;
  return resolution == Resolution::kWaypoint && tunnel && tunnel->port != 0 ? service_port : 0;
}

bool reachable(const Workload& source, const Workload& workload) {
  if (!workload.addresses.empty() || !workload.hostname.empty()) return true;
  return workload.network != source.network && workload.network_gateway.has_value();
}

bool same(BalanceScope scope, const Workload& a, const Workload& b) {
  switch (scope) {
    case BalanceScope::kRegion: return a.locality.region == b.locality.region;
    case BalanceScope::kZone: return a.locality.zone == b.locality.zone;
    case BalanceScope::kSubzone: return a.locality.subzone == b.locality.subzone;
    case BalanceScope::kNode: return a.node == b.node;
    case BalanceScope::kCluster: return a.cluster_id == b.cluster_id;
    case BalanceScope::kNetwork: return a.network == b.network;
  }
  return false;
}

// How many leading scopes match. With NETWORK first, being elsewhere does not end the count, but being here
// outranks every endpoint that is not. Nothing: STRICT refuses it.
std::optional<size_t> rank_of(const model::LoadBalancing& balancing, const Workload& source,
                              const Workload& workload) {
  const auto& scopes = balancing.routing_preference;
  bool network_first = !scopes.empty() && scopes.front() == BalanceScope::kNetwork;
  size_t rank = 0;
  for (BalanceScope scope : scopes) {
    if (same(scope, source, workload)) {
      ++rank;
    } else if (!(network_first && scope == BalanceScope::kNetwork)) {
      break;
    }
  }
  if (balancing.mode == BalanceMode::kStrict && rank != scopes.size()) return std::nullopt;
  if (network_first && source.network == workload.network) rank += scopes.size() - 1;
  return rank;
}

void keep_best_ranked(std::vector<Candidate>& candidates, const model::LoadBalancing& balancing,
                      const Workload& source) {
  std::vector<Candidate> best;
  size_t best_rank = 0;
  for (const auto& candidate : candidates) {
    auto rank = rank_of(balancing, source, *candidate.endpoint->workload);
    if (!rank || *rank < best_rank) continue;
    if (*rank > best_rank) best.clear();
    best_rank = *rank;
    best.push_back(candidate);
  }
  candidates = std::move(best);
}

}  // namespace

std::optional<PickedEndpoint> pick_endpoint(const model::MeshView& view, const Workload& source,
                                            const model::Service& service, uint16_t service_port,
                                            Resolution resolution, base::Rng& rng) {
  const model::PortMapping* listed = service.port(service_port);
  if (resolution == Resolution::kStandard && !listed) return std::nullopt;
  if (service.passthrough()) return std::nullopt;

  std::vector<Candidate> candidates;
  auto endpoints = view.endpoints(service.key());
  candidates.reserve(endpoints.size());
  for (const auto& endpoint : endpoints) {
    if (!reachable(source, *endpoint.workload)) continue;
    uint16_t port = target_port(endpoint, listed, service_port, resolution);
    if (port != 0) candidates.push_back({&endpoint, port});
  }
  const auto& balancing = service.load_balancing;
  if (balancing && (balancing->mode == BalanceMode::kFailover || balancing->mode == BalanceMode::kStrict)) {
    keep_best_ranked(candidates, *balancing, source);
  }

  uint64_t total = 0;
  for (const auto& candidate : candidates) total += candidate.endpoint->workload->capacity;
  if (total == 0) return std::nullopt;
  uint64_t draw = rng.below(total);
  for (const auto& candidate : candidates) {
    uint32_t capacity = candidate.endpoint->workload->capacity;
    if (draw < capacity) return PickedEndpoint{candidate.endpoint->workload, candidate.port};
    draw -= capacity;
  }
  return std::nullopt;
}

std::optional<base::IpAddr> pick_address(const Workload& workload, const base::IpAddr& wanted,
                                         model::IpFamilies families) {
  const auto& all = workload.addresses;
  if (std::find(all.begin(), all.end(), wanted) != all.end()) return wanted;
  std::optional<base::IpAddr> first;
  for (const auto& ip : all) {
    if (families == model::IpFamilies::kV4Only && ip.is_v6()) continue;
    if (families == model::IpFamilies::kV6Only && ip.is_v4()) continue;
    if (ip.is_v6() == wanted.is_v6()) return ip;
    if (!first) first = ip;
  }
  return first;
}

base::Result<base::IpAddr> pick_resolved(const std::vector<base::IpAddr>& resolved,
                                         const base::IpAddr& wanted, base::Rng& rng) {
  std::vector<base::IpAddr> same_family;
  for (const auto& ip : resolved) {
    if (ip.is_v6() == wanted.is_v6()) same_family.push_back(ip);
  }
  const auto& choice = same_family.empty() ? resolved : same_family;
  if (choice.empty()) {
    return base::fail(base::Code::kNotFound, "the name server gave no address of either family");
  }
  return choice[rng.below(choice.size())];
}

}  // namespace culvert::decide
