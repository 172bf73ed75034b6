// SPDX-License-Identifier: Apache-2.0
// Tokens of strangers, wherever rules look for them; and a key set that a server may have sent. Input: the
// request's query, a newline, its Cookie, a newline, its Authorization, a newline, a key set.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mesh/jwt/authenticate.h"

using namespace culvert;
using Headers = std::vector<std::pair<std::string, std::string>>;

namespace {

std::string line(std::string_view& rest) {
  std::string out(rest.substr(0, rest.find('\n')));
  rest.remove_prefix(std::min(rest.size(), out.size() + 1));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::string query = line(rest);
  Headers headers = {{"cookie", line(rest)}, {"authorization", line(rest)}};
  using Kind = model::TokenPlace::Kind;
  model::RequestAuthentication source;
  model::JwtRule& rule = source.rules.emplace_back();
  rule.issuer = "https://idp.example";
  rule.jwks = rest;
  rule.inline_keys = true;
  rule.places = {{Kind::kHeader, "authorization", "Bearer "},
                 {Kind::kParameter, "access_token", ""},
                 {Kind::kCookie, "sid", ""}};
  rule.payload_header = "x-payload";
  rule.claim_headers = {{"x-sub", "sub"}, {"x-a", "a.b.c"}};
  auto rules = jwt::TokenRules::compile(std::span(&source, 1));

  decide::HttpRequestFacts facts;
  facts.query = query;
  facts.headers = headers;
  jwt::TokenCache cache;
  jwt::AuthenticateOptions options;
  options.now = base::WallTime(std::chrono::seconds(1500000000));
  options.cache = &cache;
  for (int round = 0; round < 2; ++round) {
    jwt::AuthenticateOutcome outcome = jwt::authenticate(*rules, facts, options);
    if (outcome.denial) {
      bool known = outcome.denial->status == 401 || outcome.denial->status == 403;
      if (!known || outcome.token || outcome.denial->body.empty()) abort();
      return 0;
    }
    if (outcome.token) {
      (void)outcome.token->at(std::vector<std::string>{"scope"});
      (void)outcome.token->at(std::vector<std::string>{"realm", "roles"});
    }
    Headers kept = headers;
    std::string left = query;
    jwt::apply(outcome, kept, left);
    for (const auto& [name, value] : kept) {
      if (name != "cookie" && name != "authorization" && value.find_first_of("\r\n") != value.npos) abort();
    }
    // What was accepted is gone: nothing is found any more.
    decide::HttpRequestFacts after;
    after.query = left;
    after.headers = kept;
    jwt::AuthenticateOutcome again = jwt::authenticate(*rules, after, options);
    if (again.token || again.denial) abort();
  }
  return 0;
}
