// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/rate_limit.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "mesh/decide/authorize_http.h"
#include "mesh/decide/match_route.h"

namespace culvert::decide {

namespace {

// Later than any clock; far enough from the end that sums of two stay in range.
constexpr int64_t kNever = std::numeric_limits<int64_t>::max() / 4;
// What a bucket may hold at most, 36 years: beyond it, where sums saturate, nothing is admitted.
constexpr int64_t kToleranceMax = kNever / 2;

int64_t saturated(__int128 value) { return value > kNever ? kNever : static_cast<int64_t>(value); }

int64_t nanoseconds(base::TimePoint now) { return now.time_since_epoch().count(); }

}  // namespace

// --- RateLimiter ---

RateLimiter::RateLimiter(uint64_t requests, base::Duration per, uint64_t burst, uint32_t keys_max,
                         SipKey secret)
    : requests_(requests), per_(std::max(per, base::Duration{1})), secret_(secret) {
  // Rounded up, so that never more passes than was said; of no requests at all none ever does.
  __int128 period = per_.count();
  interval_ = requests == 0 ? kNever : saturated((period + requests - 1) / requests);
  int64_t whole = saturated(static_cast<__int128>(interval_) * (burst == 0 ? requests : burst));
  tolerance_ = requests == 0 ? 0 : std::min(whole, kToleranceMax);
  size_t shards = keys_max >= kShardedFrom ? kShards : 1;
  shard_keys_max_ = (keys_max + shards - 1) / shards;
  shards_ = std::vector<Shard>(shards);
}

int64_t RateLimiter::price(uint64_t cost) const { return saturated(static_cast<__int128>(interval_) * cost); }

// What a charge at `arrival` (the TAT) comes to; `next` is the TAT if it is admitted.
BucketState RateLimiter::judge(int64_t arrival, uint64_t cost, int64_t now, int64_t& next) const {
  int64_t start = std::max(now, arrival);
  next = std::min(start + price(cost), kNever);
  BucketState out;
  out.admitted = next - now <= tolerance_;
  if (!out.admitted) {
    out.retry_after = base::Duration(next - tolerance_ - now);
    next = start;  // nothing is charged
  }
  int64_t used = next - now;
  out.remaining = used >= tolerance_ ? 0 : static_cast<uint64_t>((tolerance_ - used) / interval_);
  out.reset = base::Duration(used);
  return out;
}

BucketState RateLimiter::charge_shared(std::atomic<int64_t>& arrival, uint64_t cost, int64_t now) {
  int64_t seen = arrival.load(std::memory_order_relaxed);
  for (;;) {
    int64_t next = 0;
    BucketState out = judge(seen, cost, now, next);
    if (!out.admitted || arrival.compare_exchange_weak(seen, next, std::memory_order_relaxed)) return out;
  }
}

// The key's TAT, made if there is room; null: there is none. The shard is locked.
int64_t* RateLimiter::find(Shard& shard, const Hash128& key, int64_t now) {
  auto found = shard.arrivals.find(key);
  if (found != shard.arrivals.end()) return &found->second;
  if (shard.arrivals.size() >= shard_keys_max_) {
    if (now < shard.next_free) return nullptr;
    // A bucket that is full again says nothing that a new one would not.
    std::erase_if(shard.arrivals, [now](const auto& entry) { return entry.second <= now; });
    shard.next_free = kNever;
    for (const auto& [other, arrival] : shard.arrivals) shard.next_free = std::min(shard.next_free, arrival);
    if (shard.arrivals.size() >= shard_keys_max_) return nullptr;
  }
  return &shard.arrivals.emplace(key, 0).first->second;
}

BucketState RateLimiter::charge(std::string_view key, uint64_t cost, base::TimePoint when) {
  int64_t now = nanoseconds(when);
  if (key.empty()) return charge_shared(alone_, cost, now);
  Hash128 hash = siphash128(secret_, key);
  Shard& shard = shard_of(hash);
  {
    std::lock_guard lock(shard.mutex);
    if (int64_t* arrival = find(shard, hash, now)) {
      int64_t next = 0;
      BucketState out = judge(*arrival, cost, now, next);
      if (out.admitted) *arrival = next;
      shard.next_free = std::min(shard.next_free, *arrival);
      return out;
    }
  }
  overflows_.fetch_add(1, std::memory_order_relaxed);
  return charge_shared(overflow_, cost, now);
}

void RateLimiter::refund(std::string_view key, uint64_t cost) {
  auto give_back = [&](std::atomic<int64_t>& arrival) {
    arrival.fetch_sub(price(cost), std::memory_order_relaxed);
  };
  if (key.empty()) return give_back(alone_);
  Hash128 hash = siphash128(secret_, key);
  Shard& shard = shard_of(hash);
  {
    std::lock_guard lock(shard.mutex);
    if (auto found = shard.arrivals.find(hash); found != shard.arrivals.end()) {
      found->second -= price(cost);
      shard.next_free = std::min(shard.next_free, found->second);
      return;
    }
  }
  give_back(overflow_);
}

void RateLimiter::add(std::string_view key, uint64_t cost, base::TimePoint when) {
  int64_t now = nanoseconds(when);
  auto later = [&](int64_t arrival) { return std::min(std::max(now, arrival) + price(cost), kNever); };
  auto add_shared = [&](std::atomic<int64_t>& arrival) {
    int64_t seen = arrival.load(std::memory_order_relaxed);
    while (!arrival.compare_exchange_weak(seen, later(seen), std::memory_order_relaxed)) {
    }
  };
  if (key.empty()) return add_shared(alone_);
  Hash128 hash = siphash128(secret_, key);
  Shard& shard = shard_of(hash);
  {
    std::lock_guard lock(shard.mutex);
    if (int64_t* arrival = find(shard, hash, now)) {
      *arrival = later(*arrival);
      shard.next_free = std::min(shard.next_free, *arrival);
      return;
    }
  }
  overflows_.fetch_add(1, std::memory_order_relaxed);
  add_shared(overflow_);
}

size_t RateLimiter::keys() const {
  size_t out = 0;
  for (const Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    out += shard.arrivals.size();
  }
  return out;
}

// --- RateLimiters ---

RateLimiterRef RateLimiters::get(const model::RateLimitPolicy& policy, size_t index) {
  const model::RateLimitRule& rule = policy.rules[index];
  // The name alone would mix rules that share it; the place alone would lose buckets when one is put before.
  size_t twins = static_cast<size_t>(
      std::count_if(policy.rules.begin(), policy.rules.begin() + static_cast<std::ptrdiff_t>(index),
                    [&](const model::RateLimitRule& other) { return other.name == rule.name; }));
  std::string key = fmt::format("{}/{}/{}/{}/{}/{}/{}/{}", policy.ns, policy.name, twins, rule.requests,
                                rule.per.count(), rule.burst, rule.keys_max, rule.name);
  for (const model::RateLimitKey& part : rule.key) key += fmt::format("/{}:{}", int(part.kind), part.name);
  std::lock_guard lock(mutex_);
  std::erase_if(tables_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<RateLimiter>& slot = tables_[key];
  RateLimiterRef table = slot.lock();
  if (!table) {
    table = std::make_shared<RateLimiter>(rule.requests, rule.per, rule.burst, rule.keys_max, secret_);
    slot = table;
  }
  return table;
}

size_t RateLimiters::size() const {
  std::lock_guard lock(mutex_);
  return static_cast<size_t>(std::count_if(tables_.begin(), tables_.end(),
                                           [](const auto& entry) { return !entry.second.expired(); }));
}

// --- RateLimitRules ---

namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

int64_t whole_seconds(base::Duration duration) {
  return std::chrono::ceil<std::chrono::seconds>(duration).count();
}

// A structured-field string (RFC 9651 section 3.3.3): printable ASCII, quotes escaped.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c < 0x20 || c > 0x7e) continue;
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

Headers headers_for(const RateLimitNote& note) {
  using Style = model::RateLimitPolicy::HeaderStyle;
  Headers out;
  const BucketState& state = note.state;
  RateLimitNote::Limit limit = note.limit.value_or(RateLimitNote::Limit{note.rule->requests, note.rule->per});
  int64_t reset = whole_seconds(state.admitted ? state.reset : state.retry_after);
  Style style = note.policy->headers;
  if (style == Style::kStandard || style == Style::kBoth) {
    std::string name = quoted(note.rule->name);
    out.emplace_back("ratelimit-policy",
                     fmt::format("{};q={};w={}", name, limit.requests, whole_seconds(limit.per)));
    out.emplace_back("ratelimit", fmt::format("{};r={};t={}", name, state.remaining, reset));
  }
  if (style == Style::kLegacy || style == Style::kBoth) {
    out.emplace_back("x-ratelimit-limit", std::to_string(limit.requests));
    out.emplace_back("x-ratelimit-remaining", std::to_string(state.remaining));
    out.emplace_back("x-ratelimit-reset", std::to_string(reset));
  }
  return out;
}

bool is_preflight(const HttpRequestFacts& facts) {
  return facts.method == "OPTIONS" && joined_header(facts.headers, "origin") &&
         joined_header(facts.headers, "access-control-request-method");
}

// Its key is known of a connection.
bool of_connections(const model::RateLimitRule& rule) {
  using Kind = model::RateLimitKey::Kind;
  return std::all_of(rule.key.begin(), rule.key.end(), [](const model::RateLimitKey& key) {
    return key.kind == Kind::kSourcePrincipal || key.kind == Kind::kSourceNamespace ||
           key.kind == Kind::kSourceIp;
  });
}

bool concerns(const model::RateLimitRule& rule, const HttpRequestFacts& facts,
              const RateLimitOptions& options) {
  // On connections a rule that asks for HTTP has nothing to count.
  if (!options.http && (!rule.matches.empty() || !of_connections(rule))) return false;
  if (!rule.route.empty() && rule.route != options.route_name && rule.route != options.route_origin)
    return false;
  auto match = [&](const model::RouteMatch& one) { return matches(one, facts); };
  auto source = [&](const model::HttpSource& one) {
    bool l7 = !one.request_principals.empty() || !one.remote_ip_blocks.empty();
    return (options.http || !l7) && matches(one, facts, options.http, options.trust_domains);
  };
  return (rule.matches.empty() || std::any_of(rule.matches.begin(), rule.matches.end(), match)) &&
         (rule.from.empty() || std::any_of(rule.from.begin(), rule.from.end(), source));
}

std::string claim_text(const HttpRequestFacts& facts, std::string_view name) {
  if (!facts.claims) return {};
  std::vector<std::string> path;
  for (;;) {
    size_t dot = name.find('.');
    path.emplace_back(name.substr(0, dot));
    if (dot == name.npos) break;
    name.remove_prefix(dot + 1);
  }
  std::string out;
  for (const std::string& value : facts.claims->at(path)) out += (out.empty() ? "" : ",") + value;
  return out;
}

std::string key_part(const model::RateLimitKey& key, const HttpRequestFacts& facts,
                     const RateLimitOptions& options) {
  using Kind = model::RateLimitKey::Kind;
  switch (key.kind) {
    case Kind::kSourcePrincipal: return facts.peer ? facts.peer->principal() : std::string();
    case Kind::kSourceNamespace: return facts.peer ? facts.peer->ns.str() : std::string();
    case Kind::kSourceIp: return facts.source_ip.to_string();
    case Kind::kMethod: return std::string(facts.method);
    case Kind::kPath: return std::string(facts.path);
    case Kind::kRoute: return std::string(options.route_name);
    case Kind::kHeader: return joined_header(facts.headers, key.name).value_or("");
    case Kind::kClaim: return claim_text(facts, key.name);
    case Kind::kQuery: return std::string(query_parameter(facts.query, key.name).value_or(""));
  }
  return {};
}

// Fewer requests left is more constrained; then the longer wait.
bool tighter(const RateLimitNote& a, const RateLimitNote& b) {
  if (a.state.remaining != b.state.remaining) return a.state.remaining < b.state.remaining;
  return a.state.reset > b.state.reset;
}

}  // namespace

std::vector<std::string> rate_limit_key_parts(const model::RateLimitRule& rule, const HttpRequestFacts& facts,
                                              const RateLimitOptions& options) {
  std::vector<std::string> out;
  for (const model::RateLimitKey& key : rule.key) out.push_back(key_part(key, facts, options));
  return out;
}

std::string rate_limit_key(const model::RateLimitRule& rule, const HttpRequestFacts& facts,
                           const RateLimitOptions& options) {
  std::string out;
  for (const std::string& part : rate_limit_key_parts(rule, facts, options)) {
    out.append(std::to_string(part.size())).append(":").append(part);
  }
  return out;
}

RateLimitRules::RateLimitRules(std::shared_ptr<const std::vector<model::RateLimitPolicy>> policies,
                               RateLimiters& tables)
    : policies_(std::move(policies)) {
  for (const model::RateLimitPolicy& policy : *policies_) {
    std::vector<RateLimiterRef>& of_policy = limiters_.emplace_back();
    for (size_t i = 0; i < policy.rules.size(); ++i) of_policy.push_back(tables.get(policy, i));
  }
}

RateLimitDecision RateLimitRules::decide(const HttpRequestFacts& facts,
                                         const RateLimitOptions& options) const {
  RateLimitDecision out;
  if (options.http && is_preflight(facts)) return out;
  for (size_t p = 0; p < policies_->size() && out.admitted; ++p) {
    const model::RateLimitPolicy& policy = (*policies_)[p];
    for (size_t r = 0; r < policy.rules.size() && out.admitted; ++r) {
      const model::RateLimitRule& rule = policy.rules[r];
      if (!concerns(rule, facts, options)) continue;
      if (rule.global && policy.service && options.http) {
        // Its service cannot be told afterwards what the response has cost.
        uint64_t cost = rule.cost_header.empty() ? rule.cost : 1;
        out.global.push_back({&policy, &rule, rate_limit_key_parts(rule, facts, options), cost});
        continue;
      }
      std::string key = rate_limit_key(rule, facts, options);
      // A cost that only the response will tell counts 1 until then.
      bool later = !rule.cost_header.empty();
      uint64_t cost = later ? 1 : rule.cost;
      const RateLimiterRef& limiter = limiters_[p][r];
      RateLimitNote note{&policy, &rule, limiter->charge(key, cost, options.now)};
      if (note.state.admitted) {
        if (later) out.later.push_back({limiter, key, rule.cost_header});
        out.charged.push_back({limiter, std::move(key), cost});
      } else {
        out.admitted = policy.shadow;
      }
      out.notes.push_back(std::move(note));
    }
  }
  conclude(out, {});
  return out;
}

void give_back(RateLimitDecision& decision) {
  for (const auto& one : decision.charged) one.limiter->refund(one.key, one.cost);
  decision.charged.clear();
  decision.later.clear();
  decision.global.clear();
}

void conclude(RateLimitDecision& decision, std::vector<RateLimitNote> learned) {
  for (RateLimitNote& note : learned) decision.notes.push_back(std::move(note));
  const RateLimitNote* shown = nullptr;
  decision.headers.clear();
  for (const RateLimitNote& note : decision.notes) {
    if (note.shadow() || note.failed) continue;
    if (!note.state.admitted) {
      shown = &note;
      decision.admitted = false;
      decision.refused_by = note.policy;
      break;
    }
    if (!shown || tighter(note, *shown)) shown = &note;
  }
  if (shown) decision.headers = headers_for(*shown);
  if (decision.admitted) return;
  give_back(decision);
  decision.headers.emplace_back("x-envoy-ratelimited", "true");
  if (decision.refused_by->headers != model::RateLimitPolicy::HeaderStyle::kNone) {
    // "0" would ask for an immediate retry.
    decision.headers.emplace_back(
        "retry-after", std::to_string(std::max<int64_t>(1, whole_seconds(shown->state.retry_after))));
  }
}

void charge_later(const std::vector<RateLimitDecision::Later>& later, HeaderSpan response,
                  base::TimePoint now) {
  for (const RateLimitDecision::Later& one : later) {
    uint64_t cost = 1;
    if (std::optional<std::string> value = joined_header(response, one.cost_header)) {
      uint64_t number = 0;
      auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), number);
      if (error == std::errc() && end == value->data() + value->size()) cost = number;
    }
    // 1 has been charged.
    if (cost == 0) one.limiter->refund(one.key, 1);
    if (cost > 1) one.limiter->add(one.key, cost - 1, now);
  }
}

}  // namespace culvert::decide
