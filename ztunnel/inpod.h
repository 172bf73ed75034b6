// SPDX-License-Identifier: Apache-2.0
// InpodClient: talks ZDS with the node agent and has pods started and stopped (spec ztunnel section
// 8.1 and 8.2). Control loop. One message at a time, each answered within kAnswerWithin; a broken
// protocol is answered with a nack, counted, and followed by a new connection after a pause.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mesh/observe/metrics.h"
#include "net/async/drain.h"
#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/base/log.h"
#include "net/base/rng.h"
#include "net/io/network.h"
#include "ztunnel/zds.h"

namespace culvert::ztunnel {

// Starts and stops a pod on every data loop.
class PodStarter {
 public:
  virtual ~PodStarter() = default;
  virtual async::Task<base::Result<>> start_pod(PodInfo pod) = 0;
  virtual void stop_pod(std::string uid, async::DrainMode mode, async::Deadline deadline) = 0;
};

class InpodClient {
 public:
  InpodClient(async::Loop& loop, io::Network& network, base::Log& log, observe::MetricsShard& metrics,
              base::Rng rng, std::string path, PodStarter& pods);

  // Never ends by itself; destroy the task to close the socket.
  async::Task<void> run();
  const ZdsState& state() const { return state_; }
  // Called whenever ready() may have changed.
  void on_change(std::function<void()> call) { on_change_ = std::move(call); }

 private:
  static constexpr base::Duration kAnswerWithin = std::chrono::seconds(4);
  static constexpr base::Duration kRetryEvery = std::chrono::seconds(5);
  static constexpr base::Duration kBackoffFirst = std::chrono::milliseconds(20);
  static constexpr base::Duration kBackoffMax = std::chrono::seconds(15);

  async::Task<base::Result<>> converse(io::PacketSocket& socket);
  async::Task<base::Result<>> handle(ZdsMessage message);
  async::Task<base::Result<>> handle_add(ZdsAdd add);
  async::Task<base::Result<>> start(PodInfo pod);
  async::Task<void> retry_pending();
  void changed();

  async::Loop& loop_;
  io::Network& network_;
  base::Log& log_;
  observe::MetricsShard& metrics_;
  base::Rng rng_;
  std::string path_;
  PodStarter& pods_;
  ZdsState state_;
  std::function<void()> on_change_;
};

}  // namespace culvert::ztunnel
