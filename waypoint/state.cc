// SPDX-License-Identifier: Apache-2.0
#include "waypoint/state.h"

#include <algorithm>

namespace culvert::waypoint {

bool covers(const model::LabelMap& wanted, const model::LabelMap& labels) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& entry) {
    auto found = labels.find(entry.first);
    return found != labels.end() && found->second == entry.second;
  });
}

}  // namespace culvert::waypoint
