// SPDX-License-Identifier: Apache-2.0
#include "net/wire/jwt.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "net/wire/crypto.h"
#include "net/wire/jwt_json.h"

namespace culvert::wire {

using base::Code;
using base::fail;
using base::Result;
using Json = nlohmann::json;

// --- JSON ---

bool nested_too_deep(std::string_view json) {
  int depth = 0;
  bool text = false;
  for (size_t i = 0; i < json.size(); ++i) {
    char c = json[i];
    if (text) {
      if (c == '\\') ++i;
      if (c == '"') text = false;
    } else if (c == '"') {
      text = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kJsonDepthMax) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

std::optional<Json> parse_object(std::string_view text) {
  if (nested_too_deep(text)) return std::nullopt;
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  return json;
}

// --- claims ---

struct Claims::Tree {
  Json json;
  size_t bytes;
};

namespace {

// The text of a string, number or boolean.
std::optional<std::string> scalar(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  return std::nullopt;
}

const Json* walk(const Json& root, std::span<const std::string> path) {
  const Json* at = &root;
  for (const std::string& name : path) {
    if (!at->is_object()) return nullptr;
    auto found = at->find(name);
    if (found == at->end()) return nullptr;
    at = &*found;
  }
  return at;
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    std::string_view word = text.substr(0, text.find(' '));
    if (!word.empty()) out.emplace_back(word);
    text.remove_prefix(std::min(text.size(), word.size() + 1));
  }
  return out;
}

}  // namespace

Result<Claims> Claims::parse(std::string_view json) {
  std::optional<Json> root = parse_object(json);
  if (!root) return fail(Code::kInvalid, "not a JSON object");
  return Claims(std::make_shared<const Tree>(Tree{std::move(*root), json.size()}));
}

std::vector<std::string> Claims::at(std::span<const std::string> path,
                                    std::span<const std::string> space_delimited) const {
  const Json* value = path.empty() ? nullptr : walk(tree_->json, path);
  if (!value) return {};
  if (value->is_string() && path.size() == 1 &&
      std::find(space_delimited.begin(), space_delimited.end(), path[0]) != space_delimited.end()) {
    return split(value->get_ref<const std::string&>());
  }
  std::vector<std::string> out;
  auto add = [&](const Json& one) {
    if (std::optional<std::string> text = scalar(one)) out.push_back(std::move(*text));
  };
  if (value->is_array()) {
    for (const Json& one : *value) add(one);
  } else {
    add(*value);
  }
  return out;
}

std::optional<std::string> Claims::text(std::span<const std::string> path) const {
  const Json* value = path.empty() ? nullptr : walk(tree_->json, path);
  if (!value || value->is_number_float()) return std::nullopt;
  return scalar(*value);
}

size_t Claims::bytes() const { return tree_->bytes; }

// --- tokens ---

namespace {

constexpr std::array<std::string_view, 13> kAlgorithms = {"RS256", "RS384", "RS512", "PS256", "PS384",
                                                          "PS512", "ES256", "ES384", "ES512", "EdDSA",
                                                          "HS256", "HS384", "HS512"};

std::unexpected<base::Error> refuse(std::string sentence) {
  return fail(Code::kInvalid, std::move(sentence));
}

// A claim that must be a string if it is there.
Result<std::string> string_claim(const Json& payload, const char* name) {
  auto found = payload.find(name);
  if (found == payload.end()) return std::string();
  if (!found->is_string()) return refuse("Jwt payload [" + std::string(name) + "] field is not a string");
  return found->get<std::string>();
}

// A date that must be whole seconds if it is there.
Result<std::optional<int64_t>> date_claim(const Json& payload, const char* name) {
  auto found = payload.find(name);
  if (found == payload.end()) return std::nullopt;
  std::string field = "Jwt payload [" + std::string(name) + "] field";
  if (!found->is_number()) return refuse(field + " is not an integer");
  // Some issuers write 1.7e9.
  auto value = found->get<double>();
  if (value != std::floor(value)) return refuse(field + " is not an integer");
  if (!(value >= 0 && value < 9e18)) return refuse(field + " is not a positive 64 bit integer");
  return found->is_number_float() ? static_cast<int64_t>(value) : found->get<int64_t>();
}

Result<std::vector<std::string>> audience_claim(const Json& payload) {
  std::vector<std::string> out;
  auto found = payload.find("aud");
  if (found == payload.end()) return out;
  bool list = found->is_array() &&
              std::all_of(found->begin(), found->end(), [](const Json& one) { return one.is_string(); });
  if (!list && !found->is_string()) return refuse("Jwt payload [aud] field is not a string or string list");
  if (!list) {
    out.push_back(found->get<std::string>());
  } else {
    for (const Json& one : *found) out.push_back(one.get<std::string>());
  }
  return out;
}

struct Head {
  std::string algorithm, key_id;
};

Result<Head> read_head(std::string_view base64) {
  Result<std::string> text = base64url_decode(base64);
  if (!text) return refuse("Jwt header is an invalid Base64url encoded");
  std::optional<Json> json = parse_object(*text);
  if (!json) return refuse("Jwt header is an invalid JSON");
  auto algorithm = json->find("alg");
  if (algorithm == json->end() || !algorithm->is_string()) {
    return refuse("Jwt header [alg] field is required and must be a string");
  }
  Head head;
  head.algorithm = algorithm->get<std::string>();
  if (std::find(kAlgorithms.begin(), kAlgorithms.end(), head.algorithm) == kAlgorithms.end()) {
    return refuse("Jwt header [alg] is not supported");
  }
  // Extensions that must be understood: we understand none (RFC 7515 section 4.1.11).
  if (json->contains("crit")) return refuse("Jwt header [crit] is not supported");
  if (auto key_id = json->find("kid"); key_id != json->end()) {
    if (!key_id->is_string()) return refuse("Jwt header [kid] field is not a string");
    head.key_id = key_id->get<std::string>();
  }
  return head;
}

}  // namespace

Result<Jwt> parse_jwt(std::string_view token) {
  size_t first = token.find('.');
  size_t second = first == token.npos ? token.npos : token.find('.', first + 1);
  if (token.size() > kJwtBytesMax || second == token.npos || token.find('.', second + 1) != token.npos) {
    return refuse("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections");
  }
  Result<Head> head = read_head(token.substr(0, first));
  if (!head) return fail(std::move(head).error());

  std::string_view payload = token.substr(first + 1, second - first - 1);
  Result<std::string> text = base64url_decode(payload);
  if (!text) return refuse("Jwt payload is an invalid Base64url encoded");
  Result<Claims> claims = Claims::parse(*text);
  if (!claims) return refuse("Jwt payload is an invalid JSON");
  const Json& json = claims->tree_->json;
  Result<std::string> issuer = string_claim(json, "iss");
  if (!issuer) return fail(std::move(issuer).error());
  Result<std::string> subject = string_claim(json, "sub");
  if (!subject) return fail(std::move(subject).error());
  Result<std::vector<std::string>> audiences = audience_claim(json);
  if (!audiences) return fail(std::move(audiences).error());
  Result<std::optional<int64_t>> expires = date_claim(json, "exp");
  if (!expires) return fail(std::move(expires).error());
  Result<std::optional<int64_t>> not_before = date_claim(json, "nbf");
  if (!not_before) return fail(std::move(not_before).error());

  Result<std::string> signature = base64url_decode(token.substr(second + 1));
  if (!signature) return refuse("Jwt signature is an invalid Base64url encoded");
  return Jwt{std::move(head->algorithm),
             std::move(head->key_id),
             std::move(*issuer),
             std::move(*subject),
             std::move(*audiences),
             *expires,
             *not_before,
             std::string(payload),
             std::move(*claims),
             std::string(token.substr(0, second)),
             std::move(*signature)};
}

std::string sha256(std::string_view bytes) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
         reinterpret_cast<uint8_t*>(out.data()));
  return out;
}

}  // namespace culvert::wire
