// SPDX-License-Identifier: Apache-2.0
// Key sets as a server may send them, and what their keys say to tokens nobody has signed. Input: a key id, a
// newline, the key set.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/wire/jwt.h"

using namespace culvert;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

constexpr std::string_view kAlgorithms[] = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
                                            "ES384", "ES512", "HS256", "HS384", "HS512", "EdDSA"};

wire::Jwt forged(std::string_view algorithm, std::string_view key_id, std::string signature) {
  auto claims = wire::Claims::parse("{}");
  check(claims.has_value());
  return wire::Jwt{.algorithm = std::string(algorithm),
                   .key_id = std::string(key_id),
                   .issuer = {},
                   .subject = {},
                   .audiences = {},
                   .expires = {},
                   .not_before = {},
                   .payload_base64 = {},
                   .claims = *claims,
                   .signed_part = "eyJhbGciOiJub25lIn0.e30",
                   .signature = std::move(signature)};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::string_view key_id = rest.substr(0, rest.find('\n'));
  rest.remove_prefix(std::min(rest.size(), key_id.size() + 1));
  auto keys = wire::Jwks::parse(rest);
  if (!keys) {
    check(!keys.error().message().empty());
    return 0;
  }
  check(keys->size() > 0 && keys->size() + keys->skipped().size() <= wire::Jwks::kKeysMax);
  // A signature of every length that an algorithm may take, of zeros and of the key set itself: the classic
  // r = s = 0, the empty MAC, the empty RSA block.
  for (std::string_view algorithm : kAlgorithms) {
    bool symmetric = algorithm.starts_with("HS");
    for (size_t length : {size_t{0}, size_t{32}, size_t{64}, size_t{96}, size_t{132}, size_t{256}}) {
      for (bool zeros : {true, false}) {
        std::string signature = zeros ? std::string(length, '\0') : std::string(rest.substr(0, length));
        wire::Jwt token = forged(algorithm, key_id, signature);
        wire::JwtProof asked = keys->verify(token, true), proof = keys->verify(token, false);
        check(proof != wire::JwtProof::kGood && asked != wire::JwtProof::kGood);
        // Octets from a public URL are no keys.
        if (symmetric) check(proof == wire::JwtProof::kNoKey);
        if (!symmetric) check(proof == asked);
      }
    }
  }
  return 0;
}
