// SPDX-License-Identifier: Apache-2.0
// Routes that delegate (spec waypoint section 2.1.7): what two matches agree on, what a delegate inherits,
// who may be delegated to.
#include "control/compile/delegates.h"

#include <catch2/catch.hpp>

#include "control/compile/backends.h"
#include "control/compile/http_routes.h"

namespace culvert::control {
namespace {

using namespace std::chrono_literals;
using kube::StringMatch;
using Vs = kube::VirtualService;
using Kind = StringMatch::Kind;

StringMatch exact(const char* text) { return {Kind::kExact, text}; }
StringMatch prefix(const char* text) { return {Kind::kPrefix, text}; }
StringMatch regex(const char* text) { return {Kind::kRegex, text}; }
StringMatch present() { return {Kind::kPresent, ""}; }

Vs::HttpDestination to(const char* host) {
  Vs::HttpDestination out;
  out.destination.host = host;
  return out;
}

struct World {
  Vs root, leaf;
  std::string refusal;
  std::vector<std::string> complaints;  // "ns/name:line: what"
  RouteScope scope;

  World() {
    root.meta.ns = "front";
    root.meta.name = "root";
    root.hosts = {"shop"};
    auto& one = root.http.emplace_back();
    one.line = 7;
    one.delegate = Vs::Delegate{"leaf", "team"};
    leaf.meta.ns = "team";
    leaf.meta.name = "leaf";
    auto& own = leaf.http.emplace_back();
    own.line = 9;
    own.destinations = {to("api")};
    scope.service = [](const std::string& host,
                       const std::string& ns) -> std::optional<model::NamespacedHostname> {
      return model::NamespacedHostname{ns, resolve_host(host, ns, "cluster.local")};
    };
    scope.only_port = [](const model::NamespacedHostname&) { return uint16_t{80}; };
    scope.delegate = [this](const Vs&, const Vs::Delegate& delegate) -> base::Result<const Vs*> {
      if (!refusal.empty()) return base::fail(base::Code::kDenied, refusal);
      CHECK(delegate.name == "leaf");
      return &leaf;
    };
    scope.complain = [this](const Vs& at, int line, const std::string& what) {
      complaints.push_back(at.meta.key() + ":" + std::to_string(line) + ": " + what);
    };
  }
  std::vector<model::HttpRoute> compile(uint16_t port = 80) { return compile_http(root, port, scope); }
};

}  // namespace

TEST_CASE("what the paths of a root and its delegate agree on", "[2.1.7]") {
  struct Row {
    StringMatch root, leaf;
    std::optional<StringMatch> both;
    bool ignore_case = false;
  };
  const Row rows[] = {
      {prefix("/a"), prefix("/a/b"), prefix("/a/b")},
      {prefix("/a"), exact("/a/b"), exact("/a/b")},
      {prefix("/a"), prefix("/a"), prefix("/a")},
      {prefix("/a"), prefix("/"), std::nullopt},  // more than was handed on
      {prefix("/a"), exact("/b"), std::nullopt},
      {prefix("/a"), regex("/a/.*"), std::nullopt},
      {exact("/a"), exact("/a"), exact("/a")},
      {exact("/a"), exact("/A"), std::nullopt},
      {exact("/a"), exact("/ab"), std::nullopt},
      {exact("/a"), prefix("/a"), std::nullopt},
      {regex("/a.*"), regex("/a.*"), regex("/a.*")},
      {regex("/a.*"), regex("/a.+"), std::nullopt},
      {regex("/a.*"), exact("/ab"), std::nullopt},
      {present(), exact("/a"), exact("/a")},
      {exact("/a"), present(), exact("/a")},
      {prefix("/A"), exact("/a/b"), exact("/a/b"), true},
      {exact("/A"), exact("/a"), exact("/a"), true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.root.value, row.leaf.value);
    Vs::HttpMatch root, leaf;
    root.uri = row.root;
    leaf.uri = row.leaf;
    root.ignore_uri_case = leaf.ignore_uri_case = row.ignore_case;
    auto both = narrow_match(root, leaf);
    REQUIRE(both.has_value() == row.both.has_value());
    if (both) CHECK(*both->uri == *row.both);
  }
}

TEST_CASE("what the other fields of a match agree on", "[2.1.7]") {
  Vs::HttpMatch root, leaf;
  root.name = "r";
  leaf.name = "l";
  root.uri = prefix("/A");
  root.ignore_uri_case = true;
  root.method = exact("GET");
  root.headers = {{"x-tier", present()}, {"x-root", exact("1")}};
  leaf.headers = {{"x-tier", exact("gold")}, {"x-leaf", exact("2")}};
  root.without_headers = {{"x-internal", present()}};
  root.source_labels = {{"app", "web"}};
  root.port = 80;
  root.source_namespace = "front";
  auto both = narrow_match(root, leaf);
  REQUIRE(both);
  CHECK(both->name == "r-l");
  CHECK(both->uri == prefix("/A"));
  CHECK(both->ignore_uri_case);
  CHECK(both->method == exact("GET"));
  CHECK(both->headers == std::map<std::string, StringMatch>{
                             {"x-leaf", exact("2")}, {"x-root", exact("1")}, {"x-tier", exact("gold")}});
  CHECK(both->without_headers == root.without_headers);
  CHECK(both->source_labels == root.source_labels);
  CHECK(both->port == 80);
  CHECK(both->source_namespace == "front");

  // A delegate's mere presence, in either spelling, does not widen what the root asks for.
  leaf.headers = {{"x-root", regex("*")}};
  CHECK(narrow_match(root, leaf)->headers.at("x-root") == exact("1"));

  using Change = void (*)(Vs::HttpMatch&);
  const Change contradictions[] = {
      [](Vs::HttpMatch& m) { m.method = exact("POST"); },
      [](Vs::HttpMatch& m) { m.headers = {{"x-root", exact("3")}}; },
      // The negation of a narrower value takes more.
      [](Vs::HttpMatch& m) { m.without_headers = {{"x-internal", exact("a")}}; },
      [](Vs::HttpMatch& m) { m.source_labels = {{"app", "other"}}; },
      [](Vs::HttpMatch& m) { m.source_namespace = "other"; }, [](Vs::HttpMatch& m) { m.port = 81; },
      [](Vs::HttpMatch& m) { m.uri = prefix("/A/b"); },  // but not ignoreUriCase
  };
  for (Change change : contradictions) {
    Vs::HttpMatch other;
    change(other);
    CHECK_FALSE(narrow_match(root, other));
  }
}

TEST_CASE("the routes of a delegate: cross product, inheritance, names in whose namespace", "[2.1.7]") {
  World world;
  auto& route = world.root.http[0];
  route.match.resize(2);
  route.match[0].uri = prefix("/a");
  route.match[1].uri = prefix("/b");
  route.name = "root";
  route.timeout = 3s;
  route.retries = kube::HttpRetries{.attempts = 4};
  route.mirrors.emplace_back().destination.host = "shadow";
  route.request_headers.set = {{"x-from", "root"}};
  route.abort = Vs::Abort{.http_status = 503, .grpc_status = -1, .percent = 10};
  auto& leaf = world.leaf.http[0];
  leaf.match.resize(3);
  leaf.match[0].uri = prefix("/a/1");
  leaf.match[1].uri = prefix("/b/1");
  leaf.match[2].method = exact("PUT");
  leaf.timeout = 1s;
  world.leaf.http.emplace_back().redirect = Vs::Redirect{.uri = "/gone"};
  auto made = world.compile();
  REQUIRE(made.size() == 2);
  CHECK(world.complaints.empty());
  CHECK(made[0].name == "root");
  CHECK(made[0].origin == "VirtualService front/root");
  REQUIRE(made[0].matches.size() == 4);  // /a/1, /a PUT, /b/1, /b PUT
  CHECK(made[0].matches[0].path->text() == "/a/1");
  CHECK(made[0].matches[1].path->text() == "/a");
  CHECK(made[0].matches[1].method->text() == "PUT");
  CHECK(made[0].matches[2].path->text() == "/b/1");
  CHECK(made[0].targets[0].service.to_string() == "team/api.team.svc.cluster.local");
  CHECK(made[0].timeout == 1s);
  CHECK(made[0].retries->attempts == 4);
  CHECK(made[0].fault->abort_status == 503);
  CHECK(made[0].request.set[0].second == "root");
  REQUIRE(made[0].mirrors.size() == 1);
  CHECK(made[0].mirrors[0].target.service.to_string() == "front/shadow.front.svc.cluster.local");
  // A redirect takes the root's matches, and nothing that goes only with a route.
  CHECK(made[1].matches.size() == 2);
  CHECK(made[1].redirect);
  CHECK_FALSE(made[1].fault);
  CHECK(made[1].mirrors.empty());
  CHECK_FALSE(made[1].retries);
}

TEST_CASE("delegates that cannot be used leave their route out", "[2.1.7]") {
  World world;
  world.root.http.emplace_back().destinations = {to("rest")};
  SECTION("none that it may use") {
    world.refusal = "VirtualService team/leaf is not for namespace front";
    auto made = world.compile();
    REQUIRE(made.size() == 1);
    CHECK(made[0].targets[0].service.hostname.view() == "rest.front.svc.cluster.local");
    REQUIRE(world.complaints.size() == 1);
    CHECK(world.complaints[0] == "front/root:7: the route is left out: " + world.refusal);
  }
  SECTION("contradictions are said where the delegate writes them") {
    world.root.http[0].match.emplace_back().uri = prefix("/a");
    world.leaf.http[0].match.emplace_back().uri = prefix("/b");
    CHECK(world.compile().size() == 1);
    REQUIRE(world.complaints.size() == 1);
    CHECK(world.complaints[0].starts_with("team/leaf:9: the route is left out: its matches contradict"));
  }
  SECTION("matches of other ports are nobody's") {
    world.leaf.http[0].match.emplace_back().port = 81;
    CHECK(world.compile().size() == 1);
    CHECK(world.compile(81).size() == 1);
    CHECK(world.compile(81)[0].targets[0].service.ns == "team");
  }
  SECTION("a delegate that takes everything hides what follows") {
    CHECK(world.compile().size() == 1);
    CHECK(world.complaints.size() == 1);
  }
}

TEST_CASE("the cross product has a limit", "[2.1.7]") {
  World world;
  world.root.http[0].match.resize(64);
  world.leaf.http[0].match.resize(kDelegatedMatchesMax / 64);
  for (auto& match : world.root.http[0].match) match.uri = prefix("/a");
  CHECK(world.compile()[0].matches.size() == kDelegatedMatchesMax);
  world.leaf.http[0].match.emplace_back();
  auto made = world.compile();
  REQUIRE(made.size() == 1);
  CHECK(made[0].broken == "64 matches of the root times 65 of the delegate are more than 4096");
  CHECK(made[0].targets.empty());
  CHECK(made[0].matches.size() == 64);
}

}  // namespace culvert::control
