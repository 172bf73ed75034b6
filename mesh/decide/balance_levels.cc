// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/balance_levels.h"

namespace culvert::decide {

namespace {

// A label, or what the mesh knows under a label's name.
std::string_view label_of(const model::Workload* workload, const model::LabelMap* labels,
                          std::string_view key) {
  if (workload) {
    if (key == "topology.kubernetes.io/region") return workload->locality.region.view();
    if (key == "topology.kubernetes.io/zone") return workload->locality.zone.view();
    if (key == "topology.istio.io/subzone") return workload->locality.subzone.view();
    if (key == "topology.istio.io/network") return workload->network.view();
    if (key == "topology.istio.io/cluster") return workload->cluster_id.view();
    if (key == "kubernetes.io/hostname") return workload->node.view();
  }
  if (!labels) return {};
  auto found = labels->find(std::string(key));
  return found == labels->end() ? std::string_view() : std::string_view(found->second);
}

uint32_t level_by_labels(const std::vector<std::string>& list, const BalanceOrigin& origin,
                         const BalanceHost& host) {
  auto level = static_cast<uint32_t>(list.size());
  for (const std::string& entry : list) {
    std::string_view key = entry;
    size_t equals = key.find('=');
    key = key.substr(0, equals);
    std::string_view wanted = equals == entry.npos ? label_of(origin.workload, origin.labels, key)
                                                   : std::string_view(entry).substr(equals + 1);
    if (label_of(host.workload, host.labels, key) != wanted) return level;
    --level;
  }
  return level;
}

uint32_t level_by_locality(const model::LocalityPreference& preference, const model::Locality& ours,
                           const model::Locality& theirs) {
  if (ours.region == theirs.region) {
    if (ours.zone != theirs.zone) return 2;
    return ours.subzone == theirs.subzone ? 0 : 1;
  }
  for (const auto& [from, to] : preference.failover) {
    if (ours.region == from) return theirs.region == to ? 3 : 4;
  }
  return 3;
}

}  // namespace

const model::LocalityPreference::Distribute* distribution_for(const model::LocalityPreference& preference,
                                                              const BalanceOrigin& origin) {
  if (!origin.workload) return nullptr;
  for (const model::LocalityPreference::Distribute& rule : preference.distribute) {
    if (locality_matches(rule.from, origin.workload->locality)) return &rule;
  }
  return nullptr;
}

std::optional<size_t> best_pattern(std::span<const std::string> patterns, const BalanceHost& host) {
  std::optional<size_t> best;
  for (size_t i = 0; i < patterns.size(); ++i) {
    if (!host.workload || !locality_matches(patterns[i], host.workload->locality)) continue;
    if (!best || patterns[i].size() > patterns[*best].size()) best = i;
  }
  return best;
}

uint32_t failover_level(const model::LocalityPreference& preference, const BalanceOrigin& origin,
                        const BalanceHost& host) {
  if (!preference.failover_priority.empty()) {
    return level_by_labels(preference.failover_priority, origin, host);
  }
  // Without a place of its own a waypoint has no preference.
  if (!origin.workload || origin.workload->locality.region.view().empty() || !host.workload) return 0;
  return level_by_locality(preference, origin.workload->locality, host.workload->locality);
}

std::string locality_text(const model::Locality& locality) {
  std::string out = locality.region.str();
  if (!locality.zone.view().empty() || !locality.subzone.view().empty()) out += "/" + locality.zone.str();
  if (!locality.subzone.view().empty()) out += "/" + locality.subzone.str();
  return out;
}

bool locality_matches(std::string_view pattern, const model::Locality& locality) {
  for (std::string_view part : {locality.region.view(), locality.zone.view(), locality.subzone.view()}) {
    if (pattern == "*" || pattern.empty()) return true;
    std::string_view wanted = pattern.substr(0, pattern.find('/'));
    if (wanted != "*" && wanted != part) return false;
    pattern.remove_prefix(std::min(pattern.size(), wanted.size() + 1));
  }
  return pattern.empty();
}

}  // namespace culvert::decide
