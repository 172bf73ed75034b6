// SPDX-License-Identifier: Apache-2.0
// JSON Web Tokens: reading compact JWS, key sets, signatures, claims (RFC 7515, 7517, 7518, 7519, 8037; spec
// waypoint section 2.7). Knows nothing of issuers, audiences or time: mesh/jwt decides with what is read
// here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "net/base/result.h"

namespace culvert::wire {

struct Jwt;

// The payload of a token as a tree; copies share it.
class Claims {
 public:
  // A JSON object, nested at most kJsonDepthMax deep.
  static base::Result<Claims> parse(std::string_view json);

  // The values at a path: a string, number or boolean as one text, a list as its elements of these kinds;
  // none if the path leads nowhere or to something else. A string claim listed in `space_delimited` (by its
  // name at the top) is split at spaces.
  std::vector<std::string> at(std::span<const std::string> path,
                              std::span<const std::string> space_delimited = {}) const;
  // A string, integer or boolean at a path, as text; else none.
  std::optional<std::string> text(std::span<const std::string> path) const;
  // How much memory the tree was made from.
  size_t bytes() const;

 private:
  friend base::Result<Jwt> parse_jwt(std::string_view token);
  struct Tree;
  explicit Claims(std::shared_ptr<const Tree> tree) : tree_(std::move(tree)) {}
  std::shared_ptr<const Tree> tree_;
};

inline constexpr int kJsonDepthMax = 32;
// Longer tokens are refused unread.
inline constexpr size_t kJwtBytesMax = 64 * 1024;

// A token taken apart; nothing of it is proven yet.
struct Jwt {
  std::string algorithm;  // one of those we know: RS PS ES HS with 256 384 512, EdDSA
  std::string key_id;     // "" none
  std::string issuer, subject;
  std::vector<std::string> audiences;
  std::optional<int64_t> expires, not_before;  // seconds since 1970
  std::string payload_base64;                  // as it came, without padding
  Claims claims;
  std::string signed_part;  // what the signature covers
  std::string signature;
};

// kInvalid with the sentence clients know (section 6): "Jwt header is an invalid JSON", ... Refuses what it
// does not know: `alg: none` and other algorithms, any `crit`, JWE.
base::Result<Jwt> parse_jwt(std::string_view token);

enum class JwtProof : unsigned char {
  kGood,
  kNoKey,         // no key of the set suits the token's key id and algorithm
  kBadSignature,  // one does, and the signature is not by it
};

// A JWK set (RFC 7517): RSA from 2048 to 8192 bits, P-256, P-384, P-521, Ed25519, and octets for HMAC.
// Immutable; copies share the keys.
class Jwks {
 public:
  static constexpr size_t kKeysMax = 256;
  static constexpr size_t kBytesMax = 1 << 20;

  // Keys that we cannot use for signatures are left out; kInvalid if none is left, or the set is no JSON.
  static base::Result<Jwks> parse(std::string_view json);
  // HMAC keys count only if `symmetric`: they must never come from a public URL.
  JwtProof verify(const Jwt& token, bool symmetric) const;
  size_t size() const;
  // Why keys were left out, for logs: "key 2: RSA with 1024 bits (2048 to 8192)".
  const std::vector<std::string>& skipped() const;

 private:
  struct Keys;
  explicit Jwks(std::shared_ptr<const Keys> keys) : keys_(std::move(keys)) {}
  std::shared_ptr<const Keys> keys_;
};

// SHA-256, 32 bytes.
std::string sha256(std::string_view bytes);

}  // namespace culvert::wire
