// SPDX-License-Identifier: Apache-2.0
// AuthorizationPolicy to model::Policy (spec control-plane sections 2.2 and 2.3).
//
// The node proxy judges connections. What it cannot see (HTTP) must never make a policy weaker than its
// author meant: an ALLOW rule with such parts is left out, a DENY rule keeps its L4 parts and so denies more.
#include <fmt/format.h>

#include <algorithm>

#include "control/compile/context.h"

namespace culvert::control {

namespace {

using kube::AuthorizationPolicy;
using model::PolicyMatch;

// One alternative of a clause as L4 sees it.
struct Alternative {
  PolicyMatch match;
  bool has_l4 = false;
  bool has_l7 = false;
  bool invalid = false;  // a value list had nothing usable left
};

class Converter {
 public:
  Converter(Context& context, const AuthorizationPolicy& policy) : context_(context), policy_(policy) {}

  std::optional<model::PolicyRule> rule(const AuthorizationPolicy::Rule& rule, size_t index);
  bool dropped_l7() const { return dropped_l7_; }
  // Some value could not be read, so what was made of the policy is not what its author meant.
  bool invalid() const { return invalid_; }

 private:
  bool deny() const { return policy_.action == AuthorizationPolicy::Action::kDeny; }
  void find(std::string code, std::string message) {
    context_.find(std::move(code), Severity::kError, policy_.meta, "AuthorizationPolicy",
                  fmt::format("rule {}: {}", index_ + 1, message));
  }

  model::StringMatch string_match(const std::string& text) const {
    using Kind = model::StringMatch::Kind;
    if (text == "*") return {Kind::kPresence, {}};
    if (text.starts_with('*')) return {Kind::kSuffix, text.substr(1)};
    if (text.ends_with('*')) return {Kind::kPrefix, text.substr(0, text.size() - 1)};
    return {Kind::kExact, text};
  }
  // "cluster.local" in a principal means our own trust domain, whatever it is called.
  model::StringMatch principal_match(std::string text) const {
    constexpr std::string_view kAlias = "cluster.local/";
    if (text.starts_with(kAlias) && context_.options.trust_domain != "cluster.local") {
      text = context_.options.trust_domain + "/" + text.substr(kAlias.size());
    }
    return string_match(text);
  }
  void strings(const std::vector<std::string>& from, std::vector<model::StringMatch>& to, Alternative& into,
               bool principals = false) {
    for (const std::string& text : from) {
      // It would match nobody, and in a negative list miss nobody.
      if (text.empty()) lose(into, "an empty value");
      to.push_back(principals ? principal_match(text) : string_match(text));
    }
    into.has_l4 |= !from.empty();
  }
  void lose(Alternative& into, std::string why) {
    find("IST0106", std::move(why));
    into.invalid = invalid_ = true;
  }
  void accounts(const std::vector<std::string>& from, std::vector<model::ServiceAccountMatch>& to,
                Alternative& into) const {
    for (const std::string& text : from) {
      size_t slash = text.find('/');
      to.push_back(slash == std::string::npos
                       ? model::ServiceAccountMatch{policy_.meta.ns, text}
                       : model::ServiceAccountMatch{text.substr(0, slash), text.substr(slash + 1)});
    }
    into.has_l4 |= !from.empty();
  }
  // `negative` lists: losing one entry widens the match, so one bad value spoils the list.
  template <class T, class Parse>
  void values(const std::vector<std::string>& from, std::vector<T>& to, Alternative& into, bool negative,
              Parse parse) {
    for (const std::string& text : from) {
      auto value = parse(text);
      if (value) {
        to.push_back(*value);
      } else {
        find("IST0106", value.error().message());
        invalid_ = true;
        if (negative || from.size() == 1) into.invalid = true;
      }
    }
    if (!from.empty() && to.empty()) into.invalid = true;
    into.has_l4 |= !from.empty();
  }
  void cidrs(const std::vector<std::string>& from, std::vector<base::Cidr>& to, Alternative& into,
             bool negative) {
    values(from, to, into, negative, [](const std::string& text) { return base::Cidr::parse(text); });
  }
  void ports(const std::vector<std::string>& from, std::vector<uint16_t>& to, Alternative& into,
             bool negative) {
    values(from, to, into, negative, [](const std::string& text) { return base::parse_port(text); });
  }

  Alternative source(const AuthorizationPolicy::Source& from);
  Alternative operation(const AuthorizationPolicy::Operation& from);
  Alternative condition(const AuthorizationPolicy::Condition& from);
  // False: the rule as a whole must go.
  bool add_clause(std::vector<Alternative> alternatives, model::PolicyRule& rule,
                  std::vector<model::PolicyClause>& spare);

  Context& context_;
  const AuthorizationPolicy& policy_;
  size_t index_ = 0;
  bool dropped_l7_ = false;
  bool invalid_ = false;
};

Alternative Converter::source(const AuthorizationPolicy::Source& from) {
  Alternative out;
  PolicyMatch& m = out.match;
  strings(from.principals, m.principals, out, true);
  strings(from.not_principals, m.not_principals, out, true);
  strings(from.namespaces, m.namespaces, out);
  strings(from.not_namespaces, m.not_namespaces, out);
  cidrs(from.ip_blocks, m.source_ips, out, false);
  cidrs(from.not_ip_blocks, m.not_source_ips, out, true);
  accounts(from.service_accounts, m.service_accounts, out);
  accounts(from.not_service_accounts, m.not_service_accounts, out);
  out.has_l7 = !from.request_principals.empty() || !from.not_request_principals.empty() ||
               !from.remote_ip_blocks.empty() || !from.not_remote_ip_blocks.empty() ||
               !from.trust_domains.empty() || !from.not_trust_domains.empty();
  return out;
}

Alternative Converter::operation(const AuthorizationPolicy::Operation& from) {
  Alternative out;
  ports(from.ports, out.match.destination_ports, out, false);
  ports(from.not_ports, out.match.not_destination_ports, out, true);
  out.has_l7 = !from.hosts.empty() || !from.not_hosts.empty() || !from.methods.empty() ||
               !from.not_methods.empty() || !from.paths.empty() || !from.not_paths.empty();
  return out;
}

Alternative Converter::condition(const AuthorizationPolicy::Condition& from) {
  Alternative out;
  PolicyMatch& m = out.match;
  if (from.key == "source.ip") {
    cidrs(from.values, m.source_ips, out, false);
    cidrs(from.not_values, m.not_source_ips, out, true);
  } else if (from.key == "source.namespace") {
    strings(from.values, m.namespaces, out);
    strings(from.not_values, m.not_namespaces, out);
  } else if (from.key == "source.principal") {
    strings(from.values, m.principals, out, true);
    strings(from.not_values, m.not_principals, out, true);
  } else if (from.key == "destination.ip") {
    cidrs(from.values, m.destination_ips, out, false);
    cidrs(from.not_values, m.not_destination_ips, out, true);
  } else if (from.key == "destination.port") {
    ports(from.values, m.destination_ports, out, false);
    ports(from.not_values, m.not_destination_ports, out, true);
  } else {
    out.has_l7 = true;
  }
  return out;
}

bool Converter::add_clause(std::vector<Alternative> alternatives, model::PolicyRule& rule,
                           std::vector<model::PolicyClause>& spare) {
  model::PolicyClause clause;
  bool unseen = false;  // some alternative is HTTP only, or lost its values: it might match anything
  bool unrestricted = false;
  for (Alternative& one : alternatives) {
    dropped_l7_ |= one.has_l7;
    if (!deny()) {
      if (one.has_l7) return false;  // leaving the HTTP part out would allow more than was written
      if (one.invalid) continue;     // an alternative that can allow nothing
    } else if (one.invalid || (one.has_l7 && !one.has_l4)) {
      unseen = true;
      continue;
    }
    if (one.match.empty()) {
      // `- source: {}` names nobody: a DENY takes it as everybody, an ALLOW as nobody.
      find("IST0106", "an item without any attribute; leave it out or say whom it means");
      unrestricted |= deny();
      continue;
    }
    clause.matches.push_back(std::move(one.match));
  }
  if (unrestricted) return true;
  if (!deny()) {
    if (clause.matches.empty()) return false;
    rule.clauses.push_back(std::move(clause));
    return true;
  }
  if (unseen) {
    if (!clause.matches.empty()) spare.push_back(std::move(clause));
  } else {
    rule.clauses.push_back(std::move(clause));
  }
  return true;
}

std::optional<model::PolicyRule> Converter::rule(const AuthorizationPolicy::Rule& from, size_t index) {
  index_ = index;
  model::PolicyRule out;
  std::vector<model::PolicyClause> spare;
  std::vector<std::vector<Alternative>> clauses;
  if (!from.to.empty()) {
    clauses.emplace_back();
    for (const auto& item : from.to) clauses.back().push_back(operation(item));
  }
  if (!from.from.empty()) {
    clauses.emplace_back();
    for (const auto& item : from.from) clauses.back().push_back(source(item));
  }
  for (const auto& item : from.when) clauses.push_back({condition(item)});
  bool restricted = false;
  bool unreadable = false;
  for (auto& clause : clauses) {
    for (const Alternative& one : clause) {
      restricted |= one.has_l4 || one.has_l7;
      unreadable |= one.invalid;
    }
    if (!add_clause(std::move(clause), out, spare)) return std::nullopt;
  }
  if (!out.clauses.empty() || !restricted || !deny()) return out;
  // A DENY of which L4 sees nothing certain: deny what the L4 alternatives name rather than nothing at all.
  out.clauses = std::move(spare);
  if (!out.clauses.empty()) return out;
  if (unreadable) {
    find("IST0106", "none of its values can be read, and nobody can tell whom it is to deny: it denies all");
    return out;
  }
  find("MSH001",
       "denies by HTTP attributes only, which the node proxy cannot see: it has no effect there. Bind the "
       "policy to a "
       "waypoint with targetRefs");
  return std::nullopt;
}

bool dry_run(const kube::Meta& meta) {
  const std::string* value = label(meta.annotations, "istio.io/dry-run");
  return value && *value == "true";
}

void compile_policy(Context& context, const AuthorizationPolicy& policy) {
  constexpr std::string_view kKind = "AuthorizationPolicy";
  if (!policy.target_refs.empty()) return;  // for a waypoint
  using Action = AuthorizationPolicy::Action;
  if (policy.action == Action::kAudit || policy.action == Action::kCustom) {
    context.find("IST0171", Severity::kError, policy.meta, kKind,
                 "UnsupportedValue: only ALLOW and DENY are enforced by the node proxy; use targetRefs with "
                 "a waypoint");
    return;
  }
  model::Policy out;
  out.ns = policy.meta.ns;
  out.name = policy.meta.name;
  out.action = policy.action == Action::kDeny ? model::PolicyAction::kDeny : model::PolicyAction::kAllow;
  out.dry_run = dry_run(policy.meta);
  bool everything = !policy.selector || policy.selector->empty();
  bool in_root = policy.meta.ns == context.options.root_namespace;
  out.scope = !everything ? model::PolicyScope::kWorkloadSelector
              : in_root   ? model::PolicyScope::kGlobal
                          : model::PolicyScope::kNamespace;
  if (policy.selector && policy.selector->empty()) {
    context.find("MSH005", Severity::kWarning, policy.meta, kKind,
                 "selector without labels: taken as the whole namespace; leave the selector out to say so");
  }
  Converter converter(context, policy);
  for (size_t i = 0; i < policy.rules.size(); ++i) {
    if (auto rule = converter.rule(policy.rules[i], i)) out.rules.push_back(std::move(*rule));
  }
  if (converter.dropped_l7() && out.action == model::PolicyAction::kAllow) {
    context.find(
        "MSH002", Severity::kWarning, policy.meta, kKind,
        "UnsupportedValue: rules with HTTP attributes are left out at the node proxy, so it allows less than "
        "written. Bind the policy to a waypoint with targetRefs");
  } else if (converter.dropped_l7()) {
    context.find("MSH001", Severity::kWarning, policy.meta, kKind,
                 "UnsupportedValue: HTTP attributes are not seen by the node proxy, so it denies more than "
                 "written. Bind "
                 "the policy to a waypoint with targetRefs");
  }
  std::string key = out.key();
  auto& made = context.out.policies[key];
  if (const auto* before = converter.invalid() ? context.previous_policy(key) : nullptr;
      before && (*before)->scope == out.scope) {
    made = *before;
    context.find("IST0106", Severity::kError, policy.meta, kKind, "what was in force before stays in force");
  } else {
    made = std::make_shared<const model::Policy>(std::move(out));
  }
  if (!everything) context.selector_policies[policy.meta.ns].add(*policy.selector, &policy);
}

}  // namespace

void compile_authorization_policies(Context& context) {
  for (const auto& [key, policy] : context.objects.authorization_policies) compile_policy(context, *policy);
}

std::vector<std::string> selected_policies(const Context& context, const std::string& ns,
                                           const kube::Labels& labels) {
  std::vector<std::string> names;
  auto add_from = [&](const std::string& policy_ns) {
    auto found = context.selector_policies.find(policy_ns);
    if (found == context.selector_policies.end()) return;
    found->second.each_candidate(labels, [&](const kube::AuthorizationPolicy& policy) {
      if (selects(*policy.selector, labels)) names.push_back(policy.meta.key());
    });
  };
  add_from(ns);
  if (ns != context.options.root_namespace) add_from(context.options.root_namespace);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace culvert::control
