// SPDX-License-Identifier: Apache-2.0
#include "net/wire/crypto.h"

#include <openssl/aead.h>
#include <openssl/base64.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>

#include <algorithm>

namespace culvert::wire {

std::string random_bytes(size_t count) {
  std::string out(count, '\0');
  RAND_bytes(reinterpret_cast<uint8_t*>(out.data()), out.size());
  return out;
}

std::string hmac_sha256(std::string_view key, std::string_view text) {
  uint8_t mac[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  HMAC(EVP_sha256(), key.data(), key.size(), reinterpret_cast<const uint8_t*>(text.data()), text.size(), mac,
       &length);
  return std::string(reinterpret_cast<const char*>(mac), length);
}

bool equal_secrets(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

namespace {

const uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }
constexpr size_t kNonceBytes = 12, kTagBytes = 16;

}  // namespace

base::Result<std::string> seal(std::string_view key, std::string_view context, std::string_view text) {
  bssl::ScopedEVP_AEAD_CTX aead;
  std::string nonce = random_bytes(kNonceBytes);
  std::string out(text.size() + kTagBytes, '\0');
  size_t length = 0;
  bool sealed = key.size() == kSealKeyBytes &&
                EVP_AEAD_CTX_init(aead.get(), EVP_aead_aes_256_gcm_siv(), bytes_of(key), key.size(),
                                  kTagBytes, nullptr) &&
                EVP_AEAD_CTX_seal(aead.get(), reinterpret_cast<uint8_t*>(out.data()), &length, out.size(),
                                  bytes_of(nonce), nonce.size(), bytes_of(text), text.size(),
                                  bytes_of(context), context.size());
  if (!sealed) return base::fail(base::Code::kInvalid, "cannot be sealed: the key is not one of 32 bytes");
  out.resize(length);
  return nonce + out;
}

base::Result<std::string> unseal(std::string_view key, std::string_view context, std::string_view sealed) {
  bssl::ScopedEVP_AEAD_CTX aead;
  std::string out(sealed.size(), '\0');
  size_t length = 0;
  bool opened = key.size() == kSealKeyBytes && sealed.size() >= kNonceBytes + kTagBytes &&
                EVP_AEAD_CTX_init(aead.get(), EVP_aead_aes_256_gcm_siv(), bytes_of(key), key.size(),
                                  kTagBytes, nullptr) &&
                EVP_AEAD_CTX_open(aead.get(), reinterpret_cast<uint8_t*>(out.data()), &length, out.size(),
                                  bytes_of(sealed), kNonceBytes, bytes_of(sealed) + kNonceBytes,
                                  sealed.size() - kNonceBytes, bytes_of(context), context.size());
  if (!opened) return base::fail(base::Code::kDenied, "not sealed with this key for this use");
  out.resize(length);
  return out;
}

std::string base64url_encode(std::string_view bytes) {
  size_t length = 0;
  EVP_EncodedLength(&length, bytes.size());
  std::string out(length, '\0');
  size_t used = EVP_EncodeBlock(reinterpret_cast<uint8_t*>(out.data()),
                                reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  out.resize(used);
  while (!out.empty() && out.back() == '=') out.pop_back();
  std::replace(out.begin(), out.end(), '+', '-');
  std::replace(out.begin(), out.end(), '/', '_');
  return out;
}

base::Result<std::string> base64url_decode(std::string_view text) {
  auto refuse = [] { return base::fail(base::Code::kInvalid, "not base64url"); };
  std::string padded(text);
  if (padded.find_first_of("+/=\n\r ") != std::string::npos) return refuse();
  std::replace(padded.begin(), padded.end(), '-', '+');
  std::replace(padded.begin(), padded.end(), '_', '/');
  while (padded.size() % 4 != 0) padded += '=';
  size_t length = 0;
  if (!EVP_DecodedLength(&length, padded.size())) return refuse();
  std::string out(length, '\0');
  if (!EVP_DecodeBase64(reinterpret_cast<uint8_t*>(out.data()), &length, out.size(),
                        reinterpret_cast<const uint8_t*>(padded.data()), padded.size())) {
    return refuse();
  }
  out.resize(length);
  return out;
}

}  // namespace culvert::wire
