// SPDX-License-Identifier: Apache-2.0
// Policies bound by selector as a waypoint is told them (selector_l7.cc says which and why).
//
// A policy without HTTP parts is judged at a waypoint only for pods that a policy with such parts covers too,
// for there the node proxy admits the waypoint in its place; elsewhere it stays with the node proxy.
#include <algorithm>

#include "control/compile/context.h"
#include "control/compile/guards.h"

namespace culvert::control {

namespace {

using kube::AuthorizationPolicy;

const kube::Meta& meta_of(const ServiceSource& source) {
  return source.service ? source.service->meta : source.entry->meta;
}

bool reaches(const WaypointReach& reach, const Coverage& coverage) {
  return std::any_of(reach.namespaces.begin(), reach.namespaces.end(),
                     [&](const std::string& ns) { return coverage.in(ns); }) ||
         std::any_of(reach.services.begin(), reach.services.end(),
                     [&](const ServiceSource* source) { return may_cover(coverage, *source); });
}

bool without_http(const SelectorPolicy& policy) {
  return !policy.needs_waypoint && policy.source->action != AuthorizationPolicy::Action::kAudit;
}

// The policy without the rules that are the node proxy's alone; none: all of it is.
std::optional<AuthorizationPolicy> told(const Context& context, const SelectorPolicy& policy) {
  using Action = AuthorizationPolicy::Action;
  const auto& rules = policy.source->rules;
  auto hop = [&](const AuthorizationPolicy::Rule& rule) {
    return !needs_waypoint(rule) && about_hop(context, rule);
  };
  AuthorizationPolicy out = *policy.source;
  if (std::none_of(rules.begin(), rules.end(), hop)) return out;
  // It lets the waypoint in: whom the waypoint lets in is for others to say.
  if (out.action == Action::kAllow && without_http(policy)) return std::nullopt;
  std::erase_if(out.rules, hop);
  if (out.rules.empty() && out.action != Action::kAllow) return std::nullopt;
  return out;
}

class GuardMaker {
 public:
  GuardMaker(Context& context, const WaypointReach& reach, model::Guard& out)
      : context_(context), reach_(reach), out_(out) {}

  void run() {
    const SelectorPolicies& all = context_.selectors;
    for (const SelectorPolicy& policy : all.policies) {
      bool enforced = !policy.source->dry_run && policy.source->action != AuthorizationPolicy::Action::kAudit;
      if (policy.needs_waypoint && enforced && reaches(reach_, policy.coverage)) {
        guarded_.push_back(policy.coverage);
      }
    }
    for (const SelectorTokens& tokens : all.tokens) {
      if (!reaches(reach_, tokens.coverage)) continue;
      guarded_.push_back(tokens.coverage);
      model::RequestAuthentication made = compile_authentication(*tokens.source, context_.options.jwks);
      made.selector = tokens.coverage.labels;
      made.selector_everywhere = tokens.coverage.everywhere;
      out_.authentications.push_back(std::move(made));
    }
    for (const SelectorPolicy& policy : all.policies) {
      if (!reaches(reach_, policy.coverage)) continue;
      if (policy.needs_waypoint) {
        add(policy, policy.coverage);
      } else {
        for (const Coverage& both : shared_with_guarded(policy.coverage)) add(policy, both);
      }
    }
  }

 private:
  // What policies with HTTP parts cover of it, without what another covers already.
  std::vector<Coverage> shared_with_guarded(const Coverage& coverage) const {
    std::vector<Coverage> out;
    for (const Coverage& guarded : guarded_) {
      std::optional<Coverage> both = common(coverage, guarded);
      if (!both || !reaches(reach_, *both)) continue;
      bool known =
          std::any_of(out.begin(), out.end(), [&](const Coverage& one) { return one.includes(*both); });
      if (known) continue;
      std::erase_if(out, [&](const Coverage& one) { return both->includes(one); });
      out.push_back(std::move(*both));
    }
    return out;
  }

  void add(const SelectorPolicy& policy, const Coverage& coverage) {
    std::optional<AuthorizationPolicy> rules = told(context_, policy);
    if (!rules) return;
    model::HttpPolicy made = compile_http_policy(*rules, [&](const std::string& what) {
      context_.find("IST0106", Severity::kError, policy.source->meta, "AuthorizationPolicy", what);
    });
    made.selector = coverage.labels;
    made.selector_everywhere = coverage.everywhere;
    if (coverage.ns != made.ns) made.selector_ns = coverage.ns;
    out_.policies.push_back(std::move(made));
  }

  Context& context_;
  const WaypointReach& reach_;
  model::Guard& out_;
  std::vector<Coverage> guarded_;
};

}  // namespace

bool may_cover(const Coverage& coverage, const ServiceSource& source) {
  if (!coverage.in(meta_of(source).ns)) return false;
  if (source.entry && !source.entry->endpoints.empty())
    return selects(coverage.labels, source.entry->meta.labels);
  const kube::Labels* selector = source.selector();
  return !selector || coverage.meets(*selector);
}

void compile_selector_guard(Context& context, const WaypointReach& reach, model::Guard& out) {
  if (context.options.selector_l7 == SelectorL7::kUpstream) return;
  GuardMaker(context, reach, out).run();
}

}  // namespace culvert::control
