// SPDX-License-Identifier: Apache-2.0
// Section 2.6 of spec waypoint.
#include "mesh/decide/authorize_http.h"

#include <catch2/catch.hpp>

#include "test/unit/mesh/decide/http_facts.h"

using namespace culvert;
using namespace culvert::decide;
using model::Condition;
using model::HttpOperation;
using model::HttpPolicy;
using model::HttpRule;
using model::HttpSource;
using model::TextMatch;
using Action = model::HttpPolicy::Action;

namespace {

HttpPolicy policy(Action action, std::string name, std::vector<HttpRule> rules) {
  HttpPolicy out;
  out.ns = "shop";
  out.name = std::move(name);
  out.action = action;
  out.rules = std::move(rules);
  return out;
}

HttpRule methods(std::vector<std::string> list) {
  HttpOperation to;
  for (std::string& method : list) to.methods.any.push_back(TextMatch::exact(std::move(method)));
  HttpRule rule;
  rule.to = {to};
  return rule;
}

const std::vector<std::string> kDomains = {"cluster.local"};

HttpVerdict judge(const std::vector<HttpPolicy>& policies, const Request& request, bool http = true) {
  AuthorizeHttpOptions options;
  options.http = http;
  options.trust_domains = kDomains;
  return authorize_http(policies, request.facts(), options);
}

bool source_holds(const HttpSource& source, const Request& request) {
  return matches(source, request.facts(), true, kDomains);
}

bool condition_holds(const Condition& condition, const Request& request) {
  HttpRule rule;
  rule.when = {condition};
  return judge({policy(Action::kAllow, "p", {rule})}, request).allowed;
}

std::vector<TextMatch> exact(std::string text) { return {TextMatch::exact(std::move(text))}; }

}  // namespace

TEST_CASE("order: DENY, then ALLOW, then the default", "[2.6.1]") {
  Request get;
  Request post;
  post.method = "POST";
  HttpPolicy allow = policy(Action::kAllow, "readers", {methods({"HEAD"}), methods({"GET"})});
  HttpPolicy deny = policy(Action::kDeny, "no-posts", {methods({"POST"})});

  CHECK(judge({}, get).allowed);
  CHECK(judge({}, get).decided_by.empty());
  CHECK(judge({allow}, get).allowed);
  CHECK(judge({allow}, get).decided_by == "ns[shop]-policy[readers]-rule[1]");
  CHECK_FALSE(judge({allow}, post).allowed);
  CHECK(judge({allow}, post).decided_by.empty());
  CHECK(judge({deny}, get).allowed);
  CHECK_FALSE(judge({deny}, post).allowed);
  CHECK(judge({deny}, post).decided_by == "ns[shop]-policy[no-posts]-rule[0]");
  // DENY wins wherever it stands.
  HttpPolicy both = policy(Action::kAllow, "posts", {methods({"POST"})});
  CHECK_FALSE(judge({both, deny}, post).allowed);
  CHECK_FALSE(judge({deny, both}, post).allowed);
}

TEST_CASE("policies without rules, rules without parts", "[2.6.1]") {
  Request request;
  CHECK_FALSE(judge({policy(Action::kAllow, "none", {})}, request).allowed);
  CHECK(judge({policy(Action::kAllow, "all", {HttpRule{}})}, request).allowed);
  CHECK(judge({policy(Action::kDeny, "none", {})}, request).allowed);
  CHECK_FALSE(judge({policy(Action::kDeny, "all", {HttpRule{}})}, request).allowed);
  // CUSTOM is asked elsewhere and decides nothing here.
  CHECK(judge({policy(Action::kCustom, "ext", {HttpRule{}})}, request).allowed);
}

TEST_CASE("AUDIT marks and changes nothing", "[2.6.1]") {
  HttpVerdict verdict =
      judge({policy(Action::kAudit, "a", {HttpRule{}}), policy(Action::kAudit, "b", {})}, {});
  CHECK(verdict.allowed);
  CHECK(verdict.audited == std::vector<std::string>{"ns[shop]-policy[a]-rule[0]"});
}

TEST_CASE("dry run notes and changes nothing", "[2.6.1][G14]") {
  HttpPolicy deny = policy(Action::kDeny, "d", {HttpRule{}});
  deny.dry_run = true;
  HttpPolicy allow = policy(Action::kAllow, "a", {methods({"POST"})});
  allow.dry_run = true;
  HttpVerdict verdict = judge({deny, allow}, {});
  CHECK(verdict.allowed);
  CHECK(verdict.dry_run == std::vector<std::string>{"ns[shop]-policy[d]-rule[0]", "none"});
  Request post;
  post.method = "POST";
  CHECK(judge({allow}, post).dry_run == std::vector<std::string>{"ns[shop]-policy[a]-rule[0]"});
}

TEST_CASE("selectors cover endpoints by namespace and labels", "[2.6.5][issue3.5]") {
  model::LabelMap labels = {{"app", "api"}, {"version", "v1"}};
  model::PodSelector selector = model::LabelMap{{"app", "api"}};
  CHECK(selects(selector, false, "shop", "shop", labels));
  CHECK_FALSE(selects(selector, false, "shop", "other", labels));
  CHECK(selects(selector, true, "istio-system", "other", labels));
  CHECK_FALSE(selects(model::LabelMap{{"app", "web"}}, true, "istio-system", "other", labels));
  CHECK(selects(model::LabelMap{}, false, "shop", "shop", {}));
  CHECK_FALSE(selects(selector, false, "shop", "shop", {}));

  HttpPolicy bound = policy(Action::kDeny, "d", {HttpRule{}});
  bound.selector = selector;
  CHECK(judge({bound}, {}).allowed);
  AuthorizeHttpOptions options;
  options.applies = [](const HttpPolicy&) { return true; };
  Request request;
  CHECK_FALSE(authorize_http(std::vector<HttpPolicy>{bound}, request.facts(), options).allowed);
}

TEST_CASE("principals, under every name of the trust domain", "[2.6.2]") {
  Request request;
  auto holds = [&](std::string principal, std::vector<std::string> domains) {
    HttpSource source;
    source.principals.any = exact(std::move(principal));
    return matches(source, request.facts(), true, domains);
  };
  CHECK(holds("cluster.local/ns/web/sa/front", {"cluster.local"}));
  CHECK_FALSE(holds("cluster.local/ns/web/sa/back", {"cluster.local"}));
  CHECK_FALSE(holds("old.example/ns/web/sa/front", {"cluster.local"}));
  CHECK(holds("old.example/ns/web/sa/front", {"cluster.local", "old.example"}));
  request.peer = *model::Identity::parse("spiffe://new.example/ns/web/sa/front");
  CHECK(holds("cluster.local/ns/web/sa/front", {"new.example"}));
  CHECK(holds("old.example/ns/web/sa/front", {"old.example", "new.example"}));
  // A foreign trust domain is nobody's alias.
  CHECK_FALSE(holds("cluster.local/ns/web/sa/front", {"ours.example"}));
  CHECK(holds("new.example/ns/web/sa/front", {"ours.example"}));
}

TEST_CASE("trust domains, under every name of ours", "[2.6.2]") {
  Request request;
  request.peer = *model::Identity::parse("spiffe://new.example/ns/web/sa/front");
  auto holds = [&](std::string domain, std::vector<std::string> domains, bool negated = false) {
    HttpSource source;
    (negated ? source.trust_domains.none : source.trust_domains.any) = exact(std::move(domain));
    return matches(source, request.facts(), true, domains);
  };
  CHECK(holds("new.example", {}));
  CHECK(holds("old.example", {"new.example", "old.example"}));
  CHECK(holds("cluster.local", {"new.example"}));
  CHECK_FALSE(holds("cluster.local", {"ours.example"}));
  CHECK_FALSE(holds("cluster.local", {"new.example"}, true));
  request.mtls = false;
  CHECK_FALSE(holds("new.example", {"new.example"}));
  CHECK(holds("new.example", {"new.example"}, true));
}

TEST_CASE("sources: value forms, negation, what is not there", "[2.6.2]") {
  struct Row {
    std::string name;
    std::function<void(HttpSource&)> set;
    bool mtls, plain;
  };
  auto make = [](TextMatch::Kind kind, std::string text) { return *TextMatch::make(kind, std::move(text)); };
  std::vector<Row> rows = {
      {"nothing", [](HttpSource&) {}, true, true},
      {"prefix",
       [&](HttpSource& s) { s.principals.any = {make(TextMatch::Kind::kPrefix, "cluster.local/ns/web/")}; },
       true, false},
      {"suffix", [&](HttpSource& s) { s.principals.any = {make(TextMatch::Kind::kSuffix, "/sa/front")}; },
       true, false},
      {"any principal", [](HttpSource& s) { s.principals.any = {TextMatch::present()}; }, true, false},
      {"not any principal", [](HttpSource& s) { s.principals.none = {TextMatch::present()}; }, false, true},
      {"namespace", [](HttpSource& s) { s.namespaces.any = exact("web"); }, true, false},
      {"not namespace", [](HttpSource& s) { s.namespaces.none = exact("web"); }, false, true},
      {"other namespace", [](HttpSource& s) { s.namespaces.any = exact("x"); }, false, false},
      {"account", [](HttpSource& s) { s.service_accounts.any = {{"web", "front"}}; }, true, false},
      {"account of another namespace", [](HttpSource& s) { s.service_accounts.any = {{"x", "front"}}; },
       false, false},
      {"ip", [](HttpSource& s) { s.ip_blocks.any = {*base::Cidr::parse("10.0.0.0/30")}; }, true, true},
      {"not ip", [](HttpSource& s) { s.ip_blocks.none = {*base::Cidr::parse("10.0.0.1")}; }, false, false},
      {"remote ip", [](HttpSource& s) { s.remote_ip_blocks.any = {*base::Cidr::parse("192.0.2.0/24")}; },
       true, true},
      {"two fields are both asked",
       [](HttpSource& s) {
         s.namespaces.any = exact("web");
         s.ip_blocks.any = {*base::Cidr::parse("172.16.0.0/12")};
       },
       false, false},
      {"any token", [](HttpSource& s) { s.request_principals.any = {TextMatch::present()}; }, false, false},
      {"no token", [](HttpSource& s) { s.request_principals.none = {TextMatch::present()}; }, true, true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    HttpSource source;
    row.set(source);
    Request request;
    request.remote = "192.0.2.7";
    CHECK(source_holds(source, request) == row.mtls);
    request.mtls = false;
    CHECK(source_holds(source, request) == row.plain);
  }
}

TEST_CASE("request principals are of verified tokens", "[2.6.2]") {
  Request request;
  HttpSource source;
  source.request_principals.any = exact("https://idp/alice");
  request.principal = "https://idp/alice";
  CHECK_FALSE(source_holds(source, request));
  request.token = true;
  CHECK(source_holds(source, request));
  source.request_principals.any = {TextMatch::present()};
  CHECK(source_holds(source, request));
  // A token without subject has no principal.
  request.principal = "";
  CHECK_FALSE(source_holds(source, request));
}

TEST_CASE("operations", "[2.6.2]") {
  struct Row {
    std::string name;
    std::function<void(HttpOperation&)> set;
    bool holds;
  };
  auto make = [](TextMatch::Kind kind, std::string text) { return *TextMatch::make(kind, std::move(text)); };
  std::vector<Row> rows = {
      {"path prefix", [&](HttpOperation& o) { o.paths.any = {make(TextMatch::Kind::kPrefix, "/api/")}; },
       true},
      {"path prefix is bytes",
       [&](HttpOperation& o) { o.paths.any = {make(TextMatch::Kind::kPrefix, "/ap")}; }, true},
      {"path suffix", [&](HttpOperation& o) { o.paths.any = {make(TextMatch::Kind::kSuffix, "/info")}; },
       true},
      {"path excludes query", [](HttpOperation& o) { o.paths.any = exact("/api/info?x=1"); }, false},
      {"template",
       [&](HttpOperation& o) { o.paths.any = {make(TextMatch::Kind::kPathTemplate, "/api/{*}")}; }, true},
      {"not path", [](HttpOperation& o) { o.paths.none = exact("/api/info"); }, false},
      {"not another path", [](HttpOperation& o) { o.paths.none = exact("/healthz"); }, true},
      {"method", [](HttpOperation& o) { o.methods.any = exact("GET"); }, true},
      {"method case", [](HttpOperation& o) { o.methods.any = exact("get"); }, false},
      {"host ignores case", [](HttpOperation& o) { o.hosts.any = exact("SHOP.LOCAL:80"); }, true},
      {"host includes port", [](HttpOperation& o) { o.hosts.any = exact("shop.local"); }, false},
      {"host prefix ignores case",
       [&](HttpOperation& o) { o.hosts.any = {make(TextMatch::Kind::kPrefix, "SHOP.")}; }, true},
      {"host suffix ignores case",
       [&](HttpOperation& o) { o.hosts.any = {make(TextMatch::Kind::kSuffix, ".LOCAL:80")}; }, true},
      {"not host", [](HttpOperation& o) { o.hosts.none = exact("shop.local:80"); }, false},
      {"port", [](HttpOperation& o) { o.ports.any = {80, 81}; }, true},
      {"other port", [](HttpOperation& o) { o.ports.any = {8080}; }, false},
      {"not port", [](HttpOperation& o) { o.ports.none = {80}; }, false},
      {"fields are all asked",
       [](HttpOperation& o) {
         o.methods.any = exact("GET");
         o.ports.any = {81};
       },
       false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    HttpOperation operation;
    row.set(operation);
    HttpRule rule;
    rule.to = {operation};
    Request request;
    request.authority = "Shop.local:80";
    request.path = "/api/info";
    request.query = "x=1";
    CHECK(judge({policy(Action::kAllow, "p", {rule})}, request).allowed == row.holds);
  }
}

TEST_CASE("any source, any operation, all conditions", "[2.6.1]") {
  HttpSource web, ops;
  web.namespaces.any = exact("web");
  ops.namespaces.any = exact("ops");
  HttpRule rule = methods({"GET"});
  rule.to.push_back(methods({"PUT"}).to[0]);
  rule.from = {ops, web};
  Condition one, two;
  one.name = "x-a";
  one.values.any = exact("1");
  two.name = "x-b";
  two.values.any = exact("2");
  rule.when = {one, two};
  std::vector<HttpPolicy> policies = {policy(Action::kAllow, "p", {rule})};
  Request request;
  request.method = "PUT";
  request.with("x-a", "1");
  CHECK_FALSE(judge(policies, request).allowed);
  request.with("x-b", "2");
  CHECK(judge(policies, request).allowed);
  request.method = "POST";
  CHECK_FALSE(judge(policies, request).allowed);
  request.method = "PUT";
  request.peer.ns = "dev";
  CHECK_FALSE(judge(policies, request).allowed);
}

TEST_CASE("an absent header: values false, notValues true", "[2.6.3]") {
  Condition condition;
  condition.name = "x-user";
  Request none, alice, empty;
  alice.with("x-user", "alice");
  empty.with("x-user", "");
  condition.values.any = exact("alice");
  CHECK_FALSE(condition_holds(condition, none));
  CHECK(condition_holds(condition, alice));
  condition.values.any = {TextMatch::present()};
  CHECK(condition_holds(condition, alice));
  CHECK_FALSE(condition_holds(condition, empty));
  condition.values = {{}, exact("alice")};
  CHECK(condition_holds(condition, none));
  CHECK_FALSE(condition_holds(condition, alice));
}

TEST_CASE("every condition key", "[2.6.3]") {
  using Key = Condition::Key;
  Request request;
  request.token = true;
  request.principal = "iss/sub";
  request.audiences = {"a1", "a2"};
  request.presenter = "app";
  request.claims.values["realm.roles"] = {"admin", "user"};
  request.sni = "shop.local";
  request.remote = "192.0.2.1";
  struct Row {
    Key key;
    std::string value, wrong;
  };
  auto row = GENERATE(
      Row{Key::kSourceNamespace, "web", "x"},
      Row{Key::kSourcePrincipal, "cluster.local/ns/web/sa/front", "x"},
      Row{Key::kSourceServiceAccount, "web/front", "front"},
      Row{Key::kSourceTrustDomain, "cluster.local", "x"}, Row{Key::kRequestPrincipal, "iss/sub", "iss"},
      Row{Key::kRequestAudiences, "a2", "a3"}, Row{Key::kRequestPresenter, "app", "a1"},
      Row{Key::kRequestClaim, "user", "root"}, Row{Key::kDestinationPort, "80", "8080"},
      Row{Key::kConnectionSni, "shop.local", "x"}, Row{Key::kSourceIp, "10.0.0.0/8", "10.0.0.2"},
      Row{Key::kRemoteIp, "192.0.2.0/24", "10.0.0.0/8"}, Row{Key::kDestinationIp, "10.1.0.1", "10.1.0.2"});
  CAPTURE(int(row.key));
  auto condition = [&](const std::string& value, bool negated) {
    Condition out;
    out.key = row.key;
    out.path = {"realm", "roles"};
    bool range = row.key == Key::kSourceIp || row.key == Key::kRemoteIp || row.key == Key::kDestinationIp;
    if (range) (negated ? out.ranges.none : out.ranges.any) = {*base::Cidr::parse(value)};
    if (!range) (negated ? out.values.none : out.values.any) = exact(value);
    return out;
  };
  CHECK(condition_holds(condition(row.value, false), request));
  CHECK_FALSE(condition_holds(condition(row.wrong, false), request));
  CHECK_FALSE(condition_holds(condition(row.value, true), request));
  CHECK(condition_holds(condition(row.wrong, true), request));
  // What is not proven matches nothing.
  Request bare;
  bare.mtls = false;
  bare.source = bare.remote = "198.51.100.1";
  bare.destination = "198.51.100.2:1";
  bare.port = 1;
  CHECK_FALSE(condition_holds(condition(row.value, false), bare));
  CHECK(condition_holds(condition(row.value, true), bare));
}

TEST_CASE("HTTP fields on connections: ALLOW never matches, DENY goes on without them", "[2.6.4]") {
  HttpRule l7 = methods({"GET"});
  l7.to[0].ports.any = {80};
  HttpRule l4;
  l4.to.resize(1);
  l4.to[0].ports.any = {80};
  Request connection;
  CHECK_FALSE(judge({policy(Action::kAllow, "p", {l7})}, connection, false).allowed);
  CHECK(judge({policy(Action::kAllow, "p", {l7, l4})}, connection, false).decided_by ==
        "ns[shop]-policy[p]-rule[1]");
  CHECK_FALSE(judge({policy(Action::kDeny, "p", {methods({"POST"})})}, connection, false).allowed);
  CHECK_FALSE(judge({policy(Action::kDeny, "p", {l7})}, connection, false).allowed);
  connection.port = 81;
  CHECK(judge({policy(Action::kDeny, "p", {l7})}, connection, false).allowed);

  auto needs_http = GENERATE(0, 1, 2, 3, 4, 5);
  HttpRule rule;
  rule.from.resize(1);
  rule.to.resize(1);
  Condition header;
  header.values.none = exact("x");
  if (needs_http == 0) rule.from[0].request_principals.none = {TextMatch::present()};
  if (needs_http == 1) rule.from[0].remote_ip_blocks.none = {*base::Cidr::parse("1.1.1.1")};
  if (needs_http == 2) rule.to[0].hosts.none = exact("x");
  if (needs_http == 3) rule.to[0].paths.none = exact("x");
  if (needs_http == 4) rule.to[0].methods.none = exact("x");
  if (needs_http == 5) rule.when = {header};
  CAPTURE(needs_http);
  CHECK_FALSE(judge({policy(Action::kAllow, "p", {rule})}, connection, false).allowed);
  CHECK(judge({policy(Action::kAllow, "p", {rule})}, connection, true).allowed);
}
