// SPDX-License-Identifier: Apache-2.0
// Key sets and signatures (RFC 7517, 7518, 8037).
#include <openssl/bn.h>
#include <openssl/bytestring.h>
#include <openssl/digest.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "net/wire/crypto.h"
#include "net/wire/jwt.h"
#include "net/wire/jwt_json.h"

namespace culvert::wire {

using base::Code;
using base::fail;
using base::Result;
using Json = nlohmann::json;

namespace {

constexpr unsigned kRsaBitsMin = 2048, kRsaBitsMax = 8192;

struct Digest {
  const EVP_MD* md;
  size_t bytes;
};

// By the number an algorithm ends in.
Digest digest_of(std::string_view algorithm) {
  if (algorithm.ends_with("512")) return {EVP_sha512(), 64};
  if (algorithm.ends_with("384")) return {EVP_sha384(), 48};
  return {EVP_sha256(), 32};
}

const uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

struct Key {
  std::string id, algorithm;  // "" any that suits
  enum class Type : unsigned char { kRsa, kEc, kEd25519, kOctets } type = Type::kRsa;
  std::string_view curve_algorithm;  // of kEc: the one algorithm of its curve
  bssl::UniquePtr<EVP_PKEY> key;
  std::string octets;

  bool suits(std::string_view wanted) const {
    if (!algorithm.empty() && algorithm != wanted) return false;
    switch (type) {
      case Type::kRsa: return wanted.starts_with("RS") || wanted.starts_with("PS");
      case Type::kEc: return wanted == curve_algorithm;
      case Type::kEd25519: return wanted == "EdDSA";
      // A key shorter than the digest is no key (RFC 7518 section 3.2).
      case Type::kOctets: return wanted.starts_with("HS") && octets.size() >= digest_of(wanted).bytes;
    }
    return false;
  }
  bool verify(const Jwt& token) const;
};

Result<std::string> text_member(const Json& jwk, const char* name) {
  auto found = jwk.find(name);
  if (found == jwk.end() || !found->is_string()) {
    return fail(Code::kInvalid, std::string("\"") + name + "\" is missing or not a string");
  }
  return found->get<std::string>();
}

Result<std::string> bytes_member(const Json& jwk, const char* name) {
  Result<std::string> text = text_member(jwk, name);
  if (!text) return text;
  Result<std::string> bytes = base64url_decode(*text);
  if (!bytes) return fail(Code::kInvalid, std::string("\"") + name + "\" is not base64url");
  return bytes;
}

bssl::UniquePtr<BIGNUM> number(std::string_view bytes) {
  return bssl::UniquePtr<BIGNUM>(BN_bin2bn(bytes_of(bytes), bytes.size(), nullptr));
}

Result<> read_rsa(const Json& jwk, Key& out) {
  Result<std::string> n = bytes_member(jwk, "n"), e = bytes_member(jwk, "e");
  if (!n) return fail(std::move(n).error());
  if (!e) return fail(std::move(e).error());
  bssl::UniquePtr<BIGNUM> modulus = number(*n), exponent = number(*e);
  unsigned bits = modulus ? BN_num_bits(modulus.get()) : 0;
  if (bits < kRsaBitsMin || bits > kRsaBitsMax) {
    return fail(Code::kInvalid, "RSA with " + std::to_string(bits) + " bits (2048 to 8192)");
  }
  bssl::UniquePtr<RSA> rsa(RSA_new());
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  bool good = exponent && RSA_set0_key(rsa.get(), modulus.get(), exponent.get(), nullptr) == 1;
  if (good) {
    // Now owned by `rsa`.
    (void)modulus.release();
    (void)exponent.release();
  }
  if (!good || RSA_check_key(rsa.get()) != 1 || EVP_PKEY_set1_RSA(key.get(), rsa.get()) != 1) {
    return fail(Code::kInvalid, "not an RSA key");
  }
  out.type = Key::Type::kRsa;
  out.key = std::move(key);
  return {};
}

Result<> read_ec(const Json& jwk, Key& out) {
  Result<std::string> curve = text_member(jwk, "crv"), x = bytes_member(jwk, "x"), y = bytes_member(jwk, "y");
  if (!curve) return fail(std::move(curve).error());
  if (!x) return fail(std::move(x).error());
  if (!y) return fail(std::move(y).error());
  int nid = NID_undef;
  if (*curve == "P-256") nid = NID_X9_62_prime256v1, out.curve_algorithm = "ES256";
  if (*curve == "P-384") nid = NID_secp384r1, out.curve_algorithm = "ES384";
  if (*curve == "P-521") nid = NID_secp521r1, out.curve_algorithm = "ES512";
  if (nid == NID_undef) return fail(Code::kInvalid, "curve \"" + *curve + "\" is not supported");
  bssl::UniquePtr<EC_KEY> ec(EC_KEY_new_by_curve_name(nid));
  bssl::UniquePtr<BIGNUM> bx = number(*x), by = number(*y);
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  // Refuses points that are not on the curve.
  bool good = bx && by && EC_KEY_set_public_key_affine_coordinates(ec.get(), bx.get(), by.get()) == 1 &&
              EVP_PKEY_set1_EC_KEY(key.get(), ec.get()) == 1;
  if (!good) return fail(Code::kInvalid, "not a point of " + *curve);
  out.type = Key::Type::kEc;
  out.key = std::move(key);
  return {};
}

Result<> read_okp(const Json& jwk, Key& out) {
  Result<std::string> curve = text_member(jwk, "crv"), x = bytes_member(jwk, "x");
  if (!curve) return fail(std::move(curve).error());
  if (!x) return fail(std::move(x).error());
  if (*curve != "Ed25519") return fail(Code::kInvalid, "curve \"" + *curve + "\" is not supported");
  out.key.reset(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes_of(*x), x->size()));
  if (!out.key) return fail(Code::kInvalid, "not an Ed25519 key");
  out.type = Key::Type::kEd25519;
  return {};
}

Result<> read_octets(const Json& jwk, Key& out) {
  Result<std::string> bytes = bytes_member(jwk, "k");
  if (!bytes) return fail(std::move(bytes).error());
  if (bytes->size() < 32) return fail(Code::kInvalid, "fewer than 32 octets");
  out.type = Key::Type::kOctets;
  out.octets = std::move(*bytes);
  return {};
}

// Whether a key is meant for signatures (RFC 7517 sections 4.2, 4.3).
bool verifies(const Json& jwk) {
  auto use = jwk.find("use");
  if (use != jwk.end() && *use != "sig") return false;
  auto operations = jwk.find("key_ops");
  if (operations == jwk.end()) return true;
  return operations->is_array() &&
         std::find(operations->begin(), operations->end(), "verify") != operations->end();
}

Result<Key> read_key(const Json& jwk) {
  if (!jwk.is_object()) return fail(Code::kInvalid, "not an object");
  if (!verifies(jwk)) return fail(Code::kInvalid, "not for signatures");
  Result<std::string> type = text_member(jwk, "kty");
  if (!type) return fail(std::move(type).error());
  Key out;
  for (auto [name, target] : {std::pair{"kid", &out.id}, std::pair{"alg", &out.algorithm}}) {
    auto found = jwk.find(name);
    if (found == jwk.end()) continue;
    if (!found->is_string()) return fail(Code::kInvalid, std::string("\"") + name + "\" is not a string");
    *target = found->get<std::string>();
  }
  Result<> read = fail(Code::kInvalid, "key type \"" + *type + "\" is not supported");
  if (*type == "RSA") read = read_rsa(jwk, out);
  if (*type == "EC") read = read_ec(jwk, out);
  if (*type == "OKP") read = read_okp(jwk, out);
  if (*type == "oct") read = read_octets(jwk, out);
  if (!read) return fail(std::move(read).error());
  return out;
}

// JWS writes r and s side by side, each as long as the curve's order (RFC 7518 section 3.4); DER is asked
// for.
std::string der_of(std::string_view signature, size_t order_bytes) {
  if (signature.size() != 2 * order_bytes) return {};
  bssl::UniquePtr<ECDSA_SIG> parts(ECDSA_SIG_new());
  bssl::UniquePtr<BIGNUM> r = number(signature.substr(0, order_bytes)),
                          s = number(signature.substr(order_bytes));
  if (!r || !s || ECDSA_SIG_set0(parts.get(), r.get(), s.get()) != 1) return {};
  (void)r.release();
  (void)s.release();
  uint8_t* der = nullptr;
  size_t length = 0;
  if (ECDSA_SIG_to_bytes(&der, &length, parts.get()) != 1) return {};
  std::string out(reinterpret_cast<char*>(der), length);
  OPENSSL_free(der);
  return out;
}

bool Key::verify(const Jwt& token) const {
  Digest digest = digest_of(token.algorithm);
  if (type == Type::kOctets) {
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    HMAC(digest.md, octets.data(), octets.size(), bytes_of(token.signed_part), token.signed_part.size(), mac,
         &length);
    return equal_secrets({reinterpret_cast<const char*>(mac), length}, token.signature);
  }
  std::string_view signature = token.signature;
  std::string der;
  if (type == Type::kEc) {
    size_t order = token.algorithm == "ES512" ? 66 : digest.bytes;
    der = der_of(signature, order);
    if (der.empty()) return false;
    signature = der;
  }
  bssl::ScopedEVP_MD_CTX context;
  EVP_PKEY_CTX* options = nullptr;
  const EVP_MD* md = type == Type::kEd25519 ? nullptr : digest.md;
  if (EVP_DigestVerifyInit(context.get(), &options, md, nullptr, key.get()) != 1) return false;
  if (token.algorithm.starts_with("PS") &&
      (EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) != 1 ||
       EVP_PKEY_CTX_set_rsa_pss_saltlen(options, -1) != 1)) {  // as long as the digest
    return false;
  }
  return EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(token.signed_part),
                          token.signed_part.size()) == 1;
}

}  // namespace

struct Jwks::Keys {
  std::vector<Key> usable;
  std::vector<std::string> skipped;
};

Result<Jwks> Jwks::parse(std::string_view json) {
  if (json.size() > kBytesMax) return fail(Code::kInvalid, "the key set is larger than 1 MiB");
  std::optional<Json> root = parse_object(json);
  if (!root) return fail(Code::kInvalid, "the key set is not a JSON object");
  auto list = root->find("keys");
  if (list == root->end() || !list->is_array()) {
    return fail(Code::kInvalid, "the key set has no list \"keys\"");
  }
  if (list->size() > kKeysMax) return fail(Code::kInvalid, "more than 256 keys");
  auto keys = std::make_shared<Keys>();
  for (size_t i = 0; i < list->size(); ++i) {
    Result<Key> key = read_key((*list)[i]);
    if (key) {
      keys->usable.push_back(std::move(*key));
      continue;
    }
    keys->skipped.push_back("key " + std::to_string(i) + ": " + key.error().message());
  }
  ERR_clear_error();
  if (keys->usable.empty()) {
    std::string why = "the key set has no key for signatures";
    if (!keys->skipped.empty()) why += "; " + keys->skipped.front();
    return fail(Code::kInvalid, std::move(why));
  }
  return Jwks(std::move(keys));
}

JwtProof Jwks::verify(const Jwt& token, bool symmetric) const {
  JwtProof proof = JwtProof::kNoKey;
  for (const Key& key : keys_->usable) {
    if (!token.key_id.empty() && !key.id.empty() && token.key_id != key.id) continue;
    if (key.type == Key::Type::kOctets && !symmetric) continue;
    if (!key.suits(token.algorithm)) continue;
    proof = key.verify(token) ? JwtProof::kGood : JwtProof::kBadSignature;
    if (proof == JwtProof::kGood) break;
  }
  // What a stranger's signature has left there is nobody's error.
  ERR_clear_error();
  return proof;
}

size_t Jwks::size() const { return keys_->usable.size(); }
const std::vector<std::string>& Jwks::skipped() const { return keys_->skipped; }

}  // namespace culvert::wire
