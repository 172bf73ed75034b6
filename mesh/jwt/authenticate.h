// SPDX-License-Identifier: Apache-2.0
// authenticate: are the tokens of a request what a service's RequestAuthentications ask for, and what do they
// say? (spec waypoint section 2.7, replies of section 6). The time is an argument.
//
// No token passes: requiring one is an AuthorizationPolicy's business. Every token that lies at a declared
// place must be good for some rule that looks there; the first good one, in the order of the rules, speaks
// for the request.
//
// TokenRules: immutable, made when configuration comes, shared by all loops. TokenCache: one for each loop.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mesh/decide/http_request.h"
#include "mesh/model/guard.h"
#include "net/base/duration.h"
#include "net/wire/jwt.h"

namespace culvert::jwt {

// A token that was found good. Give it to HttpRequestFacts by `tell`; the facts look into it.
class VerifiedToken : public decide::TokenClaims {
 public:
  VerifiedToken(wire::Jwt token, std::vector<std::string> space_delimited);
  std::vector<std::string> at(std::span<const std::string> path) const override;
  // Sets claims, token_principal, token_audiences and token_presenter.
  void tell(decide::HttpRequestFacts& facts) const;

  const wire::Jwt& token() const { return token_; }
  const std::string& principal() const { return principal_; }  // "iss/sub"; "" without a subject
  const std::string& presenter() const { return presenter_; }  // azp

 private:
  wire::Jwt token_;
  std::vector<std::string> space_delimited_;
  std::string principal_, presenter_;
};
using VerifiedTokenRef = std::shared_ptr<const VerifiedToken>;

// The rules of one service with their keys parsed.
class TokenRules {
 public:
  static std::shared_ptr<const TokenRules> compile(std::span<const model::RequestAuthentication> sources);

  struct Rule {
    model::JwtRule rule;
    std::optional<wire::Jwks> keys;  // none: refused with `fault`
    std::string fault;               // the body of the refusal
    std::string identity;            // changes with whatever a signature's proof depends on
  };
  struct Source {
    std::string ns, name;
    model::PodSelector selector;
    bool selector_everywhere = false;
    std::vector<Rule> rules;
  };
  const std::vector<Source>& sources() const { return sources_; }
  // What could not be used, for logs.
  const std::vector<std::string>& problems() const { return problems_; }
  bool empty() const { return sources_.empty(); }

 private:
  std::vector<Source> sources_;
  std::vector<std::string> problems_;
};

// Signatures that were found good, so that a client's next request need not be verified again. Expiry and
// audience are asked every time. Belongs to one loop.
class TokenCache {
 public:
  static constexpr size_t kEntriesMax = 8192;
  static constexpr size_t kBytesMax = 16 << 20;
  static constexpr base::Duration kLifeMax = std::chrono::minutes(5);

  VerifiedTokenRef find(const std::string& key, base::WallTime now);
  void put(const std::string& key, VerifiedTokenRef token, base::WallTime now);
  size_t size() const { return entries_.size(); }
  uint64_t hits() const { return hits_; }
  uint64_t misses() const { return misses_; }

 private:
  struct Entry {
    std::string key;
    VerifiedTokenRef token;
    base::WallTime until;
    size_t bytes;
  };
  void drop(std::list<Entry>::iterator entry);
  std::list<Entry> entries_;  // the latest used first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;
  size_t bytes_ = 0;
  uint64_t hits_ = 0, misses_ = 0;
};

struct Denial {
  uint16_t status = 401;
  std::string body;              // "Jwt is expired"
  std::string www_authenticate;  // "" none
  std::string details;           // "jwt_authn_access_denied{Jwt_is_expired}"
};

struct AuthenticateOutcome {
  std::optional<Denial> denial;
  VerifiedTokenRef token;  // null: none was shown
  // What becomes of the request that goes upstream; header names in lower case.
  std::vector<std::string> remove_headers;
  std::vector<std::string> remove_parameters, remove_cookies;
  std::vector<std::pair<std::string, std::string>> add_headers;
};

struct AuthenticateOptions {
  base::WallTime now;
  TokenCache* cache = nullptr;  // null: verify every time
  // Whether a RequestAuthentication takes part, by its selector and the endpoint. Null: those without
  // selector.
  std::function<bool(const TokenRules::Source&)> applies;
};

// Expiry and not-before are allowed to be wrong by this much.
inline constexpr std::chrono::seconds kClockSkew{60};

AuthenticateOutcome authenticate(const TokenRules& rules, const decide::HttpRequestFacts& facts,
                                 const AuthenticateOptions& options);

// Headers that only a rule may set: to be removed from what clients send before anything looks at it.
std::vector<std::string> reserved_headers(const TokenRules& rules);

// Carries out what the outcome says. `query` is without "?".
void apply(const AuthenticateOutcome& outcome, std::vector<std::pair<std::string, std::string>>& headers,
           std::string& query);

}  // namespace culvert::jwt
