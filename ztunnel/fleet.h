// SPDX-License-Identifier: Apache-2.0
// Fleet: the data loops as the control loop sees them. Commands go out by post and come back by post; a pod
// runs on every data loop or on none.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "mesh/observe/metrics.h"
#include "net/async/loop.h"
#include "net/async/scope.h"
#include "ztunnel/inpod.h"
#include "ztunnel/worker.h"

namespace culvert::ztunnel {

class Fleet final : public PodStarter {
 public:
  // The workers outlive the fleet and are touched only on their own loops.
  Fleet(async::Loop& control, observe::MetricsShard& metrics, std::vector<Worker*> workers);

  async::Task<base::Result<>> start_pod(PodInfo pod) override;
  void stop_pod(std::string uid, async::DrainMode mode, async::Deadline deadline) override;
  // Gracefully stops every pod; ends when the last connection has, at the latest at the deadline.
  async::Task<void> drain(async::Deadline deadline);
  void set_view(const model::ViewRef& view, bool policies_changed);
  void forget_identity(const model::Identity& identity);
  // Brings byte counters up to date and lists every open connection.
  async::Task<std::vector<observe::ConnTable::Row>> connections();
  // Only the counters: before a scrape.
  async::Task<void> sync_counters();

 private:
  void stopped_one();

  async::Loop& control_;
  observe::MetricsShard& metrics_;
  std::vector<Worker*> workers_;
  std::set<std::string> started_;  // also those whose start is under way or has failed in part
  size_t stopping_ = 0;
  async::Event settled_;  // set while no worker has an ending pod
};

}  // namespace culvert::ztunnel
