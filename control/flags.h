// SPDX-License-Identifier: Apache-2.0
// culvertd's command line as checked values.
#pragma once

#include <optional>
#include <string>

#include "control/plane.h"
#include "net/base/log.h"

namespace culvert::control {

struct DaemonOptions {
  std::string directory;
  StateDir state;
  VipPool vips;
  base::LogFilter log;
  PlaneOptions plane;
};

// nullopt: the command line has been dealt with (help, version, a mistake that was said on stderr) and the
// process should end with `status`.
std::optional<DaemonOptions> parse_daemon_options(int argc, char** argv, int& status);

}  // namespace culvert::control
