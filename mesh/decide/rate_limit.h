// SPDX-License-Identifier: Apache-2.0
// Rate limits of one process (spec waypoint section 4.3): GCRA, one theoretical arrival time (TAT) a key.
//
//   T = per / requests, tau = T * burst, t' = max(now, TAT) + T * cost; admitted if t' - now <= tau.
//
// RateLimiter is one rule's table of keys, used by every loop at once: a lone bucket is one atomic, keyed
// buckets lie in shards with a lock each, held for one lookup. RateLimiters keeps the tables of unchanged
// rules across configuration. RateLimitRules is what one service has to ask.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mesh/decide/hash.h"
#include "mesh/decide/http_request.h"
#include "mesh/model/guard.h"
#include "net/base/duration.h"

namespace culvert::decide {

// The figures of one bucket after a charge.
struct BucketState {
  bool admitted = true;
  uint64_t remaining = 0;         // requests of cost 1 that would pass now
  base::Duration reset{0};        // until the bucket is full again
  base::Duration retry_after{0};  // of a refusal; until one of this cost would pass
};

class RateLimiter {
 public:
  // 0 requests refuse everything; burst 0 means as many as requests.
  RateLimiter(uint64_t requests, base::Duration per, uint64_t burst, uint32_t keys_max, SipKey secret);

  // Charges only what it admits. A cost above the burst is never admitted.
  BucketState charge(std::string_view key, uint64_t cost, base::TimePoint now);
  // Takes back what was admitted.
  void refund(std::string_view key, uint64_t cost);
  // What is known afterwards: charged without asking.
  void add(std::string_view key, uint64_t cost, base::TimePoint now);

  uint64_t requests() const { return requests_; }
  base::Duration per() const { return per_; }
  size_t keys() const;
  // Charges that went to the bucket shared by the keys for which there was no room.
  uint64_t overflows() const { return overflows_.load(std::memory_order_relaxed); }

 private:
  // Table sizes from which keys are spread over shards.
  static constexpr uint32_t kShardedFrom = 4096;
  static constexpr size_t kShards = 16;
  struct KeyHash {
    size_t operator()(const Hash128& key) const { return key.low; }
  };
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<Hash128, int64_t, KeyHash> arrivals;  // TAT, nanoseconds
    int64_t next_free = 0;                                   // no entry is free before
  };
  BucketState judge(int64_t arrival, uint64_t cost, int64_t now, int64_t& next) const;
  BucketState charge_shared(std::atomic<int64_t>& arrival, uint64_t cost, int64_t now);
  int64_t* find(Shard& shard, const Hash128& key, int64_t now);
  Shard& shard_of(const Hash128& key) { return shards_[key.high % shards_.size()]; }
  int64_t price(uint64_t cost) const;

  uint64_t requests_;
  base::Duration per_;
  int64_t interval_;   // T; rounded up, so that never more passes than was said
  int64_t tolerance_;  // tau
  size_t shard_keys_max_;
  SipKey secret_;
  std::atomic<int64_t> alone_{0};     // the bucket of the empty key
  std::atomic<int64_t> overflow_{0};  // the bucket of keys without room
  std::atomic<uint64_t> overflows_{0};
  std::vector<Shard> shards_;
};
using RateLimiterRef = std::shared_ptr<RateLimiter>;

// Hands out the same table for the same rule with the same limit. Thread safe.
class RateLimiters {
 public:
  explicit RateLimiters(SipKey secret) : secret_(secret) {}
  RateLimiterRef get(const model::RateLimitPolicy& policy, size_t rule);
  size_t size() const;

 private:
  SipKey secret_;
  mutable std::mutex mutex_;
  std::map<std::string, std::weak_ptr<RateLimiter>> tables_;
};

// One rule that took part in a decision; for counters and logs.
struct RateLimitNote {
  const model::RateLimitPolicy* policy = nullptr;
  const model::RateLimitRule* rule = nullptr;
  BucketState state;
  // Of a global rule: what its service goes by, if it says so.
  struct Limit {
    uint64_t requests = 0;
    base::Duration per{0};
  };
  std::optional<Limit> limit = std::nullopt;
  bool failed = false;  // its service could not say, and nothing was charged
  bool shadow() const { return policy->shadow; }
};

struct RateLimitDecision {
  bool admitted = true;
  const model::RateLimitPolicy* refused_by = nullptr;  // gives status and gRPC status
  std::vector<RateLimitNote> notes;
  // For the response, admitted or not: of the most constrained rule that is not in shadow.
  std::vector<std::pair<std::string, std::string>> headers;
  // For charge_later when the response is known: the value of its header `cost_header` is the cost.
  struct Later {
    RateLimiterRef limiter;
    std::string key;
    std::string cost_header;
  };
  std::vector<Later> later;
  // What is still to be asked, of the service of its policy; empty if it is refused without. With the answers
  // go to `conclude`.
  struct GlobalCharge {
    const model::RateLimitPolicy* policy = nullptr;
    const model::RateLimitRule* rule = nullptr;
    std::vector<std::string> key_parts;  // of rule->key
    uint64_t cost = 1;
  };
  std::vector<GlobalCharge> global;
  // Given back if it is refused.
  struct Charged {
    RateLimiterRef limiter;
    std::string key;
    uint64_t cost = 1;
  };
  std::vector<Charged> charged;
};

struct RateLimitOptions {
  base::TimePoint now;
  std::string_view route_name, route_origin;   // of the route that takes the request
  std::span<const std::string> trust_domains;  // as for authorize_http
  // false: a connection; keys and sources of L4 only, and global rules are counted here.
  bool http = true;
};

// Immutable; keeps the policies it was made from alive.
class RateLimitRules {
 public:
  RateLimitRules(std::shared_ptr<const std::vector<model::RateLimitPolicy>> policies, RateLimiters& tables);
  // Charges all local rules that match, in order; a refusal gives back what was charged before it. Global
  // ones are gathered. Preflights pass.
  RateLimitDecision decide(const HttpRequestFacts& facts, const RateLimitOptions& options) const;
  bool empty() const { return policies_->empty(); }

 private:
  std::shared_ptr<const std::vector<model::RateLimitPolicy>> policies_;
  std::vector<std::vector<RateLimiterRef>> limiters_;  // by policy and rule
};

// Takes what was learned of `global` into the decision: whether it is admitted, by whom refused, headers.
void conclude(RateLimitDecision& decision, std::vector<RateLimitNote> learned);
// Gives back what was charged: the request is refused for another reason.
void give_back(RateLimitDecision& decision);

// Charges what a response says it has cost beyond the 1 that has been charged; a header that is absent or no
// number says 1.
void charge_later(const std::vector<RateLimitDecision::Later>& later, HeaderSpan response,
                  base::TimePoint now);

// The parts of a rule's key, in order.
std::vector<std::string> rate_limit_key_parts(const model::RateLimitRule& rule, const HttpRequestFacts& facts,
                                              const RateLimitOptions& options);
// The key of a rule: its parts, each with its length; "" if the rule has none.
std::string rate_limit_key(const model::RateLimitRule& rule, const HttpRequestFacts& facts,
                           const RateLimitOptions& options);

}  // namespace culvert::decide
