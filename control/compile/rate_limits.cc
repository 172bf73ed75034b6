// SPDX-License-Identifier: Apache-2.0
#include "control/compile/rate_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/compile/route_match.h"

namespace culvert::control {

namespace {

constexpr uint32_t kGrpcResourceExhausted = 8, kGrpcUnavailable = 14;

model::RateLimitKey compile_key(const kube::RateLimitPolicy::Key& in) {
  using From = kube::RateLimitPolicy::KeyKind;
  using To = model::RateLimitKey::Kind;
  switch (in.kind) {
    case From::kSourcePrincipal: return {To::kSourcePrincipal, ""};
    case From::kSourceNamespace: return {To::kSourceNamespace, ""};
    case From::kSourceIp: return {To::kSourceIp, ""};
    case From::kMethod: return {To::kMethod, ""};
    case From::kPath: return {To::kPath, ""};
    case From::kRoute: return {To::kRoute, ""};
    case From::kHeader: return {To::kHeader, lower_case(in.name)};
    case From::kClaim: return {To::kClaim, in.name};
    case From::kQuery: return {To::kQuery, in.name};
  }
  return {};
}

model::RateLimitPolicy::HeaderStyle style_of(kube::RateLimitPolicy::Headers style) {
  using To = model::RateLimitPolicy::HeaderStyle;
  switch (style) {
    case kube::RateLimitPolicy::Headers::kStandard: return To::kStandard;
    case kube::RateLimitPolicy::Headers::kLegacy: return To::kLegacy;
    case kube::RateLimitPolicy::Headers::kBoth: return To::kBoth;
    case kube::RateLimitPolicy::Headers::kNone: return To::kNone;
  }
  return To::kStandard;
}

// A share of one replica; nobody's is nothing.
uint64_t part_of(uint64_t whole, uint32_t replicas) {
  return std::max<uint64_t>(1, whole / std::max<uint32_t>(1, replicas));
}

model::RateLimitRule compile_rule(const kube::RateLimitPolicy::Rule& in, const std::string& ns,
                                  uint32_t replicas, bool counted_outside, const Complain& complain) {
  model::RateLimitRule out;
  out.name = in.name;
  bool readable = true;
  Complain lose = [&](const std::string& what) {
    readable = false;
    complain(fmt::format("rule {}: {}: the rule holds for every request", in.name, what));
  };
  for (const auto& match : in.matches) {
    if (auto made = compile_route_match(match)) {
      out.matches.push_back(std::move(*made));
    } else {
      lose(made.error().message());
    }
  }
  for (const auto& from : in.from) {
    if (auto made = compile_source(from, ns, lose)) out.from.push_back(std::move(*made));
  }
  if (!readable) {
    out.matches.clear();
    out.from.clear();
  }
  for (const auto& key : in.key) out.key.push_back(compile_key(key));
  uint32_t parts = in.divided && !in.global ? replicas : 1;
  out.requests = part_of(in.requests, parts);
  out.burst = part_of(in.burst, parts);
  out.per = in.per;
  // Never above the burst, or nothing would ever pass.
  out.cost = std::min(in.cost, out.burst);
  out.cost_header = lower_case(in.cost_header);
  out.keys_max = in.max_keys;
  out.global = in.global && counted_outside;
  if (out.global && !in.cost_header.empty()) {
    complain(fmt::format("rule {}: cost.responseHeader: no effect with scope Global: a request counts 1",
                         in.name));
  }
  if (out.global) out.cost = in.cost;
  return out;
}

// Who counts; nobody: every replica does.
std::optional<model::RateLimitService> compile_service(const kube::RateLimitPolicy::Global& in,
                                                       const RateLimitScope& scope,
                                                       const Complain& complain) {
  auto lose = [&](const std::string& why) {
    complain(fmt::format(
        "global.backendRef: {}: every replica of the waypoint keeps the limits of scope Global by itself",
        why));
    return std::nullopt;
  };
  if (!in.backend.group.empty() || in.backend.kind != "Service") {
    return lose(fmt::format("kind {} cannot be asked; name a Service", in.backend.kind));
  }
  std::optional<model::NamespacedHostname> service = scope.service(in.backend.name, in.backend.ns);
  if (!service)
    return lose(fmt::format("there is no Service {}{}{}", in.backend.ns, in.backend.ns.empty() ? "" : "/",
                            in.backend.name));
  uint16_t port = in.backend.port;
  if (!scope.has_port(*service, port)) {
    return lose(fmt::format("Service {} has no port {}", service->to_string(), port));
  }
  return model::RateLimitService{std::move(*service), port, in.domain, in.timeout, in.deny_on_failure};
}

}  // namespace

model::RateLimitPolicy compile_rate_limit_policy(const kube::RateLimitPolicy& policy,
                                                 const RateLimitScope& scope, const Complain& complain) {
  model::RateLimitPolicy out;
  out.ns = policy.meta.ns;
  out.name = policy.meta.name;
  out.shadow = policy.shadow;
  out.status = policy.status;
  out.headers = style_of(policy.headers);
  out.grpc_status = policy.grpc_unavailable ? kGrpcUnavailable : kGrpcResourceExhausted;
  bool global = std::any_of(policy.rules.begin(), policy.rules.end(),
                            [](const kube::RateLimitPolicy::Rule& rule) { return rule.global; });
  if (policy.global && global) out.service = compile_service(*policy.global, scope, complain);
  std::vector<std::string> routes = scope.routes;
  if (routes.empty()) routes.emplace_back();
  for (const std::string& route : routes) {
    for (const auto& in : policy.rules) {
      out.rules.push_back(compile_rule(in, out.ns, scope.replicas, out.service.has_value(), complain));
      out.rules.back().route = route;
    }
  }
  return out;
}

}  // namespace culvert::control
