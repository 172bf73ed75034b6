// SPDX-License-Identifier: Apache-2.0
#include "control/serve/token.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "control/cli/token_command.h"
#include "test/unit/control/serve/temp_dir.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
using control::TokenKey;

constexpr base::WallTime kNow{std::chrono::seconds(1767225600)};

control::TokenClaims claims() {
  return {{"istio-system", "ztunnel", "node1", "ztunnel-a"}, "istio-ca", kNow, kNow + 1h};
}
// Header {"alg":"none","typ":"JWT"}.
constexpr std::string_view kHeaderNone = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";

TEST_CASE("a token names its caller", "[CP4.3]") {
  TokenKey key = TokenKey::generate();
  auto read = key.verify(key.issue(claims()), "istio-ca", kNow);
  REQUIRE(read);
  CHECK(read->caller.ns == "istio-system");
  CHECK(read->caller.service_account == "ztunnel");
  CHECK(read->caller.node == "node1");
  CHECK(read->caller.pod == "ztunnel-a");
  CHECK(read->expires_at == kNow + 1h);
}

TEST_CASE("a token is good until its end, for its audience, from its key", "[CP4.3]") {
  TokenKey key = TokenKey::generate();
  std::string token = key.issue(claims());
  CHECK(key.verify(token, "istio-ca", kNow + 59min));
  CHECK_FALSE(key.verify(token, "istio-ca", kNow + 1h));
  CHECK_FALSE(key.verify(token, "other", kNow));
  CHECK_FALSE(TokenKey::generate().verify(token, "istio-ca", kNow));
}

TEST_CASE("a forged token is refused whatever it says", "[CP4.3]") {
  TokenKey key = TokenKey::generate();
  std::string token = key.issue(claims());
  size_t first = token.find('.');
  size_t last = token.rfind('.');
  SECTION("any changed character") {
    for (size_t i = 0; i < token.size(); ++i) {
      std::string changed = token;
      changed[i] = changed[i] == 'A' ? 'B' : 'A';
      // The last character carries four unused bits, so another one may spell the same MAC.
      if (i + 1 == token.size()) continue;
      CHECK_FALSE(key.verify(changed, "istio-ca", kNow));
    }
  }
  SECTION("no algorithm, with and without the old signature") {
    std::string body = token.substr(first, last - first);
    CHECK_FALSE(key.verify(std::string(kHeaderNone) + body + ".", "istio-ca", kNow));
    CHECK_FALSE(key.verify(std::string(kHeaderNone) + body + token.substr(last), "istio-ca", kNow));
  }
  SECTION("shapes that are no JWT") {
    for (std::string bad :
         {std::string(), std::string("."), std::string(".."), std::string("a.b"), token + ".x", token + "=",
          " " + token, token.substr(0, last), std::string(100'000, 'a')}) {
      CHECK_FALSE(key.verify(bad, "istio-ca", kNow));
    }
  }
}

TEST_CASE("the token key is made once and readable by its owner alone", "[CP4.3]") {
  TempDir dir;
  auto state = control::StateDir::open(dir.path() + "/state").value();
  auto made = control::load_token_key(state);
  REQUIRE(made);
  CHECK(control::load_token_key(state)->bytes() == made->bytes());
  struct stat info{};
  REQUIRE(::stat(state.path("token-key").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  REQUIRE(::stat((dir.path() + "/state").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0700);
  REQUIRE(state.write("token-key", "short", 0600));
  CHECK_FALSE(control::load_token_key(state));
}

TEST_CASE("culvert token wants the key of a control plane and makes none", "[CP7]") {
  TempDir dir;
  control::TokenCommand command{dir.path() + "/state", {"ns", "sa", "", ""}};
  CHECK_FALSE(control::make_token(command, kNow));
  CHECK(::access(command.state.c_str(), F_OK) != 0);
  auto state = control::StateDir::open(command.state).value();
  TokenKey key = control::load_token_key(state).value();
  auto token = control::make_token(command, kNow);
  REQUIRE(token);
  CHECK(key.verify(*token, "istio-ca", kNow));
  command.caller.ns = "ns:sa2";
  CHECK_FALSE(control::make_token(command, kNow));
  command.caller.ns = "ns";
  command.lifetime = 0s;
  CHECK_FALSE(control::make_token(command, kNow));
}

}  // namespace
}  // namespace culvert::test
