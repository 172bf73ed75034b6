// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/authorize.h"

#include <algorithm>

namespace culvert::decide {
namespace {

using model::PolicyAction;
using model::PolicyMatch;

// What matches compare with, made once per connection.
struct Subject {
  const ConnectionFacts& facts;
  std::string principal;
  std::string_view ns;

  explicit Subject(const ConnectionFacts& of)
      : facts(of),
        principal(of.source ? of.source->principal() : std::string()),
        ns(of.source ? of.source->ns.view() : std::string_view()) {}

  bool is(const model::ServiceAccountMatch& match) const {
    return facts.source && facts.source->ns == match.ns &&
           facts.source->service_account == match.service_account;
  }
  // Without an identity no principal matches, not even by presence.
  bool is_principal(const model::StringMatch& match) const {
    return facts.source && match.matches(principal);
  }
};

// Any of `yes` (or none listed), and none of `no`.
template <class T, class F>
bool kind_holds(const std::vector<T>& yes, const std::vector<T>& no, F&& matches) {
  if (!yes.empty() && std::none_of(yes.begin(), yes.end(), matches)) return false;
  return std::none_of(no.begin(), no.end(), matches);
}

bool holds(const PolicyMatch& match, const Subject& subject) {
  if (match.empty()) return false;
  const auto& facts = subject.facts;
  return kind_holds(match.namespaces, match.not_namespaces,
                    [&](const auto& text) { return text.matches(subject.ns); }) &&
         kind_holds(match.service_accounts, match.not_service_accounts,
                    [&](const auto& account) { return subject.is(account); }) &&
         kind_holds(match.principals, match.not_principals,
                    [&](const auto& text) { return subject.is_principal(text); }) &&
         kind_holds(match.source_ips, match.not_source_ips,
                    [&](const auto& range) { return range.contains(facts.source_ip); }) &&
         kind_holds(match.destination_ips, match.not_destination_ips,
                    [&](const auto& range) { return range.contains(facts.destination.ip); }) &&
         kind_holds(match.destination_ports, match.not_destination_ports,
                    [&](uint16_t port) { return port == facts.destination.port; });
}

bool holds(const model::PolicyClause& clause, const Subject& subject) {
  return clause.matches.empty() || std::any_of(clause.matches.begin(), clause.matches.end(),
                                               [&](const auto& match) { return holds(match, subject); });
}

std::optional<size_t> holding_rule(const model::Policy& policy, const Subject& subject) {
  for (size_t i = 0; i < policy.rules.size(); ++i) {
    const auto& clauses = policy.rules[i].clauses;
    if (std::all_of(clauses.begin(), clauses.end(),
                    [&](const auto& clause) { return holds(clause, subject); })) {
      return i;
    }
  }
  return std::nullopt;
}

// Looks at one policy after the other; `finish` draws the conclusion.
class Evaluation {
 public:
  explicit Evaluation(const ConnectionFacts& facts) : subject_(facts) {}

  void consider(const model::Policy& policy) {
    bool allow = policy.action == PolicyAction::kAllow;
    if (allow) (policy.dry_run ? dry_run_allows_ : allows_) = true;
    // The first of a kind that holds decides; dry runs are all reported.
    if (!policy.dry_run && (allow ? allowed_by_ : denied_by_)) return;
    auto rule = holding_rule(policy, subject_);
    if (!rule) return;
    if (policy.dry_run) {
      if (allow) dry_run_allowed_ = true;
      verdict_.dry_run.push_back({policy.action, policy.key()});
      return;
    }
    (allow ? allowed_by_ : denied_by_) = Hit{&policy, *rule};
  }
  void unknown(std::string_view key) { verdict_.unknown.emplace_back(key); }

  Verdict finish(AuthorizeOptions options) && {
    if (dry_run_allows_ && !dry_run_allowed_ && !allows_)
      verdict_.dry_run.push_back({PolicyAction::kAllow, ""});
    if (denied_by_) {
      decide(Decision::kDeniedBy, *denied_by_);
    } else if (options.unknown_policy_denies && !verdict_.unknown.empty()) {
      verdict_.decision = Decision::kUnknownPolicy;
      verdict_.policy = verdict_.unknown.front();
    } else if (!allows_) {
      verdict_.decision = Decision::kNoAllowPolicies;
    } else if (allowed_by_) {
      decide(Decision::kAllowedBy, *allowed_by_);
    } else {
      verdict_.decision = Decision::kNotAllowed;
    }
    return std::move(verdict_);
  }

 private:
  struct Hit {
    const model::Policy* policy;
    size_t rule;
  };
  void decide(Decision decision, const Hit& hit) {
    verdict_.decision = decision;
    verdict_.policy = hit.policy->key();
    verdict_.rule = hit.rule;
  }

  Subject subject_;
  Verdict verdict_;
  std::optional<Hit> denied_by_;
  std::optional<Hit> allowed_by_;
  bool allows_ = false;
  bool dry_run_allows_ = false;
  bool dry_run_allowed_ = false;
};

}  // namespace

std::string Verdict::reason() const {
  switch (decision) {
    case Decision::kNoAllowPolicies: return "no allow policies";
    case Decision::kAllowedBy: return "allowed by: " + policy;
    case Decision::kDeniedBy: return "explicitly denied by: " + policy;
    case Decision::kNotAllowed: return "allow policies exist, but none allowed";
    case Decision::kUnknownPolicy:
      return "denied because policy " + policy + " applies here and is not known yet";
  }
  return "";
}

Verdict authorize(const model::MeshView& view, const model::Workload& destination,
                  const ConnectionFacts& facts, AuthorizeOptions options) {
  Evaluation evaluation(facts);
  for (const auto& policy : view.namespace_policies(destination.ns)) evaluation.consider(*policy);
  for (const auto& policy : view.global_policies()) evaluation.consider(*policy);
  for (const auto& key : destination.authorization_policies) {
    if (auto policy = view.policy(key)) {
      evaluation.consider(*policy);
    } else {
      evaluation.unknown(key);
    }
  }
  return std::move(evaluation).finish(options);
}

std::optional<size_t> holding_rule(const model::Policy& policy, const ConnectionFacts& facts) {
  return holding_rule(policy, Subject(facts));
}

}  // namespace culvert::decide
