// SPDX-License-Identifier: Apache-2.0
// How the process begins, waits for signals and ends.
#pragma once

#include <functional>
#include <memory>

#include "mesh/config/ztunnel_config.h"
#include "net/async/task.h"
#include "net/base/log.h"

namespace culvert::ztunnel {

class App;

// What is there before any loop.
struct Setup {
  config::ZtunnelConfig config;
  std::unique_ptr<base::LineLog> log;
};
// Reads the environment and the files it names, and raises the limit of descriptors.
base::Result<Setup> set_up(char** environment, base::LineLog::Sink sink);

// Runs the app on its control loop, says why it could not start, and ends the waiting.
async::Task<void> run_to_end(App& app, base::Log& log, int& status);

// Blocks the signals we wait for in this thread and all it starts, and ignores SIGPIPE. Call first in main.
void block_signals();
// Waits on the calling thread. `shut_down` is called at the first SIGTERM or SIGINT; a second SIGINT leaves
// the process with 0. Returns once `finish_waiting` was called from any thread.
void wait_for_signals(const std::function<void(const char* name)>& shut_down);
void finish_waiting();

}  // namespace culvert::ztunnel
