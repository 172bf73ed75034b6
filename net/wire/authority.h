// SPDX-License-Identifier: Apache-2.0
// What users' requests may name as their host: one reading for HTTP/1 and HTTP/2 (waypoint spec section 7.2).
#pragma once

#include <string_view>

namespace culvert::wire {

// host [":" port]: a name of letters, digits, - . _ ~, or a bracketed IPv6 address; a port of 1 to 65535. No
// userinfo, no percent-encoding, no empty port.
bool valid_authority(std::string_view authority);

// The same host and port, letters' case aside.
bool same_authority(std::string_view a, std::string_view b);

}  // namespace culvert::wire
