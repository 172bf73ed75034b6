// SPDX-License-Identifier: Apache-2.0
// Gateway API routes: every field, its default, and what is refused (spec waypoint 2.4).
#include "test/unit/mesh/kube/decode_helpers.h"

using namespace culvert;
using namespace culvert::kube;
using namespace std::chrono_literals;

namespace {

constexpr std::string_view kGroup = "gateway.networking.k8s.io/v1";
const std::string kHttp = head(kGroup, "HTTPRoute");
const std::string kGrpc = head(kGroup, "GRPCRoute");
const std::string kTcp = head("gateway.networking.k8s.io/v1alpha2", "TCPRoute");
const std::string kTls = head(kGroup, "TLSRoute");
const std::string kGrant = head("gateway.networking.k8s.io/v1beta1", "ReferenceGrant");

const std::string kFullHttp = kHttp + R"(spec: {
  parentRefs: [{group: "", kind: Service, name: web, namespace: p, port: 80, sectionName: http}, {name: gw}],
  hostnames: ["*.example.com"],
  rules: [
    {name: r,
     matches: [{path: {type: Exact, value: /a}, method: GET,
                headers: [{name: X-A, value: "1"}, {type: RegularExpression, name: x-b, value: "b.*"}],
                queryParams: [{name: q, value: v}]},
               {path: {value: /p}}, {headers: [{name: h, value: ""}]}],
     filters: [
       {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: s, value: "1"}],
        add: [{name: a, value: "2"}], remove: [r]}},
       {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}},
       {type: URLRewrite, urlRewrite: {hostname: h.example.com, path: {type: ReplaceFullPath,
        replaceFullPath: /full}}},
       {type: RequestMirror, requestMirror: {backendRef: {name: m, port: 81}, percent: 42}},
       {type: RequestMirror, requestMirror: {backendRef: {name: m, port: 81}, fraction: {numerator: 1,
        denominator: 4}}},
       {type: CORS, cors: {allowOrigins: ["https://*.example.com"], allowMethods: ["*"], allowHeaders: [h],
        exposeHeaders: [e], allowCredentials: true, maxAge: 60}},
       {type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: auth, namespace: o, port: 9000},
        http: {path: /check, allowedHeaders: [x], allowedResponseHeaders: [y]}, forwardBody: {maxSize: 1024}}},
       {type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}],
     backendRefs: [{name: web, port: 80}, {group: networking.istio.io, kind: Hostname, name: out.example.com,
        namespace: o, weight: 0, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {}}]}],
     timeouts: {request: 10s, backendRequest: 2s}, retry: {codes: [500, 503], attempts: 4, backoff: 100ms},
     sessionPersistence: {sessionName: s, type: Cookie, absoluteTimeout: 1h, idleTimeout: 5m,
        cookieConfig: {lifetimeType: Permanent}}},
    {filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: h.example.com, port: 8443,
        statusCode: 307, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]},
    {filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: auth, port: 9000},
        grpc: {allowedHeaders: [z]}}}]}]}
)";

const std::string kFullGrpc = kGrpc + R"(spec: {
  parentRefs: [{group: "", kind: Service, name: web}], hostnames: [h],
  rules: [{name: r, matches: [{method: {service: pkg.Svc, method: Get}, headers: [{name: h, value: v}]},
                              {method: {type: RegularExpression, method: "Get.*"}}, {}],
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [r]}}],
    backendRefs: [{name: web, port: 80, weight: 3,
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [r]}}]}],
    sessionPersistence: {type: Header}}, {}]}
)";

}  // namespace

TEST_CASE("HTTPRoute: every field", "[2.4]") {
  auto route = only<HttpRoute>(kFullHttp);
  REQUIRE(route.parents.size() == 2);
  CHECK(route.parents[0].group.empty());
  CHECK(route.parents[0].kind == "Service");
  CHECK(route.parents[0].ns == "p");
  CHECK(route.parents[0].port == 80);
  CHECK(route.parents[0].section_name == "http");
  CHECK(route.parents[1].group == "gateway.networking.k8s.io");
  CHECK(route.parents[1].kind == "Gateway");
  CHECK(route.hostnames == Strings{"*.example.com"});
  REQUIRE(route.rules.size() == 3);
  const HttpRoute::Rule& rule = route.rules[0];
  CHECK(rule.name == "r");
  CHECK(rule.line == 8);
  REQUIRE(rule.matches.size() == 3);
  CHECK(rule.matches[0].path.type == RoutePath::Type::kExact);
  CHECK(rule.matches[0].path.value == "/a");
  CHECK(rule.matches[0].method == "GET");
  CHECK(rule.matches[0].headers[0].name == "X-A");
  CHECK_FALSE(rule.matches[0].headers[0].regex);
  CHECK(rule.matches[0].headers[1].regex);
  CHECK(rule.matches[0].query_params[0].value == "v");
  CHECK(rule.matches[1].path.type == RoutePath::Type::kPrefix);
  CHECK(rule.matches[2].path.value == "/");
  REQUIRE(rule.filters.size() == 8);
  const HeaderEdits& edits = std::get<RequestHeaderModifier>(rule.filters[0]).edits;
  CHECK(edits.set == std::vector<HeaderValue>{{"s", "1"}});
  CHECK(edits.add == std::vector<HeaderValue>{{"a", "2"}});
  CHECK(edits.remove == Strings{"r"});
  CHECK(std::get<ResponseHeaderModifier>(rule.filters[1]).edits.remove == Strings{"server"});
  CHECK(std::get<UrlRewrite>(rule.filters[2]).hostname == "h.example.com");
  CHECK(std::get<UrlRewrite>(rule.filters[2]).path->value == "/full");
  CHECK_FALSE(std::get<UrlRewrite>(rule.filters[2]).path->prefix);
  CHECK(std::get<RequestMirror>(rule.filters[3]).percent == 42);
  CHECK(std::get<RequestMirror>(rule.filters[3]).backend.port == 81);
  CHECK(std::get<RequestMirror>(rule.filters[4]).percent == 25);
  const auto& cors = std::get<CorsFilter>(rule.filters[5]);
  CHECK(cors.allow_origins == Strings{"https://*.example.com"});
  CHECK(cors.allow_methods == Strings{"*"});
  CHECK(cors.allow_headers == Strings{"h"});
  CHECK(cors.expose_headers == Strings{"e"});
  CHECK(cors.allow_credentials);
  CHECK(cors.max_age == 60s);
  const auto& auth = std::get<ExternalAuth>(rule.filters[6]);
  CHECK(auth.http);
  CHECK(auth.backend.ns == "o");
  CHECK(auth.path == "/check");
  CHECK(auth.allowed_headers == Strings{"x"});
  CHECK(auth.allowed_response_headers == Strings{"y"});
  CHECK(auth.forward_body_max == 1024);
  CHECK(std::get<ExtensionRef>(rule.filters[7]).kind == "k");
  REQUIRE(rule.backends.size() == 2);
  CHECK(rule.backends[0].kind == "Service");
  CHECK(rule.backends[0].weight == 1);
  CHECK(rule.backends[1].kind == "Hostname");
  CHECK(rule.backends[1].weight == 0);
  CHECK(rule.backends[1].port == 0);
  CHECK(rule.backends[1].filters.size() == 1);
  CHECK(rule.request_timeout == 10s);
  CHECK(rule.backend_request_timeout == 2s);
  CHECK(rule.retry->codes == std::vector<uint16_t>{500, 503});
  CHECK(rule.retry->attempts == 4u);
  CHECK(rule.retry->backoff == 100ms);
  CHECK(rule.session->name == "s");
  CHECK(rule.session->permanent);
  CHECK(rule.session->absolute_timeout == 1h);
  CHECK(rule.session->idle_timeout == 5min);
  const auto& redirect = std::get<RequestRedirect>(route.rules[1].filters[0]);
  CHECK(redirect.scheme == "https");
  CHECK(redirect.hostname == "h.example.com");
  CHECK(redirect.port == 8443);
  CHECK(redirect.status == 307);
  CHECK(redirect.path->prefix);
  CHECK_FALSE(std::get<ExternalAuth>(route.rules[2].filters[0]).http);
  CHECK(std::get<ExternalAuth>(route.rules[2].filters[0]).allowed_headers == Strings{"z"});
}

TEST_CASE("HTTPRoute: the API's defaults", "[2.4]") {
  auto none = only<HttpRoute>(kHttp + "spec: {}");
  REQUIRE(none.rules.size() == 1);
  REQUIRE(none.rules[0].matches.size() == 1);
  CHECK(none.rules[0].matches[0].path.value == "/");
  auto bare = only<HttpRoute>(kHttp +
                              "spec: {rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}, "
                              "{type: CORS, cors: {}}]}]}");
  CHECK(bare.rules[0].matches.size() == 1);
  CHECK(std::get<RequestRedirect>(bare.rules[0].filters[0]).status == 302);
  CHECK(std::get<CorsFilter>(bare.rules[0].filters[1]).max_age == 5s);
  CHECK_FALSE(bare.rules[0].retry);
  CHECK_FALSE(bare.rules[0].request_timeout);
}

TEST_CASE("GRPCRoute", "[2.4.2]") {
  auto route = only<GrpcRoute>(kFullGrpc);
  REQUIRE(route.rules.size() == 2);
  REQUIRE(route.rules[0].matches.size() == 3);
  CHECK(route.rules[0].matches[0].service == "pkg.Svc");
  CHECK(route.rules[0].matches[0].method == "Get");
  CHECK_FALSE(route.rules[0].matches[0].regex);
  CHECK(route.rules[0].matches[0].headers[0].name == "h");
  CHECK(route.rules[0].matches[1].regex);
  CHECK(route.rules[0].backends[0].weight == 3);
  CHECK(route.rules[0].backends[0].filters.size() == 1);
  CHECK(route.rules[0].session->header);
  CHECK(route.rules[1].matches.empty());
}

TEST_CASE("TCPRoute, TLSRoute, ReferenceGrant", "[2.4]") {
  const std::string rules = "rules: [{name: r, backendRefs: [{name: db, port: 5432, weight: 2}]}]";
  auto tcp = only<TcpRoute>(kTcp + "spec: {parentRefs: [{name: g}], " + rules + "}");
  CHECK(tcp.rules[0].name == "r");
  CHECK(tcp.rules[0].backends[0].weight == 2);
  auto tls = only<TlsRoute>(kTls + "spec: {hostnames: [a.example.com], " + rules + "}");
  CHECK(tls.hostnames == Strings{"a.example.com"});
  CHECK(tls.rules[0].backends[0].port == 5432);
  auto grant = only<ReferenceGrant>(
      kGrant +
      "spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], "
      "to: [{group: '', kind: Service}, {kind: Secret, name: s}]}");
  CHECK(grant.from[0].ns == "a");
  CHECK(grant.to[0].name.empty());
  CHECK(grant.to[1].name == "s");
}

TEST_CASE("Gateway API: an unknown field is refused in every map") {
  check_unknown_fields(kFullHttp);
  check_unknown_fields(kFullGrpc);
  check_unknown_fields(kTcp +
                       "spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: d, port: 1}]}]}");
  check_unknown_fields(kTls +
                       "spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: d, port: 1}]}]}");
  check_unknown_fields(kGrant + "spec: {from: [{kind: a, namespace: b}], to: [{kind: c}]}");
}

TEST_CASE("Gateway API: what is refused, where, and what to write", "[2.4]") {
#define RULE(text) "{rules: [{" text "}]}"
#define FILTER(text) "{rules: [{filters: [{" text "}]}]}"
#define R "spec.rules[0]."
  check_refused(
      kHttp,
      {
          {RULE("match: []"), R "match: unknown field; did you mean \"matches\"?"},
          {RULE("matches: [{path: {value: a}}]"), R "matches[0].path.value: \"a\" must begin with a slash"},
          {RULE("matches: [{path: {type: Prefix}}]"),
           R "matches[0].path.type: \"Prefix\" must be one of: Exact"},
          {RULE("matches: [{path: {type: RegularExpression, value: '['}}]"),
           R "matches[0].path.value: regular"},
          {RULE("matches: [{method: get}]"), R "matches[0].method: \"get\" must be one of: GET"},
          {RULE("matches: [{headers: [{value: a}]}]"), R "matches[0].headers[0].name: is missing"},
          {RULE("matches: [{headers: [{name: a}]}]"), R "matches[0].headers[0].value: is missing"},
          {RULE("backendRefs: [{name: web}]"), R "backendRefs[0].port: is missing: the Service's port"},
          {RULE("backendRefs: [{port: 80}]"), R "backendRefs[0].name: is missing"},
          {RULE("backendRefs: [{name: a, port: 80, weight: -1}]"), R "backendRefs[0].weight: \"-1\""},
          {RULE("timeouts: {request: 1s, backendRequest: 2s}"),
           R "timeouts.backendRequest: must not be longer"},
          {RULE("retry: {codes: [200]}"), R "retry.codes[0]: \"200\" must be a whole number from 400 to 599"},
          {RULE("sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}"),
           R "sessionPersistence.absoluteTimeout: is missing"},
          {FILTER("requestRedirect: {}"), R "filters[0].type: is missing"},
          {FILTER("type: Redirect"), R "filters[0].type: \"Redirect\" must be one of: RequestHeaderModifier"},
          {FILTER("type: CORS"), R "filters[0].cors: is missing"},
          {FILTER("type: CORS, cors: {}, urlRewrite: {}"),
           R "filters[0].urlRewrite: does not go with type CORS; write cors"},
          {FILTER("type: RequestRedirect, requestRedirect: {statusCode: 304}"),
           R "filters[0].requestRedirect.statusCode: \"304\" must be one of: 301"},
          {FILTER("type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replacePrefixMatch: /}}"),
           R "filters[0].urlRewrite.path.replaceFullPath: is missing"},
          {FILTER("type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1, weight: 2}}"),
           R "filters[0].requestMirror.backendRef.weight: unknown field"},
          {FILTER("type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 1, "
                  "fraction: {numerator: 1}}"),
           R "filters[0].requestMirror.fraction: excludes percent"},
          {FILTER(
               "type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, fraction: {numerator: "
               "101}}"),
           R "filters[0].requestMirror.fraction: must not be more than the whole"},
          {FILTER("type: RequestHeaderModifier, requestHeaderModifier: {remove: [Host]}"),
           R "filters[0].requestHeaderModifier.remove[0]: \"host\" must not be removed"},
          {FILTER("type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: 'a:', value: b}]}"),
           R "filters[0].requestHeaderModifier.set[0].name: \"a:\" is not a header's name"},
          {FILTER("type: CORS, cors: {}}, {type: CORS, cors: {}"),
           R "filters[1]: a filter of this type is given twice"},
          {FILTER("type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}"),
           R "filters: RequestRedirect and URLRewrite exclude one another"},
          {RULE("filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 1}]"),
           R "backendRefs: must be empty with a RequestRedirect"},
          {RULE("matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: "
                "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]"),
           R "matches: ReplacePrefixMatch needs matches of path type PathPrefix"},
      });
  check_refused(
      kGrpc,
      {
          {RULE("matches: [{method: {}}]"), R "matches[0].method: must have service, method"},
          {RULE("matches: [{method: {service: a/b}}]"), R "matches[0].method.service: must not hold a slash"},
          {FILTER("type: CORS"), R "filters[0].type: \"CORS\" must be one of: Request"},
          {FILTER("type: URLRewrite, urlRewrite: {}"), R "filters[0].urlRewrite: unknown field"},
      });
  check_refused(kTcp, {{"{}", "spec.rules: must have at least one rule"},
                       {RULE("name: a"), R "backendRefs: must have at least one item"},
                       {RULE("backendRefs: [{name: a, port: 1, filters: []}]"),
                        R "backendRefs[0].filters: unknown field"}});
  check_refused(kGrant, {{"{to: [{kind: a}]}", "spec.from: must have at least one item"},
                         {"{from: [{kind: a}], to: [{kind: b}]}", "spec.from[0].namespace: is missing"}});
#undef RULE
#undef FILTER
#undef R
}
