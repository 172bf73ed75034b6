// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/authorize.h"

#include <catch2/catch.hpp>

#include "test/unit/mesh/model/build_mesh.h"

namespace culvert::test {
namespace {

using decide::ConnectionFacts;
using decide::Decision;
using decide::holding_rule;
using model::Policy;
using model::PolicyAction;
using model::PolicyClause;
using model::PolicyMatch;
using model::PolicyRule;
using model::PolicyScope;
using Kind = model::StringMatch::Kind;

const model::Identity kWeb{"cluster.local", "production", "web"};
const model::Identity kOther{"td2", "other", "api"};

ConnectionFacts facts(std::optional<model::Identity> source = kWeb, std::string_view from = "10.0.0.9",
                      std::string_view to = "10.0.0.1:80") {
  return {ip(from), std::move(source), at(to)};
}

Policy policy(std::string_view name, PolicyAction action, std::vector<PolicyRule> rules,
              PolicyScope scope = PolicyScope::kNamespace) {
  Policy result;
  result.ns = "ns";
  result.name = name;
  result.scope = scope;
  result.action = action;
  result.rules = std::move(rules);
  return result;
}
// One rule, one clause, one match.
Policy one(PolicyMatch match, PolicyAction action = PolicyAction::kAllow) {
  return policy("p", action, {{{{{std::move(match)}}}}});
}
bool matches(PolicyMatch match, const ConnectionFacts& of) {
  return holding_rule(one(std::move(match)), of).has_value();
}

PolicyMatch yes() {
  PolicyMatch match;
  match.destination_ports = {80};
  return match;
}
PolicyMatch no() {
  PolicyMatch match;
  match.destination_ports = {81};
  return match;
}
PolicyClause clause(std::vector<PolicyMatch> list) { return {std::move(list)}; }

decide::Verdict verdict(std::vector<Policy> policies, const ConnectionFacts& of = facts(),
                        std::vector<model::Name> named = {}) {
  model::MeshStore store("node");
  store.apply(update({}, {}, std::move(policies)));
  auto destination = pod("ns", "api", {"10.0.0.1"});
  destination.authorization_policies = std::move(named);
  return decide::authorize(*store.view(), destination, of);
}

const PolicyRule kAlways{};
const PolicyRule kNever{{{{PolicyMatch()}}}};

}  // namespace

TEST_CASE("emptiness", "[A1]") {
  CHECK_FALSE(holding_rule(policy("p", PolicyAction::kAllow, {}), facts()));
  CHECK(holding_rule(policy("p", PolicyAction::kAllow, {PolicyRule()}), facts()));
  CHECK(holding_rule(policy("p", PolicyAction::kAllow, {{{clause({})}}}), facts()));
  CHECK_FALSE(holding_rule(policy("p", PolicyAction::kAllow, {{{clause({PolicyMatch()})}}}), facts()));
  CHECK(holding_rule(policy("p", PolicyAction::kAllow, {{{clause({PolicyMatch(), yes()})}}}), facts()));
  CHECK_FALSE(
      holding_rule(policy("p", PolicyAction::kAllow, {{{clause({}), clause({PolicyMatch()})}}}), facts()));

  CHECK(verdict({}).decision == Decision::kNoAllowPolicies);
  CHECK(verdict({policy("p", PolicyAction::kAllow, {})}).decision == Decision::kNotAllowed);
  CHECK(verdict({policy("p", PolicyAction::kDeny, {})}).allowed());
  CHECK(verdict({policy("p", PolicyAction::kAllow, {kAlways})}).decision == Decision::kAllowedBy);
  CHECK(verdict({policy("p", PolicyAction::kDeny, {kAlways})}).decision == Decision::kDeniedBy);
}

TEST_CASE("nesting", "[A2]") {
  struct Row {
    std::vector<PolicyRule> rules;
    std::optional<size_t> expected;
  };
  const std::vector<Row> rows = {
      {{{{clause({yes()})}}}, 0},
      {{{{clause({no()})}}}, std::nullopt},
      {{{{clause({no(), yes()})}}}, 0},                       // matches: or
      {{{{clause({yes()}), clause({no()})}}}, std::nullopt},  // clauses: and
      {{{{clause({yes()}), clause({no(), yes()})}}}, 0},
      {{{{clause({no()})}}, {{clause({yes()})}}}, 1},  // rules: or
      {{{{clause({no()})}}, {{clause({no()})}}}, std::nullopt},
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    INFO("row " << i);
    CHECK(holding_rule(policy("p", PolicyAction::kAllow, rows[i].rules), facts()) == rows[i].expected);
  }
}

TEST_CASE("each kind, positive and negative", "[A3]") {
  struct Row {
    const char* name;
    PolicyMatch match;
    bool web, other, plaintext;
  };
  auto with = [](auto member, auto value) {
    PolicyMatch match;
    (match.*member).push_back(value);
    return match;
  };
  using M = PolicyMatch;
  using S = model::StringMatch;
  const S ns{Kind::kExact, "production"}, principal{Kind::kExact, "cluster.local/ns/production/sa/web"};
  const S present{Kind::kPresence, ""}, none{Kind::kExact, ""};
  const model::ServiceAccountMatch account{"production", "web"};
  const std::vector<Row> rows = {
      {"namespace", with(&M::namespaces, ns), true, false, false},
      {"not namespace", with(&M::not_namespaces, ns), false, true, true},
      {"namespace present", with(&M::namespaces, present), true, true, false},
      {"namespace empty", with(&M::namespaces, none), false, false, true},
      {"principal", with(&M::principals, principal), true, false, false},
      {"not principal", with(&M::not_principals, principal), false, true, true},
      {"principal present", with(&M::principals, present), true, true, false},
      {"not principal present", with(&M::not_principals, present), false, false, true},
      {"principal empty prefix", with(&M::principals, S{Kind::kPrefix, ""}), true, true, false},
      {"account", with(&M::service_accounts, account), true, false, false},
      {"not account", with(&M::not_service_accounts, account), false, true, true},
      {"source ip", with(&M::source_ips, cidr("10.0.0.0/24")), true, true, true},
      {"source ip elsewhere", with(&M::source_ips, cidr("10.0.1.0/24")), false, false, false},
      {"not source ip", with(&M::not_source_ips, cidr("10.0.0.9")), false, false, false},
      {"not source ip elsewhere", with(&M::not_source_ips, cidr("10.0.0.8")), true, true, true},
      {"destination ip", with(&M::destination_ips, cidr("10.0.0.1")), true, true, true},
      {"not destination ip", with(&M::not_destination_ips, cidr("10.0.0.1")), false, false, false},
      {"other family", with(&M::destination_ips, cidr("::/0")), false, false, false},
      {"port", with(&M::destination_ports, uint16_t{80}), true, true, true},
      {"other port", with(&M::destination_ports, uint16_t{81}), false, false, false},
      {"not port", with(&M::not_destination_ports, uint16_t{80}), false, false, false},
      {"not other port", with(&M::not_destination_ports, uint16_t{81}), true, true, true},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    CHECK(matches(row.match, facts(kWeb)) == row.web);
    CHECK(matches(row.match, facts(kOther)) == row.other);
    CHECK(matches(row.match, facts(std::nullopt)) == row.plaintext);
  }
  SECTION("trust domains of accounts are not compared") {
    CHECK(matches(with(&M::service_accounts, account),
                  facts(model::Identity{"elsewhere", "production", "web"})));
  }
  SECTION("kinds are and, entries are or") {
    PolicyMatch both = yes();
    both.namespaces = {ns};
    CHECK(matches(both, facts(kWeb)));
    CHECK_FALSE(matches(both, facts(kOther)));
    both.namespaces.push_back({Kind::kExact, "other"});
    CHECK(matches(both, facts(kOther)));
    both.not_namespaces.push_back({Kind::kExact, "other"});
    CHECK_FALSE(matches(both, facts(kOther)));
  }
}

TEST_CASE("string matches", "[A4]") {
  struct Row {
    Kind kind;
    const char *text, *value;
    bool expected;
  };
  for (const Row& row : std::vector<Row>{{Kind::kExact, "ab", "ab", true},
                                         {Kind::kExact, "ab", "abc", false},
                                         {Kind::kExact, "", "", true},
                                         {Kind::kPrefix, "ab", "abc", true},
                                         {Kind::kPrefix, "ab", "a", false},
                                         {Kind::kPrefix, "", "", true},
                                         {Kind::kSuffix, "bc", "abc", true},
                                         {Kind::kSuffix, "bc", "c", false},
                                         {Kind::kSuffix, "", "x", true},
                                         {Kind::kPresence, "", "x", true},
                                         {Kind::kPresence, "", "", false},
                                         {Kind::kExact, "AB", "ab", false}}) {
    INFO(row.text << " / " << row.value);
    CHECK(model::StringMatch{row.kind, row.text}.matches(row.value) == row.expected);
  }
}

TEST_CASE("order of decisions", "[A5]") {
  auto deny = policy("deny", PolicyAction::kDeny, {kAlways}),
       allow = policy("allow", PolicyAction::kAllow, {kAlways});
  auto deny_not = policy("deny-not", PolicyAction::kDeny, {kNever});
  auto allow_not = policy("allow-not", PolicyAction::kAllow, {kNever});
  auto denied = verdict({allow, deny});
  CHECK(denied.decision == Decision::kDeniedBy);
  CHECK(denied.policy == "ns/deny");
  CHECK(denied.rule == 0u);
  CHECK(denied.reason() == "explicitly denied by: ns/deny");
  CHECK(verdict({deny_not}).decision == Decision::kNoAllowPolicies);
  CHECK(verdict({deny_not, allow}).decision == Decision::kAllowedBy);
  auto refused = verdict({allow_not, deny_not});
  CHECK(refused.decision == Decision::kNotAllowed);
  CHECK(refused.reason() == "allow policies exist, but none allowed");
  CHECK(verdict({allow_not, allow}).policy == "ns/allow");
}

TEST_CASE("scopes", "[A5]") {
  auto global = policy("g", PolicyAction::kDeny, {kAlways}, PolicyScope::kGlobal);
  auto selected = policy("s", PolicyAction::kDeny, {kAlways}, PolicyScope::kWorkloadSelector);
  auto elsewhere = policy("e", PolicyAction::kDeny, {kAlways});
  elsewhere.ns = "other";
  CHECK(verdict({global}).policy == "ns/g");
  CHECK(verdict({selected}).allowed());
  CHECK(verdict({selected}, facts(), {"ns/s"}).policy == "ns/s");
  CHECK(verdict({elsewhere}).allowed());
}

TEST_CASE("dry runs are reported and have no effect", "[A5]") {
  auto deny = policy("deny", PolicyAction::kDeny, {kAlways}),
       allow = policy("allow", PolicyAction::kAllow, {kNever});
  deny.dry_run = allow.dry_run = true;
  auto result = verdict({deny, allow});
  CHECK(result.decision == Decision::kNoAllowPolicies);
  REQUIRE(result.dry_run.size() == 2);
  CHECK(result.dry_run[0].policy == "ns/deny");
  CHECK(result.dry_run[0].action == PolicyAction::kDeny);
  CHECK(result.dry_run[1].policy.empty());  // dry-run ALLOW policies exist and none holds
  auto enforced = policy("real", PolicyAction::kAllow, {kAlways});
  CHECK(verdict({deny, enforced}).decision == Decision::kAllowedBy);
}

TEST_CASE("a policy that is not known denies") {
  auto missing = verdict({}, facts(), {"ns/missing"});
  CHECK(missing.decision == Decision::kUnknownPolicy);
  CHECK_FALSE(missing.allowed());
  CHECK(missing.unknown == std::vector<std::string>{"ns/missing"});
  CHECK(missing.reason().find("ns/missing") != std::string::npos);

  auto destination = pod("ns", "api", {"10.0.0.1"});
  destination.authorization_policies = {"ns/missing"};
  auto lenient =
      decide::authorize(*model::MeshView::empty(), destination, facts(), {.unknown_policy_denies = false});
  CHECK(lenient.allowed());
  CHECK(lenient.unknown.size() == 1);
}

TEST_CASE("PeerAuthentication in its three converted forms") {
  const model::StringMatch present{Kind::kPresence, ""};
  PolicyMatch no_identity;
  no_identity.not_principals = {present};
  PolicyMatch not_9000;
  not_9000.not_destination_ports = {9000};
  PolicyMatch both = no_identity;
  both.destination_ports = {9000};
  auto strict =
      policy("strict", PolicyAction::kDeny, {{{clause({no_identity})}}}, PolicyScope::kWorkloadSelector);
  auto strict_but_9000 =
      policy("except", PolicyAction::kDeny, {{{clause({no_identity}), clause({not_9000})}}},
             PolicyScope::kWorkloadSelector);
  auto only_9000 = policy("only", PolicyAction::kDeny, {{{clause({both})}}}, PolicyScope::kWorkloadSelector);
  auto allowed = [&](const Policy& p, std::optional<model::Identity> who, std::string_view to) {
    return verdict({p}, facts(std::move(who), "10.0.0.9", to), {p.key()}).allowed();
  };
  CHECK(allowed(strict, kWeb, "10.0.0.1:80"));
  CHECK_FALSE(allowed(strict, std::nullopt, "10.0.0.1:80"));
  CHECK_FALSE(allowed(strict_but_9000, std::nullopt, "10.0.0.1:80"));
  CHECK(allowed(strict_but_9000, std::nullopt, "10.0.0.1:9000"));
  CHECK(allowed(only_9000, std::nullopt, "10.0.0.1:80"));
  CHECK_FALSE(allowed(only_9000, std::nullopt, "10.0.0.1:9000"));
  CHECK(allowed(only_9000, kWeb, "10.0.0.1:9000"));
}

}  // namespace culvert::test
