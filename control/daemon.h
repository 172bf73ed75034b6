// SPDX-License-Identifier: Apache-2.0
// The process around a ControlPlane: loop, log, signals, the watched directory.
#pragma once

#include <string>

#include "control/plane.h"

namespace culvert::control {

struct DaemonOptions {
  std::string directory;
  std::string state;
  std::string listen = "[::]:15012";
  std::string http = "0.0.0.0:8080";
  std::string vip_range = "240.241.0.0/16";
  std::string log_filter = "info";
  PlaneOptions plane;
};

// The exit status; what went wrong has been said on stderr.
int run_daemon(DaemonOptions options);

}  // namespace culvert::control
