// SPDX-License-Identifier: Apache-2.0
// Keys, certificates, requests: making, parsing, signing (spec apis section 4, control-plane section 4).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/base/result.h"
#include "net/wire/tls.h"

struct evp_pkey_st;

namespace culvert::wire {

class PrivateKey {
 public:
  static base::Result<PrivateKey> generate_p256();
  static base::Result<PrivateKey> from_pem(std::string_view pem);
  // PKCS#8.
  std::string to_pem() const;
  evp_pkey_st* raw() const { return key_.get(); }

 private:
  explicit PrivateKey(evp_pkey_st* key);
  std::shared_ptr<evp_pkey_st> key_;
};

// All CERTIFICATE blocks in order; a broken block is an error, other blocks are skipped.
base::Result<std::vector<CertInfo>> parse_certificates(std::string_view pem);

// Empty subject, one critical URI SAN, SHA-256 (spec apis section 4.1).
base::Result<std::string> make_csr(const PrivateKey& key, std::string_view uri_san);

// What a CA needs of a request: its key (kept as DER SubjectPublicKeyInfo) and whether it named a CN. The
// signature has been verified and the key is of a kind we accept (RSA >= 2048, P-256, P-384, Ed25519).
struct ParsedCsr {
  std::string public_key_der;
  std::string common_name;
  std::vector<std::string> uri_sans;  // never trusted; for logs
};
base::Result<ParsedCsr> parse_csr(std::string_view pem);

struct LeafSpec {
  std::string public_key_der;
  std::string common_name;            // empty: no subject
  std::vector<std::string> uri_sans;  // each its own entry, never joined
  std::vector<std::string> dns_sans;
  std::vector<base::IpAddr> ip_sans;
  base::WallTime not_before{};
  base::WallTime not_after{};
};

// A signing certificate and its key.
class CertSigner {
 public:
  static base::Result<CertSigner> from_pem(std::string_view cert_pem, std::string_view key_pem);
  // A self-signed root for `organization` (the trust domain).
  static base::Result<CertSigner> self_signed(const PrivateKey& key, std::string_view organization,
                                              base::WallTime not_before, base::WallTime not_after);
  // PEM of a leaf: digitalSignature + keyEncipherment, server and client auth, SAN critical.
  base::Result<std::string> sign(const LeafSpec& leaf) const;
  const CertInfo& certificate() const { return info_; }

 private:
  CertSigner(CertInfo info, PrivateKey key) : info_(std::move(info)), key_(std::move(key)) {}
  CertInfo info_;
  PrivateKey key_;
};

// SubjectPublicKeyInfo of our own key, for signing our own server certificate.
base::Result<std::string> public_key_der(const PrivateKey& key);

}  // namespace culvert::wire
