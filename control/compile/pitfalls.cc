// SPDX-License-Identifier: Apache-2.0
// What is valid, and surprises (spec control-plane section 7.2).
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

void find_selector_pitfalls(Context& context, const SelectorPolicy& policy) {
  find_service_ports(context, policy);
  if (policy.source->action == AuthorizationPolicy::Action::kAllow && !policy.source->dry_run) {
    find_shut_out(context, policy);
  }
  if (policy.coverage.labels.empty() || policy.covers_some) return;
  // Manifests without workloads are for some that are elsewhere.
  const auto& workloads = context.out.workloads;
  bool others = std::any_of(workloads.begin(), workloads.end(),
                            [&](const auto& one) { return policy.coverage.in(one.second->ns.str()); });
  if (!others) return;
  context.find("IST0127", Severity::kWarning, policy.source->meta, kKind,
               "its selector covers no workload: look at the labels of the pods");
}

template <class Call>
void each_target(const model::WaypointService& service, Call call) {
  auto look = [&](const std::vector<model::PortRoutes>& ports) {
    auto routes_of = [&](const auto& routes) {
      for (const auto& route : routes) {
        for (const model::RouteTarget& target : route.targets) call(route.origin, target);
      }
    };
    for (const model::PortRoutes& port : ports) {
      if (port.http) routes_of(*port.http);
      if (port.tcp) routes_of(*port.tcp);
    }
  };
  look(service.routes.ports);
  for (const auto& [client, ports] : service.routes.by_client_namespace) look(ports);
}

// Destinations of VirtualServices whose subset no DestinationRule defines.
void find_undefined_subsets(Context& context) {
  constexpr std::string_view kVirtualService = "VirtualService ";
  std::set<std::pair<std::string, std::string>> told;
  auto look = [&](const std::string& origin, const model::RouteTarget& target) {
    if (target.subset.empty() || !target.invalid.empty() || !origin.starts_with(kVirtualService)) return;
    std::string service = target.service.to_string();
    auto backend = context.out.backends.find(service);
    bool defined = backend != context.out.backends.end() &&
                   std::any_of(backend->second->subsets.begin(), backend->second->subsets.end(),
                               [&](const model::Subset& one) { return one.name == target.subset; });
    if (defined || !told.insert({origin, service + "/" + target.subset}).second) return;
    auto source = context.objects.virtual_services.find(origin.substr(kVirtualService.size()));
    if (source == context.objects.virtual_services.end()) return;
    context.find(
        "IST0173", Severity::kError, source->second->meta, "VirtualService",
        fmt::format("no DestinationRule defines subset \"{}\" of {}: requests for it are answered 503",
                    target.subset, service));
  };
  for (const auto& [key, service] : context.out.waypoint_services) each_target(*service, look);
}

// Subsets whose labels no endpoint of the service has, though others have some.
void find_empty_subsets(Context& context) {
  std::map<std::string, std::vector<const model::LabelMap*>> members;
  for (const auto& [key, backend] : context.out.backends) {
    if (!backend->subsets.empty()) members[key];
  }
  if (members.empty()) return;
  for (const auto& [uid, workload] : context.out.workloads) {
    auto labels = context.out.workload_labels.find(uid);
    if (labels == context.out.workload_labels.end()) continue;
    for (const model::Membership& one : workload->services) {
      if (auto found = members.find(one.service.to_string()); found != members.end()) {
        found->second.push_back(&labels->second->labels);
      }
    }
  }
  for (const auto& [key, rule] : context.objects.destination_rules) {
    for (const auto& [service, labels] : members) {
      const model::Backend& backend = *context.out.backends.at(service);
      std::string_view hostname = backend.service.hostname.view();
      bool short_name = rule->host.find('.') == std::string::npos;
      bool means_it = hostname == rule->host || (short_name && hostname.starts_with(rule->host + ".") &&
                                                 rule->meta.ns == backend.service.ns.view());
      if (!means_it || labels.empty()) continue;
      for (const auto& subset : rule->subsets) {
        bool some = std::any_of(labels.begin(), labels.end(),
                                [&](const model::LabelMap* one) { return selects(subset.labels, *one); });
        if (some) continue;
        context.find("IST0173", Severity::kWarning, rule->meta, "DestinationRule",
                     fmt::format("no endpoint of {} has the labels of subset \"{}\": requests for it are "
                                 "answered 503",
                                 service, subset.name));
      }
    }
  }
}

bool lets_in_port(const kube::NetworkPolicy& policy, uint16_t port) {
  return std::any_of(policy.ingress.begin(), policy.ingress.end(), [&](const auto& rule) {
    return rule.any_port || std::any_of(rule.ports.begin(), rule.ports.end(), [&](const auto& range) {
             return range.first <= port && port <= range.last;
           });
  });
}

bool lets_in_address(const kube::NetworkPolicy& policy, const base::IpAddr& ip) {
  return std::any_of(policy.ingress.begin(), policy.ingress.end(), [&](const auto& rule) {
    return rule.any_peer || std::any_of(rule.blocks.begin(), rule.blocks.end(),
                                        [&](const base::Cidr& block) { return block.contains(ip); });
  });
}

// Traffic of the mesh comes to a pod's tunnel port, and the kubelet's probes from an address of their own.
// What one policy shuts out another may let in.
void find_network_policies(Context& context) {
  const base::IpAddr probes = base::IpAddr::v4(169, 254, 7, 127);
  std::map<std::string, std::vector<const kube::NetworkPolicy*>> by_ns;
  for (const auto& [key, policy] : context.objects.network_policies) {
    if (policy->restricts) by_ns[policy->meta.ns].push_back(policy.get());
  }
  if (by_ns.empty()) return;
  std::set<const kube::NetworkPolicy*> told;
  for (const auto& [uid, workload] : context.out.workloads) {
    auto policies = by_ns.find(workload->ns.str());
    auto labels = context.out.workload_labels.find(uid);
    bool meshed = workload->protocol == model::TunnelProtocol::kHbone;
    if (!meshed || policies == by_ns.end() || labels == context.out.workload_labels.end()) continue;
    std::vector<const kube::NetworkPolicy*> on;
    for (const kube::NetworkPolicy* policy : policies->second) {
      if (policy->pods.matches(labels->second->labels)) on.push_back(policy);
    }
    auto lets_in = [&](auto allows) { return on.empty() || std::any_of(on.begin(), on.end(), allows); };
    bool tunnels = lets_in([&](const auto* policy) { return lets_in_port(*policy, model::kHbonePort); });
    bool probed = lets_in([&](const auto* policy) { return lets_in_address(*policy, probes); });
    if (tunnels && probed) continue;
    for (const kube::NetworkPolicy* policy : on) {
      if (!told.insert(policy).second) continue;
      std::string what =
          tunnels ? "" : fmt::format("TCP port {}, where traffic of the mesh comes in", model::kHbonePort);
      if (!probed) {
        what += fmt::format("{}address {}, where the kubelet's probes come from", tunnels ? "" : ", and ",
                            probes.to_string());
      }
      context.find(
          "MSH007", Severity::kWarning, policy->meta, "NetworkPolicy",
          fmt::format("workload {} is in the mesh, and no policy lets in {}", workload->name.view(), what));
    }
  }
}

}  // namespace

void report_pitfalls(Context& context) {
  find_network_policies(context);
  for (const SelectorPolicy& policy : context.selectors.policies) find_selector_pitfalls(context, policy);
  find_undefined_subsets(context);
  find_empty_subsets(context);
}

}  // namespace culvert::control
