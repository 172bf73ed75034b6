// SPDX-License-Identifier: Apache-2.0
// Tokens of embedded mode: JWTs (RFC 7519) signed and checked by the control plane itself with a key in its
// state directory (spec control-plane section 4.3). HS256 only: whoever signs is whoever checks, and a token
// naming another algorithm is refused.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "control/serve/state_dir.h"
#include "net/base/duration.h"
#include "net/base/result.h"

namespace culvert::control {

// Who a caller has proven to be.
struct CallerIdentity {
  std::string ns;
  std::string service_account;
  std::string node;  // empty: not bound to a node
  std::string pod;   // empty: not said
  std::string to_string() const {
    return ns + "/" + service_account + (node.empty() ? "" : " on node " + node);
  }
};

struct TokenClaims {
  CallerIdentity caller;
  std::string audience = "istio-ca";
  base::WallTime issued_at{};
  base::WallTime expires_at{};
};

class TokenKey {
 public:
  static constexpr size_t kBytes = 32;
  static constexpr size_t kTokenBytesMax = 8 * 1024;

  static base::Result<TokenKey> from_bytes(std::string bytes);
  static TokenKey generate();
  const std::string& bytes() const { return bytes_; }

  std::string issue(const TokenClaims& claims) const;
  // Signature, algorithm, audience and dates; errors say which in words.
  base::Result<TokenClaims> verify(std::string_view token, std::string_view audience,
                                   base::WallTime now) const;

 private:
  explicit TokenKey(std::string bytes) : bytes_(std::move(bytes)) {}
  std::string sign(std::string_view text) const;
  std::string bytes_;
};

// token-key in the state directory, made if absent.
base::Result<TokenKey> load_token_key(const StateDir& state);

}  // namespace culvert::control
