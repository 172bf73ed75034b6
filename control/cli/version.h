// SPDX-License-Identifier: Apache-2.0
// The version this build says it has; meson names it.
#pragma once

#include <string>

#ifndef CULVERT_VERSION
#define CULVERT_VERSION "unknown"
#endif

namespace culvert::control {

// "culvert 0.1.0".
inline std::string version_text() { return "culvert " CULVERT_VERSION; }

}  // namespace culvert::control
