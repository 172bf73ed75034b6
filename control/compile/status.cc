// SPDX-License-Identifier: Apache-2.0
// What the status of objects says once all is compiled (spec control-plane section 3). Bindings are told
// where they are made (waypoints.cc), routes where they are attached (gateway_routes.cc).
#include <fmt/format.h>

#include <algorithm>

#include "control/compile/context.h"

namespace culvert::control {

namespace {

using kube::AuthorizationPolicy;

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : "; ") + part;
  return out;
}

// Why a policy does not hold at one of its targets; no reason: it does.
struct TargetState {
  std::string reason;
  std::string message;
};

bool has_ready_waypoint(const Context& context, const std::string& service) {
  auto bound = context.out.waypoints_of.find(service);
  return bound != context.out.waypoints_of.end() &&
         context.waypoints.at(bound->second.front()).address.has_value();
}

TargetState service_target(const Context& context, const kube::TargetRef& ref, const std::string& ns) {
  bool found = false;
  for (auto at = context.sources.lower_bound(ns + "/");
       at != context.sources.end() && at->first.starts_with(ns + "/"); ++at) {
    const ServiceSource& source = at->second;
    const kube::Meta& meta = source.service ? source.service->meta : source.entry->meta;
    if ((ref.kind == "Service") != (source.service != nullptr) || meta.name != ref.name) continue;
    found = true;
    if (has_ready_waypoint(context, at->first)) return {};
  }
  if (!found) return {"TargetNotFound", "there is no such object"};
  return {"AncestorNotBound", "it is bound to no waypoint that is ready; label it istio.io/use-waypoint"};
}

TargetState route_target(const Context& context, const kube::TargetRef& ref, const std::string& ns) {
  const kube::Objects& objects = context.objects;
  std::string key = ns + "/" + ref.name;
  if (!objects.http_routes.contains(key) && !objects.grpc_routes.contains(key)) {
    return {"TargetNotFound", "there is no such object"};
  }
  auto status = context.out.status.find(ref.kind + " " + key);
  auto carried_out = [](const PartStatus& parent) {
    return std::any_of(parent.conditions.begin(), parent.conditions.end(),
                       [](const Condition& one) { return one.type == "ResolvedWaypoints" && one.holds; });
  };
  bool bound = status != context.out.status.end() &&
               std::any_of(status->second.parents.begin(), status->second.parents.end(), carried_out);
  if (!bound) return {"AncestorNotBound", "none of its parents has a waypoint"};
  return {};
}

TargetState state_of(const Context& context, const kube::TargetRef& ref, const kube::Meta& policy) {
  std::string ns = ref.ns.empty() ? policy.ns : ref.ns;
  if (ns != policy.ns) return {"Invalid", "a policy's targets are in its own namespace"};
  if (ref.kind == "Service" || ref.kind == "ServiceEntry") return service_target(context, ref, ns);
  if (ref.kind == "HTTPRoute" || ref.kind == "GRPCRoute") return route_target(context, ref, ns);
  if (ref.kind == "Gateway") {
    auto waypoint = context.waypoints.find(ns + "/" + ref.name);
    if (waypoint != context.waypoints.end()) return {};
    if (!context.objects.gateways.contains(ns + "/" + ref.name)) {
      return {"TargetNotFound", "there is no such object"};
    }
    return {"AncestorNotBound", "it is no waypoint: its class is not istio-waypoint"};
  }
  if (ref.kind == "GatewayClass") {
    if (ns != context.options.root_namespace) {
      return {"Invalid", "only policies of namespace " + context.options.root_namespace +
                             " may be for a whole GatewayClass"};
    }
    if (!is_waypoint_class(context.objects, ref.name)) {
      return {"Invalid", "its controller is not the mesh's, istio.io/mesh-controller"};
    }
    return {};
  }
  return {"Invalid", "a waypoint has no such targets"};
}

void tell_targets(Context& context, std::string_view kind, const kube::Meta& meta,
                  const std::vector<kube::TargetRef>& targets) {
  if (targets.empty()) return;
  std::vector<std::string> failed, reasons;
  for (const kube::TargetRef& ref : targets) {
    TargetState state = state_of(context, ref, meta);
    if (state.reason.empty()) continue;
    failed.push_back(fmt::format("{}{}{}:{}/{}: {}", ref.kind, ref.group.empty() ? "" : ".", ref.group,
                                 ref.ns.empty() ? meta.ns : ref.ns, ref.name, state.message));
    reasons.push_back(std::move(state.reason));
  }
  bool holds = failed.size() < targets.size();
  std::string reason = failed.empty()        ? "Accepted"
                       : holds               ? "PartiallyInvalid"
                       : reasons.size() == 1 ? reasons.front()
                                             : "Invalid";
  context.status(kind, meta).conditions.push_back({"WaypointAccepted", holds, reason, joined(failed)});
}

template <class Table>
void tell_all_targets(Context& context, std::string_view kind, const Table& table) {
  for (const auto& [key, policy] : table) tell_targets(context, kind, policy->meta, policy->target_refs);
}

// Policies without targetRefs: the node proxy's part, and that of waypoints if they have one.
void tell_selector_policy(Context& context, const SelectorPolicy& policy) {
  using Action = AuthorizationPolicy::Action;
  bool upstream = context.options.selector_l7 == SelectorL7::kUpstream;
  bool decided_here = policy.source->action == Action::kAllow || policy.source->action == Action::kDeny;
  ObjectStatus& status = context.status("AuthorizationPolicy", policy.source->meta);
  Condition node{"ZtunnelAccepted", true, "Accepted", ""};
  if (!decided_here) {
    bool elsewhere = !upstream && policy.missing.empty();
    node = {node.type, elsewhere, elsewhere ? "Accepted" : "UnsupportedValue",
            elsewhere ? "carried out by waypoints" : "node proxies carry out ALLOW and DENY"};
  } else if (policy.needs_waypoint && (upstream || !policy.missing.empty())) {
    node.reason = "UnsupportedValue";
    node.message = "node proxies see no HTTP attributes: rules with them are narrowed to refuse";
  }
  status.conditions.push_back(std::move(node));
  if (!policy.needs_waypoint || upstream) return;
  bool bound = policy.missing.empty();
  status.conditions.push_back(
      {"WaypointAccepted", bound, bound ? "Accepted" : "AncestorNotBound", policy.missing});
}

void tell_gateway(Context& context, const kube::Gateway& gateway) {
  ObjectStatus& status = context.status("Gateway", gateway.meta);
  const Waypoint& waypoint = context.waypoints.at(gateway.meta.key());
  std::vector<std::string> refused;
  for (const kube::Gateway::Listener& listener : gateway.listeners) {
    bool bound_otherwise = waypoint.binding &&
                           (listener.port == waypoint.binding->port || listener.protocol == "istio.io/PROXY");
    bool fits = bound_otherwise || (listener.protocol == "HBONE" && listener.port == model::kHbonePort);
    std::string why = fmt::format("a waypoint takes HBONE on port {}, not {} on {}", model::kHbonePort,
                                  listener.protocol, listener.port);
    if (!fits) refused.push_back(listener.name + ": " + why);
    status.listeners.push_back(
        {listener.name,
         {{"Accepted", fits, fits ? "Accepted" : "UnsupportedProtocol", fits ? "" : why},
          {"Conflicted", false, "NoConflicts", ""},
          {"Programmed", fits, fits ? "Programmed" : "Invalid", ""},
          {"ResolvedRefs", true, "ResolvedRefs", ""}}});
  }
  bool listens = refused.size() < gateway.listeners.size();
  status.conditions.push_back(
      {"Accepted", listens, refused.empty() && listens ? "Accepted" : "ListenersNotValid", joined(refused)});
  bool ready = waypoint.address.has_value();
  std::string where;
  for (const auto& address : gateway.status_addresses) {
    where += fmt::format("{}{}:{}", where.empty() ? "" : ", ", address.value, model::kHbonePort);
  }
  status.conditions.push_back({"Programmed", ready, ready ? "Programmed" : "AddressNotAssigned",
                               ready ? where : "no instance of it is ready"});
  status.conditions.push_back({"ResolvedRefs", true, "ResolvedRefs", ""});
}

// Entries that work through a waypoint only.
void tell_missing_waypoint(Context& context, const std::string& service, const kube::ServiceEntry& entry) {
  if (context.out.waypoints_of.contains(service)) return;
  const std::string* strategy = label(entry.meta.annotations, "istio.io/connect-strategy");
  bool races = strategy && *strategy != "DEFAULT";
  bool wildcard = std::any_of(entry.hosts.begin(), entry.hosts.end(),
                              [](const std::string& host) { return host.starts_with("*"); });
  if (!wildcard && !races) return;
  auto& conditions = context.status("ServiceEntry", entry.meta).conditions;
  Condition condition{"istio.io/WaypointMissing", true,
                      wildcard ? "NoWaypointForWildcardService" : "NoWaypointForRacingConnectStrategy",
                      "only a waypoint carries it out: label it istio.io/use-waypoint"};
  auto known = std::any_of(conditions.begin(), conditions.end(),
                           [&](const Condition& one) { return one.type == condition.type; });
  if (!known) conditions.push_back(std::move(condition));
}

}  // namespace

void compile_status(Context& context) {
  const kube::Objects& objects = context.objects;
  for (const SelectorPolicy& policy : context.selectors.policies) tell_selector_policy(context, policy);
  for (const SelectorTokens& tokens : context.selectors.tokens) {
    bool bound = tokens.missing.empty();
    context.status("RequestAuthentication", tokens.source->meta)
        .conditions.push_back(
            {"WaypointAccepted", bound, bound ? "Accepted" : "AncestorNotBound", tokens.missing});
  }
  tell_all_targets(context, "AuthorizationPolicy", objects.authorization_policies);
  tell_all_targets(context, "RequestAuthentication", objects.request_authentications);
  tell_all_targets(context, "Telemetry", objects.telemetries);
  tell_all_targets(context, "RateLimitPolicy", objects.rate_limit_policies);
  for (const auto& [key, gateway] : objects.gateways) {
    if (context.waypoints.contains(key)) tell_gateway(context, *gateway);
  }
  for (const auto& [name, gateway_class] : objects.gateway_classes) {
    if (!is_waypoint_class(objects, name)) continue;
    context.status("GatewayClass", gateway_class->meta)
        .conditions.push_back({"Accepted", true, "Accepted", ""});
  }
  for (const auto& [key, source] : context.sources) {
    if (source.entry) tell_missing_waypoint(context, key, *source.entry);
  }
}

}  // namespace culvert::control
