// SPDX-License-Identifier: Apache-2.0
// The version this binary says it has.
#pragma once

namespace culvert::waypoint {
inline constexpr char kVersion[] = "0.1.0";
}
