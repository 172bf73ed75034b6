// SPDX-License-Identifier: Apache-2.0
// HostPicker: which endpoint of a cluster takes a request (spec waypoint section 2.3.2). Pure; time and
// chance are arguments. One for each loop and cluster, made anew when endpoints or policy change; loads and
// ejections are read through pointers that all loops share.
//
//   all hosts -> priority levels (locality) -> groups (locality distribution) -> one host (the algorithm)
//
// A level whose healthy share x 1.4 falls below the whole gives the rest to the next. Hash balancers have one
// table a level, over ejected hosts too: who is out is passed over, and others keep their host.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/decide/http_request.h"
#include "mesh/model/backend.h"
#include "mesh/model/workload.h"
#include "net/base/duration.h"
#include "net/base/rng.h"

namespace culvert::decide {

class HashTable;

struct BalanceHost {
  std::string key;  // the same for the same endpoint, everywhere: "uid:port"
  uint32_t weight = 1;
  const model::Workload* workload = nullptr;      // locality, node, cluster, network; outlives the picker
  const model::LabelMap* labels = nullptr;        // for failoverPriority; null: none
  base::TimePoint since{};                        // when it was first seen, for warm-up
  const std::atomic<uint32_t>* active = nullptr;  // requests under way; null: none
  const std::atomic<bool>* ejected = nullptr;     // null: never
};

// Where the waypoint itself is.
struct BalanceOrigin {
  const model::Workload* workload = nullptr;
  const model::LabelMap* labels = nullptr;
};

struct PickInput {
  base::TimePoint now;
  std::optional<uint64_t> hash;  // of hash balancers; none: random
  // Changes whenever any host of the cluster is ejected or comes back.
  uint64_t ejections = 0;
  // Hosts to be avoided if there are others (indices); not for hash balancers unless asked for.
  std::span<const size_t> tried;
  bool other_levels = false;  // leave the levels of `tried` hosts, if others have anybody
};

class HostPicker {
 public:
  static constexpr int kReselectsMax = 5;  // to avoid tried hosts
  // Places on a ring, unless the policy asks for more as its least; and what a policy may ask for.
  static constexpr uint64_t kRingMax = 1 << 20, kRingAskedMax = 1 << 23;
  static constexpr uint64_t kMaglevMax = 5000011;
  static constexpr double kOverprovision = 1.4;
  static constexpr uint32_t kNoLevel = UINT32_MAX;  // of a host that is never chosen

  // `health_percent_min`: panic threshold of outlier detection; 0: none.
  HostPicker(const model::Balancer& policy, uint32_t health_percent_min, std::vector<BalanceHost> hosts,
             const BalanceOrigin& origin, base::Rng rng);
  ~HostPicker();
  HostPicker(HostPicker&&) noexcept;
  HostPicker& operator=(HostPicker&&) noexcept;

  // An index into `hosts`; nothing: nobody is healthy.
  std::optional<size_t> pick(const PickInput& input);

  const std::vector<BalanceHost>& hosts() const { return hosts_; }
  // The level of each host, 0 the most preferred; for tests and config dumps.
  std::span<const uint32_t> levels() const { return level_of_; }

 private:
  class Queue;
  struct Group;
  struct Level;
  std::vector<double> group_hosts(const BalanceOrigin& origin);
  void build_levels(const std::vector<double>& group_weights);
  void settle(uint64_t ejections);
  bool usable(size_t host) const;
  // The level for `point` in [0, 1), among those that `closed` does not list; null: nobody is healthy there.
  Level* choose_level(double point, std::span<const size_t> closed);
  Group& choose_group(Level& level);
  size_t from_group(Group& group, base::TimePoint now);
  std::optional<size_t> by_hash(Level& level, uint64_t hash, std::span<const size_t> tried);
  double warm_weight(size_t host, base::TimePoint now) const;

  model::Balancer policy_;
  uint32_t health_percent_min_;
  std::vector<BalanceHost> hosts_;
  base::Rng rng_;
  std::vector<uint32_t> level_of_;
  std::vector<size_t> group_of_;  // within all groups
  std::vector<Level> levels_;
  bool equal_weights_ = true;
  base::TimePoint warm_until_{};
  bool panic_ = false;
  std::optional<uint64_t> settled_;  // the ejections that `usable` lists were made for
};

// The value a hash policy hashes; nothing: it is absent, and the choice is random. `cookie_missing` is set if
// a cookie with a lifetime has to be made.
std::optional<uint64_t> hash_of(const model::HashPolicy& policy, const HttpRequestFacts& facts,
                                bool* cookie_missing = nullptr);
struct HashCookie {
  uint64_t hash = 0;
  std::string set_cookie;  // for the response
};
// A new cookie of a policy with a lifetime.
HashCookie make_hash_cookie(const model::HashPolicy& policy, base::Rng& rng);

// Region, zone and subzone in one; "" for what is unknown.
std::string locality_text(const model::Locality& locality);
// "us-west", "us-west/*", "us-west/a", "*": the parts a pattern names.
bool locality_matches(std::string_view pattern, const model::Locality& locality);

}  // namespace culvert::decide
