// SPDX-License-Identifier: Apache-2.0
// Policies bound by selector, or by their namespace alone, that say something about HTTP (spec waypoint
// section 2.6.5, done as their authors meant it).
//
// | a workload that such a policy covers   | at its waypoints               | at its node proxy |
// |----------------------------------------|--------------------------------|-----------------------------------|
// | has waypoints, its own or a service's  | all policies that cover it are | ALLOW: what L4 alone allows,
// and  | |                                        | judged for it, with the        | these waypoints; DENY:
// what L4    | |                                        | client's identity              | leaves open, for
// all but these    | | has none                               |                                | the same
// without the exception    |
//
// All of its policies go to the waypoint, those without HTTP too: behind a waypoint the node proxy sees the
// waypoint's identity only. A policy that names a waypoint's own principal speaks of that last hop and stays
// with the node proxy. Policies of a whole namespace without HTTP hold at the node proxy for everybody, the
// waypoint too, whatever others do: no resource changes its scope because of a neighbour.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "control/compile/context.h"

namespace culvert::control {

namespace {

using kube::AuthorizationPolicy;
using model::StringMatch;

constexpr const char* kGatewayName = "gateway.networking.k8s.io/gateway-name";
constexpr const char* kServiceAccount = "gateway.istio.io/service-account";

// Principals begin with their trust domain: its end is nothing they can be matched by.
bool by_suffix(const std::vector<std::string>& domains) {
  return std::any_of(domains.begin(), domains.end(),
                     [](const std::string& one) { return one.size() > 1 && one.starts_with('*'); });
}

bool seen_by_node_proxies(const AuthorizationPolicy::Condition& condition) {
  static constexpr std::array<std::string_view, 5> kKeys = {
      "source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port"};
  if (condition.key == "source.trustDomain") {
    return !by_suffix(condition.values) && !by_suffix(condition.not_values);
  }
  return std::find(kKeys.begin(), kKeys.end(), condition.key) != kKeys.end();
}

Coverage coverage_of(const Context& context, const kube::Meta& meta,
                     const std::optional<kube::Labels>& selector) {
  return {meta.ns, meta.ns == context.options.root_namespace, selector.value_or(kube::Labels())};
}

// Of its instances, else what one would be given.
std::vector<std::string> accounts_of(const Context& context, const Waypoint& waypoint) {
  std::set<std::string> accounts;
  auto end = context.objects.pods.end();
  for (auto at = context.objects.pods.lower_bound(waypoint.ns + "/"); at != end; ++at) {
    const kube::Pod& pod = *at->second;
    if (pod.meta.ns != waypoint.ns) break;
    const std::string* gateway = label(pod.meta.labels, kGatewayName);
    bool over = pod.phase == "Succeeded" || pod.phase == "Failed";
    if (gateway && *gateway == waypoint.name && !over) accounts.insert(pod.service_account);
  }
  if (accounts.empty()) {
    const auto& gateway = context.objects.gateways.at(waypoint.ns + "/" + waypoint.name);
    const std::string* named = label(gateway->meta.annotations, kServiceAccount);
    accounts.insert(named ? *named : waypoint.name);
  }
  return {accounts.begin(), accounts.end()};
}

void plan_waypoints(Context& context) {
  SelectorPolicies& selectors = context.selectors;
  for (const auto& [key, waypoint] : context.waypoints) {
    std::vector<std::string> accounts = accounts_of(context, waypoint);
    for (const std::string& account : accounts) selectors.hop_accounts.insert(waypoint.ns + "/" + account);
    selectors.waypoint_accounts[key] = std::move(accounts);
  }
}

// Resource names with this in them cannot be those of an object: objects have no underscores.
std::string joined(const std::set<std::string>& waypoints) {
  std::string out;
  for (std::string name : waypoints) {
    std::replace(name.begin(), name.end(), '/', '_');
    out += (out.empty() ? "" : "_") + name;
  }
  return out;
}

std::vector<StringMatch> principals(const Context& context, const std::set<std::string>& waypoints) {
  std::vector<StringMatch> out;
  for (const std::string& name : waypoints) {
    const Waypoint& waypoint = context.waypoints.at(name);
    for (const std::string& account : context.selectors.waypoint_accounts.at(name)) {
      out.push_back({StringMatch::Kind::kExact,
                     fmt::format("{}/ns/{}/sa/{}", context.options.trust_domain, waypoint.ns, account)});
    }
  }
  return out;
}

// The policy's DENY for workloads behind these waypoints: it leaves them to judge what comes through them.
std::string exempting(Context& context, const SelectorPolicy& policy,
                      const std::set<std::string>& waypoints) {
  std::string key = policy.by_name + "_except_" + joined(waypoints);
  std::shared_ptr<const model::Policy>& made = context.out.policies[key];
  if (made) return key;
  model::Policy out;
  out.ns = policy.source->meta.ns;
  out.name = key.substr(key.find('/') + 1);
  out.scope = model::PolicyScope::kWorkloadSelector;
  out.action = model::PolicyAction::kDeny;
  model::PolicyMatch others;
  others.not_principals = principals(context, waypoints);
  for (size_t i = 0; i < policy.denies.size(); ++i) {
    model::PolicyRule rule = policy.denies[i];
    if (!policy.denies_hop[i]) rule.clauses.push_back({{others}});
    out.rules.push_back(std::move(rule));
  }
  made = std::make_shared<const model::Policy>(std::move(out));
  return key;
}

// An ALLOW for these waypoints, beside what others allow. Without any: nobody.
std::string admitting(Context& context, const std::string& ns, const std::set<std::string>& waypoints) {
  model::Policy out;
  out.ns = ns;
  out.name = waypoints.empty() ? "culvert_admit_nobody" : "culvert_admit_" + joined(waypoints);
  out.scope = model::PolicyScope::kWorkloadSelector;
  std::string key = out.key();
  std::shared_ptr<const model::Policy>& made = context.out.policies[key];
  if (made) return key;
  if (!waypoints.empty()) {
    model::PolicyMatch them;
    them.principals = principals(context, waypoints);
    out.rules.push_back({{{{std::move(them)}}}});
  }
  made = std::make_shared<const model::Policy>(std::move(out));
  return key;
}

template <class T>
void note(T& policy, const std::string& workload, const std::set<std::string>& waypoints) {
  if (waypoints.empty()) {
    policy.unguarded.push_back(workload);
  } else {
    policy.guarded = true;
  }
}

bool enforced(const SelectorPolicy& policy) {
  return !policy.source->dry_run && policy.source->action != AuthorizationPolicy::Action::kAudit;
}

}  // namespace

bool needs_waypoint(const AuthorizationPolicy::Rule& rule) {
  auto source = [](const AuthorizationPolicy::Source& from) {
    return !from.request_principals.empty() || !from.not_request_principals.empty() ||
           !from.remote_ip_blocks.empty() || !from.not_remote_ip_blocks.empty() ||
           by_suffix(from.trust_domains) || by_suffix(from.not_trust_domains) ||
           (!from.principals.empty() && !from.trust_domains.empty());
  };
  auto operation = [](const AuthorizationPolicy::Operation& to) {
    return !to.hosts.empty() || !to.not_hosts.empty() || !to.methods.empty() || !to.not_methods.empty() ||
           !to.paths.empty() || !to.not_paths.empty();
  };
  return std::any_of(rule.from.begin(), rule.from.end(), source) ||
         std::any_of(rule.to.begin(), rule.to.end(), operation) ||
         !std::all_of(rule.when.begin(), rule.when.end(), seen_by_node_proxies);
}

bool about_hop(const Context& context, const AuthorizationPolicy::Rule& rule) {
  const std::set<std::string>& hops = context.selectors.hop_accounts;
  auto principal = [&](const std::string& text) {
    size_t ns = text.find("/ns/"), account = text.find("/sa/");
    if (ns == text.npos || account == text.npos || account < ns + 4) return false;
    return hops.contains(text.substr(ns + 4, account - ns - 4) + "/" + text.substr(account + 4));
  };
  auto any = [](const std::vector<std::string>& list, auto holds) {
    return std::any_of(list.begin(), list.end(), holds);
  };
  auto account = [&](const std::string& text) { return hops.contains(text); };
  bool source = std::any_of(rule.from.begin(), rule.from.end(), [&](const AuthorizationPolicy::Source& from) {
    return any(from.principals, principal) || any(from.not_principals, principal) ||
           any(from.service_accounts, account) || any(from.not_service_accounts, account);
  });
  return source || std::any_of(rule.when.begin(), rule.when.end(), [&](const auto& condition) {
           return condition.key == "source.principal" &&
                  (any(condition.values, principal) || any(condition.not_values, principal));
         });
}

void plan_selector_policies(Context& context) {
  plan_waypoints(context);
  SelectorPolicies& selectors = context.selectors;
  for (const auto& [key, policy] : context.objects.authorization_policies) {
    if (!policy->target_refs.empty()) continue;
    bool waypoint = policy->action == AuthorizationPolicy::Action::kCustom ||
                    policy->action == AuthorizationPolicy::Action::kAudit ||
                    std::any_of(policy->rules.begin(), policy->rules.end(), needs_waypoint);
    selectors.policies.push_back(
        {policy.get(), coverage_of(context, policy->meta, policy->selector), waypoint});
  }
  if (context.options.selector_l7 == SelectorL7::kWaypoint) {
    for (const auto& [key, one] : context.objects.request_authentications) {
      if (!one->target_refs.empty() || one->rules.empty()) continue;
      selectors.tokens.push_back({one.get(), coverage_of(context, one->meta, one->selector)});
    }
  }
  auto sort = [](auto& list) {
    std::sort(list.begin(), list.end(),
              [](const auto& a, const auto& b) { return older(a.source->meta, b.source->meta); });
  };
  sort(selectors.policies);
  sort(selectors.tokens);
  for (SelectorPolicy& policy : selectors.policies) selectors.covering.add(&policy);
  for (SelectorTokens& tokens : selectors.tokens) selectors.tokens_covering.add(&tokens);
}

std::vector<std::string> attached_policies(Context& context, const std::string& name, const kube::Meta& meta,
                                           const std::set<std::string>& waypoints) {
  // What stands in for others is not itself behind a waypoint.
  bool may_be_guarded =
      context.options.selector_l7 == SelectorL7::kWaypoint && !waypoint_instance(context, meta);
  bool guarded = false, allows = false, tokens = false;
  std::vector<SelectorPolicy*> named;
  context.selectors.covering.each_covering(meta.ns, meta.labels, [&](SelectorPolicy& policy) {
    policy.covers_some = true;
    if (!policy.by_name.empty()) named.push_back(&policy);
    if (!may_be_guarded || !enforced(policy)) return;
    allows |= policy.source->action == AuthorizationPolicy::Action::kAllow;
    guarded |= policy.needs_waypoint;
    if (!policy.needs_waypoint) return;
    note(policy, name, waypoints);
  });
  context.selectors.tokens_covering.each_covering(meta.ns, meta.labels, [&](SelectorTokens& one) {
    if (!may_be_guarded) return;
    guarded = tokens = true;
    note(one, name, waypoints);
  });
  std::vector<std::string> out;
  for (const SelectorPolicy* policy : named) {
    bool exempts = guarded && !waypoints.empty() && enforced(*policy) && !policy->denies.empty();
    out.push_back(exempts ? exempting(context, *policy, waypoints) : policy->by_name);
  }
  std::sort(out.begin(), out.end());
  for (std::string& one : peer_authentication_policies(context, meta.ns, meta.labels)) {
    out.push_back(std::move(one));
  }
  // Tokens are looked at by a waypoint or by nobody, and then nobody may come with one.
  bool admits = guarded && (tokens || (allows && !waypoints.empty()));
  if (admits) out.push_back(admitting(context, meta.ns, waypoints));
  return out;
}

namespace {

std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) out += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kShown) out += fmt::format(" and {} more", names.size() - kShown);
  return out;
}

struct CoveredServices {
  bool bound = false;                // some have a waypoint
  std::vector<std::string> unbound;  // those that have none
};

// Services whose pods the policy may cover. Those of waypoints themselves do not count.
CoveredServices covered_services(const Context& context, const Coverage& coverage) {
  CoveredServices out;
  auto look = [&](const std::string& key, const ServiceSource& source) {
    if (!may_cover(coverage, source)) return;
    auto waypoints = context.out.waypoints_of.find(key);
    bool bound = waypoints != context.out.waypoints_of.end() &&
                 context.waypoints.at(waypoints->second.front()).address.has_value();
    out.bound |= bound;
    const kube::Labels* selector = source.selector();
    if (bound || !selector || selector->empty() || label(*selector, kGatewayName)) return;
    out.unbound.push_back(key.substr(0, key.find('.')));
  };
  auto at = coverage.everywhere ? context.sources.begin() : context.sources.lower_bound(coverage.ns + "/");
  for (; at != context.sources.end(); ++at) {
    if (!coverage.everywhere && !at->first.starts_with(coverage.ns + "/")) break;
    look(at->first, at->second);
  }
  return out;
}

// What is missing for the policy to be carried out as it is written; empty: nothing.
template <class T>
std::string missing(const Context& context, const T& policy) {
  CoveredServices services = covered_services(context, policy.coverage);
  const std::vector<std::string>& unguarded = policy.unguarded;
  if (!services.unbound.empty()) {
    return fmt::format(
        "no waypoint that is ready is bound to {}: label the Service, or its namespace, "
        "istio.io/use-waypoint",
        listed(services.unbound));
  }
  if (!services.bound && !policy.guarded && unguarded.empty()) {
    return "there is neither a Service nor a workload here that it covers: a Service of its pods has to be "
           "labelled istio.io/use-waypoint";
  }
  if (!unguarded.empty()) {
    return fmt::format(
        "{} stands behind no waypoint: give it a Service that is labelled istio.io/use-waypoint, or label it "
        "so "
        "itself (with a waypoint for workloads)",
        listed(unguarded));
  }
  return {};
}

}  // namespace

void report_selector_policies(Context& context) {
  if (context.options.selector_l7 == SelectorL7::kUpstream) {
    for (const auto& [key, one] : context.objects.request_authentications) {
      if (!one->target_refs.empty()) continue;
      context.find("MSH002", Severity::kWarning, one->meta, "RequestAuthentication",
                   "with --selector-l7=upstream nobody looks at its tokens: bind it to a waypoint with "
                   "targetRefs; culvert policy convert prints that form");
    }
    return;
  }
  constexpr const char* kOtherwise =
      "Or bind the policy with targetRefs (culvert policy convert prints that form)";
  for (SelectorPolicy& policy : context.selectors.policies) {
    if (!policy.needs_waypoint) continue;
    const std::string& what = policy.missing = missing(context, policy);
    if (what.empty()) continue;
    const kube::Meta& meta = policy.source->meta;
    switch (policy.source->action) {
      case AuthorizationPolicy::Action::kAllow:
        context.find(
            "MSH002", Severity::kWarning, meta, "AuthorizationPolicy",
            fmt::format("UnsupportedValue: only a waypoint sees HTTP attributes, and {}. Until then the "
                        "node proxy refuses what only rules with them allow. {}",
                        what, kOtherwise));
        break;
      case AuthorizationPolicy::Action::kAudit:
        context.find("MSH002", Severity::kWarning, meta, "AuthorizationPolicy",
                     fmt::format("UnsupportedValue: only a waypoint audits, and {}", what));
        break;
      default:
        context.find(
            "MSH001", Severity::kError, meta, "AuthorizationPolicy",
            fmt::format("UnsupportedValue: only a waypoint {}, and {}. Until then the node proxy denies "
                        "whatever the rest of such a rule leaves open. {}",
                        policy.source->action == AuthorizationPolicy::Action::kCustom
                            ? "asks a provider"
                            : "sees HTTP attributes",
                        what, kOtherwise));
    }
  }
  for (SelectorTokens& tokens : context.selectors.tokens) {
    const std::string& what = tokens.missing = missing(context, tokens);
    if (what.empty()) continue;
    context.find("MSH002", Severity::kWarning, tokens.source->meta, "RequestAuthentication",
                 fmt::format("only a waypoint looks at tokens, and {}. Until then the node proxy refuses "
                             "everybody whom no AuthorizationPolicy without HTTP attributes allows. {}",
                             what, kOtherwise));
  }
}

}  // namespace culvert::control
