// SPDX-License-Identifier: Apache-2.0
// Where hosts stand by locality and labels (internal to balance.h; spec waypoint section 2.3.2).
#pragma once

#include <optional>
#include <span>
#include <string>

#include "mesh/decide/balance.h"

namespace culvert::decide {

// The first rule for the origin's locality; null: none.
const model::LocalityPreference::Distribute* distribution_for(const model::LocalityPreference& preference,
                                                              const BalanceOrigin& origin);
// The longest pattern that matches the host's locality.
std::optional<size_t> best_pattern(std::span<const std::string> patterns, const BalanceHost& host);

// 0 the nearest. By labels: as many of the list agree from its start on; else by region, zone, subzone, and
// beyond the region its failover first.
uint32_t failover_level(const model::LocalityPreference& preference, const BalanceOrigin& origin,
                        const BalanceHost& host);

}  // namespace culvert::decide
