// SPDX-License-Identifier: Apache-2.0
// Servers: the HTTP ports of the process: admin (localhost) and stats on the control loop, readiness on the
// first data loop (spec ztunnel section 1). A port that cannot be bound stops the start.
#pragma once

#include <memory>

#include "mesh/config/ztunnel_config.h"
#include "net/async/task.h"
#include "net/base/log.h"
#include "net/io/network.h"
#include "ztunnel/app_pages.h"

namespace culvert::ztunnel {

class Servers {
 public:
  // All references outlive the object; it is destroyed after the loops have stopped.
  Servers(const config::ZtunnelConfig& config, base::Log& log, AppPages& pages);
  ~Servers();
  Servers(const Servers&) = delete;
  Servers& operator=(const Servers&) = delete;

  // On the control loop.
  async::Task<base::Result<>> start(async::Loop& control, io::Network& control_network, async::Loop& data,
                                    io::Network& data_network);
  // Requests in flight end; ports are closed.
  async::Task<void> stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace culvert::ztunnel
