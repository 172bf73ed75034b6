// SPDX-License-Identifier: Apache-2.0
// The few bare primitives that tokens need.
#pragma once

#include <string>
#include <string_view>

#include "net/base/result.h"

namespace culvert::wire {

std::string random_bytes(size_t count);
std::string hmac_sha256(std::string_view key, std::string_view text);
// Takes the same time whatever differs.
bool equal_secrets(std::string_view a, std::string_view b);
// AES-256-GCM-SIV (RFC 8452) under a key of 32 bytes and a nonce of its own; who opens it has to know
// `context` too.
inline constexpr size_t kSealKeyBytes = 32;
base::Result<std::string> seal(std::string_view key, std::string_view context, std::string_view text);
base::Result<std::string> unseal(std::string_view key, std::string_view context, std::string_view sealed);
// Without padding (RFC 4648 section 5). Decoding is strict: no padding, no foreign characters.
std::string base64url_encode(std::string_view bytes);
base::Result<std::string> base64url_decode(std::string_view text);

}  // namespace culvert::wire
