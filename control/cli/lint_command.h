// SPDX-License-Identifier: Apache-2.0
// `culvert lint`: what the control plane would say about manifests, without one (spec control-plane
// section 7.2).
#pragma once

#include <string>
#include <vector>

#include "control/compile/compile.h"
#include "net/base/result.h"

namespace culvert::control {

struct LintCommand {
  std::vector<std::string> paths;  // files, or directories with all below them
  Severity threshold = Severity::kWarning;
  bool json = false;
  CompileOptions compile;
};

struct LintReport {
  std::string text;
  bool over_threshold = false;  // a finding at or above the threshold
};

// An error: a path cannot be read, or names no manifest.
base::Result<LintReport> lint(const LintCommand& command);

}  // namespace culvert::control
