// SPDX-License-Identifier: Apache-2.0
// What the process itself needs beside the App: descriptors, signals, a seed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "mesh/config/ztunnel_config.h"
#include "net/async/task.h"
#include "net/base/log.h"
#include "net/base/result.h"

namespace culvert::ztunnel {

class App;

// Raises the soft limit of descriptors to the hard one.
base::Result<> raise_descriptor_limit();

// The process's log, as RUST_LOG and LOG_FORMAT say.
base::Result<std::unique_ptr<base::LineLog>> make_log(const config::ZtunnelConfig& config,
                                                      base::LineLog::Sink sink);

// A seed from the kernel, for choices that need no secrecy.
uint64_t random_seed();

// Runs the app on its control loop, says why it could not start, and ends the waiting.
async::Task<void> run_to_end(App& app, base::Log& log, int& status);

// Blocks the signals we wait for in this thread and all it starts, and ignores SIGPIPE. Call first in main.
void block_signals();
// Waits on the calling thread. `shut_down` is called at the first SIGTERM or SIGINT; a second SIGINT leaves
// the process with 0. Returns once `finish_waiting` was called from any thread.
void wait_for_signals(const std::function<void(const char* name)>& shut_down);
void finish_waiting();

}  // namespace culvert::ztunnel
