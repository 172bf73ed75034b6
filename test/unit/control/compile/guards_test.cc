// SPDX-License-Identifier: Apache-2.0
// AuthorizationPolicy and RequestAuthentication to what a waypoint enforces: every field and condition key,
// every value form, every value that cannot be read.
#include "control/compile/guards.h"

#include <algorithm>
#include <catch2/catch.hpp>

namespace culvert::test {
namespace {

using control::compile_http_policy;
using kube::AuthorizationPolicy;
using model::Condition;
using model::Either;
using model::TextMatch;
using Kind = TextMatch::Kind;
using Texts = std::vector<std::string>;

struct Compiled {
  model::HttpPolicy policy;
  Texts complaints;
};

Compiled compiled(AuthorizationPolicy::Rule rule,
                  AuthorizationPolicy::Action action = AuthorizationPolicy::Action::kAllow) {
  AuthorizationPolicy policy;
  policy.meta.ns = "shop";
  policy.meta.name = "p";
  policy.action = action;
  policy.rules = {std::move(rule)};
  Compiled out;
  out.policy = compile_http_policy(policy, [&](const std::string& what) { out.complaints.push_back(what); });
  return out;
}

AuthorizationPolicy::Rule from(const AuthorizationPolicy::Source& source) { return {{source}, {}, {}}; }
AuthorizationPolicy::Rule to(const AuthorizationPolicy::Operation& operation) {
  return {{}, {operation}, {}};
}
AuthorizationPolicy::Rule when(std::string key, Texts values, Texts not_values = {}) {
  return {{}, {}, {{std::move(key), std::move(values), std::move(not_values)}}};
}

bool is(const TextMatch& match, Kind kind, std::string_view text) {
  return match.kind() == kind && match.text() == text;
}

}  // namespace

TEST_CASE("value forms of texts", "[waypoint-2.6.2]") {
  struct Row {
    const char* written;
    Kind kind;
    const char* text;
  };
  const Row rows[] = {{"a/b", Kind::kExact, "a/b"}, {"a*", Kind::kPrefix, "a"},   {"*b", Kind::kSuffix, "b"},
                      {"*", Kind::kPresent, ""},    {"a*b", Kind::kExact, "a*b"}, {"**", Kind::kSuffix, "*"}};
  using Source = AuthorizationPolicy::Source;
  using Operation = AuthorizationPolicy::Operation;
  struct SourceField {
    const char* name;
    Texts Source::* any;
    Texts Source::* none;
    Either<TextMatch> model::HttpSource::* made;
  };
  const SourceField sources[] = {
      {"principals", &Source::principals, &Source::not_principals, &model::HttpSource::principals},
      {"requestPrincipals", &Source::request_principals, &Source::not_request_principals,
       &model::HttpSource::request_principals},
      {"namespaces", &Source::namespaces, &Source::not_namespaces, &model::HttpSource::namespaces},
      {"trustDomains", &Source::trust_domains, &Source::not_trust_domains,
       &model::HttpSource::trust_domains}};
  struct OperationField {
    const char* name;
    Texts Operation::* any;
    Texts Operation::* none;
    Either<TextMatch> model::HttpOperation::* made;
  };
  const OperationField operations[] = {
      {"hosts", &Operation::hosts, &Operation::not_hosts, &model::HttpOperation::hosts},
      {"methods", &Operation::methods, &Operation::not_methods, &model::HttpOperation::methods},
      {"paths", &Operation::paths, &Operation::not_paths, &model::HttpOperation::paths}};
  for (const Row& row : rows) {
    auto check = [&](const char* name, const Either<TextMatch>& any, const Either<TextMatch>& none) {
      INFO(name << " " << row.written);
      REQUIRE(any.any.size() == 1);
      CHECK(is(any.any[0], row.kind, row.text));
      CHECK(any.none.empty());
      REQUIRE(none.none.size() == 1);
      CHECK(is(none.none[0], row.kind, row.text));
      CHECK(none.any.empty());
    };
    for (const SourceField& field : sources) {
      Source any, none;
      any.*field.any = none.*field.none = {row.written};
      check(field.name, compiled(from(any)).policy.rules.at(0).from.at(0).*field.made,
            compiled(from(none)).policy.rules.at(0).from.at(0).*field.made);
    }
    for (const OperationField& field : operations) {
      Operation any, none;
      any.*field.any = none.*field.none = {row.written};
      check(field.name, compiled(to(any)).policy.rules.at(0).to.at(0).*field.made,
            compiled(to(none)).policy.rules.at(0).to.at(0).*field.made);
    }
  }
}

TEST_CASE("forms of one field only", "[waypoint-2.6.2]") {
  SECTION("hosts are folded") {
    AuthorizationPolicy::Operation operation;
    operation.hosts = {"A.Example", "*.B.Example", "C.*"};
    auto hosts = compiled(to(operation)).policy.rules.at(0).to.at(0).hosts.any;
    CHECK(hosts.at(0).matches("a.example"));
    CHECK(is(hosts.at(1), Kind::kSuffix, ".b.example"));
    CHECK(hosts.at(2).matches("c.example"));
  }
  SECTION("methods and paths are not") {
    AuthorizationPolicy::Operation operation;
    operation.methods = {"GET"};
    operation.paths = {"/A"};
    auto made = compiled(to(operation)).policy.rules.at(0).to.at(0);
    CHECK_FALSE(made.methods.any.at(0).matches("get"));
    CHECK_FALSE(made.paths.any.at(0).matches("/a"));
  }
  SECTION("templates of paths, and of nothing else") {
    AuthorizationPolicy::Operation operation;
    operation.paths = {"/u/{*}/x", "/f/{**}"};
    operation.methods = {"{*}"};
    auto made = compiled(to(operation)).policy.rules.at(0).to.at(0);
    CHECK(made.paths.any.at(0).kind() == Kind::kPathTemplate);
    CHECK(made.paths.any.at(0).matches("/u/7/x"));
    CHECK_FALSE(made.paths.any.at(0).matches("/u/7/8/x"));
    CHECK(made.paths.any.at(1).matches("/f/a/b"));
    CHECK(is(made.methods.any.at(0), Kind::kExact, "{*}"));
  }
  SECTION("service accounts: of the policy's namespace if none is named") {
    AuthorizationPolicy::Source source;
    source.service_accounts = {"web", "other/api"};
    source.not_service_accounts = {"x"};
    auto made = compiled(from(source)).policy.rules.at(0).from.at(0).service_accounts;
    CHECK(made.any == std::vector<model::ServiceAccountMatch>{{"shop", "web"}, {"other", "api"}});
    CHECK(made.none == std::vector<model::ServiceAccountMatch>{{"shop", "x"}});
  }
  SECTION("addresses and ports") {
    AuthorizationPolicy::Source source;
    source.ip_blocks = {"10.0.0.0/8", "fd00::1"};
    source.not_ip_blocks = {"10.9.0.0/16"};
    source.remote_ip_blocks = {"192.0.2.1"};
    source.not_remote_ip_blocks = {"192.0.2.0/24"};
    auto made = compiled(from(source)).policy.rules.at(0).from.at(0);
    CHECK(made.ip_blocks.any ==
          std::vector{*base::Cidr::parse("10.0.0.0/8"), *base::Cidr::parse("fd00::1/128")});
    CHECK(made.ip_blocks.none == std::vector{*base::Cidr::parse("10.9.0.0/16")});
    CHECK(made.remote_ip_blocks.any == std::vector{*base::Cidr::parse("192.0.2.1/32")});
    CHECK(made.remote_ip_blocks.none == std::vector{*base::Cidr::parse("192.0.2.0/24")});
    AuthorizationPolicy::Operation operation;
    operation.ports = {"80", "8080"};
    operation.not_ports = {"443"};
    auto ports = compiled(to(operation)).policy.rules.at(0).to.at(0).ports;
    CHECK(ports.any == std::vector<uint16_t>{80, 8080});
    CHECK(ports.none == std::vector<uint16_t>{443});
  }
}

TEST_CASE("condition keys", "[waypoint-2.6.3]") {
  using Key = Condition::Key;
  struct Row {
    const char* written;
    Key key;
    const char* name;
    Texts path;
    bool http;
  };
  const Row rows[] = {
      {"request.headers[X-Team]", Key::kHeader, "x-team", {}, true},
      {"source.namespace", Key::kSourceNamespace, "", {}, false},
      {"source.principal", Key::kSourcePrincipal, "", {}, false},
      {"source.serviceAccount", Key::kSourceServiceAccount, "", {}, false},
      {"source.trustDomain", Key::kSourceTrustDomain, "", {}, false},
      {"request.auth.principal", Key::kRequestPrincipal, "", {}, true},
      {"request.auth.audiences", Key::kRequestAudiences, "", {}, true},
      {"request.auth.presenter", Key::kRequestPresenter, "", {}, true},
      {"request.auth.claims[a]", Key::kRequestClaim, "", {"a"}, true},
      {"request.auth.claims[a][b.c]", Key::kRequestClaim, "", {"a", "b.c"}, true},
      {"destination.port", Key::kDestinationPort, "", {}, false},
      {"connection.sni", Key::kConnectionSni, "", {}, false},
  };
  for (const Row& row : rows) {
    INFO(row.written);
    Compiled out = compiled(when(row.written, {"v", "w*"}, {"*x"}));
    CHECK(out.complaints.empty());
    REQUIRE(out.policy.rules.size() == 1);
    const Condition& condition = out.policy.rules[0].when.at(0);
    CHECK(condition.key == row.key);
    CHECK(condition.name == row.name);
    CHECK(condition.path == row.path);
    CHECK(condition.http_only() == row.http);
    CHECK(is(condition.values.any.at(0), Kind::kExact, "v"));
    CHECK(is(condition.values.any.at(1), Kind::kPrefix, "w"));
    CHECK(is(condition.values.none.at(0), Kind::kSuffix, "x"));
    CHECK(condition.ranges.empty());
  }
  for (auto [written, key] :
       std::vector<std::pair<const char*, Key>>{{"source.ip", Key::kSourceIp},
                                                {"remote.ip", Key::kRemoteIp},
                                                {"destination.ip", Key::kDestinationIp}}) {
    INFO(written);
    Compiled out = compiled(when(written, {"10.0.0.0/8"}, {"10.1.0.1"}));
    REQUIRE(out.policy.rules.size() == 1);
    const Condition& condition = out.policy.rules[0].when.at(0);
    CHECK(condition.key == key);
    CHECK(condition.ranges.any == std::vector{*base::Cidr::parse("10.0.0.0/8")});
    CHECK(condition.ranges.none == std::vector{*base::Cidr::parse("10.1.0.1/32")});
    CHECK(condition.values.empty());
  }
}

TEST_CASE("what cannot be read: ALLOW and AUDIT lose the rule, DENY and CUSTOM match everything",
          "[waypoint-2.6]") {
  AuthorizationPolicy::Source empty_text, range, remote, nobody;
  empty_text.principals = {"a", ""};
  range.not_ip_blocks = {"10.0.0.0/8", "10.0.0.0/99"};
  remote.remote_ip_blocks = {"home"};
  AuthorizationPolicy::Operation port, templ, nothing;
  port.ports = {"http"};
  templ.paths = {"/a/{b}"};
  struct Row {
    AuthorizationPolicy::Rule rule;
    const char* said;
  };
  const Row rows[] = {
      {from(empty_text), "an empty value"},
      {from(range), "prefix length 99"},
      {from(remote), "home"},
      {from(nobody), "a source without any attribute"},
      {to(port), "http"},
      {to(templ), "path template"},
      {to(nothing), "an operation without any attribute"},
      {when("source.ip", {"10.0.0.300"}), "10.0.0.300"},
      {when("source.ip", {}), "a condition without values"},
      {when("source.namespace", {""}), "an empty value"},
      {when("request.headers", {"x"}), "request.headers"},
      {when("request.headers[]", {"x"}), "request.headers[]"},
      {when("request.headers[a][b]", {"x"}), "request.headers[a][b]"},
      {when("request.auth.claims", {"x"}), "request.auth.claims"},
      {when("request.auth.claims[a", {"x"}), "request.auth.claims[a"},
      {when("experimental.envoy.filters.a[b]", {"x"}), "experimental.envoy.filters.a[b]"},
      {when("", {"x"}), "condition \"\""},
  };
  using Action = AuthorizationPolicy::Action;
  for (const Row& row : rows) {
    for (Action action : {Action::kAllow, Action::kDeny, Action::kAudit, Action::kCustom}) {
      INFO(row.said << " " << static_cast<int>(action));
      Compiled out = compiled(row.rule, action);
      REQUIRE_FALSE(out.complaints.empty());
      CHECK(out.complaints[0].starts_with("rule 1: "));
      CHECK(out.complaints[0].find(row.said) != std::string::npos);
      bool refuses = action == Action::kDeny || action == Action::kCustom;
      CHECK(out.policy.rules == (refuses ? std::vector<model::HttpRule>(1) : std::vector<model::HttpRule>()));
    }
  }
}

TEST_CASE("no rule, a rule without anything, and what else a policy has", "[waypoint-2.6.1]") {
  AuthorizationPolicy policy;
  policy.meta.ns = "shop";
  policy.meta.name = "p";
  policy.dry_run = true;
  policy.provider = "asks";
  using From = AuthorizationPolicy::Action;
  using To = model::HttpPolicy::Action;
  auto silent = [](const std::string& what) { FAIL(what); };
  for (auto [action, made] : std::vector<std::pair<From, To>>{{From::kAllow, To::kAllow},
                                                              {From::kDeny, To::kDeny},
                                                              {From::kAudit, To::kAudit},
                                                              {From::kCustom, To::kCustom}}) {
    policy.action = action;
    model::HttpPolicy none = compile_http_policy(policy, silent);
    CHECK(none.action == made);
    CHECK(none.rules.empty());
    CHECK(none.ns == "shop");
    CHECK(none.name == "p");
    CHECK(none.dry_run);
    CHECK(none.provider == "asks");
    CHECK_FALSE(none.selector);
  }
  policy.rules.resize(1);
  CHECK(compile_http_policy(policy, silent).rules == std::vector<model::HttpRule>(1));
}

TEST_CASE("one rule that cannot be read leaves the others as they are", "[waypoint-2.6]") {
  AuthorizationPolicy policy;
  AuthorizationPolicy::Source good, bad;
  good.namespaces = {"a"};
  bad.namespaces = {""};
  policy.rules = {from(bad), from(good)};
  Texts complaints;
  model::HttpPolicy made =
      compile_http_policy(policy, [&](const std::string& what) { complaints.push_back(what); });
  REQUIRE(made.rules.size() == 1);
  CHECK(made.rules[0].from.at(0).namespaces.any.size() == 1);
  CHECK(complaints.size() == 1);
}

TEST_CASE("token rules: keys, places, what goes upstream", "[waypoint-2.7]") {
  using Place = model::TokenPlace::Kind;
  kube::RequestAuthentication source;
  source.meta.ns = "shop";
  source.meta.name = "t";
  source.rules.resize(4);
  source.rules[0].issuer = "https://a/";
  source.rules[1].issuer = "https://b";
  source.rules[1].jwks_uri = "https://keys";
  source.rules[2].jwks = "{}";
  source.rules[2].jwks_uri = "https://unused";
  auto& full = source.rules[3];
  full.audiences = {"me"};
  full.from_headers = {{"X-Token", "T "}};
  full.from_params = {"tok"};
  full.from_cookies = {"c"};
  full.output_payload_to_header = "X-Payload";
  full.output_claims = {{"X-Sub", "sub.x"}};
  full.forward_original_token = true;
  full.space_delimited_claims = {"roles"};
  Texts asked;
  auto jwks = [&](const std::string& uri) {
    asked.push_back(uri);
    return "keys of " + uri;
  };
  model::RequestAuthentication made = control::compile_authentication(source, jwks);
  REQUIRE(made.rules.size() == 4);
  CHECK(made.rules[0].jwks == "keys of https://a/.well-known/openid-configuration");
  CHECK(made.rules[1].jwks == "keys of https://keys");
  CHECK_FALSE(made.rules[1].inline_keys);
  CHECK(made.rules[2].jwks == "{}");
  CHECK(made.rules[2].inline_keys);
  CHECK(std::find(asked.begin(), asked.end(), "https://unused") == asked.end());
  CHECK(made.rules[0].places == std::vector<model::TokenPlace>{{Place::kHeader, "authorization", "Bearer "},
                                                               {Place::kParameter, "access_token", ""}});
  CHECK(made.rules[3].places == std::vector<model::TokenPlace>{{Place::kHeader, "x-token", "T "},
                                                               {Place::kParameter, "tok", ""},
                                                               {Place::kCookie, "c", ""}});
  CHECK(made.rules[3].audiences == Texts{"me"});
  CHECK(made.rules[3].payload_header == "x-payload");
  CHECK(made.rules[3].claim_headers == std::vector<std::pair<std::string, std::string>>{{"x-sub", "sub.x"}});
  CHECK(made.rules[3].forward_token);
  CHECK(made.rules[3].space_delimited_claims == Texts{"roles"});
  // Nobody fetches: no keys, and their tokens are refused.
  CHECK(control::compile_authentication(source, nullptr).rules[1].jwks.empty());
}

}  // namespace culvert::test
