// SPDX-License-Identifier: Apache-2.0
// JSON of strangers, for jwt.cc and jwks.cc only.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string_view>

namespace culvert::wire {

// Deeper than kJsonDepthMax, as far as brackets tell.
bool nested_too_deep(std::string_view json);
// An object that is not nested too deep.
std::optional<nlohmann::json> parse_object(std::string_view text);

}  // namespace culvert::wire
