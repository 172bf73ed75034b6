// SPDX-License-Identifier: Apache-2.0
// Pitfalls of policies without targetRefs (spec control-plane section 7.2): what is valid, and surprises.
#include <fmt/format.h>

#include <algorithm>

#include "control/compile/context.h"

namespace culvert::control {

namespace {

using kube::AuthorizationPolicy;

constexpr std::string_view kKind = "AuthorizationPolicy";

// Exact, "prefix*", "*suffix", "*".
bool admits(const std::vector<std::string>& patterns, std::string_view text) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    std::string_view want = pattern;
    if (want == "*") return true;
    if (want.ends_with('*')) return text.starts_with(want.substr(0, want.size() - 1));
    if (want.starts_with('*')) return text.ends_with(want.substr(1));
    return want == text;
  });
}

// Whether the source may be a waypoint that runs as ns/account. Addresses and negations are taken to let it
// in.
bool may_be(const AuthorizationPolicy::Source& source, const std::string& trust_domain, const std::string& ns,
            const std::string& account, const std::string& policy_ns) {
  bool principal = source.principals.empty() ||
                   admits(source.principals, fmt::format("{}/ns/{}/sa/{}", trust_domain, ns, account));
  bool place = source.namespaces.empty() || admits(source.namespaces, ns);
  std::vector<std::string> accounts;
  for (const std::string& one : source.service_accounts) {
    accounts.push_back(one.find('/') == one.npos ? policy_ns + "/" + one : one);
  }
  return principal && place && (accounts.empty() || admits(accounts, ns + "/" + account));
}

bool lets_in(const Context& context, const AuthorizationPolicy& policy, const std::string& ns,
             const std::string& account) {
  return std::any_of(policy.rules.begin(), policy.rules.end(), [&](const AuthorizationPolicy::Rule& rule) {
    return rule.from.empty() ||
           std::any_of(rule.from.begin(), rule.from.end(), [&](const AuthorizationPolicy::Source& source) {
             return may_be(source, context.options.trust_domain, ns, account, policy.meta.ns);
           });
  });
}

template <class Call>
void each_covered_service(const Context& context, const Coverage& coverage, Call call) {
  auto at = coverage.everywhere ? context.sources.begin() : context.sources.lower_bound(coverage.ns + "/");
  for (; at != context.sources.end(); ++at) {
    if (!coverage.everywhere && !at->first.starts_with(coverage.ns + "/")) break;
    if (at->second.selector() && may_cover(coverage, at->second)) call(at->first);
  }
}

// Behind a waypoint the node proxy sees the waypoint connect. Where some rule needs the waypoint it is let in
// anyway (attached_policies).
void find_shut_out(Context& context, const SelectorPolicy& policy) {
  if (policy.needs_waypoint || policy.source->rules.empty()) return;
  auto guards = [&](const SelectorPolicy& other) {
    return other.needs_waypoint && common(other.coverage, policy.coverage);
  };
  const auto& all = context.selectors.policies;
  if (std::any_of(all.begin(), all.end(), guards)) return;
  std::string shut_out;
  each_covered_service(context, policy.coverage, [&](const std::string& service) {
    auto waypoints = context.out.waypoints_of.find(service);
    if (waypoints == context.out.waypoints_of.end() || !shut_out.empty()) return;
    for (const std::string& waypoint : waypoints->second) {
      std::string ns = waypoint.substr(0, waypoint.find('/'));
      for (const std::string& account : context.selectors.waypoint_accounts.at(waypoint)) {
        if (!lets_in(context, *policy.source, ns, account)) shut_out = ns + "/sa/" + account;
      }
    }
  });
  if (shut_out.empty()) return;
  context.find(
      "MSH004", Severity::kWarning, policy.source->meta, kKind,
      fmt::format("workloads it covers are behind a waypoint, and it does not allow the waypoint, "
                  "{}/ns/{}: what comes through it is refused. Add that principal, or bind the policy "
                  "to the waypoint with targetRefs",
                  context.options.trust_domain, shut_out));
}

// Node proxies see the port of the workload.
void find_service_ports(Context& context, const SelectorPolicy& policy) {
  std::set<std::string> ports;
  for (const AuthorizationPolicy::Rule& rule : policy.source->rules) {
    for (const auto& operation : rule.to) {
      ports.insert(operation.ports.begin(), operation.ports.end());
      ports.insert(operation.not_ports.begin(), operation.not_ports.end());
    }
    for (const auto& when : rule.when) {
      if (when.key == "destination.port") ports.insert(when.values.begin(), when.values.end());
    }
  }
  for (const std::string& text : ports) {
    auto port = base::parse_port(text);
    if (!port) continue;
    uint16_t target = 0;
    bool known = false;
    each_covered_service(context, policy.coverage, [&](const std::string& key) {
      for (const model::PortMapping& mapping : context.out.services.at(key)->ports) {
        known |= mapping.target_port == *port;
        if (mapping.service_port == *port && mapping.target_port != 0) target = mapping.target_port;
      }
    });
    if (known || target == 0 || target == *port) continue;
    context.find("MSH008", Severity::kWarning, policy.source->meta, kKind,
                 fmt::format("port {} is a Service's; policies without targetRefs mean the port of the "
                             "workload: write {}",
                             *port, target));
  }
}

}  // namespace

void report_selector_pitfalls(Context& context) {
  for (const SelectorPolicy& policy : context.selectors.policies) {
    find_service_ports(context, policy);
    if (policy.source->action == AuthorizationPolicy::Action::kAllow && !policy.source->dry_run) {
      find_shut_out(context, policy);
    }
    bool nobody = !policy.coverage.labels.empty() && !policy.covers_some &&
                  std::any_of(context.out.workloads.begin(), context.out.workloads.end(),
                              [&](const auto& one) { return policy.coverage.in(one.second->ns.str()); });
    if (!nobody) continue;
    context.find("IST0127", Severity::kWarning, policy.source->meta, kKind,
                 "its selector covers no workload: look at the labels of the pods");
  }
}

}  // namespace culvert::control
