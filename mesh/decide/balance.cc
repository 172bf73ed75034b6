// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/balance.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <queue>

#include "mesh/decide/balance_hash.h"
#include "mesh/decide/balance_levels.h"
#include "mesh/decide/hash.h"
#include "net/base/check.h"

namespace culvert::decide {

namespace {

using Kind = model::Balancer::Kind;

bool contains(std::span<const size_t> list, size_t value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool hashes(Kind kind) { return kind == Kind::kRingHash || kind == Kind::kMaglev; }

// A hash as a point in [0, 1) that has nothing to do with its place on a ring.
double point_of(uint64_t hash) { return base::Rng(hash).unit(); }

}  // namespace

// Weighted turns: the host with the earliest deadline goes, and its next is 1/weight later.
class HostPicker::Queue {
 public:
  // Starts anywhere, so that loops and replicas do not march in step.
  template <class Weight>
  Queue(const std::vector<size_t>& hosts, base::Rng& rng, Weight weight) {
    for (size_t host : hosts) turns_.push({rng.unit() / weight(host), host});
  }
  template <class Weight>
  size_t next(Weight weight) {
    Turn turn = turns_.top();
    turns_.pop();
    turns_.push({turn.deadline + 1 / weight(turn.host), turn.host});
    return turn.host;
  }

 private:
  struct Turn {
    double deadline;
    size_t host;
    bool operator<(const Turn& other) const {
      return deadline != other.deadline ? deadline > other.deadline : host > other.host;
    }
  };
  std::priority_queue<Turn> turns_;
};

struct HostPicker::Group {
  double weight = 1;
  std::vector<size_t> hosts, usable;
  std::unique_ptr<Queue> queue;
};

struct HostPicker::Level {
  std::vector<Group> groups;
  size_t hosts = 0, usable = 0;
  std::unique_ptr<HashTable> table;
  double health() const {
    return std::min(1.0, kOverprovision * static_cast<double>(usable) / static_cast<double>(hosts));
  }
};

HostPicker::HostPicker(const model::Balancer& policy, uint32_t health_percent_min,
                       std::vector<BalanceHost> hosts, const BalanceOrigin& origin, base::Rng rng)
    : policy_(policy), health_percent_min_(health_percent_min), hosts_(std::move(hosts)), rng_(rng) {
  build_levels(group_hosts(origin));
  bool warms = policy_.kind == Kind::kRoundRobin || policy_.kind == Kind::kLeastRequest;
  if (!warms) policy_.warmup = base::Duration{0};
  std::optional<uint32_t> weight;
  for (const BalanceHost& host : hosts_) {
    if (host.weight == 0) continue;
    equal_weights_ = equal_weights_ && host.weight == weight.value_or(host.weight);
    weight = host.weight;
    warm_until_ = std::max(warm_until_, host.since + policy_.warmup);
  }
}

HostPicker::~HostPicker() = default;
HostPicker::HostPicker(HostPicker&&) noexcept = default;
HostPicker& HostPicker::operator=(HostPicker&&) noexcept = default;

// Fills level_of_ and group_of_; the weights of the groups.
std::vector<double> HostPicker::group_hosts(const BalanceOrigin& origin) {
  level_of_.assign(hosts_.size(), 0);
  group_of_.assign(hosts_.size(), 0);
  std::vector<double> weights = {1};
  const model::LocalityPreference& preference = policy_.locality;
  const auto* spread = preference.enabled ? distribution_for(preference, origin) : nullptr;
  if (spread) {
    weights.clear();
    std::vector<std::string> patterns;
    for (const auto& [pattern, share] : spread->to) {
      patterns.push_back(pattern);
      weights.push_back(share);
    }
    for (size_t i = 0; i < hosts_.size(); ++i) {
      std::optional<size_t> group = best_pattern(patterns, hosts_[i]);
      bool chosen = group && weights[*group] > 0;
      group_of_[i] = group.value_or(0);
      if (!chosen) level_of_[i] = kNoLevel;
    }
  } else if (preference.enabled && preference.effective && preference.distribute.empty()) {
    for (size_t i = 0; i < hosts_.size(); ++i) level_of_[i] = failover_level(preference, origin, hosts_[i]);
  }
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (hosts_[i].weight == 0) level_of_[i] = kNoLevel;
  }
  return weights;
}

void HostPicker::build_levels(const std::vector<double>& group_weights) {
  std::map<uint32_t, uint32_t> places;  // levels without hosts are closed up
  for (uint32_t level : level_of_) {
    if (level != kNoLevel) places.emplace(level, 0);
  }
  uint32_t next = 0;
  for (auto& [level, place] : places) place = next++;
  levels_.resize(places.size());
  for (Level& level : levels_) {
    level.groups.resize(group_weights.size());
    for (size_t g = 0; g < group_weights.size(); ++g) level.groups[g].weight = group_weights[g];
  }
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (level_of_[i] == kNoLevel) continue;
    level_of_[i] = places[level_of_[i]];
    Level& level = levels_[level_of_[i]];
    level.groups[group_of_[i]].hosts.push_back(i);
    ++level.hosts;
  }
}

bool HostPicker::usable(size_t host) const {
  const BalanceHost& one = hosts_[host];
  return panic_ || !one.ejected || !one.ejected->load(std::memory_order_relaxed);
}

// Counts who is in service, after ejections have changed.
void HostPicker::settle(uint64_t ejections) {
  if (settled_ == ejections) return;
  settled_ = ejections;
  panic_ = false;
  size_t healthy = 0, all = 0;
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (level_of_[i] == kNoLevel) continue;
    ++all;
    healthy += usable(i);
  }
  panic_ = healthy * 100 < static_cast<uint64_t>(health_percent_min_) * all;
  for (Level& level : levels_) {
    level.usable = 0;
    for (Group& group : level.groups) {
      group.usable.clear();
      std::copy_if(group.hosts.begin(), group.hosts.end(), std::back_inserter(group.usable),
                   [this](size_t host) { return usable(host); });
      level.usable += group.usable.size();
    }
  }
}

HostPicker::Level* HostPicker::choose_level(double point, std::span<const size_t> closed) {
  double health = 0;
  for (size_t i = 0; i < levels_.size(); ++i) {
    if (!contains(closed, i)) health += levels_[i].health();
  }
  // Together too little for everything: each bears its part of it.
  double left = point * std::min(1.0, health);
  Level* last = nullptr;
  for (size_t i = 0; i < levels_.size(); ++i) {
    if (contains(closed, i) || levels_[i].usable == 0) continue;
    last = &levels_[i];
    left -= last->health();
    if (left < 0) return last;
  }
  return last;
}

HostPicker::Group& HostPicker::choose_group(Level& level) {
  if (level.groups.size() == 1) return level.groups.front();
  auto share = [](const Group& group) {
    if (group.usable.empty()) return 0.0;
    double healthy = static_cast<double>(group.usable.size()) / static_cast<double>(group.hosts.size());
    return group.weight * std::min(1.0, kOverprovision * healthy);
  };
  double sum = 0;
  for (const Group& group : level.groups) sum += share(group);
  double point = rng_.unit() * sum;
  Group* last = nullptr;
  for (Group& group : level.groups) {
    if (group.usable.empty()) continue;
    last = &group;
    point -= share(group);
    if (point < 0) break;
  }
  CULVERT_CHECK(last);
  return *last;
}

double HostPicker::warm_weight(size_t host, base::TimePoint now) const {
  const BalanceHost& one = hosts_[host];
  double weight = one.weight;
  base::Duration age = std::max(base::Duration{0}, now - one.since);
  if (policy_.warmup <= base::Duration{0} || age >= policy_.warmup) return weight;
  double part = static_cast<double>(age.count()) / static_cast<double>(policy_.warmup.count());
  double grown = policy_.warmup_aggression > 0 ? std::pow(part, 1 / policy_.warmup_aggression) : part;
  // Never nothing, or a host would not get its first request.
  return weight * std::max({policy_.warmup_percent_min / 100, grown, 0.001});
}

size_t HostPicker::from_group(Group& group, base::TimePoint now) {
  auto active = [this](size_t host) {
    return hosts_[host].active ? hosts_[host].active->load(std::memory_order_relaxed) : 0;
  };
  auto any = [&] { return group.usable[rng_.below(group.usable.size())]; };
  bool least = policy_.kind == Kind::kLeastRequest;
  if (policy_.kind != Kind::kRoundRobin && !least) return any();
  if (least && equal_weights_ && now >= warm_until_) {
    if (group.usable.size() == 1) return group.usable.front();
    size_t first = rng_.below(group.usable.size());
    size_t second = rng_.below(group.usable.size() - 1);
    if (second >= first) ++second;
    size_t one = group.usable[first], other = group.usable[second];
    return active(one) <= active(other) ? one : other;
  }
  auto weight = [&](size_t host) {
    double warm = warm_weight(host, now);
    return least ? warm / (active(host) + 1.0) : warm;
  };
  if (!group.queue) group.queue = std::make_unique<Queue>(group.hosts, rng_, weight);
  // Who is out lets his turn pass. Far more turns than hosts can go by when weights differ much.
  for (size_t turns = 0; turns < 4 * group.hosts.size() + 16; ++turns) {
    size_t host = group.queue->next(weight);
    if (usable(host)) return host;
  }
  return any();
}

std::optional<size_t> HostPicker::by_hash(Level& level, uint64_t hash, std::span<const size_t> tried) {
  if (!level.table) {
    std::vector<HashTable::Entry> entries;
    for (const Group& group : level.groups) {
      double sum = 0;
      for (size_t host : group.hosts) sum += hosts_[host].weight;
      double scale = level.groups.size() == 1 ? 1 : group.weight / sum;
      for (size_t host : group.hosts)
        entries.push_back({hosts_[host].key, host, hosts_[host].weight * scale});
    }
    bool maglev = policy_.kind == Kind::kMaglev;
    uint64_t wanted = policy_.table_size;
    level.table = std::make_unique<HashTable>(
        maglev ? HashTable::maglev(entries, std::min(wanted, kMaglevMax))
               : HashTable::ring(entries, std::min(wanted, kRingAskedMax), kRingMax));
  }
  std::optional<size_t> fresh =
      level.table->find(hash, [&](size_t host) { return usable(host) && !contains(tried, host); });
  return fresh ? fresh : level.table->find(hash, [&](size_t host) { return usable(host); });
}

std::optional<size_t> HostPicker::pick(const PickInput& input) {
  settle(input.ejections);
  std::vector<size_t> closed;
  if (input.other_levels) {
    for (size_t host : input.tried) {
      if (host < hosts_.size() && level_of_[host] != kNoLevel) closed.push_back(level_of_[host]);
    }
  }
  bool hashed = hashes(policy_.kind) && input.hash;
  auto level_for = [&](double point) {
    Level* level = choose_level(point, closed);
    return level || closed.empty() ? level : choose_level(point, {});
  };
  if (hashed) {
    Level* level = level_for(point_of(*input.hash));
    return level ? by_hash(*level, *input.hash, input.tried) : std::nullopt;
  }
  std::optional<size_t> chosen;
  for (int attempt = 0; attempt < kReselectsMax; ++attempt) {
    Level* level = level_for(rng_.unit());
    if (!level) return std::nullopt;
    chosen = from_group(choose_group(*level), input.now);
    if (!contains(input.tried, *chosen)) break;
  }
  return chosen;
}

std::optional<uint64_t> hash_of(const model::HashPolicy& policy, const HttpRequestFacts& facts,
                                bool* cookie_missing) {
  using HashKind = model::HashPolicy::Kind;
  switch (policy.kind) {
    case HashKind::kSourceIp: return xxhash64(facts.source_ip.to_string());
    case HashKind::kHeader: {
      std::optional<std::string> value = joined_header(facts.headers, policy.name);
      return value ? std::optional(xxhash64(*value)) : std::nullopt;
    }
    case HashKind::kQuery: {
      std::optional<std::string_view> value = query_parameter(facts.query, policy.name);
      return value ? std::optional(xxhash64(*value)) : std::nullopt;
    }
    case HashKind::kCookie: break;
  }
  std::optional<std::string_view> value = cookie(facts.headers, policy.name);
  if (value) return xxhash64(*value);
  if (policy.ttl && cookie_missing) *cookie_missing = true;
  return std::nullopt;
}

HashCookie make_hash_cookie(const model::HashPolicy& policy, base::Rng& rng) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string value;
  for (uint64_t bits : {rng.next(), rng.next()}) {
    for (int shift = 60; shift >= 0; shift -= 4) value += kHex[(bits >> shift) & 15];
  }
  HashCookie out{xxhash64(value), policy.name + "=" + value};
  if (policy.ttl && policy.ttl->count() > 0) {
    auto seconds = std::chrono::ceil<std::chrono::seconds>(*policy.ttl).count();
    out.set_cookie += "; Max-Age=" + std::to_string(seconds);
  }
  if (!policy.path.empty()) out.set_cookie += "; Path=" + policy.path;
  out.set_cookie += "; HttpOnly";
  for (const auto& [name, text] : policy.attributes) {
    out.set_cookie += "; " + name + (text.empty() ? "" : "=" + text);
  }
  return out;
}

}  // namespace culvert::decide
