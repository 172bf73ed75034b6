// SPDX-License-Identifier: Apache-2.0
// Section 4.3 of spec waypoint.
#include "mesh/decide/rate_limit.h"

#include <catch2/catch.hpp>
#include <thread>

#include "test/unit/mesh/decide/http_facts.h"

using namespace culvert;
using namespace culvert::decide;
using model::RateLimitKey;
using model::RateLimitPolicy;
using model::RateLimitRule;
using model::TextMatch;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using KeyKind = RateLimitKey::Kind;
using Headers = std::vector<std::pair<std::string, std::string>>;

namespace {

constexpr base::TimePoint kStart{seconds(1000)};
constexpr SipKey kSecret{1, 2};

RateLimitRule rule(std::string name, uint64_t requests, uint64_t burst = 0,
                   std::vector<RateLimitKey> key = {}) {
  RateLimitRule out;
  out.name = std::move(name);
  out.requests = requests;
  out.burst = burst;
  out.key = std::move(key);
  return out;
}

RateLimitPolicy policy(std::vector<RateLimitRule> rules) {
  RateLimitPolicy out;
  out.ns = "shop";
  out.name = "limits";
  out.rules = std::move(rules);
  return out;
}

// Policies and their tables; time stands still unless it is moved.
struct World {
  RateLimiters tables{kSecret};
  std::unique_ptr<RateLimitRules> rules;
  RateLimitOptions options;

  explicit World(std::vector<RateLimitPolicy> policies) {
    options.now = kStart;
    set(std::move(policies));
  }
  void set(std::vector<RateLimitPolicy> policies) {
    rules = std::make_unique<RateLimitRules>(
        std::make_shared<const std::vector<RateLimitPolicy>>(std::move(policies)), tables);
  }
  RateLimitDecision decide(const Request& request = {}) { return rules->decide(request.facts(), options); }
  int admitted(int count, const Request& request = {}) {
    int out = 0;
    for (int i = 0; i < count; ++i) out += decide(request).admitted;
    return out;
  }
};

}  // namespace

TEST_CASE("GCRA: burst at once, then one for each interval", "[4.3]") {
  RateLimiter limiter(10, seconds(1), 5, 100, kSecret);
  for (uint64_t left : {4, 3, 2, 1, 0}) {
    BucketState state = limiter.charge("", 1, kStart);
    CHECK(state.admitted);
    CHECK(state.remaining == left);
    CHECK(state.reset == milliseconds(100) * (5 - left));
  }
  BucketState refused = limiter.charge("", 1, kStart);
  CHECK_FALSE(refused.admitted);
  CHECK(refused.remaining == 0);
  CHECK(refused.retry_after == milliseconds(100));
  CHECK(refused.reset == milliseconds(500));
  // Not a nanosecond early, and refusals cost nothing.
  CHECK_FALSE(limiter.charge("", 1, kStart + milliseconds(100) - nanoseconds(1)).admitted);
  CHECK(limiter.charge("", 1, kStart + milliseconds(100)).admitted);
  CHECK_FALSE(limiter.charge("", 1, kStart + milliseconds(100)).admitted);
  CHECK(limiter.charge("", 1, kStart + seconds(10)).remaining == 4);
}

TEST_CASE("costs above one, above the burst, and rates that do not divide", "[4.3]") {
  RateLimiter limiter(10, seconds(1), 5, 100, kSecret);
  CHECK(limiter.charge("", 3, kStart).remaining == 2);
  CHECK(limiter.charge("", 3, kStart).retry_after == milliseconds(100));
  CHECK(limiter.charge("", 2, kStart).admitted);
  CHECK_FALSE(RateLimiter(10, seconds(1), 5, 100, kSecret).charge("", 6, kStart).admitted);
  CHECK_FALSE(RateLimiter(10, seconds(1), 5, 100, kSecret).charge("", UINT64_MAX, kStart).admitted);

  // 3 a second: over 100 s never more than burst + 300.
  RateLimiter odd(3, seconds(1), 0, 100, kSecret);
  int admitted = 0;
  for (int i = 0; i <= 100000; ++i) admitted += odd.charge("", 1, kStart + milliseconds(i)).admitted;
  CHECK(admitted <= 303);
  CHECK(admitted >= 301);
  CHECK_FALSE(RateLimiter(0, seconds(1), 0, 100, kSecret).charge("", 1, kStart).admitted);
  RateLimiter hourly(1, std::chrono::hours(24 * 365), 1, 100, kSecret);
  CHECK(hourly.charge("", 1, kStart).admitted);
  CHECK(hourly.charge("", 1, kStart).retry_after == std::chrono::hours(24 * 365));
}

// Found by test/fuzz: sums that saturated looked like a bucket with room, for ever.
TEST_CASE("figures beyond what can be counted let less pass, never more", "[4.3]") {
  for (uint64_t burst : {100, 200, 1'000'000'000}) {
    RateLimiter yearly(1, std::chrono::hours(24 * 365), burst, 100, kSecret);
    int admitted = 0;
    for (int i = 0; i < 1000; ++i) admitted += yearly.charge("", 1, kStart).admitted;
    CHECK(admitted >= 30);
    CHECK(admitted <= 100);
    CHECK_FALSE(yearly.charge("", UINT64_MAX, kStart + std::chrono::hours(24 * 365 * 30)).admitted);
  }
  CHECK_FALSE(
      RateLimiter(1, std::chrono::hours(24 * 365 * 290), 5, 100, kSecret).charge("", 1, kStart).admitted);
}

TEST_CASE("a refund gives back exactly what was charged", "[4.3]") {
  for (std::string key : {"", "alice"}) {
    RateLimiter limiter(10, seconds(1), 5, 100, kSecret);
    CHECK(limiter.charge(key, 5, kStart).admitted);
    CHECK_FALSE(limiter.charge(key, 1, kStart).admitted);
    limiter.refund(key, 2);
    CHECK(limiter.charge(key, 2, kStart).admitted);
    CHECK_FALSE(limiter.charge(key, 1, kStart).admitted);
  }
}

TEST_CASE("keys have buckets of their own", "[4.3]") {
  RateLimiter limiter(1, seconds(1), 2, 100, kSecret);
  CHECK(limiter.charge("a", 2, kStart).admitted);
  CHECK(limiter.charge("b", 2, kStart).admitted);
  CHECK_FALSE(limiter.charge("a", 1, kStart).admitted);
  CHECK(limiter.keys() == 2);
  CHECK(limiter.overflows() == 0);
}

TEST_CASE("a full table: free entries are used again, newcomers share one bucket", "[4.3]") {
  RateLimiter limiter(1, seconds(1), 1, 4, kSecret);
  for (const char* key : {"a", "b", "c", "d"}) CHECK(limiter.charge(key, 1, kStart).admitted);
  // "e" and "f" share.
  CHECK(limiter.charge("e", 1, kStart).admitted);
  CHECK_FALSE(limiter.charge("f", 1, kStart).admitted);
  CHECK(limiter.overflows() == 2);
  CHECK(limiter.keys() == 4);
  // Who was there before is not touched.
  CHECK_FALSE(limiter.charge("a", 1, kStart).admitted);
  CHECK(limiter.charge("a", 1, kStart + seconds(1)).admitted);
  // "b", "c" and "d" are full again; "a" is not.
  CHECK(limiter.charge("f", 1, kStart + seconds(1)).admitted);
  CHECK(limiter.keys() == 2);
  CHECK_FALSE(limiter.charge("f", 1, kStart + seconds(1)).admitted);
  CHECK(limiter.overflows() == 2);
  // Refunded entries are free at once.
  for (const char* key : {"x", "y"}) CHECK(limiter.charge(key, 1, kStart + seconds(1)).admitted);
  CHECK(limiter.charge("z", 1, kStart + seconds(1)).admitted);
  CHECK(limiter.overflows() == 3);
  limiter.refund("x", 1);
  CHECK(limiter.charge("q", 1, kStart + seconds(1)).admitted);
  CHECK(limiter.overflows() == 3);
}

TEST_CASE("the table has its bound at every size", "[4.3]") {
  auto keys_max = GENERATE(0u, 1u, 100u, 4096u, 10000u);
  RateLimiter limiter(1, std::chrono::hours(1), 1, keys_max, kSecret);
  for (int i = 0; i < 20000; ++i) limiter.charge(std::to_string(i), 1, kStart);
  CHECK(limiter.keys() <= keys_max + 16);
  CHECK(limiter.keys() >= keys_max * 95 / 100);
  CHECK(limiter.overflows() >= 20000 - limiter.keys());
}

TEST_CASE("exact across threads", "[4.3]") {
  for (std::string key : {"", "shared"}) {
    RateLimiter limiter(1, std::chrono::hours(1), 1000, 100, kSecret);
    std::atomic<int> admitted{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 2000; ++i) admitted += limiter.charge(key, 1, kStart).admitted;
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(admitted == 1000);
  }
}

TEST_CASE("tables survive configuration that leaves the rule as it was", "[4.3]") {
  World world({policy({rule("a", 10, 2)})});
  CHECK(world.admitted(3) == 2);
  // Another rule before it, another answer: the bucket stays.
  RateLimitPolicy next = policy({rule("new", 1000), rule("a", 10, 2)});
  next.status = 503;
  world.set({next});
  CHECK(world.admitted(1) == 0);
  CHECK(world.tables.size() == 2);
  // Another limit is another bucket.
  world.set({policy({rule("a", 10, 3)})});
  CHECK(world.admitted(5) == 3);
  // The same rule in another policy too.
  RateLimitPolicy other = policy({rule("a", 10, 3)});
  other.name = "other";
  world.set({other});
  CHECK(world.admitted(5) == 3);
  CHECK(world.tables.size() == 1);
  // Twins do not share.
  world.set({policy({rule("t", 10, 4), rule("t", 10, 4)})});
  CHECK(world.admitted(9) == 4);
}

TEST_CASE("every rule that matches is asked; a refusal gives back the others", "[4.3]") {
  World world({policy({rule("wide", 10, 10), rule("narrow", 10, 2)})});
  CHECK(world.admitted(5) == 2);
  // Three refusals have cost "wide" nothing: 8 are left.
  world.set({policy({rule("wide", 10, 10)})});
  CHECK(world.admitted(20) == 8);
}

TEST_CASE("which requests a rule concerns", "[4.3]") {
  RateLimitRule api = rule("api", 10, 1);
  model::RouteMatch match;
  match.path = TextMatch::prefix("/api");
  api.matches = {match};
  model::HttpSource source;
  source.namespaces.any = {TextMatch::exact("web")};
  api.from = {source};
  World world({policy({api})});
  Request other;
  CHECK(world.admitted(3, other) == 3);
  Request hit;
  hit.path = "/api/x";
  Request stranger = hit;
  stranger.peer.ns = "dev";
  CHECK(world.admitted(3, stranger) == 3);
  CHECK(world.admitted(3, hit) == 1);

  RateLimitRule on_route = rule("route", 10, 1);
  on_route.route = "canary";
  world.set({policy({on_route})});
  CHECK(world.admitted(3) == 3);
  world.options.route_origin = "canary";
  CHECK(world.admitted(3) == 1);
}

TEST_CASE("preflights are exempt", "[4.3]") {
  World world({policy({rule("a", 10, 1)})});
  Request preflight;
  preflight.method = "OPTIONS";
  preflight.with("origin", "https://a").with("access-control-request-method", "PUT");
  CHECK(world.admitted(3, preflight) == 3);
  preflight.headers.pop_back();
  CHECK(world.admitted(3, preflight) == 1);
}

TEST_CASE("shadow counts and never refuses", "[4.3]") {
  RateLimitPolicy shadow = policy({rule("a", 10, 1)});
  shadow.shadow = true;
  World world({shadow});
  CHECK(world.decide().notes.at(0).state.admitted);
  RateLimitDecision decision = world.decide();
  CHECK(decision.admitted);
  CHECK(decision.headers.empty());
  REQUIRE(decision.notes.size() == 1);
  CHECK_FALSE(decision.notes[0].state.admitted);
  CHECK(decision.notes[0].shadow());
}

TEST_CASE("keys: each part, and parts that cannot run into each other", "[4.3]") {
  Request request;
  request.path = "/p";
  request.query = "q=1";
  request.with("x-user", "alice");
  request.token = true;
  request.claims.values["realm.id"] = {"a", "b"};
  RateLimitOptions options;
  options.route_name = "r";
  auto key = [&](std::vector<RateLimitKey> parts) {
    return rate_limit_key(rule("x", 1, 1, std::move(parts)), request.facts(), options);
  };
  CHECK(key({}) == "");
  CHECK(key({{KeyKind::kSourcePrincipal, ""}}) == "29:cluster.local/ns/web/sa/front");
  CHECK(key({{KeyKind::kSourceNamespace, ""}, {KeyKind::kSourceIp, ""}}) == "3:web8:10.0.0.1");
  CHECK(key({{KeyKind::kMethod, ""}, {KeyKind::kPath, ""}, {KeyKind::kRoute, ""}}) == "3:GET2:/p1:r");
  CHECK(key({{KeyKind::kHeader, "x-user"}, {KeyKind::kQuery, "q"}}) == "5:alice1:1");
  CHECK(key({{KeyKind::kClaim, "realm.id"}}) == "3:a,b");
  // Missing parts are empty and still a bucket.
  CHECK(key({{KeyKind::kHeader, "x-no"}}) == "0:");
  CHECK(key({{KeyKind::kHeader, "x-no"}, {KeyKind::kHeader, "x-user"}}) !=
        key({{KeyKind::kHeader, "x-user"}, {KeyKind::kHeader, "x-no"}}));
}

TEST_CASE("limits by client identity", "[4.3]") {
  World world({policy({rule("per-client", 10, 2, {{KeyKind::kSourcePrincipal, ""}})})});
  Request one, other;
  other.peer.service_account = "other";
  CHECK(world.admitted(5, one) == 2);
  CHECK(world.admitted(5, other) == 2);
}

TEST_CASE("headers of the most constrained rule, and of a refusal", "[4.3]") {
  RateLimitPolicy limits = policy({rule("wide", 100, 100), rule("per \"client\"", 10, 2)});
  World world({limits});
  CHECK(world.decide().headers == Headers{{"ratelimit-policy", "\"per \\\"client\\\"\";q=10;w=1"},
                                          {"ratelimit", "\"per \\\"client\\\"\";r=1;t=1"}});
  world.decide();
  RateLimitDecision refused = world.decide();
  CHECK_FALSE(refused.admitted);
  CHECK(refused.refused_by->status == 429);
  CHECK(refused.headers == Headers{{"ratelimit-policy", "\"per \\\"client\\\"\";q=10;w=1"},
                                   {"ratelimit", "\"per \\\"client\\\"\";r=0;t=1"},
                                   {"x-envoy-ratelimited", "true"},
                                   {"retry-after", "1"}});
  CHECK(refused.notes.size() == 2);

  using Style = RateLimitPolicy::HeaderStyle;
  auto names = [&](Style style) {
    limits.headers = style;
    world.set({limits});
    std::string out;
    for (const auto& [name, value] : world.decide().headers) out += name + " ";
    return out;
  };
  CHECK(names(Style::kLegacy) ==
        "x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset x-envoy-ratelimited "
        "retry-after ");
  CHECK(names(Style::kBoth) ==
        "ratelimit-policy ratelimit x-ratelimit-limit x-ratelimit-remaining "
        "x-ratelimit-reset x-envoy-ratelimited retry-after ");
  CHECK(names(Style::kNone) == "x-envoy-ratelimited ");
}

TEST_CASE("retry-after says when", "[4.3]") {
  RateLimitRule slow = rule("slow", 1);
  slow.per = seconds(60);
  World world({policy({slow})});
  world.decide();
  world.options.now += seconds(20);
  CHECK(world.decide().headers.back() == std::pair<std::string, std::string>{"retry-after", "40"});
  world.options.now += seconds(40);
  CHECK(world.decide().admitted);
}

TEST_CASE("costs that the response tells are charged afterwards", "[4.3]") {
  RateLimitRule rule_ = rule("tokens", 10, 10);
  rule_.cost_header = "x-cost";
  World world({policy({rule_})});
  RateLimitDecision first = world.decide();
  REQUIRE(first.later.size() == 1);
  charge_later(first.later, Request().with("x-cost", "25").headers, kStart);
  // 25 of 10: nothing passes for 1.6 s, until one is there again.
  world.options.now = kStart + milliseconds(1599);
  CHECK_FALSE(world.decide().admitted);
  CHECK(world.decide().later.empty());
  world.options.now = kStart + milliseconds(1600);
  RateLimitDecision next = world.decide();
  CHECK(next.admitted);
  CHECK_FALSE(world.decide().admitted);
  charge_later(next.later, Request().with("x-cost", "0").headers, world.options.now);
  next = world.decide();
  CHECK(next.admitted);
  charge_later(next.later, Request().with("x-cost", "many").headers, world.options.now);
  CHECK_FALSE(world.decide().admitted);
}

TEST_CASE("on connections only what L4 knows", "[4.2]") {
  RateLimitRule l7 = rule("l7", 10, 1);
  l7.matches.resize(1);
  RateLimitRule token = rule("token", 10, 1);
  token.from.resize(1);
  token.from[0].request_principals.none = {TextMatch::present()};
  World world({policy({l7, token})});
  world.options.http = false;
  CHECK(world.admitted(3) == 3);
  world.set({policy({rule("l4", 10, 1, {{KeyKind::kSourceIp, ""}})})});
  CHECK(world.admitted(3) == 1);
}
