// SPDX-License-Identifier: Apache-2.0
// What tls.cc and x509.cc share of BoringSSL; never included elsewhere.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "net/wire/tls.h"

namespace culvert::wire {

// The oldest error in BoringSSL's queue as a sentence; clears the queue.
std::string openssl_reason();
bssl::UniquePtr<BIO> memory_bio(std::string_view text);
base::Result<CertInfo> cert_info(X509* cert);
base::Result<bssl::UniquePtr<X509>> parse_x509(std::string_view pem);

}  // namespace culvert::wire
