// SPDX-License-Identifier: Apache-2.0
// Worker: one data loop with everything its connections need: view, certificates, counters, pods.
// Workers share nothing per byte; the control loop talks to them by posting (design section 4).
//
// Everything here runs on the worker's own loop. Made before its loop runs, destroyed after it stopped.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "mesh/ca/cert_cache.h"
#include "mesh/config/ztunnel_config.h"
#include "mesh/model/view.h"
#include "mesh/observe/conn_record.h"
#include "net/async/drain.h"
#include "net/async/loop.h"
#include "net/async/scope.h"
#include "net/base/log.h"
#include "net/base/rng.h"
#include "net/conn/relay.h"
#include "net/io/network.h"
#include "ztunnel/pod.h"

namespace culvert::ztunnel {

class PodProxy;

class Worker {
 public:
  Worker(const config::ZtunnelConfig& config, async::Loop& loop, io::Network& network, base::Log& log,
         observe::MetricsShard& metrics, ca::CertRequest certificates, base::Rng rng);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // --- commands of the control loop, posted to this one ---
  // Binds the pod's listeners and serves them. An error leaves nothing behind.
  base::Result<> start_pod(PodInfo info);
  // `done` is called once the pod's last task has ended; at once for an unknown uid.
  void stop_pod(const std::string& uid, async::DrainMode mode, async::Deadline deadline,
                std::function<void()> done);
  void set_view(model::ViewRef view, bool policies_changed);
  void forget_identity(const model::Identity& identity) { certificates_.forget(identity); }

  // --- for the connections ---
  const config::ZtunnelConfig& config() const { return config_; }
  async::Loop& loop() { return loop_; }
  io::Network& network() { return network_; }
  base::Log& log() { return log_; }
  base::Rng& rng() { return rng_; }
  ca::CertCache& certificates() { return certificates_; }
  const model::ViewRef& view() const { return view_; }
  conn::RelayBuffer& relay_buffer() { return relay_buffer_; }
  observe::Observer observer() { return {loop_, log_, metrics_, connections_}; }
  observe::MetricsShard& metrics() { return metrics_; }
  const observe::ConnTable& connections() const { return connections_; }
  void sync_counters() { connections_.sync(); }
  size_t pod_count() const { return pods_.size(); }
  // The pod that is this workload, if it is served here and has no end announced; else null.
  PodProxy* pod_of(const model::Workload& workload) const;
  // The pod's own workload, by what the node agent says about it, never by address; waits for the
  // control plane to deliver it (section 2.1 step 4). Trust domain and all.
  async::Task<base::Result<model::WorkloadRef>> local_workload(config::WorkloadName name,
                                                               async::Deadline deadline);

 private:
  static async::Task<void> end_pod(Worker& worker, std::unique_ptr<PodProxy> pod, async::DrainMode mode,
                                   async::Deadline deadline, std::function<void()> done);

  const config::ZtunnelConfig& config_;
  async::Loop& loop_;
  io::Network& network_;
  base::Log& log_;
  observe::MetricsShard& metrics_;
  base::Rng rng_;
  observe::ConnTable connections_;
  ca::CertCache certificates_;
  conn::RelayBuffer relay_buffer_;
  model::ViewRef view_ = model::MeshView::empty();
  async::Event view_changed_;
  std::map<std::string, std::unique_ptr<PodProxy>> pods_;
  std::map<config::WorkloadName, PodProxy*> by_workload_;  // the latest of a name
  std::list<PodProxy*> ending_;                            // draining; owned by the tasks in endings_
  async::Scope endings_;
};

}  // namespace culvert::ztunnel
