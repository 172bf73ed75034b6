// SPDX-License-Identifier: Apache-2.0
// Rate limits over what strangers send, and the headers that tell them. Input: seven bytes of figures, then
// the rule's name, two values of a keyed header, a query, a path and the response's cost, a line each.
#include "mesh/decide/rate_limit.h"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

using namespace culvert;
using Headers = std::vector<std::pair<std::string, std::string>>;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

std::string line(std::string_view& rest) {
  std::string out(rest.substr(0, rest.find('\n')));
  rest.remove_prefix(std::min(rest.size(), out.size() + 1));
  return out;
}

// Field values of a response: printable, and structured strings closed.
void check_headers(const Headers& headers) {
  for (const auto& [name, value] : headers) {
    check(!name.empty() && !value.empty());
    bool quoted = false;
    for (size_t i = 0; i < value.size(); ++i) {
      check(value[i] >= 0x20 && value[i] < 0x7f);
      if (quoted && value[i] == '\\') {
        check(++i < value.size() && (value[i] == '"' || value[i] == '\\'));
      } else if (value[i] == '"') {
        quoted = !quoted;
      }
    }
    check(!quoted);
    if (name == "retry-after") check(std::stoll(value) >= 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using Kind = model::RateLimitKey::Kind;
  if (size < 7) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 7, size - 7);
  auto policies = std::make_shared<std::vector<model::RateLimitPolicy>>(1);
  model::RateLimitPolicy& policy = policies->front();
  policy.shadow = data[0] == 255;
  policy.headers = static_cast<model::RateLimitPolicy::HeaderStyle>(data[0] & 3);
  model::RateLimitRule& rule = policy.rules.emplace_back();
  rule.name = line(rest);
  rule.requests = data[1];
  rule.per = std::chrono::nanoseconds(uint64_t{1} << (data[2] % 56));
  rule.burst = data[3];
  rule.cost = data[4] == 255 ? UINT64_MAX : data[4];
  rule.keys_max = data[5] % 8;
  rule.key = {{Kind::kHeader, "x-a"}, {Kind::kHeader, "x-b"}, {Kind::kQuery, "q"}, {Kind::kPath, ""}};
  std::string a = line(rest), b = line(rest), query = line(rest), path = line(rest), cost = line(rest);
  if ((data[6] & 1) != 0) rule.cost_header = "x-cost";

  Headers headers = {{"x-a", a}, {"x-b", b}};
  decide::HttpRequestFacts facts;
  facts.method = "GET";
  facts.path = path;
  facts.query = query;
  facts.headers = headers;
  // Nothing can be moved from one part of a key to the next.
  Headers moved = {{"x-a", a + b}, {"x-b", ""}};
  decide::HttpRequestFacts other = facts;
  other.headers = moved;
  decide::RateLimitOptions options;
  options.now = base::TimePoint(std::chrono::hours(1));
  check((rate_limit_key(rule, facts, options) == rate_limit_key(rule, other, options)) == b.empty());

  decide::RateLimiters tables({1, 2});
  decide::RateLimitRules rules(policies, tables);
  uint64_t admitted = 0;
  for (int i = 0; i < 20; ++i) {
    decide::RateLimitDecision decision = rules.decide(facts, options);
    check(decision.notes.size() == 1);
    check_headers(decision.headers);
    check(decision.admitted == (decision.refused_by == nullptr));
    check(decision.admitted || !policy.shadow);
    const decide::BucketState& state = decision.notes[0].state;
    check(state.reset.count() >= 0 && state.retry_after.count() >= 0);
    admitted += state.admitted;
    if (i == 10) charge_later(decision.later, Headers{{"x-cost", cost}}, options.now);
  }
  // Time stands still: the burst is all there is; a refund of the cost header gives back one.
  uint64_t burst = rule.burst == 0 ? rule.requests : rule.burst;
  uint64_t each = rule.cost_header.empty() ? rule.cost : 1;
  if (each > 0 && rule.requests == 0) check(admitted == 0);
  if (each > 0) check(admitted <= burst / each + (rule.cost_header.empty() ? 0 : 1));
  check(tables.size() == 1);
  return 0;
}
