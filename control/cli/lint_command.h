// SPDX-License-Identifier: Apache-2.0
// `culvert lint`: what is wrong with manifests, without a control plane (spec control-plane section 7.2).
#pragma once

#include <string>
#include <vector>

#include "control/cli/output.h"
#include "control/compile/compile.h"

namespace culvert::control {

struct LintCommand {
  std::vector<std::string> paths;  // files and directories
  CompileOptions options;
  Severity fail_at = Severity::kWarning;  // findings from here on change the exit status
  OutputFormat format = OutputFormat::kTable;
};

struct LintOutcome {
  std::string text;
  int status = 0;  // 0: nothing to say, 1: a path cannot be read, 3: findings at or over `fail_at`
};

LintOutcome lint(const LintCommand& command);

}  // namespace culvert::control
