// SPDX-License-Identifier: Apache-2.0
// RequestAuthentication, backend policies, rate limits, ConfigMap and Secret, strictly (spec waypoint
// sections 2.5, 2.7 and 4.2).
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "mesh/kube/decode_fields.h"
#include "mesh/kube/decode_kinds.h"

namespace culvert::kube {

namespace {

using Key = RateLimitPolicy::KeyKind;

void check_jwks_uri(const Cursor& at, const std::string& uri) {
  bool http = uri.starts_with("http://") || uri.starts_with("https://");
  bool plain = std::none_of(uri.begin(), uri.end(), [](unsigned char c) { return c <= 0x20 || c == 0x7f; });
  if (!http || !plain) at.fail(fmt::format("\"{}\" must be an http:// or https:// address", uri));
  if (uri.starts_with("http://")) at.note("keys fetched without TLS can be replaced on the way; use https");
}

RequestAuthentication::Rule decode_jwt_rule(const Cursor& at) {
  at.only({"issuer", "audiences", "jwksUri", "jwks", "fromHeaders", "fromParams", "fromCookies",
           "outputPayloadToHeader", "outputClaimToHeaders", "forwardOriginalToken", "timeout",
           "spaceDelimitedClaims"});
  RequestAuthentication::Rule rule;
  rule.line = at.line();
  rule.issuer = decode_needed(at, "issuer");
  Cursor audiences = at.at("audiences");
  if (audiences.is_scalar()) {
    rule.audiences.push_back(decode_needed(at, "audiences"));
    audiences.note("is taken as a list of one; the API wants a list: [" + rule.audiences.front() + "]");
  } else {
    rule.audiences = audiences.texts();
  }
  rule.jwks = at.at("jwks").text();
  rule.jwks_uri = at.at("jwksUri").text();
  if (!rule.jwks_uri.empty()) check_jwks_uri(at.at("jwksUri"), rule.jwks_uri);
  for (const Cursor& item : at.at("fromHeaders").items()) {
    item.only({"name", "prefix"});
    rule.from_headers.push_back({decode_needed(item, "name"), item.at("prefix").text()});
    check_header_name(item.at("name"), rule.from_headers.back().name);
  }
  rule.from_params = at.at("fromParams").texts();
  rule.from_cookies = at.at("fromCookies").texts();
  Cursor payload = at.at("outputPayloadToHeader");
  if (!payload.absent()) rule.output_payload_to_header = decode_header_name(payload);
  for (const Cursor& item : at.at("outputClaimToHeaders").items()) {
    item.only({"header", "claim"});
    rule.output_claims.push_back({decode_needed(item, "header"), decode_needed(item, "claim")});
    check_header_name(item.at("header"), rule.output_claims.back().header);
  }
  rule.forward_original_token = at.at("forwardOriginalToken").flag();
  rule.timeout = decode_duration(at.at("timeout"), rule.timeout);
  rule.space_delimited_claims = at.at("spaceDelimitedClaims").texts();
  return rule;
}

std::vector<TargetRef> decode_route_targets(const Cursor& at) {
  constexpr size_t kTargetRefsMax = 16;
  std::vector<TargetRef> out;
  for (const Cursor& item : at.items()) out.push_back(decode_target_ref(item));
  if (out.empty()) at.fail("must name at least one target");
  if (out.size() > kTargetRefsMax) at.fail(fmt::format("must have at most {} items", kTargetRefsMax));
  return out;
}

RateLimitPolicy::Key decode_key(const Cursor& at) {
  if (at.is_map()) {
    at.only({"header", "claim", "query"});
    std::vector<RateLimitPolicy::Key> out;
    for (auto [key, kind] : {std::pair("header", Key::kHeader), std::pair("claim", Key::kClaim),
                             std::pair("query", Key::kQuery)}) {
      if (at.at(key).absent()) continue;
      out.push_back({kind, decode_needed(at, key)});
      if (kind == Key::kHeader) check_header_name(at.at(key), out.back().name);
    }
    if (out.size() == 1) return out.front();
    at.fail("must have one of header, claim and query; write an item for each");
    return {};
  }
  return {decode_choice<Key>(at, Key::kSourcePrincipal,
                             {{"SourcePrincipal", Key::kSourcePrincipal},
                              {"SourceNamespace", Key::kSourceNamespace},
                              {"SourceIP", Key::kSourceIp},
                              {"Method", Key::kMethod},
                              {"Path", Key::kPath},
                              {"Route", Key::kRoute}}),
          ""};
}

void decode_limit(const Cursor& at, RateLimitPolicy::Rule& rule) {
  constexpr int64_t kRequestsMax = 1'000'000'000;
  at.only({"requests", "per", "burst", "share"});
  for (const char* key : {"requests", "per"}) {
    if (at.at(key).absent()) at.at(key).fail("is missing");
  }
  rule.requests = static_cast<uint64_t>(at.at("requests").integer(1, kRequestsMax, 1));
  rule.per = decode_duration(at.at("per"), std::chrono::seconds(1));
  if (rule.per < std::chrono::milliseconds(1)) at.at("per").fail("must be at least 1ms");
  // One request's share of the time is counted in nanoseconds, and must be one at least.
  if (static_cast<uint64_t>(rule.per.count()) < rule.requests) at.at("requests").fail("are too many for per");
  rule.burst =
      static_cast<uint64_t>(at.at("burst").integer(1, kRequestsMax, static_cast<int64_t>(rule.requests)));
  rule.divided = decode_choice<bool>(at.at("share"), false, {{"Each", false}, {"Divided", true}});
}

RateLimitPolicy::Rule decode_rate_limit_rule(const Cursor& at) {
  at.only({"name", "matches", "from", "key", "limit", "cost", "scope", "maxKeys"});
  RateLimitPolicy::Rule rule;
  rule.line = at.line();
  rule.name = decode_needed(at, "name");
  for (const Cursor& item : at.at("matches").items()) rule.matches.push_back(decode_http_route_match(item));
  for (const Cursor& item : at.at("from").items()) rule.from.push_back(decode_source(item));
  for (const Cursor& item : at.at("key").items()) rule.key.push_back(decode_key(item));
  if (at.at("limit").absent()) {
    at.at("limit").fail("is missing");
  } else {
    decode_limit(at.at("limit"), rule);
  }
  Cursor cost = at.at("cost");
  if (cost.is_map()) {
    cost.only({"responseHeader"});
    rule.cost_header = decode_needed(cost, "responseHeader");
    check_header_name(cost.at("responseHeader"), rule.cost_header);
  } else {
    rule.cost = static_cast<uint64_t>(cost.integer(1, 1'000'000, 1));
    if (rule.cost > rule.burst) cost.fail("is more than the limit's burst: no request would ever pass");
  }
  rule.global = decode_choice<bool>(at.at("scope"), false, {{"Local", false}, {"Global", true}});
  rule.max_keys = static_cast<uint32_t>(at.at("maxKeys").integer(1, 1 << 20, rule.max_keys));
  using std::chrono::hours;
  const base::Duration units[] = {std::chrono::seconds(1), std::chrono::minutes(1), hours(1), hours(24),
                                  hours(24 * 30),          hours(24 * 365)};
  if (rule.global && std::find(std::begin(units), std::end(units), rule.per) == std::end(units)) {
    at.at("limit").at("per").fail(
        "with scope Global must be one second, minute, hour, day (24h), month (720h) or year (8760h)");
  }
  return rule;
}

}  // namespace

RequestAuthentication decode_request_authentication(const Cursor& root, Meta meta) {
  RequestAuthentication policy;
  policy.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"selector", "targetRef", "targetRefs", "jwtRules"});
  policy.selector = decode_match_labels(spec.at("selector"));
  policy.target_refs = decode_target_refs(spec);
  for (const Cursor& item : spec.at("jwtRules").items()) policy.rules.push_back(decode_jwt_rule(item));
  return policy;
}

BackendTlsPolicy decode_backend_tls_policy(const Cursor& root, Meta meta) {
  BackendTlsPolicy policy;
  policy.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"targetRefs", "validation", "options"});
  policy.target_refs = decode_route_targets(spec.at("targetRefs"));
  policy.options = spec.at("options").labels();
  Cursor validation = spec.at("validation");
  validation.only({"caCertificateRefs", "wellKnownCACertificates", "hostname", "subjectAltNames"});
  if (validation.at("hostname").absent()) {
    validation.at("hostname").fail("is missing");
  } else {
    policy.hostname = decode_host(validation.at("hostname"), false);
  }
  for (const Cursor& item : validation.at("caCertificateRefs").items()) {
    item.only({"group", "kind", "name"});
    policy.ca_refs.push_back(
        {item.at("group").text(), decode_needed(item, "kind"), decode_needed(item, "name")});
  }
  policy.system_ca = decode_choice<bool>(validation.at("wellKnownCACertificates"), false, {{"System", true}});
  if (policy.system_ca == !policy.ca_refs.empty()) {
    validation.fail("must have either caCertificateRefs or wellKnownCACertificates: System");
  }
  for (const Cursor& item : validation.at("subjectAltNames").items()) {
    item.only({"type", "hostname", "uri"});
    BackendTlsPolicy::SubjectAltName name;
    if (item.at("type").absent()) item.at("type").fail("is missing");
    name.uri = decode_choice<bool>(item.at("type"), false, {{"Hostname", false}, {"URI", true}});
    name.value = decode_needed(item, name.uri ? "uri" : "hostname");
    const char* other = name.uri ? "hostname" : "uri";
    if (!item.at(other).absent()) item.at(other).fail("does not go with this type");
    policy.subject_alt_names.push_back(std::move(name));
  }
  return policy;
}

BackendTrafficPolicy decode_backend_traffic_policy(const Cursor& root, Meta meta) {
  BackendTrafficPolicy policy;
  policy.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"targetRefs", "retryConstraint", "sessionPersistence"});
  policy.target_refs = decode_route_targets(spec.at("targetRefs"));
  if (Cursor retry = spec.at("retryConstraint"); !retry.absent()) {
    retry.only({"budget", "minRetryRate"});
    BackendTrafficPolicy::RetryConstraint out;
    Cursor budget = retry.at("budget"), rate = retry.at("minRetryRate");
    budget.only({"percent", "interval"});
    rate.only({"count", "interval"});
    out.budget_percent = decode_number(budget.at("percent"), 0, 100, out.budget_percent);
    out.budget_interval = decode_duration(budget.at("interval"), out.budget_interval);
    out.min_rate_count = decode_count(rate.at("count"), out.min_rate_count, 1'000'000);
    out.min_rate_interval = decode_duration(rate.at("interval"), out.min_rate_interval);
    for (const Cursor& part : {budget, rate}) {
      if (auto given = decode_duration(part.at("interval")); given && *given < std::chrono::seconds(1)) {
        part.at("interval").fail("must be at least 1s");
      }
    }
    policy.retry = out;
  }
  if (!spec.at("sessionPersistence").absent()) policy.session = decode_session(spec.at("sessionPersistence"));
  return policy;
}

RateLimitPolicy decode_rate_limit_policy(const Cursor& root, Meta meta) {
  RateLimitPolicy policy;
  policy.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"targetRefs", "mode", "rules", "global", "response"});
  policy.target_refs = decode_route_targets(spec.at("targetRefs"));
  policy.shadow = decode_choice<bool>(spec.at("mode"), false, {{"Enforce", false}, {"Shadow", true}});
  std::set<std::string> names;
  bool needs_global = false;
  for (const Cursor& item : spec.at("rules").items()) {
    policy.rules.push_back(decode_rate_limit_rule(item));
    const RateLimitPolicy::Rule& rule = policy.rules.back();
    if (!names.insert(rule.name).second)
      item.at("name").fail(fmt::format("\"{}\" is given twice", rule.name));
    needs_global = needs_global || rule.global;
  }
  if (policy.rules.empty()) spec.at("rules").fail("must have at least one rule");
  if (Cursor global = spec.at("global"); !global.absent()) {
    global.only({"backendRef", "domain", "timeout", "onFailure"});
    RateLimitPolicy::Global out;
    out.backend = decode_backend_ref(global.at("backendRef"));
    out.domain = decode_needed(global, "domain");
    out.timeout = decode_duration(global.at("timeout"), out.timeout);
    if (out.timeout < std::chrono::milliseconds(1)) global.at("timeout").fail("must be at least 1ms");
    out.deny_on_failure =
        decode_choice<bool>(global.at("onFailure"), false, {{"Allow", false}, {"Deny", true}});
    policy.global = std::move(out);
  } else if (needs_global) {
    global.fail("is missing: a rule has scope Global");
  }
  Cursor response = spec.at("response");
  response.only({"status", "headers", "grpcStatus"});
  policy.status = static_cast<uint16_t>(response.at("status").integer(400, 599, policy.status));
  using Headers = RateLimitPolicy::Headers;
  policy.headers = decode_choice<Headers>(response.at("headers"), policy.headers,
                                          {{"Standard", Headers::kStandard},
                                           {"Legacy", Headers::kLegacy},
                                           {"Both", Headers::kBoth},
                                           {"None", Headers::kNone}});
  policy.grpc_unavailable = decode_choice<bool>(response.at("grpcStatus"), false,
                                                {{"ResourceExhausted", false}, {"Unavailable", true}});
  return policy;
}

ConfigMap decode_config_map(const Cursor& root, Meta meta) {
  ConfigMap map;
  map.meta = std::move(meta);
  for (const auto& [key, value] : root.at("data").fields()) map.data[key] = value.text();
  if (map.meta.name != "istio") return map;
  root.at("data").at("mesh").read_inside([&](const Cursor& mesh) { map.mesh = decode_mesh_config(mesh); });
  return map;
}

Secret decode_secret(const Cursor& root, Meta meta) {
  Secret secret;
  secret.meta = std::move(meta);
  secret.type = root.at("type").text("Opaque");
  for (const auto& [key, value] : root.at("data").fields()) {
    auto decoded = decode_base64(value.text());
    if (!decoded) value.fail("must be base64; a plain text goes into stringData");
    if (decoded) secret.data[key] = std::move(*decoded);
  }
  for (const auto& [key, value] : root.at("stringData").fields()) secret.data[key] = value.text();
  return secret;
}

}  // namespace culvert::kube
