// SPDX-License-Identifier: Apache-2.0
// RequestAuthentication, Telemetry, rate limits, backend policies, ConfigMap and Secret: every field, its
// default, and what is refused (spec waypoint 2.5, 2.7, 2.9, 4.2).
#include "test/unit/mesh/kube/decode_helpers.h"

using namespace culvert;
using namespace culvert::kube;
using namespace std::chrono_literals;

namespace {

const std::string kAuth = head("security.istio.io/v1", "RequestAuthentication");
const std::string kTelemetry = head("telemetry.istio.io/v1", "Telemetry");
const std::string kLimit = head("policy.culvert.dev/v1alpha1", "RateLimitPolicy");
const std::string kTls = head("gateway.networking.k8s.io/v1", "BackendTLSPolicy");
const std::string kTraffic = head("gateway.networking.x-k8s.io/v1alpha1", "XBackendTrafficPolicy");

const std::string kFullAuth = kAuth + R"(spec: {
  targetRefs: [{group: "", kind: Service, name: web, sectionName: http}],
  jwtRules: [{issuer: i, audiences: [a, b], jwksUri: "https://i/keys", fromHeaders: [{name: x-t, prefix: "T "}],
    fromParams: [p], fromCookies: [c], outputPayloadToHeader: x-p,
    outputClaimToHeaders: [{header: x-c, claim: a.b}], forwardOriginalToken: true, timeout: 2s,
    spaceDelimitedClaims: [s]}, {issuer: j, jwks: keys}]}
)";
const std::string kFullTelemetry = kTelemetry + R"(spec: {
  selector: {matchLabels: { app: a}},
  metrics: [{providers: [{name: prometheus}], reportingInterval: 10s,
    overrides: [{match: {metric: REQUEST_COUNT, mode: SERVER}, disabled: false,
                 tagOverrides: { a: {operation: UPSERT, value: request.host}, b: {operation: REMOVE}}},
                {match: {customMetric: m}}],
    dimensions: { path: request.path}}],
  accessLogging: [{match: {mode: CLIENT}, providers: [{name: file}], disabled: true,
                   filter: {expression: "response.code >= 400"}}],
  tracing: [{match: {mode: SERVER}, providers: [{name: jaeger}], randomSamplingPercentage: 12.5,
    disableSpanReporting: true, useRequestIdForTraceSampling: false, enableIstioTags: false,
    disableContextPropagation: true,
    customTags: { l: {literal: {value: v}}, e: {environment: {name: E, defaultValue: d}},
                  h: {header: {name: x-h, defaultValue: d}}, f: {formatter: {value: "%PROTOCOL%"}}}}]}
)";
const std::string kFullLimit = kLimit + R"(spec: {
  targetRefs: [{group: "", kind: Service, name: web}], mode: Shadow,
  rules: [{name: r, matches: [{path: {value: /api}, method: GET}],
    from: [{namespaces: [shop], notPrincipals: [p]}],
    key: [SourcePrincipal, SourceNamespace, SourceIP, Method, Path, Route, {header: x}, {claim: sub}, {query: k}],
    limit: {requests: 100, per: 1s, burst: 200, share: Divided}, cost: 2, scope: Global, maxKeys: 10},
    {name: s, limit: {requests: 1, per: 1m}, cost: {responseHeader: x-cost}}],
  global: {backendRef: {name: rl, namespace: o, port: 8081}, domain: shop, timeout: 30ms, onFailure: Deny},
  response: {status: 503, headers: Both, grpcStatus: Unavailable}}
)";
const std::string kFullTls = kTls + R"(spec: {
  targetRefs: [{group: "", kind: Service, name: web, sectionName: https}], options: { a: b},
  validation: {hostname: h.example.com, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}],
    subjectAltNames: [{type: Hostname, hostname: a}, {type: URI, uri: "spiffe://t/x"}]}}
)";
const std::string kFullTraffic = kTraffic + R"(spec: {
  targetRefs: [{group: "", kind: Service, name: web}],
  retryConstraint: {budget: {percent: 30, interval: 20s}, minRetryRate: {count: 5, interval: 2s}},
  sessionPersistence: {type: Header, sessionName: x-s}}
)";

}  // namespace

TEST_CASE("RequestAuthentication: every field, and the defaults", "[2.7]") {
  auto policy = only<RequestAuthentication>(kFullAuth);
  CHECK(policy.target_refs[0].section_name == "http");
  REQUIRE(policy.rules.size() == 2);
  const RequestAuthentication::Rule& rule = policy.rules[0];
  CHECK(rule.issuer == "i");
  CHECK(rule.audiences == Strings{"a", "b"});
  CHECK(rule.jwks_uri == "https://i/keys");
  CHECK(rule.from_headers[0].name == "x-t");
  CHECK(rule.from_headers[0].prefix == "T ");
  CHECK(rule.from_params == Strings{"p"});
  CHECK(rule.from_cookies == Strings{"c"});
  CHECK(rule.output_payload_to_header == "x-p");
  CHECK(rule.output_claims[0].header == "x-c");
  CHECK(rule.output_claims[0].claim == "a.b");
  CHECK(rule.forward_original_token);
  CHECK(rule.timeout == 2s);
  CHECK(rule.space_delimited_claims == Strings{"s"});
  CHECK(policy.rules[1].jwks == "keys");
  CHECK(policy.rules[1].timeout == 5s);
  CHECK_FALSE(policy.rules[1].forward_original_token);
  CHECK(policy.meta.notes.empty());
  CHECK(only<RequestAuthentication>(kAuth + "spec: {selector: {}}").selector == Labels{});
}

TEST_CASE("RequestAuthentication: one audience as the seed writes it is a list of one, and noted", "[2.7]") {
  auto policy = only<RequestAuthentication>(kAuth + "spec: {jwtRules: [{issuer: i, audiences: web}]}");
  CHECK(policy.rules[0].audiences == Strings{"web"});
  REQUIRE(policy.meta.notes.size() == 1);
  CHECK(policy.meta.notes[0].line == 4);
  CHECK(policy.meta.notes[0].text ==
        "spec.jwtRules[0].audiences: is taken as a list of one; the API wants a list: [web]");
  // An empty text must not come to mean "not checked".
  CHECK(problems(kAuth + "spec: {jwtRules: [{issuer: i, audiences: ''}]}") ==
        Strings{"4: spec.jwtRules[0].audiences: is missing"});
}

TEST_CASE("Telemetry: every field, and the defaults", "[2.9]") {
  auto telemetry = only<Telemetry>(kFullTelemetry);
  CHECK(telemetry.selector == Labels{{"app", "a"}});
  const Telemetry::Metrics& metrics = telemetry.metrics.at(0);
  CHECK(metrics.providers == Strings{"prometheus"});
  CHECK(metrics.reporting_interval == 10s);
  REQUIRE(metrics.overrides.size() == 2);
  CHECK(metrics.overrides[0].metric == "REQUEST_COUNT");
  CHECK(metrics.overrides[0].mode == Telemetry::Mode::kServer);
  CHECK(metrics.overrides[0].disabled == false);
  CHECK(metrics.overrides[0].tags.at("a").value == "request.host");
  CHECK(metrics.overrides[0].tags.at("b").remove);
  CHECK(metrics.overrides[1].custom_metric == "m");
  CHECK(metrics.overrides[1].metric.empty());
  CHECK_FALSE(metrics.overrides[1].disabled);
  CHECK(metrics.dimensions.at(0).tag == "path");
  CHECK(metrics.dimensions.at(0).value == "request.path");
  const Telemetry::AccessLogging& logging = telemetry.access_logging.at(0);
  CHECK(logging.mode == Telemetry::Mode::kClient);
  CHECK(logging.providers == Strings{"file"});
  CHECK(logging.disabled == true);
  CHECK(logging.filter == "response.code >= 400");
  const Telemetry::Tracing& tracing = telemetry.tracing.at(0);
  CHECK(tracing.providers == Strings{"jaeger"});
  CHECK(tracing.random_sampling_percent == 12.5);
  CHECK(tracing.disable_span_reporting == true);
  CHECK(tracing.use_request_id_for_sampling == false);
  CHECK(tracing.enable_istio_tags == false);
  CHECK(tracing.disable_context_propagation == true);
  using Kind = CustomTag::Kind;
  CHECK(tracing.custom_tags.at("l").kind == Kind::kLiteral);
  CHECK(tracing.custom_tags.at("l").value == "v");
  CHECK(tracing.custom_tags.at("e").kind == Kind::kEnvironment);
  CHECK(tracing.custom_tags.at("e").fallback == "d");
  CHECK(tracing.custom_tags.at("h").kind == Kind::kHeader);
  CHECK(tracing.custom_tags.at("f").kind == Kind::kFormatter);
  auto bare = only<Telemetry>(kTelemetry + "spec: {tracing: [{}], metrics: [{overrides: [{}]}]}");
  CHECK_FALSE(bare.tracing[0].random_sampling_percent);
  CHECK_FALSE(bare.tracing[0].use_request_id_for_sampling);
  CHECK(bare.metrics[0].overrides[0].metric == "ALL_METRICS");
  CHECK(bare.metrics[0].overrides[0].mode == Telemetry::Mode::kClientAndServer);
}

TEST_CASE("Telemetry: dimensions as a list are labels by the attributes' names", "[2.9]") {
  auto telemetry = only<Telemetry>(
      kTelemetry + "spec: {metrics: [{dimensions: [request.path, destination.service.name]}]}");
  const auto& dimensions = telemetry.metrics[0].dimensions;
  REQUIRE(dimensions.size() == 2);
  CHECK(dimensions[0].tag == "request_path");
  CHECK(dimensions[0].value == "request.path");
  CHECK(dimensions[1].tag == "destination_service_name");
  REQUIRE(telemetry.meta.notes.size() == 1);
  CHECK(telemetry.meta.notes[0].text.starts_with("spec.metrics[0].dimensions: is an extension of ours"));
}

TEST_CASE("RateLimitPolicy: every field, and the defaults", "[4.2]") {
  auto policy = only<RateLimitPolicy>(kFullLimit);
  CHECK(policy.target_refs[0].name == "web");
  CHECK(policy.shadow);
  REQUIRE(policy.rules.size() == 2);
  const RateLimitPolicy::Rule& rule = policy.rules[0];
  CHECK(rule.matches[0].path.value == "/api");
  CHECK(rule.from[0].namespaces == Strings{"shop"});
  CHECK(rule.from[0].not_principals == Strings{"p"});
  REQUIRE(rule.key.size() == 9);
  for (size_t i = 0; i < rule.key.size(); ++i) {
    CHECK(rule.key[i].kind == static_cast<RateLimitPolicy::KeyKind>(i));
  }
  CHECK(rule.key[6].name == "x");
  CHECK(rule.key[7].name == "sub");
  CHECK(rule.key[8].name == "k");
  CHECK(rule.requests == 100);
  CHECK(rule.per == 1s);
  CHECK(rule.burst == 200);
  CHECK(rule.divided);
  CHECK(rule.cost == 2);
  CHECK(rule.global);
  CHECK(rule.max_keys == 10);
  CHECK(policy.rules[1].burst == 1);
  CHECK(policy.rules[1].cost_header == "x-cost");
  CHECK(policy.rules[1].max_keys == 65536);
  CHECK_FALSE(policy.rules[1].global);
  CHECK_FALSE(policy.rules[1].divided);
  CHECK(policy.rules[1].key.empty());
  CHECK(policy.global->backend.ns == "o");
  CHECK(policy.global->domain == "shop");
  CHECK(policy.global->timeout == 30ms);
  CHECK(policy.global->deny_on_failure);
  CHECK(policy.status == 503);
  CHECK(policy.headers == RateLimitPolicy::Headers::kBoth);
  CHECK(policy.grpc_unavailable);
  auto bare = only<RateLimitPolicy>(
      kLimit +
      "spec: {targetRefs: [{kind: Service, name: a}], rules: [{name: r, limit: {requests: 5, per: 1s}}]}");
  CHECK_FALSE(bare.shadow);
  CHECK(bare.rules[0].cost == 1);
  CHECK(bare.rules[0].burst == 5);
  CHECK(bare.status == 429);
  CHECK(bare.headers == RateLimitPolicy::Headers::kStandard);
  CHECK_FALSE(bare.grpc_unavailable);
  CHECK_FALSE(bare.global);
}

TEST_CASE("BackendTLSPolicy and XBackendTrafficPolicy", "[2.5]") {
  auto tls = only<BackendTlsPolicy>(kFullTls);
  CHECK(tls.target_refs[0].section_name == "https");
  CHECK(tls.hostname == "h.example.com");
  CHECK(tls.ca_refs[0].name == "ca");
  CHECK_FALSE(tls.system_ca);
  CHECK_FALSE(tls.subject_alt_names[0].uri);
  CHECK(tls.subject_alt_names[1].uri);
  CHECK(tls.subject_alt_names[1].value == "spiffe://t/x");
  CHECK(tls.options == Labels{{"a", "b"}});
  CHECK(only<BackendTlsPolicy>(kTls +
                               "spec: {targetRefs: [{kind: Service, name: a}], validation: {hostname: h, "
                               "wellKnownCACertificates: System}}")
            .system_ca);
  auto traffic = only<BackendTrafficPolicy>(kFullTraffic);
  CHECK(traffic.retry->budget_percent == 30);
  CHECK(traffic.retry->budget_interval == 20s);
  CHECK(traffic.retry->min_rate_count == 5);
  CHECK(traffic.retry->min_rate_interval == 2s);
  CHECK(traffic.session->name == "x-s");
  auto bare = only<BackendTrafficPolicy>(
      kTraffic + "spec: {targetRefs: [{kind: Service, name: a}], retryConstraint: {}}");
  CHECK(bare.retry->budget_percent == 20);
  CHECK(bare.retry->budget_interval == 10s);
  CHECK(bare.retry->min_rate_count == 10);
  CHECK(bare.retry->min_rate_interval == 1s);
}

TEST_CASE("ConfigMap and Secret: data; no message quotes a secret") {
  auto map = only<ConfigMap>(head("v1", "ConfigMap") + "data: {a: b, c: d}");
  CHECK(map.data == std::map<std::string, std::string>{{"a", "b"}, {"c", "d"}});
  CHECK_FALSE(map.mesh);
  auto secret =
      only<Secret>(head("v1", "Secret") +
                   "type: kubernetes.io/tls\ndata: {tls.crt: aGVsbG8=, empty: '', bin: '/w==', x: YQ==}\n"
                   "stringData: {x: over}\n");
  CHECK(secret.type == "kubernetes.io/tls");
  CHECK(secret.data == std::map<std::string, std::string>{
                           {"tls.crt", "hello"}, {"empty", ""}, {"bin", "\xff"}, {"x", "over"}});
  for (const char* bad : {"aGVsbG8", "aGVsbG8==", "sec!ret=", "=aaa", "aaa=aaaa", "sec-ret="}) {
    INFO(bad);
    CHECK(problems(head("v1", "Secret") + "data: {k: '" + bad + "'}") ==
          Strings{"4: data.k: must be base64; a plain text goes into stringData"});
  }
  for (const char* bad :
       {"data: [hush]", "data: {k: [hush]}", "data: {k: {hush: hush}}", "stringData: hush"}) {
    Strings found = problems(head("v1", "Secret") + bad);
    REQUIRE_FALSE(found.empty());
    for (const std::string& message : found) CHECK(message.find("hush") == std::string::npos);
  }
}

TEST_CASE("L7 policies: an unknown field is refused in every map") {
  for (const std::string& full : {kFullAuth, kFullTelemetry, kFullLimit, kFullTls, kFullTraffic}) {
    check_unknown_fields(full);
  }
}

TEST_CASE("L7 policies: what is refused, where, and what to write") {
  check_refused(
      kAuth,
      {{"{jwtRules: [{}]}", "spec.jwtRules[0].issuer: is missing"},
       {"{jwtRules: [{issuer: i, jwksUri: 'file:///etc/passwd'}]}",
        "spec.jwtRules[0].jwksUri: \"file:///etc/passwd\" must be an http:// or https:// address"},
       {"{jwtRules: [{issuer: i, fromHeaders: [{prefix: a}]}]}",
        "spec.jwtRules[0].fromHeaders[0].name: is missing"},
       {"{jwtRules: [{issuer: i, outputPayloadToHeader: 'a b'}]}",
        "spec.jwtRules[0].outputPayloadToHeader: \"a b\" is not a header's name"},
       {"{jwtRules: [{issuer: i, audience: [a]}]}",
        "spec.jwtRules[0].audience: unknown field; did you mean \"audiences\"?"},
       {"{selector: {}, targetRefs: [{kind: Service, name: a}]}", "spec.selector: excludes targetRefs"},
       {"{targetRefs: []}", "spec.targetRefs: must not be empty; leave it out"},
       {"{targetRefs: [{name: a}]}", "spec.targetRefs[0].kind: is missing"}});
  check_refused(
      kTelemetry,
      {{"{metrics: [{overrides: [{match: {metric: ALL}}]}]}",
        "spec.metrics[0].overrides[0].match.metric: \"ALL\" must be one of: ALL_METRICS"},
       {"{metrics: [{overrides: [{match: {metric: REQUEST_COUNT, customMetric: m}}]}]}",
        "spec.metrics[0].overrides[0].match.metric: excludes customMetric"},
       {"{metrics: [{overrides: [{tagOverrides: {a: {}}}]}]}",
        "spec.metrics[0].overrides[0].tagOverrides.a.value: is missing: UPSERT needs an expression"},
       {"{metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: b}}}]}]}",
        "spec.metrics[0].overrides[0].tagOverrides.a.value: does not go with REMOVE"},
       {"{metrics: [{overrides: [{tagOverrides: {a-b: {value: c}}}]}]}",
        "spec.metrics[0].overrides[0].tagOverrides.a-b: \"a-b\" is not a label's name"},
       {"{metrics: [{dimensions: [a, a]}]}", "spec.metrics[0].dimensions[1]: \"a\" is given twice"},
       {"{metrics: [{dimensions: ['a b']}]}", "spec.metrics[0].dimensions[0]: \"a b\" is not a label's name"},
       {"{metrics: [{dimensions: a}]}", "spec.metrics[0].dimensions: must be a list"},
       {"{tracing: [{providers: [{name: a}, {name: b}]}]}",
        "spec.tracing[0].providers: must name one provider"},
       {"{tracing: [{randomSamplingPercentage: 100.1}]}",
        "spec.tracing[0].randomSamplingPercentage: \"100.1\" must be a number from 0 to 100"},
       {"{tracing: [{randomSamplingPercentage: nan}]}", "spec.tracing[0].randomSamplingPercentage: \"nan\""},
       {"{tracing: [{customTags: {a: {}}}]}", "spec.tracing[0].customTags.a: must have one of literal"},
       {"{accessLogging: [{filter: {}}]}", "spec.accessLogging[0].filter.expression: is missing"},
       {"{accessLogging: [{match: {mode: BOTH}}]}",
        "spec.accessLogging[0].match.mode: \"BOTH\" must be one of: CLIENT_AND_SERVER"}});
#define LIMIT(text) "{targetRefs: [{kind: Service, name: a}], rules: [{name: r, " text "}]}"
#define GOOD "limit: {requests: 5, per: 1s}"
#define R "spec.rules[0]."
  check_refused(
      kLimit,
      {{"{rules: [{name: r, " GOOD "}]}", "spec.targetRefs: must name at least one target"},
       {"{targetRefs: [{kind: Service, name: a}]}", "spec.rules: must have at least one rule"},
       {LIMIT("key: []"), R "limit: is missing"},
       {LIMIT("limit: {per: 1s}"), R "limit.requests: is missing"},
       {LIMIT("limit: {requests: 0, per: 1s}"), R "limit.requests: \"0\" must be a whole number from 1"},
       {LIMIT("limit: {requests: 1}"), R "limit.per: is missing"},
       {LIMIT("limit: {requests: 1, per: 0s}"), R "limit.per: must be at least 1ms"},
       {LIMIT("limit: {requests: 1000000000, per: 1ms}"), R "limit.requests: are too many for per"},
       {LIMIT(GOOD ", key: [SourceIp]"), R "key[0]: \"SourceIp\" must be one of: SourcePrincipal"},
       {LIMIT(GOOD ", key: [{header: a, claim: b}]"), R "key[0]: must have one of header"},
       {LIMIT(GOOD ", key: [{}]"), R "key[0]: must have one of header"},
       {LIMIT(GOOD ", cost: 6"), R "cost: is more than the limit's burst"},
       {LIMIT(GOOD ", scope: Global"), "spec.global: is missing: a rule has scope Global"},
       {LIMIT("limit: {requests: 1, per: 2s}, scope: Global"), R "limit.per: with scope Global must be"},
       {LIMIT(GOOD ", maxKeys: 0"), R "maxKeys: \"0\" must be a whole number from 1"},
       {LIMIT(GOOD ", from: [{principal: [a]}]"),
        R "from[0].principal: unknown field; did you mean \"principals\"?"},
       {LIMIT(GOOD "}, {name: r, " GOOD), "spec.rules[1].name: \"r\" is given twice"}});
#undef LIMIT
#undef GOOD
#undef R
#define TARGET "targetRefs: [{kind: Service, name: a}], "
  check_refused(
      kTls,
      {{"{" TARGET "validation: {hostname: h}}",
        "spec.validation: must have either caCertificateRefs or wellKnownCACertificates: System"},
       {"{" TARGET "validation: {hostname: h, wellKnownCACertificates: Mine}}",
        "spec.validation.wellKnownCACertificates: \"Mine\" must be one of: System"},
       {"{" TARGET "validation: {wellKnownCACertificates: System}}", "spec.validation.hostname: is missing"},
       {"{" TARGET "validation: {hostname: h, wellKnownCACertificates: System, subjectAltNames: "
        "[{type: URI, hostname: a}]}}",
        "spec.validation.subjectAltNames[0].uri: is missing"}});
  check_refused(kTraffic, {{"{" TARGET "retryConstraint: {budget: {percent: 101}}}",
                            "spec.retryConstraint.budget.percent: \"101\" must be a number"},
                           {"{" TARGET "retryConstraint: {budget: {interval: 10ms}}}",
                            "spec.retryConstraint.budget.interval: must be at least 1s"}});
#undef TARGET
}
