// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/authorize_http.h"

#include <fmt/format.h>

#include <algorithm>

namespace culvert::decide {

namespace {

using model::Condition;
using model::Either;
using model::HttpPolicy;
using model::TextMatch;

// A policy's "*" asks for something that is there and not empty.
bool text_matches(const TextMatch& match, std::string_view value) {
  return match.kind() == TextMatch::Kind::kPresent ? !value.empty() : match.matches(value);
}

// `holds(entry)` says whether one entry matches the request.
template <class T, class Holds>
bool either(const Either<T>& lists, Holds holds) {
  if (!lists.any.empty() && std::none_of(lists.any.begin(), lists.any.end(), holds)) return false;
  return std::none_of(lists.none.begin(), lists.none.end(), holds);
}

bool text_either(const Either<TextMatch>& lists, std::string_view value) {
  return either(lists, [&](const TextMatch& match) { return text_matches(match, value); });
}

// Any of several values; without any value nothing matches.
bool list_either(const Either<TextMatch>& lists, std::span<const std::string> values) {
  return either(lists, [&](const TextMatch& match) {
    return std::any_of(values.begin(), values.end(),
                       [&](const std::string& value) { return text_matches(match, value); });
  });
}

bool ip_either(const Either<base::Cidr>& lists, const base::IpAddr& ip) {
  return either(lists, [&](const base::Cidr& range) { return range.contains(ip); });
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

bool host_matches(const TextMatch& match, std::string_view host) {
  switch (match.kind()) {
    case TextMatch::Kind::kExact: return equal_ignoring_case(match.text(), host);
    case TextMatch::Kind::kPrefix:
      return host.size() >= match.text().size() &&
             equal_ignoring_case(match.text(), host.substr(0, match.text().size()));
    case TextMatch::Kind::kSuffix:
      return host.size() >= match.text().size() &&
             equal_ignoring_case(match.text(), host.substr(host.size() - match.text().size()));
    default: return text_matches(match, lower_case(host));
  }
}

// The names the peer's trust domain goes by, its own first.
std::vector<std::string> domains_of(const HttpRequestFacts& facts, std::span<const std::string> domains) {
  std::vector<std::string> out;
  if (!facts.peer) return out;
  out.push_back(facts.peer->trust_domain.str());
  bool ours = std::any_of(domains.begin(), domains.end(),
                          [&](const std::string& domain) { return facts.peer->trust_domain == domain; });
  if (!ours) return out;
  auto add = [&](const std::string& domain) {
    if (facts.peer->trust_domain != domain) out.push_back(domain);
  };
  for (const std::string& domain : domains) add(domain);
  // In policies this means the mesh's own, whatever its name.
  add("cluster.local");
  return out;
}

// The peer's principal under each of them.
std::vector<std::string> principals_of(const HttpRequestFacts& facts, std::span<const std::string> domains) {
  std::vector<std::string> out;
  for (const std::string& domain : domains_of(facts, domains)) {
    model::Identity named = *facts.peer;
    named.trust_domain = domain;
    out.push_back(named.principal());
  }
  return out;
}

std::vector<std::string> values_of(const Condition& condition, const HttpRequestFacts& facts,
                                   std::span<const std::string> domains) {
  auto one = [](std::string_view text) { return std::vector<std::string>{std::string(text)}; };
  using Key = Condition::Key;
  switch (condition.key) {
    case Key::kHeader: {
      std::optional<std::string> value = joined_header(facts.headers, condition.name);
      return value ? one(*value) : std::vector<std::string>();
    }
    case Key::kSourceNamespace: return facts.peer ? one(facts.peer->ns.view()) : std::vector<std::string>();
    case Key::kSourcePrincipal: return principals_of(facts, domains);
    case Key::kSourceServiceAccount:
      return facts.peer ? one(facts.peer->ns.str() + "/" + facts.peer->service_account.str())
                        : std::vector<std::string>();
    case Key::kSourceTrustDomain: return domains_of(facts, domains);
    case Key::kRequestPrincipal:
      return facts.claims ? one(facts.token_principal) : std::vector<std::string>();
    case Key::kRequestAudiences: return facts.token_audiences;
    case Key::kRequestPresenter:
      return facts.claims && !facts.token_presenter.empty() ? one(facts.token_presenter)
                                                            : std::vector<std::string>();
    case Key::kRequestClaim:
      return facts.claims ? facts.claims->at(condition.path) : std::vector<std::string>();
    case Key::kDestinationPort: return one(std::to_string(facts.port));
    case Key::kConnectionSni: return facts.sni.empty() ? std::vector<std::string>() : one(facts.sni);
    case Key::kSourceIp:
    case Key::kRemoteIp:
    case Key::kDestinationIp: break;
  }
  return {};
}

bool holds(const Condition& condition, const HttpRequestFacts& facts, std::span<const std::string> domains) {
  switch (condition.key) {
    case Condition::Key::kSourceIp: return ip_either(condition.ranges, facts.source_ip);
    case Condition::Key::kRemoteIp: return ip_either(condition.ranges, facts.remote_ip);
    case Condition::Key::kDestinationIp: return ip_either(condition.ranges, facts.destination.ip);
    default: return list_either(condition.values, values_of(condition, facts, domains));
  }
}

bool holds(const model::HttpOperation& operation, const HttpRequestFacts& facts, bool http) {
  bool port = either(operation.ports, [&](uint16_t wanted) { return wanted == facts.port; });
  if (!port || !http) return port;
  return either(operation.hosts,
                [&](const TextMatch& match) { return host_matches(match, facts.authority); }) &&
         text_either(operation.methods, facts.method) && text_either(operation.paths, facts.path);
}

bool needs_http(const model::HttpRule& rule) {
  auto source = [](const model::HttpSource& from) {
    return !from.request_principals.empty() || !from.remote_ip_blocks.empty();
  };
  auto operation = [](const model::HttpOperation& to) {
    return !to.hosts.empty() || !to.methods.empty() || !to.paths.empty();
  };
  return std::any_of(rule.from.begin(), rule.from.end(), source) ||
         std::any_of(rule.to.begin(), rule.to.end(), operation) ||
         std::any_of(rule.when.begin(), rule.when.end(),
                     [](const Condition& condition) { return condition.http_only(); });
}

bool of_token(const Condition& condition) {
  return condition.key >= Condition::Key::kRequestPrincipal && condition.key <= Condition::Key::kRequestClaim;
}

bool holds(const model::HttpRule& rule, const HttpRequestFacts& facts, const AuthorizeHttpOptions& options) {
  auto from = [&](const model::HttpSource& source) {
    return matches(source, facts, options.http, options.trust_domains, options.tokens);
  };
  auto to = [&](const model::HttpOperation& operation) { return holds(operation, facts, options.http); };
  auto when = [&](const Condition& condition) {
    bool unknown = (!options.http && condition.http_only()) || (!options.tokens && of_token(condition));
    return unknown || holds(condition, facts, options.trust_domains);
  };
  return (rule.from.empty() || std::any_of(rule.from.begin(), rule.from.end(), from)) &&
         (rule.to.empty() || std::any_of(rule.to.begin(), rule.to.end(), to)) &&
         std::all_of(rule.when.begin(), rule.when.end(), when);
}

std::string name_of(const HttpPolicy& policy, size_t rule) {
  return fmt::format("ns[{}]-policy[{}]-rule[{}]", policy.ns, policy.name, rule);
}

}  // namespace

bool selects(const model::PodSelector& selector, bool everywhere, std::string_view policy_ns,
             std::string_view endpoint_ns, const model::LabelMap& labels) {
  if (!everywhere && policy_ns != endpoint_ns) return false;
  if (!selector) return true;
  return std::all_of(selector->begin(), selector->end(), [&](const auto& wanted) {
    auto found = labels.find(wanted.first);
    return found != labels.end() && found->second == wanted.second;
  });
}

bool matches(const model::HttpSource& source, const HttpRequestFacts& facts, bool http,
             std::span<const std::string> trust_domains, bool tokens) {
  std::string_view ns = facts.peer ? facts.peer->ns.view() : std::string_view();
  auto account = [&](const model::ServiceAccountMatch& wanted) {
    return facts.peer && wanted.ns == facts.peer->ns && wanted.service_account == facts.peer->service_account;
  };
  bool principal =
      source.principals.empty() || list_either(source.principals, principals_of(facts, trust_domains));
  bool domain =
      source.trust_domains.empty() || list_either(source.trust_domains, domains_of(facts, trust_domains));
  bool l4 = principal && domain && text_either(source.namespaces, ns) &&
            either(source.service_accounts, account) && ip_either(source.ip_blocks, facts.source_ip);
  if (!l4 || !http) return l4;
  std::vector<std::string> shown;
  if (facts.claims) shown.emplace_back(facts.token_principal);
  return (!tokens || list_either(source.request_principals, shown)) &&
         ip_either(source.remote_ip_blocks, facts.remote_ip);
}

std::vector<CustomHit> custom_policies(std::span<const HttpPolicy> policies, const HttpRequestFacts& facts,
                                       const AuthorizeHttpOptions& options) {
  std::vector<CustomHit> hits;
  for (const HttpPolicy& policy : policies) {
    bool applies = options.applies ? options.applies(policy) : !policy.selector;
    if (!applies || policy.dry_run || policy.action != HttpPolicy::Action::kCustom) continue;
    if (std::optional<size_t> rule = holding_rule(policy, facts, options)) {
      hits.push_back({&policy, name_of(policy, *rule)});
    }
  }
  return hits;
}

std::optional<size_t> holding_rule(const HttpPolicy& policy, const HttpRequestFacts& facts,
                                   const AuthorizeHttpOptions& options) {
  for (size_t i = 0; i < policy.rules.size(); ++i) {
    const model::HttpRule& rule = policy.rules[i];
    if (!options.http && policy.action == HttpPolicy::Action::kAllow && needs_http(rule)) continue;
    if (holds(rule, facts, options)) return i;
  }
  return std::nullopt;
}

HttpVerdict authorize_http(std::span<const HttpPolicy> policies, const HttpRequestFacts& facts,
                           const AuthorizeHttpOptions& options) {
  HttpVerdict verdict;
  bool allow_policies = false, dry_allow_policies = false, dry_allowed = false;
  std::string allowed_by, denied_by;
  for (const HttpPolicy& policy : policies) {
    bool applies = options.applies ? options.applies(policy) : !policy.selector;
    if (!applies || policy.action == HttpPolicy::Action::kCustom) continue;
    std::optional<size_t> rule = holding_rule(policy, facts, options);
    if (policy.action == HttpPolicy::Action::kAudit) {
      if (rule) verdict.audited.push_back(name_of(policy, *rule));
      continue;
    }
    if (policy.dry_run) {
      bool allow = policy.action == HttpPolicy::Action::kAllow;
      dry_allow_policies |= allow;
      dry_allowed |= allow && rule;
      if (rule) verdict.dry_run.push_back(name_of(policy, *rule));
      continue;
    }
    if (policy.action == HttpPolicy::Action::kDeny) {
      if (rule && denied_by.empty()) denied_by = name_of(policy, *rule);
      continue;
    }
    allow_policies = true;
    if (rule && allowed_by.empty()) allowed_by = name_of(policy, *rule);
  }
  if (dry_allow_policies && !dry_allowed) verdict.dry_run.emplace_back(kNoDryRunAllow);
  if (!denied_by.empty()) {
    verdict.allowed = false;
    verdict.decided_by = std::move(denied_by);
  } else if (allow_policies) {
    verdict.allowed = !allowed_by.empty();
    verdict.decided_by = std::move(allowed_by);
  }
  return verdict;
}

}  // namespace culvert::decide
