// SPDX-License-Identifier: Apache-2.0
// VirtualServices and DestinationRules to what a waypoint is told, by the seed's example and the spec's
// rules.
#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "control/compile/backends.h"
#include "control/compile/http_routes.h"

namespace culvert::control {
namespace {

using namespace std::chrono_literals;
using kube::StringMatch;
using kube::VirtualService;
using Kind = model::TextMatch::Kind;

struct Scope {
  std::vector<std::string> complaints;
  RouteScope scope{
      "cluster.local",
      [](const std::string& host, const std::string& ns) -> std::optional<model::NamespacedHostname> {
        if (host == "nobody") return std::nullopt;
        return model::NamespacedHostname{ns, resolve_host(host, ns, "cluster.local")};
      },
      [](const model::NamespacedHostname&) { return uint16_t{8080}; },
      nullptr,  // nothing here delegates
      [this](const VirtualService&, int, const std::string& what) { complaints.push_back(what); }};
};

VirtualService::HttpDestination to(const char* host, const char* subset, uint32_t weight) {
  VirtualService::HttpDestination out;
  out.destination.host = host;
  out.destination.subset = subset;
  out.weight = weight;
  return out;
}

VirtualService seed() {
  VirtualService vs;
  vs.meta.ns = "production";
  vs.meta.name = "api-service";
  vs.hosts = {"api-service"};
  auto& canary = vs.http.emplace_back();
  canary.match.emplace_back().uri = StringMatch{StringMatch::Kind::kPrefix, "/api/v1"};
  canary.destinations = {to("api-service", "v1", 90), to("api-service", "v2", 10)};
  canary.timeout = 30s;
  canary.retries = kube::HttpRetries{.attempts = 3, .per_try_timeout = 10s};
  auto& chrome = vs.http.emplace_back();
  chrome.match.emplace_back().headers["user-agent"] = {StringMatch::Kind::kRegex, ".*Chrome.*"};
  chrome.destinations = {to("api-service", "v2", 0)};
  auto& rest = vs.http.emplace_back();
  rest.destinations = {to("api-service", "v1", 100)};
  return vs;
}

}  // namespace

TEST_CASE("the seed's canary, A/B and default routes", "[waypoint-2.1]") {
  Scope scope;
  auto routes = compile_http(seed(), 8080, scope.scope);
  REQUIRE(routes.size() == 3);
  CHECK(scope.complaints.empty());
  const model::HttpRoute& canary = routes[0];
  CHECK(canary.origin == "VirtualService production/api-service");
  REQUIRE(canary.targets.size() == 2);
  CHECK(canary.targets[0].service.to_string() == "production/api-service.production.svc.cluster.local");
  CHECK(canary.targets[0].subset == "v1");
  CHECK(canary.targets[0].weight == 90);
  CHECK(canary.targets[0].port == 8080);
  CHECK(canary.timeout == 30s);
  REQUIRE(canary.retries);
  CHECK(canary.retries->attempts == 3);
  CHECK(canary.retries->per_try_timeout == 10s);
  CHECK(canary.retries->on == model::RetryPolicy{}.on);
  CHECK(canary.matches[0].path->matches("/api/v1/users"));
  CHECK(routes[1].matches[0].headers[0].value.matches("Mozilla Chrome/1"));
  CHECK_FALSE(routes[1].matches[0].headers[0].value.matches("curl"));
  CHECK(routes[1].targets[0].weight == 1);  // a single destination has no weight to speak of
  CHECK(routes[2].matches.empty());
}

TEST_CASE("matches of another port or gateway are not for this table") {
  Scope scope;
  VirtualService vs = seed();
  vs.http[0].match[0].port = 9090;
  vs.http[1].match[0].gateways = {"production/edge"};
  auto routes = compile_http(vs, 8080, scope.scope);
  REQUIRE(routes.size() == 1);
  CHECK(compile_http(vs, 9090, scope.scope).size() == 2);
}

TEST_CASE("what comes after a catch-all is said to be lost") {
  Scope scope;
  VirtualService vs = seed();
  std::swap(vs.http[0], vs.http[2]);
  CHECK(compile_http(vs, 8080, scope.scope).size() == 1);
  CHECK(scope.complaints.size() == 1);
}

TEST_CASE("unknown hosts, weights of nothing") {
  Scope scope;
  VirtualService vs = seed();
  vs.http[0].destinations = {to("nobody", "", 1), to("api-service", "", 0)};
  vs.http[1].destinations.clear();
  auto routes = compile_http(vs, 8080, scope.scope);
  REQUIRE(routes[0].targets.size() == 1);
  CHECK(routes[0].targets[0].service.ns.empty());
  CHECK(scope.complaints.size() == 1);
  CHECK(routes[1].broken == "it has no destination");
}

TEST_CASE("rewrites go by what was matched", "[waypoint-2.1.4]") {
  Scope scope;
  VirtualService vs = seed();
  vs.http[0].rewrite = VirtualService::Rewrite{.uri = "/x"};
  CHECK(compile_http(vs, 8080, scope.scope)[0].rewrite.path.kind == model::PathEdit::Kind::kPrefix);
  vs.http[0].match[0].uri = StringMatch{StringMatch::Kind::kExact, "/a"};
  CHECK(compile_http(vs, 8080, scope.scope)[0].rewrite.path.kind == model::PathEdit::Kind::kFull);
  vs.http[0].rewrite = VirtualService::Rewrite{.regex = "^/a(.*)", .regex_rewrite = "\\1"};
  CHECK(compile_http(vs, 8080, scope.scope)[0].rewrite.path.kind == model::PathEdit::Kind::kRegex);
}

TEST_CASE("headers, claims and absences") {
  Scope scope;
  VirtualService vs = seed();
  auto& match = vs.http[0].match[0];
  match.headers = {{"X-User", {StringMatch::Kind::kExact, "a"}},
                   {"@request.auth.claims.realm.role", {StringMatch::Kind::kExact, "admin"}},
                   {"@request.auth.claims[a.b][c]", {StringMatch::Kind::kExact, "x"}},
                   {"uri", {StringMatch::Kind::kExact, "/ignored"}},
                   {"x-any", {StringMatch::Kind::kRegex, "*"}}};
  match.without_headers = {{"x-internal", {StringMatch::Kind::kPresent, ""}}};
  model::RouteMatch out = compile_http(vs, 8080, scope.scope)[0].matches[0];
  REQUIRE(out.headers.size() == 3);
  CHECK(
      std::any_of(out.headers.begin(), out.headers.end(), [](const auto& h) { return h.name == "x-user"; }));
  CHECK(std::any_of(out.headers.begin(), out.headers.end(),
                    [](const auto& h) { return h.name == "x-internal" && h.invert; }));
  CHECK(std::any_of(out.headers.begin(), out.headers.end(),
                    [](const auto& h) { return h.name == "x-any" && h.value.kind() == Kind::kPresent; }));
  REQUIRE(out.claims.size() == 2);
  std::set<std::vector<std::string>> paths{out.claims[0].path, out.claims[1].path};
  CHECK(paths == std::set<std::vector<std::string>>{{"realm", "role"}, {"a.b", "c"}});
}

TEST_CASE("levels of a DestinationRule", "[waypoint-2.3.1]") {
  kube::DestinationRule rule;
  rule.meta.ns = "production";
  kube::TrafficPolicy top;
  top.connection_pool.emplace().tcp.max_connections = 100;
  top.connection_pool->http.http1_max_pending_requests = 100;
  top.connection_pool->http.h2_upgrade = kube::ConnectionPool::H2Upgrade::kUpgrade;
  top.outlier_detection.emplace().min_request_volume = 10;
  top.port_levels[9000].load_balancer.emplace().simple = kube::LoadBalancer::Simple::kRandom;
  rule.traffic_policy = top;
  auto& v1 = rule.subsets.emplace_back();
  v1.name = "v1";
  v1.labels = {{"version", "v1"}};
  v1.traffic_policy.emplace().connection_pool.emplace().http.http1_max_pending_requests = 50;
  rule.subsets.emplace_back().name = "v2";
  model::Backend backend = compile_backend({"production", "api"}, {&rule}, nullptr, {});
  CHECK(backend.policy.all.pool.connections_max == 100);
  CHECK(backend.policy.all.pool.upgrade == model::PoolLimits::Upgrade::kUpgrade);
  CHECK(backend.policy.all.outliers->request_volume_min == 10);
  // A port replaces its level whole.
  CHECK(backend.policy.of(9000).pool.connections_max == model::kNoLimit);
  CHECK_FALSE(backend.policy.of(9000).outliers);
  CHECK(backend.policy.of(9000).balancer.kind == model::Balancer::Kind::kRandom);
  // A subset's block replaces the parent's block, the others are inherited.
  const model::Subset& first = *backend.subset("v1");
  CHECK(first.labels == model::LabelMap{{"version", "v1"}});
  CHECK(first.policy.all.pool.pending_max == 50);
  CHECK(first.policy.all.pool.connections_max == model::kNoLimit);
  CHECK(first.policy.all.outliers);
  CHECK(first.policy.of(9000).balancer.kind == model::Balancer::Kind::kRandom);
  CHECK(backend.subset("v2")->policy.all == backend.policy.all);
  CHECK(backend.subset("v3") == nullptr);
}

TEST_CASE("a tunnel for connections without HTTP", "[2.3.5]") {
  kube::DestinationRule rule;
  auto& tunnel = rule.traffic_policy.emplace().tunnel.emplace();
  tunnel = {false, "far.example", 443};
  auto compiled = [&] { return *compile_backend({"a", "b"}, {&rule}, nullptr, {}).policy.all.tunnel; };
  CHECK(compiled() == model::HttpTunnel{"far.example:443", ""});
  tunnel.target_host = "2001:db8::1";
  CHECK(compiled().authority == "[2001:db8::1]:443");
  tunnel.post = true;
  CHECK_THAT(compiled().broken, Catch::Contains("POST is not carried out"));
}

TEST_CASE("TLS that cannot be carried out refuses instead of going in plaintext", "[2.3.5]") {
  kube::Objects objects;
  auto secret = [&](const char* name, std::map<std::string, std::string> data) {
    kube::Secret made;
    made.meta.ns = "way";
    made.meta.name = name;
    made.data = std::move(data);
    objects.secrets["way/" + made.meta.name] = std::make_shared<const kube::Secret>(made);
  };
  secret("mine", {{"tls.crt", "chain"}, {"tls.key", "secret"}, {"ca.crt", "roots"}});
  secret("split", {{"cert", "chain"}, {"key", "secret"}});
  secret("split-cacert", {{"cacert", "roots"}});
  secret("roots", {{"ca.crt", "roots"}});
  secret("nothing", {});
  kube::DestinationRule rule;
  auto& tls = rule.traffic_policy.emplace().tls.emplace();
  auto compiled = [&] {
    return compile_backend({"a", "b"}, {&rule}, nullptr, {&objects, "way"}).policy.all.tls;
  };
  using Mode = kube::ClientTls::Mode;
  SECTION("what is carried out") {
    tls.mode = Mode::kSimple;
    tls.sni = "sni.example";
    tls.subject_alt_names = {"san.example"};
    CHECK(*compiled() == model::BackendTls{true, "sni.example", {"san.example"}, "", "", "", "", ""});
    tls.insecure_skip_verify = true;
    CHECK_FALSE(compiled()->verify);
    tls = {.mode = Mode::kSimple, .ca_certificates = "system"};
    CHECK(*compiled() == model::BackendTls{});
    for (const char* name : {"roots", "kubernetes://roots", "mine"}) {
      tls = {.mode = Mode::kSimple, .credential_name = name};
      CHECK(*compiled() == model::BackendTls{true, "", {}, "roots", "", "", "", ""});
    }
    for (const char* name : {"mine", "split"}) {
      tls = {.mode = Mode::kMutual, .credential_name = name};
      CHECK(*compiled() == model::BackendTls{true, "", {}, "roots", "chain", "secret", "way", ""});
    }
    for (Mode mode : {Mode::kIstioMutual, Mode::kDisable}) {
      tls = {.mode = mode};
      CHECK_FALSE(compiled());
    }
  }
  SECTION("what is not") {
    const std::vector<std::pair<kube::ClientTls, std::string>> rows{
        {{.mode = Mode::kMutual}, "name it in credentialName"},
        {{.mode = Mode::kSimple, .ca_certificates = "/etc/ca.pem"}, "name it in credentialName"},
        {{.mode = Mode::kSimple, .ca_crl = "/etc/crl.pem"}, "caCrl"},
        {{.mode = Mode::kSimple, .credential_name = "gone"}, "there is no Secret way/gone"},
        {{.mode = Mode::kSimple, .credential_name = "nothing"}, "has no ca.crt"},
        {{.mode = Mode::kSimple, .credential_name = "configmap://gone"}, "there is no ConfigMap way/gone"},
        {{.mode = Mode::kMutual, .credential_name = "roots"}, "has no tls.crt"},
        {{.mode = Mode::kSimple, .credential_name = "other/mine"}, "another namespace"},
    };
    for (const auto& [asked, why] : rows) {
      tls = asked;
      INFO(why);
      REQUIRE(compiled());
      CHECK_THAT(compiled()->broken, Catch::Contains(why));
      CHECK(compiled()->key.empty());
    }
  }
}

TEST_CASE("hosts and who sees what") {
  CHECK(resolve_host("api", "ns", "cluster.local") == "api.ns.svc.cluster.local");
  CHECK(resolve_host("api.other", "ns", "cluster.local") == "api.other");
  CHECK(resolve_host("*", "ns", "cluster.local") == "*");
  CHECK(host_rank("a.b", "a.b") > host_rank("*.b", "a.b"));
  CHECK(host_rank("*.b", "a.b") > host_rank("*", "a.b"));
  CHECK(host_rank("*.b", "b") == 0);
  CHECK(host_rank("*.b", "ab") == 0);
  CHECK(exported_to({}, "a", "b"));
  CHECK(exported_to({"."}, "a", "a"));
  CHECK_FALSE(exported_to({"."}, "a", "b"));
  CHECK(exported_to({"b"}, "a", "b"));
}

}  // namespace culvert::control
