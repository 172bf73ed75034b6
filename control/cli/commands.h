// SPDX-License-Identifier: Apache-2.0
// The commands of `culvert`, apart from the process they run in. Exit status: 0 fine, 1 failed, 2 wrong
// usage, 3 findings at or over the threshold.
#pragma once

#include <functional>
#include <ostream>
#include <string>

#include "net/base/duration.h"
#include "net/base/result.h"

namespace culvert::control {

struct CommandTools {
  std::ostream& out;
  std::ostream& err;
  std::function<base::WallTime()> now;
  // The body of GET http://<host:port><path>.
  std::function<base::Result<std::string>(const std::string& host_port, const std::string& path)> fetch;
};

int run_command(int argc, char** argv, const CommandTools& tools);

}  // namespace culvert::control
