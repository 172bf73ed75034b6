// SPDX-License-Identifier: Apache-2.0
// The PROXY protocol v2 header handed to an application tunnel (spec ztunnel section 4.3).
#pragma once

#include <string>
#include <string_view>

#include "net/base/ip.h"

namespace culvert::ztunnel {

// `identity` goes into TLV 0xD0. Addresses of different families are left out (family UNSPEC).
std::string proxy_v2_header(const base::SocketAddr& source, const base::SocketAddr& destination,
                            std::string_view identity);

}  // namespace culvert::ztunnel
