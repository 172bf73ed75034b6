// SPDX-License-Identifier: Apache-2.0
// Rules and what is remembered about tokens: TokenRules, TokenCache, VerifiedToken.
#include <algorithm>

#include "mesh/jwt/authenticate.h"

namespace culvert::jwt {

namespace {

constexpr std::string_view kNoKeys = "Jwks remote fetch is failed";
constexpr std::string_view kNoGoodKeys = "Jwks doesn't have any valid public key";

// Parts that cannot run into each other.
std::string joined(std::initializer_list<std::string_view> parts) {
  std::string out;
  for (std::string_view part : parts) out.append(std::to_string(part.size())).append(":").append(part);
  return out;
}

}  // namespace

std::shared_ptr<const TokenRules> TokenRules::compile(std::span<const model::RequestAuthentication> sources) {
  auto out = std::make_shared<TokenRules>();
  for (const model::RequestAuthentication& from : sources) {
    Source source{from.ns, from.name, from.selector, from.selector_everywhere, {}};
    auto note = [&](const model::JwtRule& rule, std::string_view what) {
      out->problems_.push_back("RequestAuthentication " + from.ns + "/" + from.name + ", issuer \"" +
                               rule.issuer + "\": " + std::string(what));
    };
    for (const model::JwtRule& written : from.rules) {
      Rule rule{written, std::nullopt, std::string(kNoKeys), ""};
      for (const char* name : {"scope", "permission"}) rule.rule.space_delimited_claims.emplace_back(name);
      if (written.jwks.empty()) {
        note(written, "there are no keys; its tokens are refused");
      } else if (auto keys = wire::Jwks::parse(written.jwks); keys) {
        for (const std::string& skipped : keys->skipped()) note(written, "left out: " + skipped);
        rule.keys = std::move(*keys);
      } else {
        note(written, keys.error().message() + "; its tokens are refused");
        rule.fault = kNoGoodKeys;
      }
      std::string split;
      for (const std::string& claim : rule.rule.space_delimited_claims) split += joined({claim});
      rule.identity =
          wire::sha256(joined({written.issuer, written.jwks, written.inline_keys ? "inline" : "", split}));
      source.rules.push_back(std::move(rule));
    }
    out->sources_.push_back(std::move(source));
  }
  return out;
}

// --- VerifiedToken ---

VerifiedToken::VerifiedToken(wire::Jwt token, std::vector<std::string> space_delimited)
    : token_(std::move(token)), space_delimited_(std::move(space_delimited)) {
  // Without a subject there is nobody to name.
  if (!token_.subject.empty()) principal_ = token_.issuer + "/" + token_.subject;
  const std::string azp[] = {"azp"};
  presenter_ = token_.claims.text(azp).value_or("");
  // What only the proof needed.
  token_.signed_part = {};
  token_.signature = {};
}

std::vector<std::string> VerifiedToken::at(std::span<const std::string> path) const {
  return token_.claims.at(path, space_delimited_);
}

void VerifiedToken::tell(decide::HttpRequestFacts& facts) const {
  facts.claims = this;
  facts.token_principal = principal_;
  facts.token_audiences = token_.audiences;
  facts.token_presenter = presenter_;
}

// --- TokenCache ---

VerifiedTokenRef TokenCache::find(const std::string& key, base::WallTime now) {
  auto found = by_key_.find(key);
  if (found != by_key_.end() && found->second->until <= now) {
    drop(found->second);
    found = by_key_.end();
  }
  if (found == by_key_.end()) {
    ++misses_;
    return nullptr;
  }
  ++hits_;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->token;
}

void TokenCache::put(const std::string& key, VerifiedTokenRef token, base::WallTime now) {
  if (auto found = by_key_.find(key); found != by_key_.end()) drop(found->second);
  base::WallTime until = now + kLifeMax;
  if (std::optional<int64_t> expires = token->token().expires) {
    auto left =
        std::chrono::seconds(*expires) - std::chrono::floor<std::chrono::seconds>(now.time_since_epoch());
    if (left < kLifeMax) until = now + std::max<base::Duration>(left, base::Duration{0});
  }
  // A tree of claims takes some ten times its text.
  size_t bytes = sizeof(Entry) + key.size() + 12 * token->token().payload_base64.size();
  if (until <= now || bytes > kBytesMax) return;
  while (!entries_.empty() && (entries_.size() >= kEntriesMax || bytes_ + bytes > kBytesMax)) {
    drop(std::prev(entries_.end()));
  }
  entries_.push_front({key, std::move(token), until, bytes});
  by_key_[key] = entries_.begin();
  bytes_ += bytes;
}

void TokenCache::drop(std::list<Entry>::iterator entry) {
  bytes_ -= entry->bytes;
  by_key_.erase(entry->key);
  entries_.erase(entry);
}

}  // namespace culvert::jwt
