// SPDX-License-Identifier: Apache-2.0
// PeerAuthentication to synthetic DENY policies (spec control-plane section 2.4). One function works out
// what is in force for a workload; body and attachment both come from it, so that no workload ever names a
// policy that is not sent.
#include <algorithm>

#include "control/compile/context.h"

namespace culvert::control {

namespace {

using kube::PeerAuthentication;
using Mode = PeerAuthentication::Mode;

bool is_wide(const PeerAuthentication& policy) { return !policy.selector || policy.selector->empty(); }

const PeerAuthentication* oldest(const Context& context, const std::string& ns, const kube::Labels* labels) {
  auto found = context.peer_authentications.find(ns);
  if (found == context.peer_authentications.end()) return nullptr;
  const PeerAuthentication* best = nullptr;
  for (const PeerAuthentication* policy : found->second) {
    bool fits = labels ? !is_wide(*policy) && selects(*policy->selector, *labels) : is_wide(*policy);
    if (fits && (!best || older(policy->meta, best->meta))) best = policy;
  }
  return best;
}

// What a namespace asks of workloads that no selector names.
bool parent_strict(const Context& context, const std::string& ns) {
  const PeerAuthentication* own = oldest(context, ns, nullptr);
  if (own && own->mode != Mode::kUnset) return own->mode == Mode::kStrict;
  const PeerAuthentication* mesh = oldest(context, context.options.root_namespace, nullptr);
  return mesh && mesh->mode == Mode::kStrict;
}

struct Effective {
  bool strict = false;
  std::vector<uint16_t> exempt_ports;  // under strict: plaintext allowed
  std::vector<uint16_t> strict_ports;  // under not strict: plaintext refused
};

Effective effective_mode(bool parent, const PeerAuthentication* workload) {
  Effective out;
  out.strict = workload && workload->mode != Mode::kUnset ? workload->mode == Mode::kStrict : parent;
  if (!workload) return out;
  for (const auto& [port, mode] : workload->port_modes) {
    // An inherited STRICT is not undone by DISABLE, only by PERMISSIVE (as upstream: closed).
    bool exempt = mode == Mode::kPermissive || (mode == Mode::kDisable && workload->mode != Mode::kUnset);
    if (out.strict && exempt) out.exempt_ports.push_back(port);
    if (!out.strict && mode == Mode::kStrict) out.strict_ports.push_back(port);
  }
  return out;
}

model::PolicyMatch no_identity() {
  model::PolicyMatch match;
  match.not_principals = {{model::StringMatch::Kind::kPresence, {}}};
  return match;
}

model::Policy deny_policy(const std::string& ns, const std::string& name) {
  model::Policy policy;
  policy.ns = ns;
  policy.name = name;
  policy.scope = model::PolicyScope::kWorkloadSelector;
  policy.action = model::PolicyAction::kDeny;
  return policy;
}

std::string static_name() { return "istio_converted_static_strict"; }
std::string converted_name(const PeerAuthentication& policy) {
  return "converted_peer_authentication_" + policy.meta.name;
}

// None: nothing beside the static policy is needed.
std::optional<model::Policy> converted(const PeerAuthentication& policy, const Effective& mode) {
  model::Policy out = deny_policy(policy.meta.ns, converted_name(policy));
  if (mode.strict && !mode.exempt_ports.empty()) {
    model::PolicyRule rule;
    for (uint16_t port : mode.exempt_ports) {
      model::PolicyMatch match;
      match.not_destination_ports = {port};
      rule.clauses.push_back({{std::move(match)}});
    }
    rule.clauses.push_back({{no_identity()}});
    out.rules.push_back(std::move(rule));
    return out;
  }
  if (mode.strict || mode.strict_ports.empty()) return std::nullopt;
  for (uint16_t port : mode.strict_ports) {
    model::PolicyMatch match = no_identity();
    match.destination_ports = {port};
    out.rules.push_back({{{{std::move(match)}}}});
  }
  return out;
}

}  // namespace

void compile_peer_authentications(Context& context) {
  if (context.objects.peer_authentications.empty()) return;
  model::Policy strict = deny_policy(context.options.root_namespace, static_name());
  strict.rules.push_back({{{{no_identity()}}}});
  context.out.policies[strict.key()] = std::make_shared<const model::Policy>(strict);
  for (const auto& [key, policy] : context.objects.peer_authentications) {
    context.peer_authentications[policy->meta.ns].push_back(policy.get());
  }
  for (const auto& [key, policy] : context.objects.peer_authentications) {
    bool disables = policy->mode == Mode::kDisable ||
                    std::any_of(policy->port_modes.begin(), policy->port_modes.end(),
                                [](const auto& port) { return port.second == Mode::kDisable; });
    if (disables) {
      context.find(
          "MSH015", Severity::kWarning, policy->meta, "PeerAuthentication",
          "DISABLE only means that plaintext is accepted: traffic between captured pods stays encrypted");
    }
    bool in_root = policy->meta.ns == context.options.root_namespace;
    if (in_root && !is_wide(*policy)) {
      context.find("IST0127", Severity::kWarning, policy->meta, "PeerAuthentication",
                   "a selector has no effect in the root namespace; put the policy beside the workloads");
    }
    if (in_root || is_wide(*policy) || policy->port_modes.empty()) continue;
    auto body = converted(*policy, effective_mode(parent_strict(context, policy->meta.ns), policy.get()));
    if (body) context.out.policies[body->key()] = std::make_shared<const model::Policy>(*body);
  }
}

std::vector<std::string> peer_authentication_policies(const Context& context, const std::string& ns,
                                                      const kube::Labels& labels) {
  if (context.objects.peer_authentications.empty()) return {};
  bool in_root = ns == context.options.root_namespace;
  const PeerAuthentication* workload = in_root ? nullptr : oldest(context, ns, &labels);
  Effective mode = effective_mode(parent_strict(context, ns), workload);
  if (workload) {
    std::string name = ns + "/" + converted_name(*workload);
    if (context.out.policies.contains(name)) return {std::move(name)};
  }
  if (mode.strict) return {context.options.root_namespace + "/" + static_name()};
  return {};
}

}  // namespace culvert::control
