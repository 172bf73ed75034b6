// SPDX-License-Identifier: Apache-2.0
// Texts of requests in the words of those that are asked about them. Pure.
#pragma once

#include <string>
#include <string_view>

namespace culvert::waypoint {

std::string lower_case(std::string_view text);
// protobuf's strings are UTF-8: a byte that is not becomes '!'.
std::string as_utf8(std::string_view bytes);

}  // namespace culvert::waypoint
