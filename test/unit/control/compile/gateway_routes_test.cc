// SPDX-License-Identifier: Apache-2.0
// Routes of the Gateway API, from manifests: who they are attached to, their order, filters, references,
// status.
#include <algorithm>
#include <catch2/catch.hpp>

#include "mesh/decide/match_route.h"
#include "test/unit/control/compile/objects.h"

namespace culvert::test {
namespace {

using control::Compiled;
using Headers = std::vector<std::pair<std::string, std::string>>;

const std::string kMesh = R"(
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: way}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: way, namespace: shop}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status: {addresses: [{type: IPAddress, value: 10.0.0.5}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: alt, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo-v1, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}, {name: alt, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo-v2, namespace: shop}
spec: {clusterIP: 10.96.0.3, ports: [{name: http, port: 80}, {name: alt, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec: {clusterIP: 10.96.0.4, ports: [{name: http, port: 80}]}
)";

constexpr char kEcho[] = "shop/echo.shop.svc.cluster.local";

struct Where {
  std::string kind = "HTTPRoute", name = "r", ns = "shop";
  std::string parent = "{kind: Service, group: \"\", name: echo, namespace: shop}";
  std::string created = "2026-01-01T00:00:00Z";
};

// `rules`: a YAML flow list.
std::string route(const std::string& rules, const Where& at = {}) {
  std::string version = at.kind == "TCPRoute" || at.kind == "TLSRoute" ? "v1alpha2" : "v1";
  return "---\napiVersion: gateway.networking.k8s.io/" + version + "\nkind: " + at.kind +
         "\nmetadata: {name: " + at.name + ", namespace: " + at.ns + ", creationTimestamp: \"" + at.created +
         "\"}\nspec:\n  parentRefs: [" + at.parent + "]\n  rules: " + rules + "\n";
}

std::string to(const std::string& name, const std::string& more = "") {
  return "backendRefs: [{name: " + name + ", port: 80" + more + "}]";
}

const model::PortRoutes* table(const Compiled& mesh, uint16_t port, const std::string& client = "") {
  return mesh.waypoint_services.at(kEcho)->port(port, client);
}

// What a request is sent to: the name of the first target, or "404", "500", "redirect".
std::string sent(const Compiled& mesh, decide::HttpRequestFacts facts, const std::string& client = "") {
  const model::PortRoutes* ports = table(mesh, 80, client);
  if (!ports || !ports->http) return "service";
  if (facts.method.empty()) facts.method = "GET";
  decide::RouteHit hit = decide::match_http_route(*ports->http, facts);
  if (!hit.route) return "404";
  if (hit.route->redirect) return "redirect";
  if (!hit.route->broken.empty() || !hit.route->targets.front().invalid.empty()) return "500";
  std::string host = hit.route->targets.front().service.hostname.str();
  return host.substr(0, host.find('.'));
}

std::string sent(const Compiled& mesh, std::string_view path, Headers headers = {},
                 std::string_view query = "") {
  decide::HttpRequestFacts facts;
  facts.path = path;
  facts.headers = headers;
  facts.query = query;
  return sent(mesh, facts);
}

const model::HttpRoute& first(const Compiled& mesh) { return table(mesh, 80)->http->front(); }

bool found(const Compiled& mesh, std::string_view code, std::string_view text) {
  return std::any_of(mesh.findings.begin(), mesh.findings.end(), [&](const control::Finding& one) {
    return one.code == code && one.message.find(text) != std::string::npos;
  });
}

// "True Accepted", of the first parent; empty: no such condition.
std::string status(const Compiled& mesh, const std::string& type,
                   const std::string& object = "HTTPRoute shop/r") {
  for (const control::Condition& one : mesh.status.at(object).parents.front().conditions) {
    if (one.type == type) return (one.holds ? "True " : "False ") + one.reason;
  }
  return "";
}

}  // namespace

TEST_CASE("without a route there is no table; with one, what matches none is not found",
          "[MeshBasic][MeshTrafficSplit][waypoint-2.4.1]") {
  CHECK(sent(compile_yaml(kMesh), "/") == "service");
  auto mesh = compile_yaml(kMesh + route("[{matches: [{path: {type: Exact, value: /v1}}], " + to("echo-v1") +
                                         "}, {matches: [{path: {type: Exact, value: /v2}}], " +
                                         to("echo-v2") + "}]"));
  CHECK(sent(mesh, "/v1") == "echo-v1");
  CHECK(sent(mesh, "/v2") == "echo-v2");
  CHECK(sent(mesh, "/v3") == "404");
  CHECK(mesh.findings.empty());
  CHECK(status(mesh, "Accepted") == "True Accepted");
  CHECK(status(mesh, "ResolvedRefs") == "True ResolvedRefs");
  CHECK(status(mesh, "ResolvedWaypoints") == "True ResolvedWaypoints");
}

TEST_CASE("a parentRef's port or section narrows; without one every port is meant", "[MeshPorts]") {
  std::string parent = "{kind: Service, group: \"\", name: echo, ";
  auto by_port = compile_yaml(kMesh + route("[{" + to("echo-v1") + "}]", {.parent = parent + "port: 80}"}));
  CHECK(table(by_port, 80));
  CHECK_FALSE(table(by_port, 8080));
  auto by_name =
      compile_yaml(kMesh + route("[{" + to("echo-v1") + "}]", {.parent = parent + "sectionName: alt}"}));
  CHECK_FALSE(table(by_name, 80));
  CHECK(table(by_name, 8080));
  auto all = compile_yaml(kMesh + route("[{" + to("echo-v1") + "}]"));
  CHECK(table(all, 80));
  CHECK(table(all, 8080));
  auto neither = compile_yaml(kMesh + route("[{" + to("echo-v1") + "}]", {.parent = parent + "port: 81}"}));
  CHECK_FALSE(table(neither, 80));
  CHECK(status(neither, "Accepted") == "False NoMatchingParent");
}

TEST_CASE("whole segments, headers and the order of matches", "[MeshHTTPRouteMatching]") {
  auto mesh = compile_yaml(
      kMesh +
      route("[{matches: [{path: {value: /}}, {headers: [{name: Version, value: one}]}], " + to("echo-v1") +
            "}, {matches: [{path: {value: /v2/}}, {headers: [{name: version, value: two}]}], " +
            to("echo-v2") + "}]"));
  for (std::string_view path : {"/v2", "/v2/", "/v2/example"}) CHECK(sent(mesh, path) == "echo-v2");
  for (std::string_view path : {"/", "/v2example", "/foo/v2/example"}) CHECK(sent(mesh, path) == "echo-v1");
  CHECK(sent(mesh, "/", {{"version", "two"}}) == "echo-v2");
  // The longer prefix goes before the header.
  CHECK(sent(mesh, "/v2", {{"version", "one"}}) == "echo-v2");
}

TEST_CASE("among routes: exact, longest prefix, method, headers, parameters, age, name", "[waypoint-2.4.2]") {
  auto pair = [&](const std::string& winner, const std::string& loser, Where a = {}, Where b = {}) {
    a.name = "z";
    b.name = "a";
    a.created = a.created.empty() ? "" : "2026-01-02T00:00:00Z";
    return compile_yaml(kMesh + route("[{matches: [" + loser + "], " + to("echo-v1") + "}]", b) +
                        route("[{matches: [" + winner + "], " + to("echo-v2") + "}]", a));
  };
  Headers headers = {{"a", "1"}, {"b", "2"}};
  auto wins = [&](const Compiled& mesh) { return sent(mesh, "/foo/bar", headers, "p=1&q=2") == "echo-v2"; };
  CHECK(wins(pair("{path: {type: Exact, value: /foo/bar}}", "{path: {value: /foo/bar}, method: GET}")));
  CHECK(wins(pair("{path: {value: /foo/bar}}", "{path: {value: /foo}, method: GET}")));
  CHECK(wins(pair("{path: {value: /}}", "{path: {type: RegularExpression, value: /foo/.*}}")));
  CHECK(wins(pair("{method: GET}", "{headers: [{name: a, value: \"1\"}]}")));
  CHECK(wins(pair("{headers: [{name: a, value: \"1\"}, {name: b, value: \"2\"}]}",
                  "{headers: [{name: a, value: \"1\"}], queryParams: [{name: p, value: \"1\"}]}")));
  CHECK(wins(pair("{queryParams: [{name: p, value: \"1\"}, {name: q, value: \"2\"}]}",
                  "{queryParams: [{name: p, value: \"1\"}]}")));
  // All alike: the older one, then the name.
  CHECK_FALSE(wins(pair("{}", "{}")));
  auto same_age = compile_yaml(kMesh + route("[{" + to("echo-v1") + "}]", {.name = "b"}) +
                               route("[{" + to("echo-v2") + "}]", {.name = "a"}));
  CHECK(wins(same_age));
}

TEST_CASE("query parameters: one, several, with path and headers", "[MeshHTTPRouteQueryParamMatching]") {
  auto mesh = compile_yaml(
      kMesh +
      route("[{matches: [{queryParams: [{name: animal, value: whale}]}], " + to("echo-v1") +
            "}, {matches: [{queryParams: [{name: animal, value: whale}, {name: sea, value: \"1\"}]}], " +
            to("echo-v2") + "}, {matches: [{path: {value: /p}, queryParams: [{name: sea, value: \"1\"}]}], " +
            to("echo") + "}]"));
  CHECK(sent(mesh, "/", {}, "animal=whale") == "echo-v1");
  CHECK(sent(mesh, "/", {}, "sea=1&animal=whale") == "echo-v2");
  CHECK(sent(mesh, "/p", {}, "sea=1&animal=whale") == "echo");
  CHECK(sent(mesh, "/", {}, "animal=dog") == "404");
}

TEST_CASE("weights, and backends on another port",
          "[MeshHTTPRouteWeight][MeshHTTPRouteSimpleSameNamespace]") {
  auto mesh = compile_yaml(
      kMesh +
      route("[{backendRefs: [{name: echo-v1, port: 8080, weight: 70}, {name: echo-v2, port: 8080, weight: "
            "30}, {name: echo, port: 80, weight: 0}]}]"));
  const auto& targets = first(mesh).targets;
  REQUIRE(targets.size() == 2);
  CHECK(targets[0].weight == 70);
  CHECK(targets[0].port == 8080);
  CHECK(targets[1].weight == 30);
  auto nothing = compile_yaml(kMesh + route("[{" + to("echo-v1", ", weight: 0") + "}]"));
  CHECK(sent(nothing, "/") == "500");
  CHECK(sent(compile_yaml(kMesh + route("[{matches: [{path: {value: /}}]}]")), "/") == "500");
}

TEST_CASE("filters of rules and of backends",
          "[MeshFrontend][MeshHTTPRouteRequestHeaderModifier][MeshHTTPRouteBackendRequestHeaderModifier]"
          "[MeshHTTPRouteRewritePath]") {
  auto mesh = compile_yaml(kMesh + route(R"([{filters: [
      {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: a}], add: [{name: X-Add, value: b}], remove: [X-Gone]}},
      {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Header-Set, value: set}]}},
      {type: URLRewrite, urlRewrite: {hostname: one.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz}}},
      {type: RequestMirror, requestMirror: {backendRef: {name: echo-v2, port: 80}, fraction: {numerator: 1, denominator: 4}}}],
      matches: [{path: {value: /foo}}],
      backendRefs: [{name: echo-v1, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Own, value: c}]}}]}]}])"));
  const model::HttpRoute& one = first(mesh);
  CHECK(one.request.set == std::vector<std::pair<std::string, std::string>>{{"x-set", "a"}});
  CHECK(one.request.add == std::vector<std::pair<std::string, std::string>>{{"x-add", "b"}});
  CHECK(one.request.remove == std::vector<std::string>{"x-gone"});
  CHECK(one.response.set.front().first == "x-header-set");
  CHECK(one.rewrite.authority == "one.example");
  CHECK(decide::edit_path(one.rewrite.path, &one.matches.front(), "/foo/bar") == "/xyz/bar");
  CHECK(decide::edit_path(one.rewrite.path, &one.matches.front(), "/foo") == "/xyz");
  REQUIRE(one.mirrors.size() == 1);
  CHECK(one.mirrors.front().percent == 25);
  CHECK(one.targets.front().request.set.front().first == "x-own");
}

TEST_CASE("redirects: host, status, path, port, scheme",
          "[MeshHTTPRouteRedirectHostAndStatus][MeshHTTPRouteRedirectPath][MeshHTTPRouteRedirectPort]"
          "[MeshHTTPRouteSchemeRedirect][MeshHTTPRoute303Redirect][MeshHTTPRoute307Redirect]"
          "[MeshHTTPRoute308Redirect]") {
  decide::HttpRequestFacts facts;
  facts.scheme = "http";
  facts.authority = "echo";
  facts.path = "/old/x";
  facts.port = 80;
  auto location = [&](const std::string& redirect, uint16_t status) {
    auto mesh =
        compile_yaml(kMesh + route("[{matches: [{path: {value: /old}}], filters: [{type: RequestRedirect, "
                                   "requestRedirect: " +
                                   redirect + "}]}]"));
    const model::HttpRoute& one = first(mesh);
    REQUIRE(one.redirect);
    CHECK(one.redirect->status == status);
    return decide::redirect_location(*one.redirect, &one.matches.front(), facts);
  };
  CHECK(location("{hostname: example.org}", 302) == "http://example.org/old/x");
  for (int code : {301, 303, 307, 308}) {
    CHECK(location("{hostname: example.org, statusCode: " + std::to_string(code) + "}",
                   static_cast<uint16_t>(code)) == "http://example.org/old/x");
  }
  CHECK(location("{path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}", 302) == "http://echo/new/x");
  CHECK(location("{path: {type: ReplaceFullPath, replaceFullPath: /full}}", 302) == "http://echo/full");
  CHECK(location("{port: 8083}", 302) == "http://echo:8083/old/x");
  CHECK(location("{scheme: https, hostname: example.org}", 302) == "https://example.org/old/x");
  CHECK(location("{scheme: https, port: 8443}", 302) == "https://echo:8443/old/x");
  facts.port = 8080;
  CHECK(location("{scheme: https}", 302) == "https://echo/old/x");
  CHECK(location("{hostname: example.org}", 302) == "http://example.org:8080/old/x");
}

TEST_CASE("rules have names", "[MeshHTTPRouteNamedRule]") {
  auto mesh = compile_yaml(kMesh + route("[{name: by-name, matches: [{path: {type: Exact, value: /a}}], " +
                                         to("echo-v1") + "}, {" + to("echo-v2") + "}]"));
  CHECK(first(mesh).name == "by-name");
  CHECK(first(mesh).origin == "HTTPRoute shop/r");
  CHECK(table(mesh, 80)->http->back().name == "shop.r.1");
}

TEST_CASE("a route of another namespace is for its clients alone", "[MeshConsumerRoute]") {
  std::string mine = route("[{" + to("echo, namespace: shop") + "}]", {.ns = "client"});
  auto mesh = compile_yaml(kMesh + mine + route("[{" + to("echo-v1") + "}]", {.name = "p"}));
  decide::HttpRequestFacts facts;
  facts.path = "/";
  CHECK(sent(mesh, facts, "client") == "echo");
  CHECK(sent(mesh, facts, "else") == "echo-v1");
  CHECK(sent(mesh, facts) == "echo-v1");
  // Its parent needs no leave; another service of that namespace does.
  CHECK(status(mesh, "ResolvedRefs", "HTTPRoute client/r") == "True ResolvedRefs");
  auto other = compile_yaml(kMesh + route("[{" + to("echo-v1, namespace: shop") + "}]", {.ns = "client"}));
  CHECK(sent(other, facts, "client") == "500");
  CHECK(sent(other, facts, "else") == "service");
}

TEST_CASE("what may not be used is answered 500 for its share", "[waypoint-2.4.5]") {
  auto reason = [](const std::string& backend) {
    auto mesh = compile_yaml(kMesh + route("[{backendRefs: [" + backend + "]}]"));
    CHECK(sent(mesh, "/") == "500");
    CHECK(found(mesh, "MSH024", "share is refused"));
    CHECK(status(mesh, "Accepted") == "True Accepted");
    return status(mesh, "ResolvedRefs");
  };
  CHECK(reason("{name: nobody, port: 80}") == "False BackendNotFound");
  CHECK(reason("{name: echo-v1, port: 81}") == "False BackendNotFound");
  CHECK(reason("{name: far, namespace: other, port: 80}") == "False RefNotPermitted");
  CHECK(reason("{name: nobody, namespace: other, port: 80}") == "False RefNotPermitted");
  CHECK(reason("{kind: Hostname, group: networking.istio.io, name: far.other.svc.cluster.local, port: 80}") ==
        "False RefNotPermitted");
  CHECK(reason("{kind: Bucket, group: storage.example, name: b}") == "False InvalidKind");
  auto half =
      compile_yaml(kMesh + route("[{backendRefs: [{name: echo-v1, port: 80}, {name: nobody, port: 80}]}]"));
  REQUIRE(first(half).targets.size() == 2);
  CHECK(first(half).targets[0].invalid.empty());
  CHECK_FALSE(first(half).targets[1].invalid.empty());
}

TEST_CASE("a ReferenceGrant of the backend's namespace gives leave", "[waypoint-2.4.5]") {
  auto with = [](const std::string& from, const std::string& to_item, const std::string& ns = "other") {
    return sent(
        compile_yaml(kMesh + route("[{" + to("far, namespace: other") + "}]") +
                     "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: "
                     "{name: g, namespace: " +
                     ns + "}\nspec: {from: [{group: gateway.networking.k8s.io, " + from +
                     "}], to: [{group: \"\", kind: Service" + to_item + "}]}\n"),
        "/");
  };
  CHECK(with("kind: HTTPRoute, namespace: shop", "") == "far");
  CHECK(with("kind: HTTPRoute, namespace: shop", ", name: far") == "far");
  CHECK(with("kind: HTTPRoute, namespace: shop", ", name: near") == "500");
  CHECK(with("kind: GRPCRoute, namespace: shop", "") == "500");
  CHECK(with("kind: HTTPRoute, namespace: else", "") == "500");
  CHECK(with("kind: HTTPRoute, namespace: shop", "", "shop") == "500");
}

TEST_CASE("parents that cannot be had", "[waypoint-2.4.1]") {
  auto mesh = [](const std::string& parent) {
    return compile_yaml(kMesh + route("[{" + to("echo-v1") + "}]", {.parent = parent}));
  };
  CHECK(status(mesh("{kind: Service, group: \"\", name: nobody}"), "Accepted") == "False NoMatchingParent");
  CHECK(status(mesh("{name: way}"), "Accepted") == "False NotAllowedByListeners");
  CHECK(!mesh("{name: edge}").status.contains("HTTPRoute shop/r"));
  CHECK(found(mesh("{name: edge}"), "MSH024", "not of the mesh"));
  auto bare = mesh("{kind: Service, group: \"\", name: far, namespace: other}");
  CHECK(status(bare, "ResolvedWaypoints") == "False MissingUseWaypointLabel");
  CHECK(found(bare, "MSH024", "istio.io/use-waypoint"));
}

TEST_CASE("what is not carried out is said, and never opens anything", "[waypoint-2.4.3]") {
  auto mesh = [](const std::string& filter) {
    return compile_yaml(kMesh + route("[{filters: [" + filter + "], " + to("echo-v1") + "}]"));
  };
  auto auth =
      mesh("{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: echo-v2, port: 80}}}");
  CHECK(sent(auth, "/") == "500");
  CHECK(status(auth, "PartiallyInvalid") == "True UnsupportedValue");
  auto extension = mesh("{type: ExtensionRef, extensionRef: {group: x.example, kind: Thing, name: t}}");
  CHECK(sent(extension, "/") == "500");
  CHECK(status(extension, "ResolvedRefs") == "False InvalidKind");
}

TEST_CASE("sessionPersistence of rules, and of services", "[waypoint-2.4.4][G9]") {
  auto session = [](const std::string& fields) {
    Compiled mesh =
        compile_yaml(kMesh + route("[{sessionPersistence: {" + fields + "}, " + to("echo-v1") + "}]"));
    return mesh.waypoint_services.at(kEcho)->routes.ports.at(0).http->at(0).session.value();
  };
  model::SessionPersistence plain = session("");
  CHECK(plain.name == "culvert-session");
  CHECK_FALSE(plain.header);
  CHECK(plain.absolute == std::chrono::seconds(0));
  CHECK(session("type: Header").name == "x-culvert-session");
  CHECK(session("type: Header, sessionName: X-Who").name == "x-who");
  model::SessionPersistence full = session(
      "sessionName: S, absoluteTimeout: 1h, idleTimeout: 5m, cookieConfig: {lifetimeType: Permanent}");
  CHECK(full == model::SessionPersistence{"S", false, true, std::chrono::hours(1), std::chrono::minutes(5)});
  Compiled service = compile_yaml(
      kMesh +
      "---\napiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {name: "
      "p, "
      "namespace: shop}\nspec: {targetRefs: [{group: \"\", kind: Service, name: echo}], sessionPersistence: "
      "{sessionName: s}}\n");
  CHECK(service.backends.at(kEcho)->policy.all.session.value().name == "s");
}

TEST_CASE("CORS: labels of origins, answers to other preflights", "[waypoint-2.4.3]") {
  auto mesh =
      compile_yaml(kMesh + route("[{filters: [{type: CORS, cors: {allowOrigins: [\"https://*.example.com\", "
                                 "\"http://*\"], allowCredentials: true}}], " +
                                 to("echo-v1") + "}]"));
  REQUIRE(first(mesh).cors);
  const model::Cors& cors = *first(mesh).cors;
  auto allows = [&](std::string_view origin) {
    return std::any_of(cors.origins.begin(), cors.origins.end(),
                       [&](const auto& m) { return m.matches(origin); });
  };
  CHECK(allows("https://a.example.com"));
  CHECK_FALSE(allows("https://a.b.example.com"));
  CHECK_FALSE(allows("https://aXexample.com"));
  CHECK_FALSE(allows("https://evil.example/.example.com"));
  CHECK(allows("http://any.host.example"));
  CHECK(cors.credentials == true);
  CHECK(cors.max_age == std::chrono::seconds(5));
  CHECK_FALSE(cors.forward_unmatched_preflights);
}

TEST_CASE("timeouts and retries", "[waypoint-2.4.4]") {
  auto rule = [](const std::string& text) {
    return first(compile_yaml(kMesh + route("[{" + text + ", " + to("echo-v1") + "}]")));
  };
  using namespace std::chrono_literals;
  CHECK(rule("timeouts: {request: 10s}").timeout == 10s);
  CHECK(rule("timeouts: {request: 0s}").timeout == 0s);
  CHECK(rule("timeouts: {request: 10s, backendRequest: 2s}").timeout == 2s);
  auto tried = rule(
      "timeouts: {request: 10s, backendRequest: 2s}, retry: {codes: [500, 503], attempts: 3, backoff: "
      "100ms}");
  CHECK(tried.timeout == 10s);
  REQUIRE(tried.retries);
  CHECK(tried.retries->per_try_timeout == 2s);
  CHECK(tried.retries->attempts == 3);
  CHECK(tried.retries->backoff == 100ms);
  CHECK(tried.retries->status_codes == std::vector<uint16_t>{500, 503});
  CHECK((tried.retries->on & model::kRetryStatusCodes) != 0);
  CHECK((tried.retries->on & model::kRetryConnectFailure) != 0);
  CHECK(rule("retry: {}").retries->attempts == 2);
}

TEST_CASE("gRPC: methods, what is not gRPC, weights, headers",
          "[MeshGRPCRouteWeight][MeshGRPCRouteRequestHeaderModifier]") {
  Where grpc{.kind = "GRPCRoute"};
  auto mesh = compile_yaml(
      kMesh +
      route("[{matches: [{method: {service: a.Svc}}], " + to("echo-v1") +
                "}, {matches: [{method: {service: a.Svc, method: Do}}], filters: [{type: "
                "RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: a}]}}], "
                "backendRefs: [{name: echo-v1, port: 80, weight: 70}, {name: echo-v2, port: 80, weight: 30}, "
                "{name: echo, port: 80, weight: 0}]}, {matches: [{method: {method: Only}}, {method: {type: "
                "RegularExpression, service: \"x|y\"}}], " +
                to("echo-v2") + "}]",
            grpc));
  auto call = [&](std::string_view path, bool is_grpc = true) {
    decide::HttpRequestFacts facts;
    facts.path = path;
    facts.method = "POST";
    facts.grpc = is_grpc;
    return sent(mesh, facts);
  };
  CHECK(call("/a.Svc/Other") == "echo-v1");
  CHECK(call("/aXSvc/Other") == "404");
  CHECK(call("/any.Svc/Only") == "echo-v2");
  CHECK(call("/y/Z") == "echo-v2");
  CHECK(call("/a.Svc/Do", false) == "404");
  const model::HttpRoute& longest = first(mesh);
  REQUIRE(longest.targets.size() == 2);
  CHECK(longest.targets[0].weight == 70);
  CHECK(longest.targets[1].weight == 30);
  CHECK(longest.request.set.front().first == "x-set");
}

TEST_CASE("connections: by TCPRoute, and by server name", "[waypoint-2.2]") {
  auto mesh = compile_yaml(kMesh + route("[{" + to("echo-v1") + "}]", {.kind = "TCPRoute"}) +
                           route("[{" + to("echo-v2") + "}]\n  hostnames: [\"*.example.com\"]",
                                 {.kind = "TLSRoute", .name = "t"}));
  const auto& tcp = table(mesh, 80)->tcp;
  REQUIRE(tcp);
  CHECK_FALSE(table(mesh, 80)->http);
  decide::HttpRequestFacts facts;
  CHECK(decide::match_tcp_route(*tcp, facts, false)->origin == "TCPRoute shop/r");
  facts.sni = "a.example.com";
  CHECK(decide::match_tcp_route(*tcp, facts, true)->origin == "TLSRoute shop/t");
  facts.sni = "else";
  CHECK(decide::match_tcp_route(*tcp, facts, true)->origin == "TCPRoute shop/r");
  auto none = compile_yaml(kMesh + route("[{" + to("echo-v1", ", weight: 0") + "}]", {.kind = "TCPRoute"}));
  CHECK_FALSE(table(none, 80)->tcp->front().targets.front().invalid.empty());
}

TEST_CASE("on its ports a Gateway API route counts in place of VirtualServices", "[waypoint-2.4.1]") {
  auto mesh = compile_yaml(
      kMesh +
      route("[{" + to("echo-v2") + "}]", {.parent = "{kind: Service, group: \"\", name: echo, port: 80}"}) +
      "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, "
      "namespace: shop}\nspec: {hosts: [echo], http: [{route: [{destination: {host: echo-v1, "
      "port: {number: 80}}}]}]}\n");
  CHECK(sent(mesh, "/") == "echo-v2");
  CHECK(first(mesh).origin == "HTTPRoute shop/r");
  CHECK(table(mesh, 8080)->http->front().origin == "VirtualService shop/v");
  CHECK(found(mesh, "MSH011", "count in its place"));
}

TEST_CASE("BackendTLSPolicy: who is verified, by port; what cannot be had refuses", "[waypoint-2.5]") {
  auto backend = [](const std::string& validation, const std::string& section = "") {
    auto mesh = compile_yaml(
        kMesh +
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: shop}\ndata: {ca.crt: pem}\n" +
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: b, "
        "namespace: "
        "shop}\nspec:\n  targetRefs: [{group: \"\", kind: Service, name: echo" +
        section + "}]\n  validation: {hostname: echo.example, " + validation + "}\n");
    return *mesh.backends.at(kEcho);
  };
  std::string named = "caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]";
  model::Backend all = backend(named);
  REQUIRE(all.policy.of(80).tls);
  CHECK(all.policy.of(80).tls->server_name == "echo.example");
  CHECK(all.policy.of(80).tls->roots == "pem\n");
  CHECK(all.policy.of(80).tls->broken.empty());
  model::Backend one = backend(named, ", sectionName: alt");
  CHECK_FALSE(one.policy.of(80).tls);
  CHECK(one.policy.of(8080).tls);
  CHECK(backend("wellKnownCACertificates: System").policy.of(80).tls->roots.empty());
  CHECK_FALSE(backend("caCertificateRefs: [{group: \"\", kind: ConfigMap, name: gone}]")
                  .policy.of(80)
                  .tls->broken.empty());
  // They take the place of the hostname, which stays the server name that is asked for.
  model::Backend others =
      backend(named +
              ", subjectAltNames: [{type: Hostname, hostname: x.example}, {type: URI, uri: "
              "\"spiffe://td/x\"}]");
  CHECK(others.policy.of(80).tls->broken.empty());
  CHECK(others.policy.of(80).tls->server_name == "echo.example");
  CHECK(others.policy.of(80).tls->subject_alt_names ==
        std::vector<std::string>{"x.example", "spiffe://td/x"});
}

TEST_CASE("XBackendTrafficPolicy: the budget of retries", "[waypoint-2.5]") {
  auto mesh =
      compile_yaml(kMesh +
                   "---\napiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n"
                   "metadata: {name: b, namespace: shop}\nspec:\n  targetRefs: [{group: \"\", kind: "
                   "Service, name: echo}]\n  retryConstraint: {budget: {percent: 30, interval: 10s}, "
                   "minRetryRate: {count: 10, interval: 2s}}\n");
  const auto& budget = mesh.backends.at(kEcho)->policy.of(80).retry_budget;
  REQUIRE(budget);
  CHECK(budget->percent == 30);
  CHECK(budget->concurrency_min == 5);
}

}  // namespace culvert::test
