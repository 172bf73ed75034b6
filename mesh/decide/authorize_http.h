// SPDX-License-Identifier: Apache-2.0
// authorize_http: may this request (or, without HTTP, this connection) pass at a waypoint? (spec waypoint
// section 2.6). Pure. Node proxies decide by authorize.h.
//
// Order: CUSTOM (asked elsewhere) -> DENY -> no ALLOW policy applies: allowed -> any ALLOW rule -> denied.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/decide/http_request.h"
#include "mesh/model/guard.h"

namespace culvert::decide {

inline constexpr std::string_view kNoDryRunAllow = "none";

struct HttpVerdict {
  bool allowed = true;
  std::string decided_by;  // "ns[..]-policy[..]-rule[..]", or "" (no policy decided)
  // Of a denial, for people.
  std::string denied_by() const { return decided_by.empty() ? "no ALLOW policy holds" : decided_by; }
  // Policies that would have decided, with rule; kNoDryRunAllow if ALLOW policies would, by not holding.
  std::vector<std::string> dry_run;
  std::vector<std::string> audited;
};

struct AuthorizeHttpOptions {
  bool http = true;  // false: a connection of which nothing above L4 is known
  // false: tokens have not been looked at yet, and what a rule says of them is taken to hold.
  bool tokens = true;
  // Names that stand for each other, our own trust domain among them.
  std::span<const std::string> trust_domains;
  // Whether a policy takes part: by its selector and the endpoint that was chosen. Null: those without
  // selector.
  std::function<bool(const model::HttpPolicy&)> applies;
};

HttpVerdict authorize_http(std::span<const model::HttpPolicy> policies, const HttpRequestFacts& facts,
                           const AuthorizeHttpOptions& options);

// The CUSTOM policies that hold, in order: whoever they name is to be asked before anything else decides, and
// refuses if it cannot be (section 2.6.6). A dry run asks nobody.
struct CustomHit {
  const model::HttpPolicy* policy = nullptr;
  std::string name;  // with its rule
};
std::vector<CustomHit> custom_policies(std::span<const model::HttpPolicy> policies,
                                       const HttpRequestFacts& facts, const AuthorizeHttpOptions& options);

// The first rule of the policy that holds. On connections an ALLOW rule that needs HTTP never does; others
// are held without what needs it (section 2.6.4).
std::optional<size_t> holding_rule(const model::HttpPolicy& policy, const HttpRequestFacts& facts,
                                   const AuthorizeHttpOptions& options);

// Whether a policy bound by `selector` covers an endpoint; `everywhere`: it comes from the root namespace.
bool selects(const model::PodSelector& selector, bool everywhere, std::string_view policy_ns,
             std::string_view endpoint_ns, const model::LabelMap& labels);

// Also the `from` of rate limits.
bool matches(const model::HttpSource& source, const HttpRequestFacts& facts, bool http,
             std::span<const std::string> trust_domains, bool tokens = true);

}  // namespace culvert::decide
