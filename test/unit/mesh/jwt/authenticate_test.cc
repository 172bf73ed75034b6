// SPDX-License-Identifier: Apache-2.0
// Sections 2.7 and 6 of spec waypoint.
#include "mesh/jwt/authenticate.h"

#include <catch2/catch.hpp>

#include "net/wire/crypto.h"
#include "test/unit/mesh/decide/http_facts.h"
#include "test/unit/net/wire/jwt_vectors.h"

using namespace culvert;
using namespace culvert::jwt;
using decide::Request;
using model::JwtRule;
using model::TokenPlace;
using std::chrono::seconds;

namespace {

constexpr base::WallTime kNow{seconds(1500000000)};
const std::string kSecret(32, 's');
const std::string kIssuer = "https://idp.example";

std::string rs256() { return vectors::kTokens.front().second; }

// A token by our own secret.
std::string own(std::string payload, std::string secret = kSecret) {
  std::string part = wire::base64url_encode(R"({"alg":"HS256"})") + "." + wire::base64url_encode(payload);
  return part + "." + wire::base64url_encode(wire::hmac_sha256(secret, part));
}

JwtRule rule(std::string issuer = kIssuer) {
  JwtRule out;
  out.issuer = std::move(issuer);
  out.jwks = vectors::kJwks;
  out.places = {{TokenPlace::Kind::kHeader, "authorization", "Bearer "},
                {TokenPlace::Kind::kParameter, "access_token", ""}};
  return out;
}

// A rule that trusts `own` tokens.
JwtRule own_rule(std::string issuer = "me") {
  JwtRule out = rule(std::move(issuer));
  out.inline_keys = true;
  out.jwks = R"({"keys":[{"kty":"oct","k":")" + wire::base64url_encode(kSecret) + R"("}]})";
  return out;
}

std::shared_ptr<const TokenRules> compile(std::vector<JwtRule> rules) {
  model::RequestAuthentication source;
  source.ns = "shop";
  source.name = "jwt";
  source.rules = std::move(rules);
  return TokenRules::compile(std::vector{source});
}

AuthenticateOutcome run(std::vector<JwtRule> rules, const Request& request, base::WallTime now = kNow,
                        TokenCache* cache = nullptr) {
  AuthenticateOptions options;
  options.now = now;
  options.cache = cache;
  return authenticate(*compile(std::move(rules)), request.facts(), options);
}

Request bearer(const std::string& token) {
  Request out;
  out.path = "/buy";
  out.with("authorization", "Bearer " + token);
  return out;
}

// "ok", "no token", or status and body of the denial.
std::string verdict(const AuthenticateOutcome& outcome) {
  if (outcome.denial) return std::to_string(outcome.denial->status) + " " + outcome.denial->body;
  return outcome.token ? "ok" : "no token";
}

using Headers = std::vector<std::pair<std::string, std::string>>;

}  // namespace

TEST_CASE("no token passes; a good one speaks", "[2.7]") {
  CHECK(verdict(run({rule()}, Request())) == "no token");
  AuthenticateOutcome outcome = run({rule()}, bearer(rs256()));
  REQUIRE(verdict(outcome) == "ok");
  decide::HttpRequestFacts facts;
  outcome.token->tell(facts);
  CHECK(facts.token_principal == "https://idp.example/alice");
  CHECK(facts.token_audiences == std::vector<std::string>{"shop", "billing"});
  CHECK(facts.token_presenter == "app");
  REQUIRE(facts.claims);
  CHECK(facts.claims->at(std::vector<std::string>{"realm", "roles"}) ==
        std::vector<std::string>{"admin", "user"});
  CHECK(facts.claims->at(std::vector<std::string>{"scope"}) == std::vector<std::string>{"read", "write"});
  CHECK(run({own_rule()}, bearer(own(R"({"iss":"me"})"))).token->principal().empty());
}

TEST_CASE("refusals, with the sentences clients know", "[2.7][6]") {
  std::string tampered = rs256();
  tampered[tampered.size() - 20] ^= 1;
  std::string unknown_key = rs256();
  unknown_key =
      wire::base64url_encode(R"({"alg":"RS256","kid":"new"})") + unknown_key.substr(unknown_key.find('.'));
  std::string none = wire::base64url_encode(R"({"alg":"none"})") + "." + wire::base64url_encode("{}") + ".";
  struct Row {
    std::string name, token, verdict;
    base::WallTime now = kNow;
  };
  std::vector<Row> rows = {
      {"good", rs256(), "ok"},
      {"no form", "nonsense",
       "401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"},
      {"no algorithm", none, "401 Jwt header [alg] is not supported"},
      {"tampered", tampered, "401 Jwt verification fails"},
      {"unknown key", unknown_key, "401 Jwks doesn't have key to match kid or alg from Jwt"},
      {"unknown issuer", own(R"({"iss":"stranger"})"), "401 Jwt issuer is not configured"},
      {"no issuer", own("{}"), "401 Jwt issuer is not configured"},
      {"expired", rs256(), "401 Jwt is expired", base::WallTime(seconds(2000000061))},
      {"at the edge of expiry", rs256(), "ok", base::WallTime(seconds(2000000060))},
      {"too early", rs256(), "401 Jwt not yet valid", base::WallTime(seconds(999999939))},
      {"at the edge of too early", rs256(), "ok", base::WallTime(seconds(999999940))},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    AuthenticateOutcome outcome = run({rule()}, bearer(row.token), row.now);
    CHECK(verdict(outcome) == row.verdict);
    if (!outcome.denial) continue;
    CHECK_FALSE(outcome.token);
    CHECK(outcome.add_headers.empty());
    CHECK(outcome.denial->www_authenticate ==
          "Bearer realm=\"http://shop.local/buy\", error=\"invalid_token\"");
  }
  AuthenticateOutcome expired = run({rule()}, bearer(rs256()), base::WallTime(seconds(2100000000)));
  CHECK(expired.denial->details == "jwt_authn_access_denied{Jwt_is_expired}");
}

TEST_CASE("audiences: any of them; a mismatch is 403 without a challenge", "[2.7][6]") {
  JwtRule shop = rule();
  shop.audiences = {"other", "shop"};
  CHECK(verdict(run({shop}, bearer(rs256()))) == "ok");
  shop.audiences = {"other"};
  AuthenticateOutcome outcome = run({shop}, bearer(rs256()));
  CHECK(verdict(outcome) == "403 Audiences in Jwt are not allowed");
  CHECK(outcome.denial->www_authenticate.empty());
  JwtRule mine = own_rule();
  mine.audiences = {"shop"};
  CHECK(verdict(run({mine}, bearer(own(R"({"iss":"me","aud":"shop"})")))) == "ok");
  CHECK(verdict(run({mine}, bearer(own(R"({"iss":"me"})")))) == "403 Audiences in Jwt are not allowed");
}

TEST_CASE("keys that are not there refuse", "[2.7][6]") {
  JwtRule missing = rule();
  missing.jwks.clear();
  CHECK(verdict(run({missing}, bearer(rs256()))) == "401 Jwks remote fetch is failed");
  CHECK(verdict(run({missing}, Request())) == "no token");
  JwtRule broken = rule();
  broken.jwks = "<html>";
  CHECK(verdict(run({broken}, bearer(rs256()))) == "401 Jwks doesn't have any valid public key");
  CHECK(compile({missing, broken, rule()})->problems().size() == 2);
}

TEST_CASE("HMAC only with keys written inline", "[2.7]") {
  std::string token = own(R"({"iss":"me","sub":"bob"})");
  CHECK(verdict(run({own_rule()}, bearer(token))) == "ok");
  JwtRule fetched = own_rule();
  fetched.inline_keys = false;
  CHECK(verdict(run({fetched}, bearer(token))) == "401 Jwks doesn't have key to match kid or alg from Jwt");
}

TEST_CASE("where tokens are looked for", "[2.7]") {
  struct Row {
    std::string name;
    TokenPlace place;
    std::function<void(Request&)> set;
    std::string verdict;
  };
  std::string good = rs256();
  using Kind = TokenPlace::Kind;
  std::vector<Row> rows = {
      {"bearer",
       {Kind::kHeader, "authorization", "Bearer "},
       [&](Request& r) { r.with("authorization", "Bearer " + good); },
       "ok"},
      {"scheme in any case",
       {Kind::kHeader, "authorization", "Bearer "},
       [&](Request& r) { r.with("authorization", "bearer  " + good); },
       "ok"},
      {"another scheme",
       {Kind::kHeader, "authorization", "Bearer "},
       [&](Request& r) { r.with("authorization", "Basic " + good); },
       "no token"},
      {"only a scheme",
       {Kind::kHeader, "authorization", "Bearer "},
       [&](Request& r) { r.with("authorization", "Bearer"); },
       "no token"},
      {"no prefix", {Kind::kHeader, "x-jwt", ""}, [&](Request& r) { r.with("x-jwt", good); }, "ok"},
      {"undeclared place",
       {Kind::kHeader, "x-jwt", ""},
       [&](Request& r) { r.with("authorization", "Bearer bad"); },
       "no token"},
      {"second line of a header",
       {Kind::kHeader, "x-jwt", ""},
       [&](Request& r) { r.with("x-jwt", good).with("x-jwt", "bad"); },
       "401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"},
      {"parameter",
       {Kind::kParameter, "token", ""},
       [&](Request& r) { r.query = "a=1&token=" + good; },
       "ok"},
      {"empty parameter",
       {Kind::kParameter, "token", ""},
       [&](Request& r) { r.query = "token=&tokens=" + good; },
       "no token"},
      {"second parameter",
       {Kind::kParameter, "token", ""},
       [&](Request& r) { r.query = "token=" + good + "&token=x"; },
       "401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"},
      {"cookie",
       {Kind::kCookie, "sid", ""},
       [&](Request& r) { r.with("cookie", "a=b; sid=" + good + "; c=d"); },
       "ok"},
      {"quoted cookie",
       {Kind::kCookie, "sid", ""},
       [&](Request& r) { r.with("cookie", "sid=\"" + good + "\""); },
       "ok"},
      {"no cookie",
       {Kind::kCookie, "sid", ""},
       [&](Request& r) { r.with("cookie", "ssid=" + good); },
       "no token"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    JwtRule one = rule();
    one.places = {row.place};
    Request request;
    row.set(request);
    CHECK(verdict(run({one}, request)) == row.verdict);
  }
}

TEST_CASE("several rules: each its issuer; every token must be good for one", "[2.7]") {
  std::string mine = own(R"({"iss":"me","sub":"bob"})");
  std::vector<JwtRule> both = {rule(), own_rule()};
  CHECK(run(both, bearer(rs256())).token->principal() == "https://idp.example/alice");
  CHECK(run(both, bearer(mine)).token->principal() == "me/bob");
  // Two tokens: the first rule's speaks.
  Request two = bearer(mine);
  two.query = "access_token=" + rs256();
  CHECK(run(both, two).token->principal() == "https://idp.example/alice");
  two.query = "access_token=bad";
  CHECK(run(both, two).denial->status == 401);
  // Two rules for one issuer: either will do.
  JwtRule other_audience = rule();
  other_audience.audiences = {"nobody"};
  CHECK(verdict(run({other_audience, rule()}, bearer(rs256()))) == "ok");
  CHECK(verdict(run({other_audience, other_audience}, bearer(rs256()))) ==
        "403 Audiences in Jwt are not allowed");
  // A rule hears only what lies where it looks.
  JwtRule elsewhere = own_rule();
  elsewhere.places = {{TokenPlace::Kind::kHeader, "x-jwt", ""}};
  CHECK(verdict(run({rule(), elsewhere}, bearer(mine))) == "401 Jwt issuer is not configured");
}

TEST_CASE("what the upstream gets", "[2.7]") {
  JwtRule one = rule();
  one.payload_header = "x-payload";
  one.claim_headers = {{"x-sub", "sub"},    {"x-level", "realm.level"}, {"x-vip", "vip"},
                       {"x-no", "nothing"}, {"x-list", "realm.roles"},  {"x-ratio", "ratio"}};
  Request request = bearer(rs256());
  request.with("x-sub", "forged")
      .with("x-payload", "forged")
      .with("x-list", "forged")
      .with("x-other", "kept");
  request.query = "a=1&access_token=" + rs256() + "&b=2";
  AuthenticateOutcome outcome = run({one}, request);
  REQUIRE(verdict(outcome) == "ok");
  Headers headers = request.headers;
  std::string query = request.query;
  apply(outcome, headers, query);
  CHECK(query == "a=1&b=2");
  size_t first = rs256().find('.') + 1;
  CHECK(headers == Headers{{"x-other", "kept"},
                           {"x-payload", rs256().substr(first, rs256().rfind('.') - first)},
                           {"x-sub", "alice"},
                           {"x-level", "7"},
                           {"x-vip", "true"}});

  one.forward_token = true;
  headers = request.headers;
  query = request.query;
  apply(run({one}, request), headers, query);
  CHECK(query == request.query);
  CHECK(headers.front().first == "authorization");

  // Reserved headers are taken from everybody, token or not.
  Request bare;
  bare.with("x-sub", "forged");
  headers = bare.headers;
  apply(run({one}, bare), headers, query);
  CHECK(headers.empty());
  CHECK(reserved_headers(*compile({one})).size() == 7);
}

TEST_CASE("cookies lose the token and nothing else", "[2.7]") {
  JwtRule one = rule();
  one.places = {{TokenPlace::Kind::kCookie, "sid", ""}};
  Request request;
  request.with("cookie", "a=1; sid=" + rs256() + ";b=2").with("cookie", "sid=" + rs256());
  Headers headers = request.headers;
  std::string query;
  apply(run({one}, request), headers, query);
  CHECK(headers == Headers{{"cookie", "a=1; b=2"}});
}

TEST_CASE("a claim cannot become a second header", "[2.7]") {
  JwtRule one = own_rule();
  one.claim_headers = {{"x-a", "a"}, {"x-b", "https://b.example/role"}};
  AuthenticateOutcome outcome =
      run({one}, bearer(own(R"({"iss":"me","a":"1\r\nx-admin: yes","https://b.example/role":"user"})")));
  CHECK(outcome.add_headers == Headers{{"x-b", "user"}});
}

TEST_CASE("the realm shows no query and no quotes", "[6]") {
  Request request = bearer("x");
  request.path = "/a\"b\\" + std::string(500, 'c');
  request.query = "access_token=secret.secret.secret";
  std::string challenge = run({rule()}, request).denial->www_authenticate;
  CHECK_THAT(challenge, Catch::Matchers::StartsWith("Bearer realm=\"http://shop.local/a%22b%5Cccc"));
  CHECK(challenge.find("secret") == challenge.npos);
  CHECK(challenge.size() < 320);
}

TEST_CASE("selectors: who takes part is the caller's to say", "[2.7][issue3.5]") {
  model::RequestAuthentication source;
  source.ns = "shop";
  source.name = "jwt";
  source.rules = {rule()};
  source.selector = model::LabelMap{{"app", "api"}};
  auto rules = TokenRules::compile(std::vector{source});
  AuthenticateOptions options;
  options.now = kNow;
  Request request = bearer("bad");
  CHECK(verdict(authenticate(*rules, request.facts(), options)) == "no token");
  options.applies = [](const TokenRules::Source& one) { return one.selector->contains("app"); };
  CHECK(authenticate(*rules, request.facts(), options).denial);
}

TEST_CASE("the cache spares the signature and nothing else", "[2.7]") {
  TokenCache cache;
  Request request = bearer(rs256());
  auto once = run({rule()}, request, kNow, &cache);
  CHECK(cache.size() == 1);
  CHECK(cache.hits() == 0);
  auto again = run({rule()}, request, kNow + seconds(1), &cache);
  CHECK(again.token == once.token);
  CHECK(cache.hits() == 1);
  // Audience and expiry are asked every time.
  JwtRule other = rule();
  other.audiences = {"nobody"};
  CHECK(verdict(run({other}, request, kNow, &cache)) == "403 Audiences in Jwt are not allowed");
  // Other keys, other proof.
  JwtRule rotated = rule();
  rotated.jwks = own_rule().jwks;
  CHECK(run({rotated}, request, kNow, &cache).denial);
  // Five minutes at most.
  CHECK(run({rule()}, request, kNow + seconds(300), &cache).token != once.token);
}

TEST_CASE("cache entries end with their token, and there are not too many", "[2.7]") {
  TokenCache cache;
  auto token = [](int64_t expires) {
    auto jwt = wire::parse_jwt(own(R"({"iss":"me","exp":)" + std::to_string(expires) + "}"));
    return std::make_shared<const VerifiedToken>(std::move(*jwt), std::vector<std::string>());
  };
  cache.put("a", token(1500000010), kNow);
  CHECK(cache.find("a", kNow + seconds(9)));
  CHECK_FALSE(cache.find("a", kNow + seconds(10)));
  CHECK(cache.size() == 0);
  cache.put("late", token(1500000000), kNow);
  CHECK(cache.size() == 0);
  VerifiedTokenRef one = token(2000000000);
  cache.put("old", one, kNow);
  cache.put("used", one, kNow);
  for (size_t i = 2; i < TokenCache::kEntriesMax; ++i) cache.put(std::to_string(i), one, kNow);
  CHECK(cache.size() == TokenCache::kEntriesMax);
  CHECK(cache.find("used", kNow));
  cache.put("new", one, kNow);
  CHECK(cache.size() == TokenCache::kEntriesMax);
  CHECK_FALSE(cache.find("old", kNow));
  CHECK(cache.find("used", kNow));
}
