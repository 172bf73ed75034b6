// SPDX-License-Identifier: Apache-2.0
// `culvert policy`: what became of AuthorizationPolicies and RequestAuthentications, and those bound by
// selector in the form with targetRefs (spec control-plane section 7.3). Without a control plane.
#pragma once

#include <string>
#include <vector>

#include "control/compile/compile.h"
#include "net/base/result.h"

namespace culvert::control {

struct PolicyCommand {
  std::vector<std::string> paths;
  std::string name;  // explain: only this "namespace/name"; "" all
  CompileOptions compile;
};

// One paragraph for each policy, with a table of who enforces it for whom.
base::Result<std::string> explain_policies(const PolicyCommand& command);

struct ConvertedPolicies {
  std::string yaml;
  std::vector<std::string> left_out;  // policies that have no such form, and why
};
// Each policy by selector that needs a waypoint becomes one with targetRefs to the Services of the pods it
// selects (its ports those of the Services), and one for the node proxies, which keeps what needs no waypoint
// and admits nobody around it.
base::Result<ConvertedPolicies> convert_policies(const PolicyCommand& command);

}  // namespace culvert::control
