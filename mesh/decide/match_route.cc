// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/match_route.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace culvert::decide {

namespace {

using model::TextMatch;

bool holds(const std::optional<TextMatch>& match, std::string_view value) {
  return !match || match->matches(value);
}

// An absent header does not match; negated, it counts as "" (as "absent" where presence was asked).
bool holds(const model::HeaderMatch& match, const HttpRequestFacts& facts) {
  std::optional<std::string> value = joined_header(facts.headers, match.name);
  if (match.invert) {
    if (match.value.kind() == TextMatch::Kind::kPresent) return !value;
    return !match.value.matches(value ? *value : std::string());
  }
  return value && match.value.matches(*value);
}

bool holds(const model::QueryMatch& match, const HttpRequestFacts& facts) {
  std::optional<std::string_view> value = query_parameter(facts.query, match.name);
  return value && match.value.matches(*value);
}

bool holds(const model::ClaimMatch& match, const HttpRequestFacts& facts) {
  if (!facts.claims) return false;
  std::vector<std::string> values = facts.claims->at(match.path);
  bool any = std::any_of(values.begin(), values.end(),
                         [&](const std::string& value) { return match.value.matches(value); });
  return any != match.invert;
}

template <class Matches>
bool all_hold(const Matches& list, const HttpRequestFacts& facts) {
  return std::all_of(list.begin(), list.end(), [&](const auto& match) { return holds(match, facts); });
}

// 0: does not match; else the longer the more specific, exact before wildcard.
size_t name_rank(std::string_view pattern, std::string_view name) {
  if (pattern == name) return 2 * pattern.size() + 1;
  if (pattern == "*") return 1;
  if (pattern.starts_with("*.") && name.size() > pattern.size() - 1 && name.ends_with(pattern.substr(1))) {
    return 2 * pattern.size();
  }
  return 0;
}

bool contains(std::span<const base::Cidr> ranges, const base::IpAddr& ip) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const base::Cidr& range) { return range.contains(ip); });
}

std::string_view without_port(std::string_view authority) {
  size_t colon = authority.rfind(':');
  if (colon == authority.npos || authority.find(']', colon) != authority.npos) return authority;
  return authority.substr(0, colon);
}

std::string_view port_of(std::string_view authority) {
  std::string_view host = without_port(authority);
  return host.size() == authority.size() ? std::string_view() : authority.substr(host.size() + 1);
}

}  // namespace

bool matches(const model::SourceMatch& source, const HttpRequestFacts& facts) {
  if (!source.ns.empty() && (!facts.peer || facts.peer->ns != source.ns)) return false;
  for (const auto& [key, value] : source.labels) {
    if (!facts.source_labels) return false;
    auto found = facts.source_labels->find(key);
    if (found == facts.source_labels->end() || found->second != value) return false;
  }
  return source.ip.empty() || contains(source.ip, facts.source_ip);
}

bool matches(const model::RouteMatch& match, const HttpRequestFacts& facts) {
  if (match.grpc && (!facts.grpc || facts.method != "POST")) return false;
  return holds(match.path, facts.path) && holds(match.method, facts.method) &&
         holds(match.scheme, facts.scheme) && holds(match.authority, facts.authority) &&
         matches(match.source, facts) && all_hold(match.headers, facts) && all_hold(match.query, facts) &&
         all_hold(match.claims, facts);
}

RouteHit match_http_route(std::span<const model::HttpRoute> routes, const HttpRequestFacts& facts) {
  for (const model::HttpRoute& route : routes) {
    if (route.matches.empty()) return {&route, nullptr};
    for (const model::RouteMatch& match : route.matches) {
      if (matches(match, facts)) return {&route, &match};
    }
  }
  return {};
}

const model::TcpRoute* match_tcp_route(std::span<const model::TcpRoute> routes, const HttpRequestFacts& facts,
                                       bool tls) {
  const model::TcpRoute* best = nullptr;
  size_t best_rank = 0;
  for (const model::TcpRoute& route : routes) {
    if (route.tls && !tls) continue;
    if (!route.destinations.empty() && !contains(route.destinations, facts.destination.ip)) continue;
    if (!matches(route.source, facts)) continue;
    size_t rank = 1;
    if (!route.server_names.empty()) {
      rank = 0;
      for (const std::string& name : route.server_names) rank = std::max(rank, name_rank(name, facts.sni));
    }
    if (rank == 0) continue;
    // Routes that look into TLS go before those that do not.
    size_t order = rank + (route.tls ? 1'000'000 : 0);
    if (order <= best_rank) continue;
    best = &route;
    best_rank = order;
  }
  return best;
}

const model::RouteTarget* pick_target(std::span<const model::RouteTarget> targets, base::Rng& rng) {
  if (targets.size() == 1) return &targets.front();
  uint64_t sum = 0;
  for (const model::RouteTarget& target : targets) sum += target.weight;
  if (sum == 0) return nullptr;
  uint64_t point = rng.below(sum);
  for (const model::RouteTarget& target : targets) {
    if (point < target.weight) return &target;
    point -= target.weight;
  }
  return nullptr;
}

namespace {

std::string edited(const model::PathEdit& edit, const model::RouteMatch* match, std::string_view path) {
  using Kind = model::PathEdit::Kind;
  std::string_view matched;
  if (match && match->path) {
    // What an expression or a template has matched is the whole path.
    bool prefix = match->path->kind() == TextMatch::Kind::kPrefix ||
                  match->path->kind() == TextMatch::Kind::kPathPrefix;
    matched = prefix ? std::string_view(match->path->text()) : path;
  }
  switch (edit.kind) {
    case Kind::kNone: return std::string(path);
    case Kind::kFull: return edit.text;
    case Kind::kRegex: return edit.regex->replace_all(path, edit.text);
    case Kind::kPrefix: return edit.text + std::string(path.substr(std::min(matched.size(), path.size())));
    case Kind::kPathPrefix: {
      if (matched.ends_with('/')) matched.remove_suffix(1);
      std::string_view rest = path.substr(std::min(matched.size(), path.size()));
      std::string_view head = edit.text;
      // "/foo/" with "/xyz" keeps its slash; "/foo" with "/" must not lose its only one.
      if (head.ends_with('/')) head.remove_suffix(1);
      return std::string(head) + std::string(rest);
    }
  }
  return std::string(path);
}

}  // namespace

std::string edit_path(const model::PathEdit& edit, const model::RouteMatch* match, std::string_view path) {
  std::string out = edited(edit, match, path);
  // "OPTIONS *" stays what it is unless it is edited; nothing else may lose its root.
  if (edit.kind != model::PathEdit::Kind::kNone && !out.starts_with('/')) out.insert(0, "/");
  return out;
}

std::string redirect_location(const model::Redirect& redirect, const model::RouteMatch* match,
                              const HttpRequestFacts& facts) {
  std::string_view scheme = redirect.scheme.empty() ? facts.scheme : std::string_view(redirect.scheme);
  std::string_view authority =
      redirect.authority.empty() ? facts.authority : std::string_view(redirect.authority);
  std::string host(without_port(authority)), port(port_of(authority));
  // ":80" that was written out does not outlive the change to https.
  if (scheme != facts.scheme && port == (facts.scheme == "https" ? "443" : "80")) port.clear();
  if (redirect.port != 0) {
    port = std::to_string(redirect.port);
  } else if (redirect.port_from == model::Redirect::PortFrom::kProtocolDefault) {
    port.clear();
  } else if (redirect.port_from == model::Redirect::PortFrom::kRequest) {
    port = std::to_string(facts.port);
  }
  if ((scheme == "http" && port == "80") || (scheme == "https" && port == "443")) port.clear();
  std::string path = edit_path(redirect.path, match, facts.path);
  bool keeps_query = redirect.path.kind != model::PathEdit::Kind::kFull || path.find('?') == path.npos;
  if (keeps_query && !facts.query.empty()) path += "?" + std::string(facts.query);
  return fmt::format("{}://{}{}{}{}", scheme, host, port.empty() ? "" : ":", port, path);
}

bool draw(double percent, base::Rng& rng) {
  if (percent <= 0) return false;
  if (percent >= 100) return true;
  return rng.unit() * 100 < percent;
}

bool should_retry(const model::RetryPolicy& policy, const TryOutcome& outcome) {
  using Failure = TryOutcome::Failure;
  auto on = [&](uint32_t bits) { return (policy.on & bits) != 0; };
  switch (outcome.failure) {
    case Failure::kNone: break;
    case Failure::kConnect:
      return on(model::kRetryConnectFailure | model::kRetryReset | model::kRetryResetBeforeRequest |
                model::kRetry5xx | model::kRetryGatewayError);
    case Failure::kRefused:
      return on(model::kRetryRefusedStream | model::kRetryReset | model::kRetryResetBeforeRequest |
                model::kRetry5xx | model::kRetryGatewayError);
    case Failure::kResetBeforeRequest:
      return on(model::kRetryResetBeforeRequest | model::kRetryReset | model::kRetry5xx |
                model::kRetryGatewayError);
    case Failure::kReset:
    case Failure::kTimeout: return on(model::kRetryReset | model::kRetry5xx | model::kRetryGatewayError);
  }
  if (joined_header(outcome.headers, "x-envoy-overloaded")) return false;
  if (joined_header(outcome.headers, "x-envoy-ratelimited") && !on(model::kRetryRateLimited)) return false;
  uint16_t status = outcome.status;
  if (on(model::kRetryRateLimited) && joined_header(outcome.headers, "x-envoy-ratelimited")) return true;
  if (on(model::kRetry5xx) && status >= 500) return true;
  if (on(model::kRetryGatewayError) && status >= 502 && status <= 504) return true;
  if (on(model::kRetry4xx) && status == 409) return true;
  if (on(model::kRetryStatusCodes) && std::find(policy.status_codes.begin(), policy.status_codes.end(),
                                                status) != policy.status_codes.end()) {
    return true;
  }
  if (on(model::kRetryHeaders)) {
    for (const std::string& name : policy.response_headers) {
      if (joined_header(outcome.headers, name)) return true;
    }
  }
  if (!outcome.grpc_status) return false;
  switch (*outcome.grpc_status) {
    case 1: return on(model::kRetryGrpcCancelled);
    case 4: return on(model::kRetryGrpcDeadlineExceeded);
    case 8: return on(model::kRetryGrpcResourceExhausted);
    case 13: return on(model::kRetryGrpcInternal);
    case 14: return on(model::kRetryGrpcUnavailable);
    default: return false;
  }
}

base::Duration retry_backoff(const model::RetryPolicy& policy, uint32_t retry, base::Rng& rng) {
  uint64_t factor = retry >= 4 ? 10 : std::min<uint64_t>((1u << retry) - 1, 10);
  auto bound = static_cast<uint64_t>(policy.backoff.count()) * factor;
  return base::Duration(static_cast<int64_t>(rng.below(bound)));
}

namespace {

std::string joined(const std::vector<std::string>& list) {
  return std::accumulate(
      list.begin(), list.end(), std::string(),
      [](std::string all, const std::string& one) { return all.empty() ? one : std::move(all) + "," + one; });
}

}  // namespace

CorsDecision decide_cors(const model::Cors& cors, const HttpRequestFacts& facts) {
  CorsDecision out;
  std::optional<std::string> origin = joined_header(facts.headers, "origin");
  if (!origin) return out;
  bool preflight = facts.method == "OPTIONS" && joined_header(facts.headers, "access-control-request-method");
  bool allowed = std::any_of(cors.origins.begin(), cors.origins.end(), [&](const TextMatch& match) {
    return (match.kind() == TextMatch::Kind::kExact && match.text() == "*") || match.matches(*origin);
  });
  if (!allowed) {
    out.preflight_answer = preflight && !cors.forward_unmatched_preflights;
    return out;
  }
  out.headers.emplace_back("access-control-allow-origin", *origin);
  if (cors.credentials && *cors.credentials) {
    out.headers.emplace_back("access-control-allow-credentials", "true");
  }
  if (!preflight) {
    if (!cors.expose.empty()) out.headers.emplace_back("access-control-expose-headers", joined(cors.expose));
    return out;
  }
  out.preflight_answer = true;
  // With credentials a browser takes "*" for a name (Fetch standard): it gets what it asked for instead.
  auto allow = [&](const char* name, const std::vector<std::string>& list, std::string_view asked) {
    if (list.empty()) return;
    bool any = std::find(list.begin(), list.end(), "*") != list.end();
    std::optional<std::string> wanted = joined_header(facts.headers, asked);
    bool echo = any && cors.credentials.value_or(false);
    if (!echo) out.headers.emplace_back(name, joined(list));
    if (echo && wanted) out.headers.emplace_back(name, *wanted);
  };
  allow("access-control-allow-methods", cors.methods, "access-control-request-method");
  allow("access-control-allow-headers", cors.headers, "access-control-request-headers");
  if (cors.max_age) {
    auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*cors.max_age).count();
    out.headers.emplace_back("access-control-max-age", std::to_string(seconds));
  }
  return out;
}

}  // namespace culvert::decide
