// SPDX-License-Identifier: Apache-2.0
// VirtualService: every field, its default, and what is refused (spec waypoint 2.1, 2.2).
#include "test/unit/mesh/kube/decode_helpers.h"

using namespace culvert;
using namespace culvert::kube;
using namespace std::chrono_literals;

namespace {

using Kind = StringMatch::Kind;
const std::string kVs = head("networking.istio.io/v1", "VirtualService");

// Every field once.
const std::string kFull = kVs + R"(spec: {
  hosts: [web, "*.example.com"], gateways: [mesh, gw], exportTo: [".", other],
  http: [
    {name: r, match: [
      {name: m, uri: {prefix: /a}, scheme: {exact: https}, method: {regex: "GET|PUT"}, authority: {exact: h},
       ignoreUriCase: true,
       headers: { User-Agent: {regex: ".*Chrome.*"}, X-There: {}, x-star: {regex: "*"},
                  "@request.auth.claims.Group": {exact: g}},
       withoutHeaders: { x-no: {exact: "1"}}, queryParams: { Q: {prefix: p}}, port: 80,
       sourceLabels: { app: a}, sourceNamespace: sn, gateways: [mesh], statPrefix: sp}],
     route: [{destination: {host: web, subset: v1, port: {number: 8080}}, weight: 90,
              headers: {request: {set: { x-a: "1"}, add: { x-b: "2"}, remove: [x-c]},
                        response: {set: { x-d: "%PROTOCOL%"}}}},
             {destination: {host: web}, weight: 10}],
     rewrite: {uri: /b, authority: other}, timeout: 1.5s,
     retries: {attempts: 3, perTryTimeout: 2s, retryOn: "5xx, 503,gateway-error", retryRemoteLocalities: true,
               retryIgnorePreviousHosts: false, backoff: 25ms},
     fault: {delay: {percentage: {value: 0.5}, fixedDelay: 1h30m}, abort: {grpcStatus: UNAVAILABLE,
             percentage: {value: 100}}},
     mirrors: [{destination: {host: m1}, percentage: {value: 10}}, {destination: {host: m2}}],
     corsPolicy: {allowOrigins: [{exact: "*"}, {regex: "https://.*"}], allowMethods: [GET], allowHeaders: [x-h],
                  exposeHeaders: [x-e], maxAge: 24h, allowCredentials: true, unmatchedPreflights: IGNORE},
     headers: {request: {set: { host: h}}, response: {remove: [server]}}},
    {redirect: {uri: /x, authority: a, port: 8443, scheme: https, redirectCode: 308}},
    {redirect: {prefixRewrite: /y, derivePort: FROM_REQUEST_PORT}},
    {directResponse: {status: 503, body: {string: sorry}}},
    {directResponse: {status: 200, body: {bytes: aGk=}}},
    {delegate: {name: d, namespace: dn}},
    {route: [{destination: {host: web}}], rewrite: {uriRegexRewrite: {match: '^/(.*)', rewrite: '/v1/\1'}},
     fault: {abort: {httpStatus: 418}}, mirror: {host: m, subset: s}, mirrorPercentage: {value: 5}}],
  tcp: [{match: [{destinationSubnets: [10.0.0.0/8], port: 1, sourceLabels: { a: b}, gateways: [mesh],
                  sourceNamespace: n, sourceSubnet: 10.1.0.0/16}],
         route: [{destination: {host: db, port: {number: 5432}}, weight: 1}, {destination: {host: db2}}]}],
  tls: [{match: [{sniHosts: ["*.example.com"], port: 443, destinationSubnets: ["fd00::/8"],
                  sourceLabels: { a: b}, gateways: [mesh], sourceNamespace: n}],
         route: [{destination: {host: tls}}]}]}
)";

}  // namespace

TEST_CASE("VirtualService: every field of http", "[2.1]") {
  auto vs = only<VirtualService>(kFull);
  CHECK(vs.hosts == Strings{"web", "*.example.com"});
  CHECK(vs.gateways == Strings{"mesh", "gw"});
  CHECK(vs.export_to == Strings{".", "other"});
  REQUIRE(vs.http.size() == 7);
  const VirtualService::HttpRoute& route = vs.http[0];
  CHECK(route.name == "r");
  CHECK(route.line == 7);
  REQUIRE(route.match.size() == 1);
  const VirtualService::HttpMatch& match = route.match[0];
  CHECK(match.name == "m");
  CHECK(match.uri == StringMatch{Kind::kPrefix, "/a"});
  CHECK(match.scheme == StringMatch{Kind::kExact, "https"});
  CHECK(match.method == StringMatch{Kind::kRegex, "GET|PUT"});
  CHECK(match.authority == StringMatch{Kind::kExact, "h"});
  CHECK(match.ignore_uri_case);
  CHECK(match.headers ==
        std::map<std::string, StringMatch>{{"user-agent", {Kind::kRegex, ".*Chrome.*"}},
                                           {"x-there", {Kind::kPresent, ""}},
                                           {"x-star", {Kind::kPresent, ""}},
                                           {"@request.auth.claims.Group", {Kind::kExact, "g"}}});
  CHECK(match.without_headers == std::map<std::string, StringMatch>{{"x-no", {Kind::kExact, "1"}}});
  CHECK(match.query_params == std::map<std::string, StringMatch>{{"Q", {Kind::kPrefix, "p"}}});
  CHECK(match.port == 80);
  CHECK(match.source_labels == Labels{{"app", "a"}});
  CHECK(match.source_namespace == "sn");
  CHECK(match.gateways == Strings{"mesh"});
  CHECK(match.stat_prefix == "sp");
  REQUIRE(route.destinations.size() == 2);
  CHECK(route.destinations[0].destination.host == "web");
  CHECK(route.destinations[0].destination.subset == "v1");
  CHECK(route.destinations[0].destination.port == 8080);
  CHECK(route.destinations[0].weight == 90);
  CHECK(route.destinations[0].request_headers.set == std::vector<HeaderValue>{{"x-a", "1"}});
  CHECK(route.destinations[0].request_headers.add == std::vector<HeaderValue>{{"x-b", "2"}});
  CHECK(route.destinations[0].request_headers.remove == Strings{"x-c"});
  CHECK(route.destinations[0].response_headers.set == std::vector<HeaderValue>{{"x-d", "%PROTOCOL%"}});
  CHECK(route.destinations[1].destination.port == 0);
  CHECK(route.rewrite->uri == "/b");
  CHECK(route.rewrite->authority == "other");
  CHECK(route.timeout == 1500ms);
  CHECK(route.retries->attempts == 3);
  CHECK(route.retries->per_try_timeout == 2s);
  CHECK(route.retries->retry_on == Strings{"5xx", "gateway-error"});
  CHECK(route.retries->retry_codes == std::vector<uint16_t>{503});
  CHECK(route.retries->retry_remote_localities == true);
  CHECK(route.retries->retry_ignore_previous_hosts == false);
  CHECK(route.retries->backoff == 25ms);
  CHECK(route.delay->fixed == 90min);
  CHECK(route.delay->percent == 0.5);
  CHECK(route.abort->grpc_status == 14);
  CHECK(route.abort->http_status == 0);
  CHECK(route.abort->percent == 100);
  REQUIRE(route.mirrors.size() == 2);
  CHECK(route.mirrors[0].percent == 10);
  CHECK(route.mirrors[1].destination.host == "m2");
  CHECK(route.mirrors[1].percent == 100);
  CHECK(route.cors->allow_origins ==
        std::vector<StringMatch>{{Kind::kExact, "*"}, {Kind::kRegex, "https://.*"}});
  CHECK(route.cors->allow_methods == Strings{"GET"});
  CHECK(route.cors->allow_headers == Strings{"x-h"});
  CHECK(route.cors->expose_headers == Strings{"x-e"});
  CHECK(route.cors->max_age == 24h);
  CHECK(route.cors->allow_credentials);
  CHECK_FALSE(route.cors->forward_unmatched_preflights);
  CHECK(route.request_headers.set == std::vector<HeaderValue>{{"host", "h"}});
  CHECK(route.response_headers.remove == Strings{"server"});
}

TEST_CASE("VirtualService: redirects, direct responses, delegates, rewrites, faults", "[2.1.4]") {
  auto vs = only<VirtualService>(kFull);
  using Port = VirtualService::Redirect::Port;
  CHECK(vs.http[1].redirect->uri == "/x");
  CHECK(vs.http[1].redirect->authority == "a");
  CHECK(vs.http[1].redirect->scheme == "https");
  CHECK(vs.http[1].redirect->port == Port::kNumber);
  CHECK(vs.http[1].redirect->port_number == 8443);
  CHECK(vs.http[1].redirect->code == 308);
  CHECK(vs.http[2].redirect->prefix_rewrite == "/y");
  CHECK(vs.http[2].redirect->port == Port::kFromRequest);
  CHECK(vs.http[2].redirect->code == 301);
  CHECK(vs.http[3].direct_response->status == 503);
  CHECK(vs.http[3].direct_response->body == "sorry");
  CHECK(vs.http[4].direct_response->body == "hi");
  CHECK(vs.http[5].delegate->name == "d");
  CHECK(vs.http[5].delegate->ns == "dn");
  CHECK(vs.http[6].rewrite->regex == "^/(.*)");
  CHECK(vs.http[6].rewrite->regex_rewrite == "/v1/\\1");
  CHECK(vs.http[6].abort->http_status == 418);
  CHECK(vs.http[6].abort->percent == 0);
  REQUIRE(vs.http[6].mirrors.size() == 1);
  CHECK(vs.http[6].mirrors[0].destination.subset == "s");
  CHECK(vs.http[6].mirrors[0].percent == 5);
  CHECK_FALSE(vs.http[6].timeout);
  CHECK_FALSE(vs.http[6].retries);
  CHECK_FALSE(vs.http[6].cors);
}

TEST_CASE("VirtualService: tcp and tls", "[2.2]") {
  auto vs = only<VirtualService>(kFull);
  REQUIRE(vs.tcp.size() == 1);
  CHECK(vs.tcp[0].match[0].destination_subnets == Strings{"10.0.0.0/8"});
  CHECK(vs.tcp[0].match[0].source_subnet == "10.1.0.0/16");
  CHECK(vs.tcp[0].match[0].port == 1);
  CHECK(vs.tcp[0].match[0].source_labels == Labels{{"a", "b"}});
  CHECK(vs.tcp[0].match[0].source_namespace == "n");
  CHECK(vs.tcp[0].match[0].gateways == Strings{"mesh"});
  REQUIRE(vs.tcp[0].destinations.size() == 2);
  CHECK(vs.tcp[0].destinations[0].destination.port == 5432);
  CHECK(vs.tcp[0].destinations[0].weight == 1);
  REQUIRE(vs.tls.size() == 1);
  CHECK(vs.tls[0].match[0].sni_hosts == Strings{"*.example.com"});
  CHECK(vs.tls[0].destinations[0].destination.host == "tls");
}

TEST_CASE("VirtualService: a delegate's target, deprecated forms", "[2.1.7]") {
  auto target = only<VirtualService>(kVs + "spec: {http: [{timeout: 1s}]}");
  CHECK(target.hosts.empty());
  CHECK(target.http[0].timeout == 1s);
  auto old = only<VirtualService>(
      kVs +
      "spec: {hosts: [h], http: [{route: [{destination: {host: h}}], mirror: {host: m}, "
      "mirrorPercent: 3, corsPolicy: {allowOrigin: [a]}, fault: {delay: {percent: 7, fixedDelay: 1s}}}]}");
  CHECK(old.http[0].mirrors[0].percent == 3);
  CHECK(old.http[0].cors->allow_origins == std::vector<StringMatch>{{Kind::kExact, "a"}});
  CHECK(old.http[0].delay->percent == 7);
  REQUIRE(old.meta.notes.size() == 3);
  CHECK(old.meta.notes[0].line == 4);
  CHECK(old.meta.notes[0].text == "spec.http[0].fault.delay.percent: is deprecated; write percentage.value");
}

TEST_CASE("VirtualService: an unknown field is refused in every map of it") {
  check_unknown_fields(kFull);
  CHECK(problems(kVs + "spec: {hosts: [h], htp: []}").front() ==
        "4: spec.htp: unknown field; did you mean \"http\"? known here: hosts, gateways, http, tls, tcp, "
        "exportTo");
}

TEST_CASE("VirtualService: what is refused, where, and what to write", "[2.1.7]") {
  // Around one route: hosts, and the destination that most need.
#define ROUTE(text) "{hosts: [h], http: [{route: [{destination: {host: h}}], " text "}]}"
#define ACTION(text) "{hosts: [h], http: [{" text "}]}"
  check_refused(
      kVs,
      {
          {"{hosts: [h]}", "spec: must have http, tcp or tls"},
          {"{hosts: ['a b'], http: []}", "spec.hosts[0]: \"a b\" is not a host name"},
          {"{hosts: h}", "spec.hosts: must be a list"},
          {ROUTE("timeout: 30"), "spec.http[0].timeout: \"30\" is not a duration; write for example 30s"},
          {ROUTE("timeout: -1s"), "spec.http[0].timeout: \"-1s\" is not a duration"},
          {ROUTE("timeout: 1x"), "spec.http[0].timeout: \"1x\" is not a duration"},
          {ROUTE("match: [{uri: {}}]"),
           "spec.http[0].match[0].uri: must have one of exact, prefix and regex"},
          {ROUTE("match: [{uri: {exact: a, prefix: b}}]"), "spec.http[0].match[0].uri: must have one of"},
          {ROUTE("match: [{uri: {regex: '('}}]"),
           "spec.http[0].match[0].uri.regex: regular expression \"(\""},
          {ROUTE("match: [{headers: {'a b': {exact: c}}}]"),
           "spec.http[0].match[0].headers.a b: \"a b\" is not a header's name"},
          {ROUTE("match: [{headers: {A: {}, a: {}}}]"), "spec.http[0].match[0].headers.a: is given twice"},
          {ROUTE("match: [{port: 0}]"), "spec.http[0].match[0].port: \"0\" must be a whole number from 1"},
          {ROUTE("retries: {attempts: -1}"), "spec.http[0].retries.attempts: \"-1\" must be a whole number"},
          {ROUTE("retries: {retryOn: '5xx,sometimes'}"),
           "spec.http[0].retries.retryOn: \"sometimes\" must be a status code or one of: 5xx"},
          {ROUTE("redirect: {uri: /}"), "spec.http[0]: must have only one of route, redirect"},
          {ROUTE("delegate: {name: d}"), "spec.http[0]: must have only one of route, redirect"},
          {ROUTE("mirror: {host: a}, mirrors: [{destination: {host: b}}]"),
           "spec.http[0].mirror: excludes mirrors"},
          {ROUTE("mirrorPercentage: {value: 1}"), "spec.http[0].mirrorPercentage: without mirror"},
          {ROUTE("fault: {abort: {percentage: {value: 1}}}"),
           "spec.http[0].fault.abort: must have one of httpStatus and grpcStatus"},
          {ROUTE("fault: {abort: {http2Error: X}}"), "spec.http[0].fault.abort.http2Error: is not supported"},
          {ROUTE("fault: {abort: {grpcStatus: NO}}"),
           "spec.http[0].fault.abort.grpcStatus: \"NO\" must be a gRPC status: OK"},
          {ROUTE("fault: {delay: {exponentialDelay: 1s}}"),
           "spec.http[0].fault.delay.exponentialDelay: is not supported; write fixedDelay"},
          {ROUTE("fault: {delay: {fixedDelay: 1s, percentage: {value: 101}}}"),
           "spec.http[0].fault.delay.percentage.value: \"101\" must be a number from 0 to 100"},
          {ROUTE("headers: {request: {remove: [Host]}}"),
           "spec.http[0].headers.request.remove: \"Host\" must not be removed"},
          {ROUTE("headers: {request: {set: {a: \"b\\r\\nc: d\"}}}"),
           "spec.http[0].headers.request.set.a: a header's value must not hold line ends"},
          {ROUTE("rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}"),
           "spec.http[0].rewrite.uriRegexRewrite: excludes uri"},
          {ROUTE("rewrite: {uriRegexRewrite: {match: a, rewrite: '\\1'}}"),
           "spec.http[0].rewrite.uriRegexRewrite.rewrite: "},
          {ACTION("name: r"), "spec.http[0]: must have one of route, redirect, directResponse and delegate"},
          {ACTION("redirect: {redirectCode: 304}"),
           "spec.http[0].redirect.redirectCode: 304 must be 301, 302, 303, 307 or 308"},
          {ACTION("redirect: {uri: /a, prefixRewrite: /b}"), "spec.http[0].redirect: uri and prefixRewrite"},
          {ACTION("redirect: {port: 1, derivePort: FROM_REQUEST_PORT}"),
           "spec.http[0].redirect.port: excludes derivePort"},
          {ACTION("redirect: {uri: /}, timeout: 1s"),
           "spec.http[0].timeout: goes only with route, not with redirect"},
          {ACTION("redirect: {uri: /}, fault: {abort: {httpStatus: 500}}"),
           "spec.http[0].fault: goes only with route"},
          {ACTION("directResponse: {status: 600}"), "spec.http[0].directResponse.status: \"600\" must be"},
          {ACTION("directResponse: {}"), "spec.http[0].directResponse.status: is missing"},
          {ACTION("directResponse: {status: 200, body: {bytes: '*'}}"),
           "spec.http[0].directResponse.body.bytes: must be base64"},
          {ACTION("route: [{destination: {}}]"), "spec.http[0].route[0].destination.host: is missing"},
          {ACTION("route: [{weight: 1}]"), "spec.http[0].route[0].destination: is missing"},
          {ACTION("route: [{destination: {host: h}, weight: -1}]"), "spec.http[0].route[0].weight: \"-1\""},
          {ACTION("route: [{destination: {host: a}}, {destination: {host: b}}]"),
           "spec.http[0].route: the weights of several destinations must not all be 0"},
          {"{http: [{delegate: {name: d}}]}",
           "spec.http[0].delegate: must not be in a VirtualService without"},
          {"{tcp: [{route: [{destination: {host: h}}]}]}", "spec: without hosts it is a delegate's target"},
          {"{hosts: [h], tcp: [{}]}", "spec.tcp[0].route: must have at least one destination"},
          {"{hosts: [h], tcp: [{match: [{sniHosts: [a]}], route: [{destination: {host: h}}]}]}",
           "spec.tcp[0].match[0].sniHosts: unknown field"},
          {"{hosts: [h], tcp: [{match: [{sourceSubnet: x}], route: [{destination: {host: h}}]}]}",
           "spec.tcp[0].match[0].sourceSubnet: \"x\" is not an address or a CIDR"},
          {"{hosts: [h], tls: [{route: [{destination: {host: h}}]}]}",
           "spec.tls[0].match: must have at least one item"},
          {"{hosts: [h], tls: [{match: [{port: 1}], route: [{destination: {host: h}}]}]}",
           "spec.tls[0].match[0].sniHosts: must name at least one host"},
          {"{hosts: [h], exportTo: [A], http: [{delegate: {name: d}}]}",
           "spec.exportTo[0]: \"A\" must be \".\", \"*\", \"~\" or a namespace"},
      });
#undef ROUTE
#undef ACTION
}
