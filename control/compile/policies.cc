// SPDX-License-Identifier: Apache-2.0
// AuthorizationPolicy to model::Policy (spec control-plane sections 2.2 and 2.3).
//
// The node proxy judges connections. What it cannot see (HTTP) must never make a policy weaker than its
// author meant: an ALLOW rule with such parts is left out, a DENY rule keeps its L4 parts and so denies more.
// Which workloads' waypoints are excepted from that says selector_l7.cc.
//
// With SelectorL7::kUpstream a DENY alternative of HTTP parts alone matches nothing, as in Istio.
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
  Converter(Context& context, const AuthorizationPolicy& policy) : context_(context), policy_(policy) {
    domains_.push_back(context.options.trust_domain);
    if (!context.mesh) return;
    for (const std::string& alias : context.mesh->trust_domain_aliases) {
      if (std::find(domains_.begin(), domains_.end(), alias) == domains_.end()) domains_.push_back(alias);
    }
  }

  std::optional<model::PolicyRule> rule(const AuthorizationPolicy::Rule& rule, size_t index);
  bool dropped_l7() const { return dropped_l7_; }
  // Some value could not be read, so what was made of the policy is not what its author meant.
  bool invalid() const { return invalid_; }

 private:
  // What asks a provider denies until a waypoint does.
  bool deny() const { return policy_.action != AuthorizationPolicy::Action::kAllow; }
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
  bool upstream() const { return context_.options.selector_l7 == SelectorL7::kUpstream; }
  // A principal under every name our trust domain goes by, if it is of that domain. In policies
  // "cluster.local" means our own, whatever it is called.
  void principals(const std::string& text, std::vector<model::StringMatch>& to) const {
    using Kind = model::StringMatch::Kind;
    model::StringMatch written = string_match(text);
    std::string_view value = written.text.view();
    size_t slash = value.find('/');
    std::string_view domain = value.substr(0, slash);
    auto fits = [&](std::string_view name) {
      switch (written.kind) {
        case Kind::kExact: return name == domain;
        case Kind::kPrefix: return slash == value.npos ? name.starts_with(domain) : name == domain;
        case Kind::kSuffix: return slash != value.npos && !domain.empty() && name.ends_with(domain);
        case Kind::kPresence: return false;
      }
      return false;
    };
    bool ours = fits("cluster.local") || std::any_of(domains_.begin(), domains_.end(), fits);
    // One of ours under another name is nobody's.
    bool foreign = !ours || written.kind == Kind::kSuffix || slash == value.npos;
    if (foreign) to.push_back(written);
    if (!ours) return;
    std::string rest(slash == value.npos ? "/" : value.substr(slash));
    Kind kind = written.kind == Kind::kSuffix ? Kind::kExact : written.kind;
    for (const std::string& name : domains_) to.push_back({kind, name + rest});
  }
  // Principals of these trust domains. A form that no principal can be matched by is for waypoints.
  void trust_domains(const std::vector<std::string>& from, std::vector<model::StringMatch>& to,
                     Alternative& into) {
    for (const std::string& text : from) {
      if (text.empty()) lose(into, "an empty value");
      model::StringMatch match = string_match(text);
      if (match.kind == model::StringMatch::Kind::kSuffix) {
        into.has_l7 = true;
      } else if (match.kind == model::StringMatch::Kind::kExact) {
        principals(text + "/*", to);
        into.has_l4 = true;
      } else {
        principals(text, to);
        into.has_l4 = true;
      }
    }
  }
  void strings(const std::vector<std::string>& from, std::vector<model::StringMatch>& to, Alternative& into,
               bool principal = false) {
    for (const std::string& text : from) {
      // It would match nobody, and in a negative list miss nobody.
      if (text.empty()) lose(into, "an empty value");
      if (principal) {
        principals(text, to);
      } else {
        to.push_back(string_match(text));
      }
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
  std::vector<std::string> domains_;  // names of our trust domain
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
               !from.remote_ip_blocks.empty() || !from.not_remote_ip_blocks.empty();
  if (upstream() || (!from.principals.empty() && !from.trust_domains.empty())) {
    // One list of principals cannot ask for both.
    out.has_l7 |= !from.trust_domains.empty() || !from.not_trust_domains.empty();
  } else {
    trust_domains(from.trust_domains, m.principals, out);
    trust_domains(from.not_trust_domains, m.not_principals, out);
  }
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
  } else if (from.key == "source.trustDomain" && !upstream()) {
    trust_domains(from.values, m.principals, out);
    trust_domains(from.not_values, m.not_principals, out);
  } else {
    out.has_l7 = true;
  }
  return out;
}

bool Converter::add_clause(std::vector<Alternative> alternatives, model::PolicyRule& rule,
                           std::vector<model::PolicyClause>& spare) {
  model::PolicyClause clause;
  bool unseen = false;     // some alternative lost its values: it might match anything
  bool everybody = false;  // some alternative does match anything, as far as L4 sees
  for (Alternative& one : alternatives) {
    dropped_l7_ |= one.has_l7;
    if (!deny()) {
      if (one.has_l7) return false;  // leaving the HTTP part out would allow more than was written
      if (one.invalid) continue;     // an alternative that can allow nothing
    } else if (one.invalid) {
      unseen = true;
      continue;
    } else if (one.has_l7 && !one.has_l4) {
      everybody |= !upstream();
      if (upstream()) clause.matches.emplace_back();
      continue;
    }
    if (one.match.empty()) {
      // `- source: {}` names nobody: a DENY takes it as everybody, an ALLOW as nobody.
      find("IST0106", "an item without any attribute; leave it out or say whom it means");
      everybody |= deny();
      continue;
    }
    clause.matches.push_back(std::move(one.match));
  }
  if (everybody) return true;
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
  bool unreadable = false;
  for (auto& clause : clauses) {
    for (const Alternative& one : clause) unreadable |= one.invalid;
    if (!add_clause(std::move(clause), out, spare)) return std::nullopt;
  }
  if (!out.clauses.empty() || !deny()) return out;
  // A DENY of which nothing certain is left: deny what can still be read of it, if only that.
  out.clauses = std::move(spare);
  if (out.clauses.empty() && unreadable) {
    find("IST0106", "none of its values can be read, and nobody can tell whom it is to deny: it denies all");
  }
  return out;
}

// Only with SelectorL7::kUpstream: what it cannot do at the node proxy.
void report_upstream(Context& context, const AuthorizationPolicy& policy, const model::Policy& made) {
  constexpr std::string_view kKind = "AuthorizationPolicy";
  if (made.action == model::PolicyAction::kAllow) {
    context.find("MSH002", Severity::kWarning, policy.meta, kKind,
                 "UnsupportedValue: rules with HTTP attributes are left out at the node proxy, so it allows "
                 "less than written. Bind the policy to a waypoint with targetRefs");
    return;
  }
  auto inert = [](const model::PolicyRule& rule) {
    return std::any_of(rule.clauses.begin(), rule.clauses.end(), [](const model::PolicyClause& clause) {
      return !clause.matches.empty() && std::all_of(clause.matches.begin(), clause.matches.end(),
                                                    [](const PolicyMatch& match) { return match.empty(); });
    });
  };
  bool none = std::all_of(made.rules.begin(), made.rules.end(), inert);
  context.find("MSH001", none ? Severity::kError : Severity::kWarning, policy.meta, kKind,
               none
                   ? "UnsupportedValue: it denies by HTTP attributes, which the node proxy does not see: it "
                     "has no effect. Bind the policy to a waypoint with targetRefs"
                   : "UnsupportedValue: HTTP attributes are not seen by the node proxy: rules with them deny "
                     "more than written, or nothing. Bind the policy to a waypoint with targetRefs");
}

model::PolicyScope scope_of(const SelectorPolicy& entry) {
  if (!entry.coverage.labels.empty()) return model::PolicyScope::kWorkloadSelector;
  return entry.coverage.everywhere ? model::PolicyScope::kGlobal : model::PolicyScope::kNamespace;
}

// Keeps what was in force if it is `invalid` now.
void publish(Context& context, const AuthorizationPolicy& policy, model::Policy out, bool invalid) {
  std::string key = out.key();
  auto& made = context.out.policies[key];
  const auto* before = invalid ? context.previous_policy(key) : nullptr;
  if (before && (*before)->scope == out.scope) {
    made = *before;
    context.find("IST0106", Severity::kError, policy.meta, "AuthorizationPolicy",
                 "what was in force before stays in force");
  } else {
    made = std::make_shared<const model::Policy>(std::move(out));
  }
}

void compile_policy(Context& context, SelectorPolicy& entry) {
  using Action = AuthorizationPolicy::Action;
  const AuthorizationPolicy& policy = *entry.source;
  bool upstream = context.options.selector_l7 == SelectorL7::kUpstream;
  if (policy.selector && policy.selector->empty()) {
    context.find("MSH005", Severity::kWarning, policy.meta, "AuthorizationPolicy",
                 "selector without labels: taken as the whole namespace; leave the selector out to say so");
  }
  if (upstream && (policy.action == Action::kAudit || policy.action == Action::kCustom)) {
    context.find("IST0171", Severity::kError, policy.meta, "AuthorizationPolicy",
                 "UnsupportedValue: only ALLOW and DENY are enforced by the node proxy; use targetRefs with "
                 "a waypoint");
    return;
  }
  if (policy.action == Action::kAudit) return;  // it decides nothing
  model::Policy out;
  out.ns = policy.meta.ns;
  out.name = policy.meta.name;
  out.action = policy.action == Action::kAllow ? model::PolicyAction::kAllow : model::PolicyAction::kDeny;
  out.dry_run = policy.dry_run;
  out.scope = scope_of(entry);
  // What needs a waypoint in a DENY of many workloads: those are named one by one, since for each other
  // waypoints are excepted. What does not stays as it is, in one resource for all.
  bool wide = out.scope != model::PolicyScope::kWorkloadSelector;
  model::Policy named = out;
  named.name = out.name.str() + "_http";
  named.scope = model::PolicyScope::kWorkloadSelector;
  bool splits = wide && !upstream && entry.needs_waypoint && out.action == model::PolicyAction::kDeny;
  bool denies_by_name = out.action == model::PolicyAction::kDeny && !upstream && (!wide || splits);
  Converter converter(context, policy);
  for (size_t i = 0; i < policy.rules.size(); ++i) {
    bool http = policy.action == Action::kCustom || needs_waypoint(policy.rules[i]);
    std::optional<model::PolicyRule> rule = converter.rule(policy.rules[i], i);
    if (!rule) continue;
    if (denies_by_name && (!splits || http)) {
      entry.denies.push_back(*rule);
      entry.denies_hop.push_back(!http && about_hop(context, policy.rules[i]));
    }
    (splits && http ? named : out).rules.push_back(std::move(*rule));
  }
  if (upstream && converter.dropped_l7()) report_upstream(context, policy, out);
  if (!wide) entry.by_name = out.key();
  if (splits) {
    entry.by_name = named.key();
    publish(context, policy, std::move(named), converter.invalid());
  }
  publish(context, policy, std::move(out), converter.invalid());
}

}  // namespace

void compile_authorization_policies(Context& context) {
  for (SelectorPolicy& entry : context.selectors.policies) compile_policy(context, entry);
}

}  // namespace culvert::control
