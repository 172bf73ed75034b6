// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace culvert::control {

// "culvert 0.1.0".
inline std::string version_text() { return "culvert " CULVERT_VERSION; }

}  // namespace culvert::control
