// SPDX-License-Identifier: Apache-2.0
// Sections 2.1 to 2.4 of spec waypoint.
#include "mesh/decide/match_route.h"

#include <catch2/catch.hpp>
#include <map>

#include "test/unit/mesh/decide/http_facts.h"

using namespace culvert;
using namespace culvert::decide;
using model::HeaderMatch;
using model::HttpRoute;
using model::PathEdit;
using model::Redirect;
using model::RouteMatch;
using model::RouteTarget;
using model::TextMatch;
using std::chrono::milliseconds;

namespace {

TextMatch text(TextMatch::Kind kind, std::string value) { return *TextMatch::make(kind, std::move(value)); }

RouteMatch path_prefix(std::string value) {
  RouteMatch match;
  match.path = text(TextMatch::Kind::kPathPrefix, std::move(value));
  return match;
}

HttpRoute route(std::string name, std::vector<RouteMatch> matches) {
  HttpRoute out;
  out.name = std::move(name);
  out.matches = std::move(matches);
  return out;
}

std::string hit(const std::vector<HttpRoute>& routes, const Request& request) {
  RouteHit found = match_http_route(routes, request.facts());
  return found.route ? found.route->name : "none";
}

RouteTarget target(std::string subset, uint32_t weight) {
  RouteTarget out;
  out.subset = std::move(subset);
  out.weight = weight;
  return out;
}

}  // namespace

TEST_CASE("the first route of which any match holds decides", "[2.1.1]") {
  RouteMatch chrome;
  chrome.path = TextMatch::prefix("/api/v1");
  chrome.headers.push_back({"user-agent", text(TextMatch::Kind::kRegex, ".*Chrome.*"), false});
  std::vector<HttpRoute> routes = {route("chrome", {chrome}), route("api", {path_prefix("/api")}),
                                   route("two", {path_prefix("/x"), path_prefix("/y")})};
  Request request;
  request.path = "/api/v1/items";
  CHECK(hit(routes, request) == "api");
  request.with("user-agent", "Mozilla Chrome/1");
  CHECK(hit(routes, request) == "chrome");
  request.path = "/api/v2";
  CHECK(hit(routes, request) == "api");
  request.path = "/y";
  CHECK(hit(routes, request) == "two");
  CHECK(match_http_route(routes, request.facts()).match == &routes[2].matches[1]);
  request.path = "/z";
  CHECK(hit(routes, request) == "none");
  routes.push_back(route("rest", {}));
  CHECK(hit(routes, request) == "rest");
  CHECK(match_http_route(routes, request.facts()).match == nullptr);
}

TEST_CASE("every field of a match counts", "[2.1.2]") {
  Request request;
  request.method = "POST";
  request.authority = "shop.local:80";
  request.path = "/buy";
  request.query = "color=red&size=4";
  request.with("x-env", "a").with("x-env", "b");
  RouteMatch match;
  CHECK(matches(match, request.facts()));
  struct Row {
    std::string name;
    std::function<void(RouteMatch&)> set;
    bool holds;
  };
  auto row = GENERATE(
      Row{"method", [](RouteMatch& m) { m.method = TextMatch::exact("POST"); }, true},
      Row{"method case", [](RouteMatch& m) { m.method = TextMatch::exact("post"); }, false},
      Row{"scheme", [](RouteMatch& m) { m.scheme = TextMatch::exact("https"); }, false},
      Row{"authority", [](RouteMatch& m) { m.authority = TextMatch::exact("shop.local:80"); }, true},
      Row{"authority without port", [](RouteMatch& m) { m.authority = TextMatch::exact("shop.local"); },
          false},
      Row{"path", [](RouteMatch& m) { m.path = TextMatch::prefix("/bu"); }, true},
      Row{"path excludes query", [](RouteMatch& m) { m.path = text(TextMatch::Kind::kRegex, ".*red.*"); },
          false},
      Row{"joined header", [](RouteMatch& m) { m.headers = {{"x-env", TextMatch::exact("a,b"), false}}; },
          true},
      Row{"one line of several", [](RouteMatch& m) { m.headers = {{"x-env", TextMatch::exact("a"), false}}; },
          false},
      Row{"absent header", [](RouteMatch& m) { m.headers = {{"x-no", TextMatch::exact(""), false}}; }, false},
      Row{"present", [](RouteMatch& m) { m.headers = {{"x-env", TextMatch::present(), false}}; }, true},
      Row{"without, absent", [](RouteMatch& m) { m.headers = {{"x-no", TextMatch::exact("v"), true}}; },
          true},
      Row{"without, absent counts as empty",
          [](RouteMatch& m) { m.headers = {{"x-no", TextMatch::exact(""), true}}; }, false},
      Row{"without, equal", [](RouteMatch& m) { m.headers = {{"x-env", TextMatch::exact("a,b"), true}}; },
          false},
      Row{"without, present", [](RouteMatch& m) { m.headers = {{"x-env", TextMatch::present(), true}}; },
          false},
      Row{"without, present, absent",
          [](RouteMatch& m) { m.headers = {{"x-no", TextMatch::present(), true}}; }, true},
      Row{"query", [](RouteMatch& m) { m.query = {{"color", TextMatch::exact("red")}}; }, true},
      Row{"two queries",
          [](RouteMatch& m) {
            m.query = {{"color", TextMatch::exact("red")}, {"size", TextMatch::exact("5")}};
          },
          false},
      Row{"query present", [](RouteMatch& m) { m.query = {{"shape", TextMatch::present()}}; }, false},
      Row{"grpc", [](RouteMatch& m) { m.grpc = true; }, false});
  CAPTURE(row.name);
  row.set(match);
  CHECK(matches(match, request.facts()) == row.holds);
}

TEST_CASE("a gRPC match asks for POST and the content type", "[2.4.2]") {
  RouteMatch match;
  match.grpc = true;
  Request request;
  request.with("content-type", "application/grpc");
  CHECK_FALSE(matches(match, request.facts()));
  request.method = "POST";
  CHECK(matches(match, request.facts()));
}

TEST_CASE("claims match verified tokens only", "[2.1.2]") {
  RouteMatch match;
  match.claims = {{{"groups"}, TextMatch::exact("ops"), false}};
  Request request;
  request.claims.values["groups"] = {"dev", "ops"};
  CHECK_FALSE(matches(match, request.facts()));
  request.token = true;
  CHECK(matches(match, request.facts()));
  match.claims[0].invert = true;
  CHECK_FALSE(matches(match, request.facts()));
  request.claims.values["groups"] = {"dev"};
  CHECK(matches(match, request.facts()));
  request.token = false;
  CHECK_FALSE(matches(match, request.facts()));
}

TEST_CASE("sources match what the peer has proven", "[2.1.2][G1]") {
  Request request;
  request.labels = {{"app", "front"}, {"version", "v1"}};
  model::SourceMatch source;
  CHECK(matches(source, request.facts()));
  source.ns = "web";
  source.labels = {{"app", "front"}};
  source.ip = {*base::Cidr::parse("10.0.0.0/24")};
  CHECK(matches(source, request.facts()));
  request.source = "10.0.1.1";
  CHECK_FALSE(matches(source, request.facts()));
  source.ip.clear();
  source.labels["version"] = "v2";
  CHECK_FALSE(matches(source, request.facts()));
  source.labels.clear();
  request.mtls = false;
  CHECK_FALSE(matches(source, request.facts()));
  source = {};
  source.labels = {{"app", "front"}};
  HttpRequestFacts unknown = request.facts();
  unknown.source_labels = nullptr;
  CHECK_FALSE(matches(source, unknown));
}

TEST_CASE("TCP routes: the most specific server name, TLS before plain", "[2.2][G4]") {
  auto tcp = [](std::string name, bool tls, std::vector<std::string> names) {
    model::TcpRoute out;
    out.name = std::move(name);
    out.tls = tls;
    out.server_names = std::move(names);
    return out;
  };
  std::vector<model::TcpRoute> routes = {tcp("plain", false, {}),
                                         tcp("any", true, {}),
                                         tcp("wild", true, {"*.shop.local"}),
                                         tcp("deep", true, {"*.eu.shop.local"}),
                                         tcp("exact", true, {"a.shop.local"}),
                                         tcp("later", true, {"a.shop.local"})};
  Request request;
  auto chosen = [&](std::string sni, bool tls) {
    request.sni = std::move(sni);
    const model::TcpRoute* found = match_tcp_route(routes, request.facts(), tls);
    return found ? found->name : "none";
  };
  CHECK(chosen("a.shop.local", true) == "exact");
  CHECK(chosen("b.shop.local", true) == "wild");
  CHECK(chosen("b.eu.shop.local", true) == "deep");
  CHECK(chosen("shop.local", true) == "any");
  CHECK(chosen(".shop.local", true) == "any");
  CHECK(chosen("", true) == "any");
  CHECK(chosen("a.shop.local", false) == "plain");
  routes.erase(routes.begin() + 1);
  CHECK(chosen("other", true) == "plain");
}

TEST_CASE("TCP routes look at destination and source", "[2.2][G1]") {
  model::TcpRoute one;
  one.destinations = {*base::Cidr::parse("10.1.0.0/16")};
  one.source.ns = "web";
  std::vector<model::TcpRoute> routes = {one};
  Request request;
  CHECK(match_tcp_route(routes, request.facts(), false) == &routes[0]);
  request.destination = "10.2.0.1:80";
  CHECK(match_tcp_route(routes, request.facts(), false) == nullptr);
  request.destination = "10.1.0.1:80";
  request.peer.ns = "other";
  CHECK(match_tcp_route(routes, request.facts(), false) == nullptr);
}

TEST_CASE("targets are drawn by weight", "[2.1.3]") {
  base::Rng rng(7);
  std::vector<RouteTarget> targets = {target("v1", 90), target("off", 0), target("v2", 10)};
  std::map<std::string, int> drawn;
  for (int i = 0; i < 10000; ++i) ++drawn[pick_target(targets, rng)->subset];
  CHECK(drawn.size() == 2);
  // 10,000 draws of 10 %: sigma is 30.
  CHECK(drawn["v2"] == Approx(1000).margin(150));
  std::vector<RouteTarget> alone = {target("v1", 0)};
  CHECK(pick_target(alone, rng) == &alone[0]);
  std::vector<RouteTarget> zero = {target("v1", 0), target("v2", 0)};
  CHECK(pick_target(zero, rng) == nullptr);
  CHECK(pick_target({}, rng) == nullptr);
}

TEST_CASE("rewrites of a prefix", "[2.1.4][2.4.3]") {
  struct Row {
    TextMatch::Kind match;
    std::string matched;
    PathEdit::Kind edit;
    std::string to, path, expected;
  };
  using M = TextMatch::Kind;
  using E = PathEdit::Kind;
  auto row = GENERATE(Row{M::kPathPrefix, "/foo", E::kPathPrefix, "/xyz", "/foo/bar", "/xyz/bar"},
                      Row{M::kPathPrefix, "/foo", E::kPathPrefix, "/xyz", "/foo", "/xyz"},
                      Row{M::kPathPrefix, "/foo", E::kPathPrefix, "/xyz", "/foo/", "/xyz/"},
                      Row{M::kPathPrefix, "/foo/", E::kPathPrefix, "/xyz", "/foo/bar", "/xyz/bar"},
                      Row{M::kPathPrefix, "/foo", E::kPathPrefix, "/xyz/", "/foo/bar", "/xyz/bar"},
                      Row{M::kPathPrefix, "/foo", E::kPathPrefix, "/", "/foo/bar", "/bar"},
                      Row{M::kPathPrefix, "/foo", E::kPathPrefix, "", "/foo/bar", "/bar"},
                      Row{M::kPathPrefix, "/foo", E::kPathPrefix, "/", "/foo", "/"},
                      Row{M::kPathPrefix, "/", E::kPathPrefix, "/xyz", "/bar", "/xyz/bar"},
                      Row{M::kPrefix, "/api", E::kPrefix, "/v1", "/api/x", "/v1/x"},
                      Row{M::kPrefix, "/api/", E::kPrefix, "/", "/api/x", "/x"},
                      Row{M::kPrefix, "/api", E::kPrefix, "/", "/api/x", "//x"},  // kept, as upstream does
                      Row{M::kPrefix, "/api/", E::kPrefix, "", "/api/x", "/x"},
                      Row{M::kExact, "/api", E::kPrefix, "/v1", "/api", "/v1"},
                      Row{M::kRegex, "/a.*", E::kPrefix, "/v1", "/abcdefg", "/v1"},
                      Row{M::kPrefix, "/a", E::kFull, "/whole", "/abc", "/whole"},
                      Row{M::kPrefix, "/a", E::kNone, "", "/abc", "/abc"});
  CAPTURE(row.matched, row.to, row.path);
  RouteMatch match;
  match.path = text(row.match, row.matched);
  PathEdit edit{row.edit, row.to, {}};
  CHECK(edit_path(edit, &match, row.path) == row.expected);
}

TEST_CASE("rewrites by expression", "[2.1.4]") {
  PathEdit edit{PathEdit::Kind::kRegex, "/\\2/\\1", *model::Regex::compile("/(\\w+)/(\\w+)")};
  CHECK(edit_path(edit, nullptr, "/a/b") == "/b/a");
  CHECK(edit_path(edit, nullptr, "/a/b/c/d/e") == "/b/a/d/c/e");
  CHECK(edit_path(edit, nullptr, "/one") == "/one");
  edit.text = "gone";
  CHECK(edit_path(edit, nullptr, "/a/b") == "/gone");
}

TEST_CASE("Location of a redirect", "[2.1.4][2.4.3]") {
  struct Row {
    std::string name;
    std::function<void(Redirect&)> set;
    std::string expected;
    std::string authority = "shop.local", scheme = "http";
  };
  using From = Redirect::PortFrom;
  auto row = GENERATE(
      Row{"nothing", [](Redirect&) {}, "http://shop.local/old/x?q=1"},
      Row{"host", [](Redirect& r) { r.authority = "new.local"; }, "http://new.local/old/x?q=1"},
      Row{"host with port", [](Redirect& r) { r.authority = "new.local:81"; },
          "http://new.local:81/old/x?q=1"},
      Row{"scheme", [](Redirect& r) { r.scheme = "https"; }, "https://shop.local/old/x?q=1"},
      Row{"scheme drops the old default", [](Redirect& r) { r.scheme = "https"; },
          "https://shop.local/old/x?q=1", "shop.local:80"},
      Row{"scheme keeps another port", [](Redirect& r) { r.scheme = "https"; },
          "https://shop.local:8080/old/x?q=1", "shop.local:8080"},
      Row{"port", [](Redirect& r) { r.port = 8083; }, "http://shop.local:8083/old/x?q=1"},
      Row{"port 80", [](Redirect& r) { r.port = 80; }, "http://shop.local/old/x?q=1", "shop.local:8080"},
      Row{"port 443 of https",
          [](Redirect& r) {
            r.port = 443;
            r.scheme = "https";
          },
          "https://shop.local/old/x?q=1"},
      Row{"port 80 of https",
          [](Redirect& r) {
            r.port = 80;
            r.scheme = "https";
          },
          "https://shop.local:80/old/x?q=1"},
      Row{"protocol default", [](Redirect& r) { r.port_from = From::kProtocolDefault; },
          "http://shop.local/old/x?q=1", "shop.local:8080"},
      Row{"request port", [](Redirect& r) { r.port_from = From::kRequest; },
          "http://shop.local:8000/old/x?q=1"},
      Row{"whole path", [](Redirect& r) { r.path = {PathEdit::Kind::kFull, "/new", {}}; },
          "http://shop.local/new?q=1"},
      Row{"whole path with query", [](Redirect& r) { r.path = {PathEdit::Kind::kFull, "/new?a=b", {}}; },
          "http://shop.local/new?a=b"},
      Row{"prefix", [](Redirect& r) { r.path = {PathEdit::Kind::kPathPrefix, "/new", {}}; },
          "http://shop.local/new/x?q=1"},
      Row{"ipv6", [](Redirect& r) { r.port = 81; }, "http://[::1]:81/old/x?q=1", "[::1]"},
      Row{"ipv6 with port", [](Redirect&) {}, "http://[::1]:90/old/x?q=1", "[::1]:90"});
  CAPTURE(row.name);
  Request request;
  request.authority = row.authority;
  request.scheme = row.scheme;
  request.path = "/old/x";
  request.query = "q=1";
  request.port = 8000;
  Redirect redirect;
  row.set(redirect);
  RouteMatch match = path_prefix("/old");
  CHECK(redirect_location(redirect, &match, request.facts()) == row.expected);
}

TEST_CASE("percentages", "[2.1.6]") {
  base::Rng rng(3);
  int hits = 0;
  for (int i = 0; i < 10000; ++i) {
    CHECK_FALSE(draw(0, rng));
    CHECK(draw(100, rng));
    hits += draw(25, rng);
  }
  CHECK(hits == Approx(2500).margin(220));  // five sigma
}

TEST_CASE("which ends of a try are retried", "[2.1.5]") {
  using F = TryOutcome::Failure;
  using namespace model;
  struct Row {
    uint32_t on;
    F failure;
    uint16_t status;
    bool again;
  };
  auto row = GENERATE(
      Row{kRetry5xx, F::kNone, 500, true}, Row{kRetry5xx, F::kNone, 599, true},
      Row{kRetry5xx, F::kNone, 499, false}, Row{kRetry5xx, F::kReset, 0, true},
      Row{kRetry5xx, F::kTimeout, 0, true}, Row{kRetry5xx, F::kConnect, 0, true},
      Row{kRetryGatewayError, F::kNone, 500, false}, Row{kRetryGatewayError, F::kNone, 501, false},
      Row{kRetryGatewayError, F::kNone, 502, true}, Row{kRetryGatewayError, F::kNone, 504, true},
      Row{kRetryGatewayError, F::kNone, 505, false}, Row{kRetryGatewayError, F::kTimeout, 0, true},
      Row{kRetryReset, F::kReset, 0, true}, Row{kRetryReset, F::kTimeout, 0, true},
      Row{kRetryReset, F::kConnect, 0, true}, Row{kRetryReset, F::kNone, 503, false},
      Row{kRetryResetBeforeRequest, F::kResetBeforeRequest, 0, true},
      Row{kRetryResetBeforeRequest, F::kReset, 0, false}, Row{kRetryResetBeforeRequest, F::kConnect, 0, true},
      Row{kRetryConnectFailure, F::kConnect, 0, true}, Row{kRetryConnectFailure, F::kReset, 0, false},
      Row{kRetryConnectFailure, F::kTimeout, 0, false}, Row{kRetryRefusedStream, F::kRefused, 0, true},
      Row{kRetryRefusedStream, F::kReset, 0, false}, Row{kRetry4xx, F::kNone, 409, true},
      Row{kRetry4xx, F::kNone, 404, false}, Row{kRetryStatusCodes, F::kNone, 418, true},
      Row{kRetryStatusCodes, F::kNone, 500, false}, Row{0, F::kConnect, 0, false},
      Row{0, F::kNone, 503, false});
  CAPTURE(row.on, int(row.failure), row.status);
  RetryPolicy policy;
  policy.on = row.on;
  policy.status_codes = {418};
  CHECK(should_retry(policy, {row.failure, row.status, {}, {}}) == row.again);
}

TEST_CASE("retries by gRPC status and by headers", "[2.1.5]") {
  using namespace model;
  RetryPolicy policy;  // connect-failure, refused-stream, unavailable, cancelled
  auto grpc = [&](uint32_t status) { return should_retry(policy, {{}, 200, status, {}}); };
  CHECK(grpc(14));
  CHECK(grpc(1));
  CHECK_FALSE(grpc(4));
  CHECK_FALSE(grpc(8));
  CHECK_FALSE(grpc(0));
  policy.on = kRetryGrpcDeadlineExceeded | kRetryGrpcResourceExhausted | kRetryGrpcInternal;
  CHECK(grpc(4));
  CHECK(grpc(8));
  CHECK(grpc(13));
  CHECK_FALSE(grpc(14));

  policy.on = kRetryHeaders | kRetry5xx;
  policy.response_headers = {"x-again"};
  Request response;
  CHECK_FALSE(should_retry(policy, {{}, 200, {}, response.headers}));
  response.with("x-again", "");
  CHECK(should_retry(policy, {{}, 200, {}, response.headers}));
  response.with("x-envoy-ratelimited", "true");
  CHECK_FALSE(should_retry(policy, {{}, 503, {}, response.headers}));
  policy.on |= kRetryRateLimited;
  CHECK(should_retry(policy, {{}, 200, {}, response.headers}));
  response.with("x-envoy-overloaded", "true");
  CHECK_FALSE(should_retry(policy, {{}, 503, {}, response.headers}));
}

TEST_CASE("back-off grows to ten times its base", "[2.1.5]") {
  model::RetryPolicy policy;
  base::Rng rng(11);
  for (auto [retry, factor] : std::map<uint32_t, int>{{1, 1}, {2, 3}, {3, 7}, {4, 10}, {5, 10}, {100, 10}}) {
    base::Duration longest{0};
    for (int i = 0; i < 2000; ++i) longest = std::max(longest, retry_backoff(policy, retry, rng));
    CAPTURE(retry);
    CHECK(longest < milliseconds(25) * factor);
    CHECK(longest > milliseconds(24) * factor);
  }
  policy.backoff = base::Duration{0};
  CHECK(retry_backoff(policy, 3, rng) == base::Duration{0});
}

TEST_CASE("CORS", "[2.1.6]") {
  model::Cors cors;
  cors.origins = {TextMatch::exact("https://a.example")};
  cors.methods = {"GET", "PUT"};
  cors.headers = {"x-a", "x-b"};
  cors.expose = {"x-c"};
  cors.max_age = std::chrono::milliseconds(2500);
  cors.credentials = true;
  Request request;
  using Headers = std::vector<std::pair<std::string, std::string>>;

  SECTION("no origin: nothing") { CHECK(decide_cors(cors, request.facts()).headers.empty()); }
  SECTION("an actual request") {
    request.with("origin", "https://a.example");
    CorsDecision out = decide_cors(cors, request.facts());
    CHECK_FALSE(out.preflight_answer);
    CHECK(out.headers == Headers{{"access-control-allow-origin", "https://a.example"},
                                 {"access-control-allow-credentials", "true"},
                                 {"access-control-expose-headers", "x-c"}});
  }
  SECTION("a preflight") {
    request.method = "OPTIONS";
    request.with("origin", "https://a.example").with("access-control-request-method", "PUT");
    CorsDecision out = decide_cors(cors, request.facts());
    CHECK(out.preflight_answer);
    CHECK(out.headers == Headers{{"access-control-allow-origin", "https://a.example"},
                                 {"access-control-allow-credentials", "true"},
                                 {"access-control-allow-methods", "GET,PUT"},
                                 {"access-control-allow-headers", "x-a,x-b"},
                                 {"access-control-max-age", "2"}});
  }
  SECTION("OPTIONS without the asked method is no preflight") {
    request.method = "OPTIONS";
    request.with("origin", "https://a.example");
    CHECK_FALSE(decide_cors(cors, request.facts()).preflight_answer);
  }
  SECTION("a foreign origin") {
    request.method = "OPTIONS";
    request.with("origin", "https://b.example").with("access-control-request-method", "PUT");
    CorsDecision out = decide_cors(cors, request.facts());
    CHECK_FALSE(out.preflight_answer);
    CHECK(out.headers.empty());
    cors.forward_unmatched_preflights = false;
    out = decide_cors(cors, request.facts());
    CHECK(out.preflight_answer);
    CHECK(out.headers.empty());
  }
  SECTION("any origin is echoed, and so is what a star stands for with credentials") {
    cors.origins = {TextMatch::exact("*")};
    cors.methods = cors.headers = {"*"};
    request.method = "OPTIONS";
    request.with("origin", "https://b.example").with("access-control-request-method", "PATCH");
    CHECK(decide_cors(cors, request.facts()).headers ==
          Headers{{"access-control-allow-origin", "https://b.example"},
                  {"access-control-allow-credentials", "true"},
                  {"access-control-allow-methods", "PATCH"},
                  {"access-control-max-age", "2"}});
    cors.credentials = false;
    cors.max_age.reset();
    CHECK(decide_cors(cors, request.facts()).headers ==
          Headers{{"access-control-allow-origin", "https://b.example"},
                  {"access-control-allow-methods", "*"},
                  {"access-control-allow-headers", "*"}});
  }
}
