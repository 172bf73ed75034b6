// SPDX-License-Identifier: Apache-2.0
// PROXY protocol headers: who the client was, in front of the bytes of a connection (HAProxy's
// proxy-protocol.txt; spec ztunnel section 4.3, waypoint section 2.3.5).
#pragma once

#include <string>
#include <string_view>

#include "net/base/ip.h"

namespace culvert::wire {

// "PROXY TCP4 ...\r\n"; UNKNOWN for addresses of different families.
std::string proxy_v1_header(const base::SocketAddr& source, const base::SocketAddr& destination);

// `identity` goes into TLV 0xD0 unless it is empty. Addresses of different families are left out (family
// UNSPEC).
std::string proxy_v2_header(const base::SocketAddr& source, const base::SocketAddr& destination,
                            std::string_view identity);

}  // namespace culvert::wire
