// SPDX-License-Identifier: Apache-2.0
// The command line of `culvert`: words in, text and exit status out.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "net/base/duration.h"
#include "net/base/result.h"

namespace culvert::control {

struct HttpAnswer {
  int status = 0;
  std::string body;
};

// What the commands need of the world.
struct CliWorld {
  // GET http://<host:port><path>.
  std::function<base::Result<HttpAnswer>(const std::string& host_port, const std::string& path)> get;
  std::function<base::WallTime()> now;
  std::function<void(const std::string& text)> out;
  std::function<void(const std::string& text)> err;
};

// Exit status: 0 fine, 1 failed, 2 wrong usage, 3 findings at or over the threshold.
int run_culvert(std::vector<std::string> words, const CliWorld& world);

}  // namespace culvert::control
