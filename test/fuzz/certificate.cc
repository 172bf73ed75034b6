// SPDX-License-Identifier: Apache-2.0
// Certificates and certificate requests. The first byte says what the rest is: PEM as a peer or a file gives
// it, or DER that is wrapped into PEM here, so that the fuzzer need not learn base64.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mesh/model/identity.h"
#include "net/wire/crypto.h"
#include "net/wire/x509.h"

using namespace culvert;

namespace {

std::string wrap(std::string_view label, std::string_view der) {
  std::string out = "-----BEGIN " + std::string(label) + "-----\n";
  std::string text = wire::base64url_encode(der);
  std::replace(text.begin(), text.end(), '-', '+');
  std::replace(text.begin(), text.end(), '_', '/');
  text.append((4 - text.size() % 4) % 4, '=');
  for (size_t at = 0; at < text.size(); at += 64) out += text.substr(at, 64) + "\n";
  return out + "-----END " + std::string(label) + "-----\n";
}

void check_certificates(std::string_view pem) {
  auto certs = wire::parse_certificates(pem);
  if (!certs) return;
  for (const wire::CertInfo& cert : *certs) {
    // What we keep is what we read.
    auto again = wire::parse_certificates(cert.pem);
    if (!again || again->size() != 1 || again->front().serial != cert.serial ||
        again->front().uri_sans != cert.uri_sans || again->front().is_ca != cert.is_ca) {
      abort();
    }
    for (const std::string& uri : cert.uri_sans) {
      auto identity = model::Identity::parse(uri);
      if (identity && identity->to_string() != uri) abort();
    }
  }
}

void check_request(std::string_view pem) {
  auto request = wire::parse_csr(pem);
  if (request && request->public_key_der.empty()) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'p': check_certificates(rest); break;
    case 'c': check_certificates(wrap("CERTIFICATE", rest)); break;
    case 'q': check_request(rest); break;
    default: check_request(wrap("CERTIFICATE REQUEST", rest));
  }
  return 0;
}
