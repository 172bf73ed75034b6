// SPDX-License-Identifier: Apache-2.0
// The Gateway API's conformance cases for meshes (spec waypoint section 8), from the manifest to what a
// client and a server see.
#include <algorithm>
#include <catch2/catch.hpp>

#include "test/sim/manifests.h"

namespace culvert::test {
namespace {

using wire::Headers;

constexpr char kEcho[] = R"(apiVersion: v1
kind: Namespace
metadata: {name: consumer, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: shop}
spec:
  clusterIP: 10.96.1.1
  selector: {app: echo}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: http-alt, port: 8080}, {name: tcp, port: 9090, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: echo-v1, namespace: shop}
spec:
  clusterIP: 10.96.1.2
  selector: {app: echo, version: v1}
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: http-alt, port: 8080}
    - {name: tcp, port: 9090, targetPort: 8080}
    - {name: grpc, port: 7070, targetPort: 8080, appProtocol: kubernetes.io/h2c}
---
apiVersion: v1
kind: Service
metadata: {name: echo-v2, namespace: shop}
spec:
  clusterIP: 10.96.1.3
  selector: {app: echo, version: v2}
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: http-alt, port: 8080}
    - {name: tcp, port: 9090, targetPort: 8080}
    - {name: grpc, port: 7070, targetPort: 8080, appProtocol: kubernetes.io/h2c}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: shop}
spec: {clusterIP: 10.96.1.4, selector: {app: nobody}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: consumer}
spec: {clusterIP: 10.96.1.5, selector: {app: far}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: echo-v1, namespace: shop, labels: {app: echo, version: v1}}
spec: {nodeName: n3}
status: {phase: Running, podIP: 10.0.3.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: echo-v2, namespace: shop, labels: {app: echo, version: v2}}
spec: {nodeName: n3}
status: {phase: Running, podIP: 10.0.3.2, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: consumer, labels: {app: far}}
spec: {nodeName: n3}
status: {phase: Running, podIP: 10.0.3.3, conditions: [{type: Ready, status: "True"}]}
---
)";

struct Route {
  std::string rules;  // a YAML flow list
  std::string parent = "echo";
  std::string kind = "HTTPRoute", name = "route", ns = "shop";
  std::string parent_port = "";
  std::string yaml() const {
    std::string port = parent_port.empty() ? "" : ", port: " + parent_port;
    std::string version = kind == "TCPRoute" ? "v1alpha2" : "v1";
    return "---\napiVersion: gateway.networking.k8s.io/" + version + "\nkind: " + kind +
           "\nmetadata: {name: " + name + ", namespace: " + ns +
           ", generation: 7}\nspec:\n  parentRefs: [{group: \"\", kind: Service, name: " + parent +
           ", namespace: shop" + port + "}]\n  rules: " + rules + "\n";
  }
};

std::string to(const std::string& service, int port = 8080) {
  return "backendRefs: [{name: " + service + ", port: " + std::to_string(port) + "}]";
}

struct Echo : WaypointWorld {
  explicit Echo(const std::vector<Route>& routes = {}, const std::string& more = "") {
    std::string yaml = kEcho;
    for (const Route& route : routes) yaml += route.yaml();
    compiled = learn(*this, yaml + more);
  }
  HttpAnswer ask(Request request, const std::string& account = "web") {
    if (request.host == "api") request.host = "echo";
    HttpAnswer& answer = send(std::move(request), account);
    finish(answer);
    return answer;
  }
  HttpAnswer ask(const std::string& path, Headers headers = {}, const std::string& dialled = "10.96.1.1:80") {
    return ask({.path = path, .headers = std::move(headers), .dialled = dialled});
  }
  // Who answered, or the status if it was an error.
  std::string who(const std::string& path, Headers headers = {}) {
    HttpAnswer answer = ask(path, std::move(headers));
    return answer.status == 200 ? answer.body : std::to_string(answer.status);
  }
  std::string location(const std::string& path) { return ask(path).header("location"); }
  // What the server saw of the last request.
  std::string seen(const HttpPod& pod, std::string_view name) const {
    const std::string* value = pod.requests.empty() ? nullptr : wire::find_header(pod.requests.back(), name);
    return value ? *value : "";
  }
  control::Compiled compiled;
  HttpPod& v1 = listen("echo-v1", "10.0.3.1", 8080);
  HttpPod& v2 = listen("echo-v2", "10.0.3.2", 8080);
  HttpPod& far = listen("far", "10.0.3.3", 8080);
};

const std::string kMark =
    "[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Header-Set, "
    "value: set}]}}], " +
    to("echo-v2") + "}]";

std::string redirect(const std::string& path, const std::string& fields) {
  return "{matches: [{path: {type: PathPrefix, value: " + path +
         "}}], filters: [{type: RequestRedirect, requestRedirect: {" + fields + "}}]}";
}

std::string rewrite(const std::string& path, const std::string& fields, const std::string& more = "") {
  return "{matches: [{path: {type: PathPrefix, value: " + path +
         "}}], filters: [{type: URLRewrite, urlRewrite: {" + fields + "}}" + more + "], " + to("echo-v1") +
         "}";
}

}  // namespace

TEST_CASE("no route: the service's endpoints", "[sim][waypoint][MeshBasic]") {
  Echo world;
  CHECK(world.ask("/").status == 200);
}

TEST_CASE("a route is of its parent, not of those it leads to", "[sim][waypoint][MeshFrontend]") {
  Echo world({{.rules = kMark, .parent = "echo-v2"}});
  CHECK(world.ask("/", {}, "10.96.1.3:80").header("x-header-set") == "set");
  CHECK(world.ask("/", {}, "10.96.1.1:80").header("x-header-set").empty());
}

TEST_CASE("the address that was dialled decides, not Host", "[sim][waypoint][MeshFrontendHostname]") {
  Echo world({{.rules = kMark, .parent = "echo-v2"}});
  CHECK(world.ask({.dialled = "10.96.1.3:80", .host = "echo-v1"}).header("x-header-set") == "set");
  CHECK(world.ask({.dialled = "10.96.1.2:80", .host = "echo-v2"}).header("x-header-set").empty());
}

TEST_CASE("a route for one port of its parent, and for all", "[sim][waypoint][MeshPorts]") {
  SECTION("one") {
    Echo world({{.rules = kMark, .parent = "echo-v2", .parent_port = "80"}});
    CHECK(world.ask("/", {}, "10.96.1.3:80").header("x-header-set") == "set");
    HttpAnswer other = world.ask("/", {}, "10.96.1.3:8080");
    CHECK(other.status == 200);
    CHECK(other.header("x-header-set").empty());
  }
  SECTION("all") {
    Echo world({{.rules = kMark, .parent = "echo-v2"}});
    CHECK(world.ask("/", {}, "10.96.1.3:80").header("x-header-set") == "set");
    CHECK(world.ask("/", {}, "10.96.1.3:8080").header("x-header-set") == "set");
  }
}

TEST_CASE("paths to services, and nothing beside them", "[sim][waypoint][MeshTrafficSplit]") {
  Echo world({{.rules = "[{matches: [{path: {type: Exact, value: /v1}}], " + to("echo-v1") +
                        "}, {matches: [{path: {type: Exact, value: /v2}}], " + to("echo-v2") + "}]"}});
  CHECK(world.who("/v1") == "echo-v1");
  CHECK(world.who("/v2") == "echo-v2");
  CHECK(world.who("/v3") == "404");
  CHECK(world.who("/") == "404");
}

TEST_CASE("a consumer's route is for its namespace alone", "[sim][waypoint][MeshConsumerRoute]") {
  std::string rules =
      "[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Header-Set, "
      "value: set}]}}], backendRefs: [{name: echo-v1, namespace: shop, port: 8080}]}]";
  Echo world({{.rules = rules, .parent = "echo-v1", .ns = "consumer"}});
  Request request{.dialled = "10.96.1.2:80"};
  CHECK(world.ask(request, "consumer/web").header("x-header-set") == "set");
  HttpAnswer own = world.ask(request, "shop/web");
  CHECK(own.status == 200);
  CHECK(own.header("x-header-set").empty());
}

TEST_CASE("one rule, one service", "[sim][waypoint][MeshHTTPRouteSimpleSameNamespace]") {
  Echo world({{.rules = "[{" + to("echo-v1") + "}]"}});
  for (int i = 0; i < 10; ++i) CHECK(world.who("/") == "echo-v1");
}

TEST_CASE("paths by segments, headers, and what goes first", "[sim][waypoint][MeshHTTPRouteMatching]") {
  Echo world({{.rules = "[{matches: [{path: {type: PathPrefix, value: /}}, {headers: [{name: version, value: "
                        "one}]}], " +
                        to("echo-v1") +
                        "}, {matches: [{path: {type: PathPrefix, value: /v2}}, {headers: [{name: version, "
                        "value: two}]}], " +
                        to("echo-v2") + "}]"}});
  for (const char* path : {"/v2", "/v2/", "/v2/example"}) CHECK(world.who(path) == "echo-v2");
  for (const char* path : {"/", "/example", "/v2example", "/foo/v2/example"}) {
    CHECK(world.who(path) == "echo-v1");
  }
  CHECK(world.who("/", {{"version", "one"}}) == "echo-v1");
  CHECK(world.who("/", {{"Version", "two"}}) == "echo-v2");
  // The longer path goes before the header.
  CHECK(world.who("/v2/x", {{"version", "one"}}) == "echo-v2");
}

TEST_CASE("query parameters", "[sim][waypoint][MeshHTTPRouteQueryParamMatching]") {
  auto params = [](const std::string& list) { return "queryParams: [" + list + "]"; };
  const std::string whale = "{name: animal, value: whale}", dolphin = "{name: animal, value: dolphin}",
                    blue = "{name: color, value: blue}", anonymous = "{name: ANIMAL, value: Whale}";
  Echo world({{.rules = "[{matches: [{" + params(whale) + "}], " + to("echo-v1") + "}, {matches: [{" +
                        params(dolphin) + "}], " + to("echo-v2") + "}, {matches: [{" +
                        params(dolphin + ", " + blue) + "}], " + to("echo-v1") + "}, {matches: [{" +
                        params(anonymous) + "}], " + to("echo-v2") +
                        "}, {matches: [{path: {type: PathPrefix, value: /path}, " + params(whale) + "}], " +
                        to("echo-v2") + "}, {matches: [{headers: [{name: version, value: one}], " +
                        params(whale) + "}], " + to("echo-v2") + "}]"}});
  CHECK(world.who("/?animal=whale") == "echo-v1");
  CHECK(world.who("/?animal=dolphin") == "echo-v2");
  // More of them go first.
  CHECK(world.who("/?animal=dolphin&color=blue") == "echo-v1");
  CHECK(world.who("/?color=blue&animal=dolphin") == "echo-v1");
  CHECK(world.who("/?animal=dolphin&color=red") == "echo-v2");
  CHECK(world.who("/?ANIMAL=Whale") == "echo-v2");
  CHECK(world.who("/path?animal=whale") == "echo-v2");
  CHECK(world.who("/?animal=whale", {{"version", "one"}}) == "echo-v2");
  for (const char* none : {"/", "/?animal=shark", "/?color=blue", "/?animal=WHALE"}) {
    CHECK(world.who(none) == "404");
  }
}

TEST_CASE("weights, towards another port", "[sim][waypoint][MeshHTTPRouteWeight]") {
  Echo world(
      {{.rules = "[{backendRefs: [{name: echo-v1, port: 8080, weight: 70}, {name: echo-v2, port: 8080, "
                 "weight: 30}, {name: nobody, port: 80, weight: 0}]}]",
        .parent_port = "80"}});
  for (int i = 0; i < 500; ++i) CHECK(world.ask("/").status == 200);
  // Four standard deviations.
  CHECK(world.v1.requests.size() > 350 - 41);
  CHECK(world.v1.requests.size() < 350 + 41);
  CHECK(world.v1.requests.size() + world.v2.requests.size() == 500);
}

TEST_CASE("request headers are set, added to and removed",
          "[sim][waypoint][MeshHTTPRouteRequestHeaderModifier]") {
  Echo world({{.rules = "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: "
                        "X-Header-Set, value: set-it}], add: [{name: X-Header-Add, value: added}, {name: "
                        "X-Header-Add-Append, value: appended}], remove: [X-Header-Remove]}}], " +
                        to("echo-v1") + "}]"}});
  REQUIRE(world.who("/", {{"x-header-set", "was"},
                          {"x-header-add-append", "first"},
                          {"X-HEADER-REMOVE", "gone"},
                          {"x-other", "Stays"}}) == "echo-v1");
  CHECK(world.seen(world.v1, "x-header-set") == "set-it");
  CHECK(world.seen(world.v1, "x-header-add") == "added");
  CHECK(world.seen(world.v1, "x-header-remove").empty());
  CHECK(world.seen(world.v1, "x-other") == "Stays");
  std::string joined;
  for (const auto& [name, value] : world.v1.requests.back()) {
    if (name == "x-header-add-append") joined += (joined.empty() ? "" : ",") + value;
  }
  CHECK(joined == "first,appended");
}

TEST_CASE("request headers by destination", "[sim][waypoint][MeshHTTPRouteBackendRequestHeaderModifier]") {
  auto backend = [](const std::string& name) {
    return "{name: " + name +
           ", port: 8080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-To, "
           "value: " +
           name + "}], remove: [X-Header-Remove]}}]}";
  };
  Echo world({{.rules = "[{backendRefs: [" + backend("echo-v1") + ", " + backend("echo-v2") + "]}]"}});
  for (int i = 0; i < 20; ++i) {
    std::string who = world.who("/", {{"x-header-remove", "gone"}, {"x-to", "was"}});
    const HttpPod& pod = who == "echo-v1" ? world.v1 : world.v2;
    CHECK(world.seen(pod, "x-to") == who);
    CHECK(world.seen(pod, "x-header-remove").empty());
  }
  CHECK_FALSE(world.v1.requests.empty());
  CHECK_FALSE(world.v2.requests.empty());
}

TEST_CASE("paths are rewritten", "[sim][waypoint][MeshHTTPRouteRewritePath]") {
  auto prefix = [](const std::string& text) {
    return "path: {type: ReplacePrefixMatch, replacePrefixMatch: " + text + "}";
  };
  Echo world(
      {{.rules = "[" + rewrite("/prefix/one", prefix("/one")) + ", " + rewrite("/strip-prefix", prefix("/")) +
                 ", " + rewrite("/full/one", "path: {type: ReplaceFullPath, replaceFullPath: /one}") + ", " +
                 rewrite("/full/rewrite-path-and-modify-headers",
                         "path: {type: ReplaceFullPath, replaceFullPath: /test}",
                         ", {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, "
                         "value: set}], remove: [X-Header-Remove]}}") +
                 "]"}});
  struct Row {
    const char *asked, *seen;
  };
  for (auto [asked, seen] :
       {Row{"/prefix/one/two", "/one/two"}, Row{"/prefix/one?q=1", "/one?q=1"},
        Row{"/strip-prefix/three", "/three"}, Row{"/strip-prefix", "/"}, Row{"/full/one/two", "/one"}}) {
    INFO(asked);
    REQUIRE(world.who(asked) == "echo-v1");
    CHECK(world.seen(world.v1, ":path") == seen);
  }
  REQUIRE(world.who("/full/rewrite-path-and-modify-headers/x", {{"x-header-remove", "gone"}}) == "echo-v1");
  CHECK(world.seen(world.v1, ":path") == "/test");
  CHECK(world.seen(world.v1, "x-header-set") == "set");
  CHECK(world.seen(world.v1, "x-header-remove").empty());
}

TEST_CASE("redirects to a host, with a status", "[sim][waypoint][MeshHTTPRouteRedirectHostAndStatus]") {
  Echo world({{.rules = "[" + redirect("/hostname-redirect", "hostname: example.org") + ", " +
                        redirect("/host-and-status", "hostname: example.org, statusCode: 301") + "]"}});
  HttpAnswer answer = world.ask("/hostname-redirect");
  CHECK(answer.status == 302);
  CHECK(answer.header("location") == "http://example.org/hostname-redirect");
  answer = world.ask("/host-and-status");
  CHECK(answer.status == 301);
  CHECK(answer.header("location") == "http://example.org/host-and-status");
  CHECK(world.v1.requests.empty());
}

TEST_CASE("redirects to a path", "[sim][waypoint][MeshHTTPRouteRedirectPath]") {
  std::string prefix = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}";
  std::string full = "path: {type: ReplaceFullPath, replaceFullPath: /full-path-replacement}";
  Echo world({{.rules = "[" + redirect("/original-prefix", prefix) + ", " + redirect("/full", full) + ", " +
                        redirect("/path-and-host", prefix + ", hostname: example.org") + ", " +
                        redirect("/path-and-status", prefix + ", statusCode: 301") + ", " +
                        redirect("/full-path-and-host", full + ", hostname: example.org") + "]"}});
  CHECK(world.location("/original-prefix/lemon") == "http://echo/replacement-prefix/lemon");
  CHECK(world.location("/full/path/original") == "http://echo/full-path-replacement");
  CHECK(world.location("/path-and-host/lemon") == "http://example.org/replacement-prefix/lemon");
  HttpAnswer answer = world.ask("/path-and-status/lemon");
  CHECK(answer.status == 301);
  CHECK(answer.header("location") == "http://echo/replacement-prefix/lemon");
  CHECK(world.location("/full-path-and-host/lemon") == "http://example.org/full-path-replacement");
}

TEST_CASE("redirects to a port", "[sim][waypoint][MeshHTTPRouteRedirectPort]") {
  Echo world(
      {{.rules = "[" + redirect("/port", "port: 8083") + ", " +
                 redirect("/port-and-host", "port: 8083, hostname: example.org") + ", " +
                 redirect("/port-and-status", "port: 8083, statusCode: 301") + ", " +
                 redirect("/port-and-host-and-status", "port: 8083, statusCode: 302, hostname: example.org") +
                 "]"}});
  CHECK(world.location("/port") == "http://echo:8083/port");
  CHECK(world.location("/port-and-host") == "http://example.org:8083/port-and-host");
  CHECK(world.ask("/port-and-status").status == 301);
  HttpAnswer answer = world.ask("/port-and-host-and-status");
  CHECK(answer.status == 302);
  CHECK(answer.header("location") == "http://example.org:8083/port-and-host-and-status");
}

TEST_CASE("redirects to a scheme", "[sim][waypoint][MeshHTTPRouteSchemeRedirect]") {
  Echo world({{.rules = "[" + redirect("/scheme", "scheme: https") + ", " +
                        redirect("/scheme-and-host", "scheme: https, hostname: example.org") + ", " +
                        redirect("/scheme-and-port", "scheme: https, port: 8443") + ", " +
                        redirect("/scheme-and-its-port", "scheme: https, port: 443") + "]"}});
  CHECK(world.location("/scheme") == "https://echo/scheme");
  CHECK(world.location("/scheme-and-host") == "https://example.org/scheme-and-host");
  CHECK(world.location("/scheme-and-port") == "https://echo:8443/scheme-and-port");
  CHECK(world.location("/scheme-and-its-port") == "https://echo/scheme-and-its-port");
}

TEST_CASE("every status of a redirect",
          "[sim][waypoint][MeshHTTPRoute303Redirect][MeshHTTPRoute307Redirect][MeshHTTPRoute308Redirect]") {
  std::string rules;
  for (const char* status : {"301", "302", "303", "307", "308"}) {
    rules += (rules.empty() ? "[" : ", ") +
             redirect(std::string("/") + status, std::string("hostname: example.org, statusCode: ") + status);
  }
  Echo world({{.rules = rules + "]"}});
  for (const char* status : {"301", "302", "303", "307", "308"}) {
    HttpAnswer answer = world.ask(std::string("/") + status);
    CHECK(std::to_string(answer.status) == status);
    CHECK(answer.header("location") == std::string("http://example.org/") + status);
  }
}

TEST_CASE("rules that have names", "[sim][waypoint][MeshHTTPRouteNamedRule]") {
  Echo world({{.rules = "[{name: named-rule, matches: [{path: {type: PathPrefix, value: /named}}], " +
                        to("echo-v1") + "}, {matches: [{path: {type: PathPrefix, value: /unnamed}}], " +
                        to("echo-v2") + "}]"}});
  CHECK(world.who("/named") == "echo-v1");
  CHECK(world.who("/unnamed") == "echo-v2");
}

TEST_CASE("gRPC by weight, with metadata",
          "[sim][waypoint][MeshGRPCRouteWeight][MeshGRPCRouteRequestHeaderModifier]") {
  Echo world({{.rules = "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: "
                        "X-Header-Set, value: set}], remove: [X-Header-Remove]}}], backendRefs: [{name: "
                        "echo-v1, port: 7070, weight: 70}, {name: echo-v2, port: 7070, weight: 30}, {name: "
                        "nobody, port: 80, weight: 0}]}]",
               .parent = "echo-v1",
               .kind = "GRPCRoute"}});
  for (HttpPod* pod : {&world.v1, &world.v2}) {
    pod->http2 = true;
    pod->headers = {{"content-type", "application/grpc"}};
    pod->trailers = {{"grpc-status", "0"}};
  }
  Request call{
      .method = "POST",
      .path = "/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo",
      .headers = {{"content-type", "application/grpc"}, {"te", "trailers"}, {"x-header-remove", "x"}},
      .body = std::string("\0\0\0\0\0", 5),
      .http2 = true,
      .dialled = "10.96.1.2:7070"};
  for (int i = 0; i < 500; ++i) REQUIRE(world.ask(call).status == 200);
  CHECK(world.v1.requests.size() > 350 - 41);
  CHECK(world.v1.requests.size() < 350 + 41);
  for (const HttpPod* pod : {&world.v1, &world.v2}) {
    CHECK(world.seen(*pod, "x-header-set") == "set");
    CHECK(world.seen(*pod, "x-header-remove").empty());
  }
}

TEST_CASE("connections by weight, towards services", "[sim][waypoint][TestTCPRoute]") {
  Echo world({{.rules = "[{backendRefs: [{name: echo-v1, port: 9090, weight: 3}, {name: echo-v2, port: 9090, "
                        "weight: 1}, {name: nobody, port: 80, weight: 0}]}]",
               .kind = "TCPRoute",
               .parent_port = "9090"}});
  world.v1.raw = "one";
  world.v2.raw = "two";
  int one = 0, two = 0;
  for (int i = 0; i < 400; ++i) {
    std::string answer = world.raw("hello", "web", "10.96.1.1:9090");
    one += answer == "one";
    two += answer == "two";
  }
  CHECK(one + two == 400);
  // Four standard deviations.
  CHECK(one > 300 - 35);
  CHECK(one < 300 + 35);
  CHECK(world.v1.raw_request == "hello");
}

TEST_CASE("references that lead nowhere, endpoints that are not there, and grants",
          "[sim][waypoint][ReferenceGrant]") {
  std::string rules =
      "[{matches: [{path: {type: PathPrefix, value: /nowhere}}], backendRefs: [{name: nope, port: 80}]}, "
      "{matches: [{path: {type: PathPrefix, value: /kind}}], backendRefs: [{kind: Thing, name: echo-v1, "
      "port: "
      "80}]}, {matches: [{path: {type: PathPrefix, value: /half}}], backendRefs: [{name: nope, port: 80, "
      "weight: 1}, {name: echo-v1, port: 8080, weight: 1}]}, {matches: [{path: {type: PathPrefix, value: "
      "/nobody}}], backendRefs: [{name: nobody, port: 80}]}, {matches: [{path: {type: PathPrefix, value: "
      "/far}}], backendRefs: [{name: far, namespace: consumer, port: 80}]}]";
  auto reason = [](const Echo& world) {
    for (const control::Condition& one :
         world.compiled.status.at("HTTPRoute shop/route").parents.at(0).conditions) {
      if (one.type == "ResolvedRefs") return one.reason;
    }
    return std::string("none");
  };
  SECTION("without a grant") {
    Echo world({{.rules = rules}});
    CHECK(world.who("/nowhere") == "500");
    CHECK(world.who("/kind") == "500");
    CHECK(world.who("/nobody") == "503");
    CHECK(world.who("/far") == "500");
    CHECK(world.far.requests.empty());
    // Its share is an error, and the rest goes on.
    int failed = 0;
    for (int i = 0; i < 200; ++i) failed += world.who("/half") == "500";
    CHECK(failed > 100 - 29);
    CHECK(failed < 100 + 29);
    CHECK(world.v1.requests.size() == size_t(200 - failed));
    CHECK(reason(world) != "ResolvedRefs");
  }
  SECTION("with one") {
    Echo world(
        {{.rules = "[{backendRefs: [{name: far, namespace: consumer, port: 80}]}]"}},
        "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: "
        "grant, namespace: consumer}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, "
        "namespace: shop}], to: [{group: \"\", kind: Service}]}\n");
    CHECK(world.who("/") == "far");
    CHECK(reason(world) == "ResolvedRefs");
  }
}

}  // namespace culvert::test
