// SPDX-License-Identifier: Apache-2.0
#include "control/serve/token.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "net/wire/crypto.h"

namespace culvert::control {

using base::Code;
using base::fail;
using base::Result;
using nlohmann::json;

namespace {

int64_t unix_seconds(base::WallTime time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

Result<json> decode_part(std::string_view text) {
  Result<std::string> bytes = wire::base64url_decode(text);
  if (!bytes) return fail(std::move(bytes).error());
  json value = json::parse(*bytes, nullptr, false);
  if (!value.is_object()) return fail(Code::kUnauthenticated, "a part of the token is not a JSON object");
  return value;
}

std::string text_claim(const json& claims, const char* name) {
  auto found = claims.find(name);
  return found != claims.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool has_audience(const json& claims, std::string_view wanted) {
  auto found = claims.find("aud");
  if (found == claims.end()) return false;
  if (found->is_string()) return found->get<std::string>() == wanted;
  if (!found->is_array()) return false;
  return std::any_of(found->begin(), found->end(),
                     [&](const json& one) { return one.is_string() && one.get<std::string>() == wanted; });
}

}  // namespace

Result<TokenKey> TokenKey::from_bytes(std::string bytes) {
  if (bytes.size() != kBytes) return fail(Code::kInvalid, "the token key must have 32 bytes");
  return TokenKey(std::move(bytes));
}

TokenKey TokenKey::generate() { return TokenKey(wire::random_bytes(kBytes)); }

Result<TokenKey> load_token_key(const StateDir& state) {
  constexpr const char* kName = "token-key";
  // Two that start at once agree: one creates, the other reads.
  Result<std::optional<std::string>> kept = state.read(kName);
  if (kept && !kept->has_value()) {
    Result<bool> created = state.create(kName, TokenKey::generate().bytes(), 0600);
    if (!created) return fail(std::move(created).error());
    kept = state.read(kName);
  }
  if (!kept) return fail(std::move(kept).error());
  Result<TokenKey> key = TokenKey::from_bytes(kept->value_or(""));
  if (!key) return fail(std::move(key).error().wrap(state.path(kName)));
  return key;
}

std::string TokenKey::sign(std::string_view text) const { return wire::hmac_sha256(bytes_, text); }

std::string TokenKey::issue(const TokenClaims& claims) const {
  json body = {{"iss", "culvert"},
               {"sub", "system:serviceaccount:" + claims.caller.ns + ":" + claims.caller.service_account},
               {"aud", json::array({claims.audience})},
               {"iat", unix_seconds(claims.issued_at)},
               {"exp", unix_seconds(claims.expires_at)}};
  if (!claims.caller.node.empty()) body["node"] = claims.caller.node;
  if (!claims.caller.pod.empty()) body["pod"] = claims.caller.pod;
  std::string text =
      wire::base64url_encode(R"({"alg":"HS256","typ":"JWT"})") + "." + wire::base64url_encode(body.dump());
  return text + "." + wire::base64url_encode(sign(text));
}

Result<TokenClaims> TokenKey::verify(std::string_view token, std::string_view audience,
                                     base::WallTime now) const {
  auto refuse = [](std::string why) { return fail(Code::kUnauthenticated, std::move(why)); };
  size_t first = token.find('.');
  size_t last = token.rfind('.');
  if (token.size() > kTokenBytesMax || first == std::string_view::npos || last == first ||
      token.find('.', first + 1) != last) {
    return refuse("the token is not a JWT");
  }
  Result<std::string> mac = wire::base64url_decode(token.substr(last + 1));
  std::string expected = sign(token.substr(0, last));
  if (!mac || !wire::equal_secrets(*mac, expected)) {
    return refuse("the token was not signed by this control plane");
  }
  Result<json> head = decode_part(token.substr(0, first));
  if (!head || text_claim(*head, "alg") != "HS256") return refuse("the token is not signed with HS256");
  Result<json> body = decode_part(token.substr(first + 1, last - first - 1));
  if (!body) return refuse("the token's claims cannot be read");
  if (!has_audience(*body, audience)) return refuse("the token is for another audience");
  auto expires = body->find("exp");
  if (expires == body->end() || !expires->is_number_integer()) return refuse("the token has no end date");
  if (expires->get<int64_t>() <= unix_seconds(now)) return refuse("the token has expired");
  std::string subject = text_claim(*body, "sub");
  constexpr std::string_view kPrefix = "system:serviceaccount:";
  size_t colon = subject.rfind(':');
  if (!subject.starts_with(kPrefix) || colon < kPrefix.size())
    return refuse("the token names no service account");
  TokenClaims claims;
  claims.caller = {subject.substr(kPrefix.size(), colon - kPrefix.size()), subject.substr(colon + 1),
                   text_claim(*body, "node"), text_claim(*body, "pod")};
  claims.audience = audience;
  claims.expires_at = base::WallTime(std::chrono::seconds(expires->get<int64_t>()));
  return claims;
}

}  // namespace culvert::control
