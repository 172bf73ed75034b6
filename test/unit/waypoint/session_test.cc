// SPDX-License-Identifier: Apache-2.0
// Tokens of sessions: what comes back of what was told, for how long, and what is none.
#include "waypoint/session.h"

#include <catch2/catch.hpp>

#include "net/wire/crypto.h"

namespace culvert::waypoint {
namespace {

using namespace std::chrono_literals;
using model::SessionPersistence;

const std::string kKey(wire::kSealKeyBytes, 'k');
const base::WallTime kNow{std::chrono::seconds(1'800'000'000)};
const Session kSession{
    {{"shop", "echo.shop.svc.cluster.local"}, 8080, "v1", ""}, "c//Pod/shop/a:8080", kNow, kNow};

std::string token_of(const SessionPersistence& rules, const Session& session = kSession) {
  auto header = write_session(rules, session, kKey, "route", false).value();
  if (rules.header) return header.second;
  size_t from = rules.name.size() + 1;
  return header.second.substr(from, header.second.find(';') - from);
}
std::optional<Session> read(const SessionPersistence& rules, const std::string& token,
                            base::WallTime now = kNow, std::string_view use = "route",
                            const std::string& key = kKey) {
  wire::Headers headers{{"cookie", "a=b; " + rules.name + "=" + token}};
  if (rules.header) headers = {{rules.name, token}};
  decide::HttpRequestFacts facts;
  facts.headers = headers;
  return read_session(rules, facts, key, use, now);
}

}  // namespace

TEST_CASE("a session comes back as it was told", "[G9]") {
  SessionPersistence rules;
  rules.name = "s";
  rules.header = GENERATE(false, true);
  Session got = read(rules, token_of(rules)).value();
  CHECK(got.cluster == kSession.cluster);
  CHECK(got.host == kSession.host);
  CHECK(got.began == kNow);
  CHECK(got.used == kNow);
  // Nothing of it can be read.
  CHECK(wire::base64url_decode(token_of(rules)).value().find("shop") == std::string::npos);
}

TEST_CASE("tokens that are none", "[G9]") {
  SessionPersistence rules;
  rules.name = "s";
  std::string token = token_of(rules);
  CHECK_FALSE(read(rules, ""));
  CHECK_FALSE(read(rules, "not base64!"));
  CHECK_FALSE(read(rules, token.substr(1)));
  CHECK_FALSE(read(rules, token + token));
  CHECK_FALSE(read(rules, std::string(5000, 'A')));
  CHECK_FALSE(read(rules, token, kNow, "another route"));
  CHECK_FALSE(read(rules, token, kNow, "route", std::string(wire::kSealKeyBytes, 'o')));
  CHECK_FALSE(read(rules, token, kNow, "route", ""));
  for (const std::string& text : {std::string("x"), std::string("1\0001\0a\0b\0x\0v\0h", 14)}) {
    CHECK_FALSE(read(rules, wire::base64url_encode(wire::seal(kKey, "route", text).value())));
  }
  CHECK_FALSE(write_session(rules, kSession, "", "route", false));
}

TEST_CASE("sessions end", "[G9]") {
  SessionPersistence rules;
  rules.name = "s";
  rules.absolute = 1h;
  rules.idle = 10min;
  Session later = kSession;
  later.used = kNow + 55min;
  std::string token = token_of(rules, later);
  CHECK(read(rules, token, kNow + 59min));
  CHECK_FALSE(read(rules, token, kNow + 60min));
  CHECK(read(rules, token_of(rules), kNow + 9min));
  CHECK_FALSE(read(rules, token_of(rules), kNow + 10min));
  CHECK_FALSE(is_stale(rules, kSession, kNow + 149s));
  CHECK(is_stale(rules, kSession, kNow + 150s));
  rules.idle = 0s;
  CHECK_FALSE(is_stale(rules, kSession, kNow + 1000h));
}

TEST_CASE("what is told", "[G9]") {
  SessionPersistence rules;
  rules.name = "s";
  auto cookie = [&](bool https) {
    auto [name, value] = write_session(rules, kSession, kKey, "route", https).value();
    CHECK(name == "set-cookie");
    return value.substr(value.find(';'));
  };
  CHECK(cookie(false) == "; Path=/; HttpOnly");
  CHECK(cookie(true) == "; Path=/; HttpOnly; Secure");
  rules.permanent = true;
  rules.absolute = 1h;
  CHECK(cookie(false) == "; Path=/; HttpOnly; Max-Age=3600");
  rules.header = true;
  CHECK(write_session(rules, kSession, kKey, "route", false).value().first == "s");
}

}  // namespace culvert::waypoint
