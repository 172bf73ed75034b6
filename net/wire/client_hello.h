// SPDX-License-Identifier: Apache-2.0
// The server name of a TLS ClientHello, peeked without touching the handshake (RFC 8446 section 4.1.2, RFC
// 6066 section 3). The hello may be split over records and arrive in any pieces.
#pragma once

#include <string>
#include <vector>

#include "net/base/bytes.h"

namespace culvert::wire {

struct ClientHello {
  enum class Kind : unsigned char { kNeedMore, kHello, kNotTls };
  Kind kind = Kind::kNeedMore;
  std::string server_name;        // lower case; empty if the client names none
  std::vector<std::string> alpn;  // as offered
};

// More bytes than this without a whole hello are kNotTls.
inline constexpr size_t kClientHelloBytesMax = 16 * 1024;

ClientHello peek_client_hello(base::ByteView first_bytes);

}  // namespace culvert::wire
