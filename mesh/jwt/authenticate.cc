// SPDX-License-Identifier: Apache-2.0
#include "mesh/jwt/authenticate.h"

#include <fmt/format.h>

#include <algorithm>

namespace culvert::jwt {

namespace {

using model::TokenPlace;
using Rule = TokenRules::Rule;

constexpr std::string_view kUnknownIssuer = "Jwt issuer is not configured";
constexpr std::string_view kExpired = "Jwt is expired";
constexpr std::string_view kTooEarly = "Jwt not yet valid";
constexpr std::string_view kAudience = "Audiences in Jwt are not allowed";
constexpr std::string_view kBadSignature = "Jwt verification fails";
constexpr std::string_view kNoKey = "Jwks doesn't have key to match kid or alg from Jwt";
// Of the realm of a challenge.
constexpr size_t kRealmBytesMax = 256;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

// What stands behind the prefix of a header's value, "Bearer x": schemes have no case (RFC 9110
// section 11.1), and refusing a bad token beats overlooking it.
std::string_view behind_prefix(std::string_view value, std::string_view prefix) {
  if (value.size() < prefix.size() || !equal_ignoring_case(value.substr(0, prefix.size()), prefix)) return {};
  return trimmed(value.substr(prefix.size()));
}

// Every token that lies at a place.
std::vector<std::string_view> tokens_at(const TokenPlace& place, const decide::HttpRequestFacts& facts) {
  std::vector<std::string_view> out;
  auto add = [&](std::string_view token) {
    if (!token.empty()) out.push_back(token);
  };
  if (place.kind == TokenPlace::Kind::kParameter) {
    for (std::string_view rest = facts.query; !rest.empty();) {
      std::string_view pair = rest.substr(0, rest.find('&'));
      rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
      if (pair.size() > place.name.size() && pair.starts_with(place.name) && pair[place.name.size()] == '=') {
        add(pair.substr(place.name.size() + 1));
      }
    }
    return out;
  }
  for (const auto& [name, value] : facts.headers) {
    if (place.kind == TokenPlace::Kind::kHeader && name == place.name)
      add(behind_prefix(value, place.prefix));
    if (place.kind != TokenPlace::Kind::kCookie || name != "cookie") continue;
    for (std::string_view rest = value; !rest.empty();) {
      std::string_view pair = rest.substr(0, rest.find(';'));
      rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
      size_t equals = pair.find('=');
      if (equals == pair.npos || trimmed(pair.substr(0, equals)) != place.name) continue;
      std::string_view token = trimmed(pair.substr(equals + 1));
      bool quoted = token.size() >= 2 && token.front() == '"' && token.back() == '"';
      add(quoted ? token.substr(1, token.size() - 2) : token);
    }
  }
  return out;
}

// A token and the rules that look where it was found, in their order.
struct Candidate {
  std::string_view text;
  std::vector<const Rule*> rules;
};

std::vector<Candidate> find_tokens(const std::vector<const Rule*>& rules,
                                   const decide::HttpRequestFacts& facts) {
  std::vector<Candidate> out;
  for (const Rule* rule : rules) {
    for (const TokenPlace& place : rule->rule.places) {
      for (std::string_view token : tokens_at(place, facts)) {
        auto known =
            std::find_if(out.begin(), out.end(), [&](const Candidate& one) { return one.text == token; });
        if (known == out.end()) known = out.insert(out.end(), {token, {}});
        if (known->rules.empty() || known->rules.back() != rule) known->rules.push_back(rule);
      }
    }
  }
  return out;
}

struct Judgement {
  VerifiedTokenRef token;      // null: refused
  const Rule* rule = nullptr;  // that accepted it
  std::string fault;
};

// Why a token's claims do not suit a rule; "" if they do. Time before audience, as clients know it.
std::string_view fault_of(const Rule& rule, const wire::Jwt& jwt, base::WallTime when) {
  int64_t now = std::chrono::floor<std::chrono::seconds>(when).time_since_epoch().count();
  int64_t skew = kClockSkew.count();
  if (jwt.not_before && *jwt.not_before > now + skew) return kTooEarly;
  if (jwt.expires && *jwt.expires < now - skew) return kExpired;
  const std::vector<std::string>& wanted = rule.rule.audiences;
  bool addressed = wanted.empty() || std::any_of(wanted.begin(), wanted.end(), [&](const std::string& one) {
                     return std::find(jwt.audiences.begin(), jwt.audiences.end(), one) != jwt.audiences.end();
                   });
  return addressed ? std::string_view() : kAudience;
}

// Claims, then signature.
Judgement judge(const Rule& rule, const wire::Jwt& jwt, const AuthenticateOptions& options) {
  auto refuse = [](std::string_view why) { return Judgement{nullptr, nullptr, std::string(why)}; };
  if (std::string_view fault = fault_of(rule, jwt, options.now); !fault.empty()) return refuse(fault);
  if (!rule.keys) return refuse(rule.fault);
  switch (rule.keys->verify(jwt, rule.rule.inline_keys)) {
    case wire::JwtProof::kGood: break;
    case wire::JwtProof::kNoKey: return refuse(kNoKey);
    case wire::JwtProof::kBadSignature: return refuse(kBadSignature);
  }
  return {std::make_shared<const VerifiedToken>(jwt, rule.rule.space_delimited_claims), &rule, ""};
}

Judgement judge(const Candidate& candidate, const AuthenticateOptions& options) {
  std::string digest = options.cache ? wire::sha256(candidate.text) : std::string();
  if (options.cache) {
    for (const Rule* rule : candidate.rules) {
      VerifiedTokenRef known = options.cache->find(digest + rule->identity, options.now);
      if (known && fault_of(*rule, known->token(), options.now).empty()) return {known, rule, ""};
    }
  }
  base::Result<wire::Jwt> jwt = wire::parse_jwt(candidate.text);
  if (!jwt) return {nullptr, nullptr, jwt.error().message()};
  Judgement first{nullptr, nullptr, std::string(kUnknownIssuer)};
  bool asked = false;
  for (const Rule* rule : candidate.rules) {
    if (rule->rule.issuer != jwt->issuer) continue;
    Judgement one = judge(*rule, *jwt, options);
    if (one.token) {
      if (options.cache) options.cache->put(digest + rule->identity, one.token, options.now);
      return one;
    }
    if (!asked) first = std::move(one);
    asked = true;
  }
  return first;
}

// The address of the request without its query, which may hold the token.
std::string realm_of(const decide::HttpRequestFacts& facts) {
  std::string url = fmt::format("{}://{}{}", facts.scheme, facts.authority, facts.path);
  if (url.size() > kRealmBytesMax) url.resize(kRealmBytesMax);
  std::string out;
  for (char c : url) {
    if (c == '"' || c == '\\') {
      out += c == '"' ? "%22" : "%5C";
    } else {
      out += c;
    }
  }
  return out;
}

Denial denial_for(std::string fault, const decide::HttpRequestFacts& facts) {
  Denial out;
  out.details = fault;
  std::replace(out.details.begin(), out.details.end(), ' ', '_');
  out.details = "jwt_authn_access_denied{" + out.details + "}";
  out.body = std::move(fault);
  if (out.body == kAudience) {
    out.status = 403;
  } else {
    out.www_authenticate = fmt::format("Bearer realm=\"{}\", error=\"invalid_token\"", realm_of(facts));
  }
  return out;
}

void add_reserved(const Rule& rule, std::vector<std::string>& out) {
  if (!rule.rule.payload_header.empty()) out.push_back(rule.rule.payload_header);
  for (const auto& [header, claim] : rule.rule.claim_headers) out.push_back(header);
}

std::vector<std::string> split_path(std::string_view claim) {
  std::vector<std::string> out;
  for (;;) {
    size_t dot = claim.find('.');
    out.emplace_back(claim.substr(0, dot));
    if (dot == claim.npos) return out;
    claim.remove_prefix(dot + 1);
  }
}

// What an accepted token changes about the request.
void use(const Judgement& good, AuthenticateOutcome& out) {
  const model::JwtRule& rule = good.rule->rule;
  if (!rule.payload_header.empty()) {
    out.add_headers.emplace_back(rule.payload_header, good.token->token().payload_base64);
  }
  for (const auto& [header, claim] : rule.claim_headers) {
    // A claim whose name has a dot in it is found under its whole name first.
    const std::string whole[] = {claim};
    std::optional<std::string> value = good.token->token().claims.text(whole);
    if (!value) value = good.token->token().claims.text(split_path(claim));
    // A claim must not become a second header.
    if (value && value->find_first_of(std::string_view("\r\n\0", 3)) != value->npos) value.reset();
    if (value) out.add_headers.emplace_back(header, std::move(*value));
  }
}

// Takes the token from where the rules that look for it found it.
void strip(const Candidate& candidate, const decide::HttpRequestFacts& facts, AuthenticateOutcome& out) {
  for (const Rule* rule : candidate.rules) {
    for (const TokenPlace& place : rule->rule.places) {
      std::vector<std::string_view> there = tokens_at(place, facts);
      if (std::find(there.begin(), there.end(), candidate.text) == there.end()) continue;
      switch (place.kind) {
        case TokenPlace::Kind::kHeader: out.remove_headers.push_back(place.name); break;
        case TokenPlace::Kind::kParameter: out.remove_parameters.push_back(place.name); break;
        case TokenPlace::Kind::kCookie: out.remove_cookies.push_back(place.name); break;
      }
    }
  }
}

}  // namespace

AuthenticateOutcome authenticate(const TokenRules& rules, const decide::HttpRequestFacts& facts,
                                 const AuthenticateOptions& options) {
  AuthenticateOutcome out;
  std::vector<const Rule*> active;
  for (const TokenRules::Source& source : rules.sources()) {
    if (options.applies ? !options.applies(source) : source.selector.has_value()) continue;
    for (const Rule& rule : source.rules) {
      active.push_back(&rule);
      add_reserved(rule, out.remove_headers);
    }
  }
  std::vector<std::pair<Candidate, Judgement>> accepted;
  for (Candidate& candidate : find_tokens(active, facts)) {
    Judgement judgement = judge(candidate, options);
    if (!judgement.token) {
      out.denial = denial_for(std::move(judgement.fault), facts);
      return out;
    }
    accepted.emplace_back(std::move(candidate), std::move(judgement));
  }
  // Found in the order of the rules that look for them, they speak in that of those that accepted them.
  for (const Rule* rule : active) {
    for (const auto& [candidate, judgement] : accepted) {
      if (judgement.rule != rule) continue;
      if (!out.token) out.token = judgement.token;
      use(judgement, out);
      if (!rule->rule.forward_token) strip(candidate, facts, out);
    }
  }
  return out;
}

std::vector<std::string> reserved_headers(const TokenRules& rules) {
  std::vector<std::string> out;
  for (const TokenRules::Source& source : rules.sources()) {
    for (const Rule& rule : source.rules) add_reserved(rule, out);
  }
  return out;
}

namespace {

bool contains(const std::vector<std::string>& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// A list of "name=value" without the listed names.
std::string without(std::string_view list, char separator, std::string_view glue,
                    const std::vector<std::string>& names) {
  std::string out;
  while (!list.empty()) {
    std::string_view pair = list.substr(0, list.find(separator));
    list.remove_prefix(std::min(list.size(), pair.size() + 1));
    std::string_view shown = separator == ';' ? trimmed(pair) : pair;
    if (contains(names, trimmed(shown.substr(0, shown.find('='))))) continue;
    if (!out.empty()) out += glue;
    out += shown;
  }
  return out;
}

}  // namespace

void apply(const AuthenticateOutcome& outcome, std::vector<std::pair<std::string, std::string>>& headers,
           std::string& query) {
  std::erase_if(headers, [&](const auto& header) { return contains(outcome.remove_headers, header.first); });
  if (!outcome.remove_cookies.empty()) {
    for (auto& [name, value] : headers) {
      if (name == "cookie") value = without(value, ';', "; ", outcome.remove_cookies);
    }
    std::erase_if(headers,
                  [](const auto& header) { return header.first == "cookie" && header.second.empty(); });
  }
  if (!outcome.remove_parameters.empty()) query = without(query, '&', "&", outcome.remove_parameters);
  // The first good token speaks: what another says under the same name is left out.
  std::vector<std::string> added;
  for (const auto& [name, value] : outcome.add_headers) {
    if (contains(added, name)) continue;
    added.push_back(name);
    headers.emplace_back(name, value);
  }
}

}  // namespace culvert::jwt
