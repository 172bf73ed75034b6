// SPDX-License-Identifier: Apache-2.0
// Section 2.7 of spec waypoint; RFC 7515, 7517, 7518, 8037.
#include "net/wire/jwt.h"

#include <catch2/catch.hpp>

#include "net/wire/crypto.h"
#include "test/unit/net/wire/jwt_vectors.h"

using namespace culvert;
using namespace culvert::wire;

namespace {

std::string token_of(std::string algorithm) {
  for (const auto& [name, token] : vectors::kTokens) {
    if (name == algorithm) return token;
  }
  FAIL("no vector for " << algorithm);
  return {};
}

std::string raw(std::string header, std::string payload, std::string signature = "c2ln") {
  return base64url_encode(header) + "." + base64url_encode(payload) + "." + signature;
}

// Why a token is refused; "" if it is not.
std::string refusal(const std::string& token) {
  auto jwt = parse_jwt(token);
  return jwt ? "" : jwt.error().message();
}

JwtProof proof(const std::string& token, const std::string& jwks = vectors::kJwks, bool symmetric = false) {
  auto keys = Jwks::parse(jwks);
  REQUIRE(keys);
  auto jwt = parse_jwt(token);
  REQUIRE(jwt);
  return keys->verify(*jwt, symmetric);
}

std::string hs256(std::string key, std::string header = R"({"alg":"HS256"})") {
  std::string part = base64url_encode(header) + "." + base64url_encode(R"({"iss":"me"})");
  return part + "." + base64url_encode(hmac_sha256(key, part));
}

std::string oct(std::string key) {
  return R"({"keys":[{"kty":"oct","k":")" + base64url_encode(key) + R"("}]})";
}

using Path = std::vector<std::string>;

}  // namespace

TEST_CASE("signatures of every algorithm, made elsewhere", "[2.7]") {
  for (const auto& [algorithm, token] : vectors::kTokens) {
    CAPTURE(algorithm);
    CHECK(proof(token) == JwtProof::kGood);
  }
}

TEST_CASE("a changed byte of any part is found", "[2.7]") {
  for (const auto& [algorithm, token] : vectors::kTokens) {
    CAPTURE(algorithm);
    size_t signature = token.rfind('.') + 1;
    std::string changed = token;
    changed[signature + 20] = changed[signature + 20] == 'A' ? 'B' : 'A';
    CHECK(proof(changed) == JwtProof::kBadSignature);
    std::string shorter = token.substr(0, token.size() - 4);
    CHECK(proof(shorter) == JwtProof::kBadSignature);
    CHECK(proof(token.substr(0, signature)) == JwtProof::kBadSignature);
    // The same signature under another payload.
    size_t payload = token.find('.') + 1;
    std::string forged = token.substr(0, payload) + base64url_encode(R"({"iss":"https://idp.example"})") +
                         token.substr(signature - 1);
    CHECK(proof(forged) == JwtProof::kBadSignature);
  }
}

TEST_CASE("an algorithm must suit the key", "[2.7]") {
  // A signature under a header that says something else: the header is covered, but the key must be refused
  // before anything is computed with it.
  auto relabel = [](std::string algorithm, std::string header) {
    std::string token = token_of(std::move(algorithm));
    return base64url_encode(header) + token.substr(token.find('.'));
  };
  CHECK(proof(relabel("RS256", R"({"alg":"ES256","kid":"rsa"})")) == JwtProof::kNoKey);
  CHECK(proof(relabel("RS256", R"({"alg":"EdDSA","kid":"rsa"})")) == JwtProof::kNoKey);
  CHECK(proof(relabel("ES256", R"({"alg":"ES384","kid":"ec256"})")) == JwtProof::kNoKey);
  CHECK(proof(relabel("ES256", R"({"alg":"RS256","kid":"ec256"})")) == JwtProof::kNoKey);
  CHECK(proof(relabel("EdDSA", R"({"alg":"ES256","kid":"ed"})")) == JwtProof::kNoKey);
  // The classic: a public key taken for an HMAC secret.
  CHECK(proof(relabel("RS256", R"({"alg":"HS256","kid":"rsa"})"), vectors::kJwks, true) == JwtProof::kNoKey);
  CHECK(proof(relabel("PS256", R"({"alg":"RS256","kid":"rsa"})")) == JwtProof::kBadSignature);
  CHECK(proof(vectors::kOtherSalt) == JwtProof::kBadSignature);
}

TEST_CASE("key ids", "[2.7]") {
  auto header = [](std::string text) {
    std::string token = token_of("RS256");
    return base64url_encode(text) + token.substr(token.find('.'));
  };
  CHECK(proof(header(R"({"alg":"RS256","kid":"unknown"})")) == JwtProof::kNoKey);
  // Without an id all keys that suit are tried.
  CHECK(proof(header(R"({"alg":"RS256"})")) == JwtProof::kBadSignature);
  // A key without an id is everybody's.
  std::string anonymous = vectors::kJwks;
  anonymous.replace(anonymous.find(R"("kid":"rsa")"), 11, R"("x":"rsa00")");
  CHECK(proof(token_of("RS256"), anonymous) == JwtProof::kGood);
}

TEST_CASE("keys are for what they say", "[2.7]") {
  auto with = [](std::string member) {
    std::string set = vectors::kJwks;
    std::string use = R"("use":"sig")";
    set.replace(set.find(use), use.size(), member);
    return proof(token_of("RS256"), set);
  };
  CHECK(with(R"("use":"sig")") == JwtProof::kGood);
  CHECK(with(R"("use":"enc")") == JwtProof::kNoKey);
  CHECK(with(R"("key_ops":["verify"])") == JwtProof::kGood);
  CHECK(with(R"("key_ops":["encrypt"])") == JwtProof::kNoKey);
  CHECK(with(R"("alg":"RS256")") == JwtProof::kGood);
  CHECK(with(R"("alg":"RS512")") == JwtProof::kNoKey);
}

TEST_CASE("HMAC keys count only where they are allowed", "[2.7]") {
  std::string key(32, 'k');
  CHECK(proof(hs256(key), oct(key), true) == JwtProof::kGood);
  CHECK(proof(hs256(key), oct(key), false) == JwtProof::kNoKey);
  CHECK(proof(hs256(key), oct(std::string(32, 'x')), true) == JwtProof::kBadSignature);
  CHECK(proof(hs256(key, R"({"alg":"HS512"})"), oct(key), true) == JwtProof::kNoKey);
  CHECK_FALSE(Jwks::parse(oct("short")));
}

TEST_CASE("what a token says", "[2.7]") {
  auto jwt = parse_jwt(token_of("ES256"));
  REQUIRE(jwt);
  CHECK(jwt->algorithm == "ES256");
  CHECK(jwt->key_id == "ec256");
  CHECK(jwt->issuer == "https://idp.example");
  CHECK(jwt->subject == "alice");
  CHECK(jwt->audiences == std::vector<std::string>{"shop", "billing"});
  CHECK(jwt->expires == 2000000000);
  CHECK(jwt->not_before == 1000000000);
  auto bare = parse_jwt(raw(R"({"alg":"RS256"})", "{}"));
  REQUIRE(bare);
  CHECK(bare->issuer.empty());
  CHECK(bare->audiences.empty());
  CHECK_FALSE(bare->expires);
  CHECK(parse_jwt(raw(R"({"alg":"RS256"})", R"({"aud":"one","exp":1.7e9})"))->audiences == Path{"one"});
  CHECK(parse_jwt(raw(R"({"alg":"RS256"})", R"({"exp":1.7e9})"))->expires == 1700000000);
}

TEST_CASE("claims as text", "[2.7][2.6.3]") {
  Claims claims = parse_jwt(token_of("ES256"))->claims;
  auto at = [&](Path path, Path split = {}) { return claims.at(path, split); };
  CHECK(at({"iss"}) == Path{"https://idp.example"});
  CHECK(at({"realm", "roles"}) == Path{"admin", "user"});
  CHECK(at({"realm", "level"}) == Path{"7"});
  CHECK(at({"vip"}) == Path{"true"});
  CHECK(at({"ratio"}) == Path{"0.5"});
  CHECK(at({"none"}).empty());
  CHECK(at({"realm"}).empty());
  CHECK(at({"realm", "roles", "0"}).empty());
  CHECK(at({"absent"}).empty());
  CHECK(at({}).empty());
  CHECK(at({"scope"}) == Path{"read write"});
  CHECK(at({"scope"}, {"scope"}) == Path{"read", "write"});
  auto text = [&](Path path) { return claims.text(path); };
  CHECK(text({"sub"}) == "alice");
  CHECK(text({"realm", "level"}) == "7");
  CHECK(text({"vip"}) == "true");
  CHECK_FALSE(text({"ratio"}));
  CHECK_FALSE(text({"realm", "roles"}));
  CHECK_FALSE(text({"absent"}));
  auto spaced = Claims::parse(R"({"scope":"  a  b ","list":["a b",1,null,{"x":1},true]})");
  REQUIRE(spaced);
  CHECK(spaced->at(Path{"scope"}, Path{"scope"}) == Path{"a", "b"});
  CHECK(spaced->at(Path{"list"}, Path{"list"}) == Path{"a b", "1", "true"});
}

TEST_CASE("malformed tokens and the sentences clients know", "[2.7][6]") {
  const std::string form = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
  const std::string good = R"({"alg":"RS256"})";
  struct Row {
    std::string token, sentence;
  };
  auto row = GENERATE_COPY(
      Row{"", form}, Row{"a", form}, Row{"a.b", form}, Row{"a.b.c.d", form}, Row{"a.b.c.d.e", form},
      Row{std::string(70000, 'a') + ".b.c", form},
      Row{"%%.e30.c2ln", "Jwt header is an invalid Base64url encoded"},
      Row{"e30=.e30.c2ln", "Jwt header is an invalid Base64url encoded"},
      Row{raw("{", "{}"), "Jwt header is an invalid JSON"},
      Row{raw("[]", "{}"), "Jwt header is an invalid JSON"},
      Row{raw("{}", "{}"), "Jwt header [alg] field is required and must be a string"},
      Row{raw(R"({"alg":1})", "{}"), "Jwt header [alg] field is required and must be a string"},
      Row{raw(R"({"alg":"none"})", "{}", ""), "Jwt header [alg] is not supported"},
      Row{raw(R"({"alg":"None"})", "{}"), "Jwt header [alg] is not supported"},
      Row{raw(R"({"alg":"ES256K"})", "{}"), "Jwt header [alg] is not supported"},
      Row{raw(R"({"alg":"RS256","crit":["exp"]})", "{}"), "Jwt header [crit] is not supported"},
      Row{raw(R"({"alg":"RS256","kid":7})", "{}"), "Jwt header [kid] field is not a string"},
      Row{base64url_encode(good) + ".!!.c2ln", "Jwt payload is an invalid Base64url encoded"},
      Row{raw(good, "nothing"), "Jwt payload is an invalid JSON"},
      Row{raw(good, "{} {}"), "Jwt payload is an invalid JSON"},
      Row{raw(good, "{\"a\":\"\xff\"}"), "Jwt payload is an invalid JSON"},
      Row{raw(good, R"({"a":)" + std::string(100, '[') + std::string(100, ']') + "}"),
          "Jwt payload is an invalid JSON"},
      Row{raw(good, R"({"iss":1})"), "Jwt payload [iss] field is not a string"},
      Row{raw(good, R"({"sub":[]})"), "Jwt payload [sub] field is not a string"},
      Row{raw(good, R"({"aud":1})"), "Jwt payload [aud] field is not a string or string list"},
      Row{raw(good, R"({"aud":["a",1]})"), "Jwt payload [aud] field is not a string or string list"},
      Row{raw(good, R"({"exp":"1"})"), "Jwt payload [exp] field is not an integer"},
      Row{raw(good, R"({"exp":1.5})"), "Jwt payload [exp] field is not an integer"},
      Row{raw(good, R"({"exp":-1})"), "Jwt payload [exp] field is not a positive 64 bit integer"},
      Row{raw(good, R"({"nbf":1e30})"), "Jwt payload [nbf] field is not a positive 64 bit integer"},
      Row{raw(good, "{}", "*"), "Jwt signature is an invalid Base64url encoded"});
  CAPTURE(row.token);
  CHECK(refusal(row.token) == row.sentence);
}

TEST_CASE("depth counts brackets outside of strings", "[2.7]") {
  CHECK(Claims::parse(R"({"a":")" + std::string(100, '[') + R"(\"[["})"));
  CHECK(Claims::parse(R"({"a":)" + std::string(31, '[') + std::string(31, ']') + "}"));
  CHECK_FALSE(Claims::parse(R"({"a":)" + std::string(32, '[') + std::string(32, ']') + "}"));
}

TEST_CASE("key sets: what cannot be used is left out, and said", "[2.7]") {
  auto keys = Jwks::parse(vectors::kJwks);
  REQUIRE(keys);
  CHECK(keys->size() == 5);
  CHECK(keys->skipped().empty());
  std::string good = vectors::kJwks.substr(9, vectors::kJwks.find('}') - 8);
  struct Row {
    std::string key, reason;
  };
  std::vector<Row> rows = {
      {vectors::kSmallRsa, "key 1: RSA with 1024 bits (2048 to 8192)"},
      {"7", "key 1: not an object"},
      {"{}", "key 1: \"kty\" is missing or not a string"},
      {R"({"kty":"XYZ"})", "key 1: key type \"XYZ\" is not supported"},
      {R"({"kty":"RSA","n":"AQAB"})", "key 1: \"e\" is missing or not a string"},
      {R"({"kty":"RSA","n":"A+","e":"AQAB"})", "key 1: \"n\" is not base64url"},
      {R"({"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"})", "key 1: not a point of P-256"},
      {R"({"kty":"EC","crv":"secp256k1","x":"AQ","y":"AQ"})", "key 1: curve \"secp256k1\" is not supported"},
      {R"({"kty":"OKP","crv":"X25519","x":"AQ"})", "key 1: curve \"X25519\" is not supported"},
      {R"({"kty":"OKP","crv":"Ed25519","x":"AQ"})", "key 1: not an Ed25519 key"},
      {R"({"kty":"oct","k":"AQ"})", "key 1: fewer than 32 octets"},
      {R"({"kty":"RSA","use":"enc"})", "key 1: not for signatures"},
      {R"({"kty":"RSA","kid":1})", "key 1: \"kid\" is not a string"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.key);
    auto set = Jwks::parse("{\"keys\":[" + good + "," + row.key + "]}");
    REQUIRE(set);
    CHECK(set->size() == 1);
    CHECK(set->skipped() == std::vector<std::string>{row.reason});
    CHECK_FALSE(Jwks::parse("{\"keys\":[" + row.key + "]}"));
  }
  for (const char* wrong : {"", "x", "[]", "{}", R"({"keys":{}})", R"({"keys":[]})"}) {
    CAPTURE(wrong);
    CHECK_FALSE(Jwks::parse(wrong));
  }
  std::string many = "{\"keys\":[" + good;
  for (size_t i = 1; i < Jwks::kKeysMax; ++i) many += "," + good;
  CHECK(Jwks::parse(many + "]}"));
  CHECK_FALSE(Jwks::parse(many + "," + good + "]}"));
  CHECK_FALSE(Jwks::parse(vectors::kJwks + std::string(Jwks::kBytesMax, ' ')));
}

TEST_CASE("sha256 gives the published value", "[2.7]") {
  CHECK(base64url_encode(sha256("abc")) == "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
}
