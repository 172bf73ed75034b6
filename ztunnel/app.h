// SPDX-License-Identifier: Apache-2.0
// App: the whole node proxy as one object (spec ztunnel section 1). One control loop: xDS, CA, admin,
// metrics, ZDS. N data loops: everything that touches a connection, and the readiness answer.
//
// Made on one thread before the loops run, destroyed after they have stopped. `run` lives on the
// control loop. With all places on one loop it runs in a simulation.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mesh/config/ztunnel_config.h"
#include "mesh/model/store.h"
#include "mesh/observe/metrics.h"
#include "mesh/observe/readiness.h"
#include "mesh/xds/xds_client.h"
#include "net/async/scope.h"
#include "net/base/log.h"
#include "net/base/rng.h"
#include "net/io/network.h"
#include "ztunnel/certificates.h"
#include "ztunnel/fleet.h"
#include "ztunnel/inpod.h"
#include "ztunnel/servers.h"
#include "ztunnel/worker.h"

namespace culvert::ztunnel {

struct LoopPlace {
  async::Loop& loop;
  io::Network& network;
};

struct AppParts {
  LoopPlace control;
  std::vector<LoopPlace> data;  // at least one
  base::LineLog& log;
  config::FileReader files;
  uint64_t seed = 0;
  // Where certificates come from; null: what the configuration says. Tests bring their own.
  std::unique_ptr<Certificates> certificates;
};

class App {
 public:
  App(config::ZtunnelConfig config, AppParts parts);
  ~App();
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  // Starts everything in the order of section 1 and ends when a shutdown has been asked for and the
  // connections have ended or their deadline has passed. An error is a start that failed.
  async::Task<base::Result<>> run();
  // SIGTERM, SIGINT, /quitquitquit. Control loop; again has no effect.
  void shut_down(std::string why);

  const config::ZtunnelConfig& config() const { return config_; }
  const observe::Readiness& readiness() const { return readiness_; }
  observe::Metrics& metrics() { return metrics_; }
  // Takes an update as if the control plane had sent it (LOCAL_XDS, tests).
  void apply(model::MeshUpdate update);

 private:
  friend class AppPages;
  base::Result<> prepare();
  base::Result<> make_certificates();
  async::Task<base::Result<>> start_pods();
  base::Result<> load_local_mesh();
  base::Result<> start_xds();
  void register_gauges();
  // Takes over what the xDS client has counted, before a scrape.
  void export_xds();
  ca::CertRequest cert_request(async::Loop& loop);
  static async::Task<void> answer_cert(App& app, model::Identity identity, ca::CertAnswer answer,
                                       async::Loop& loop);
  static async::Task<void> watch_xds(App& app);
  async::Task<void> drain();

  config::ZtunnelConfig config_;
  AppParts parts_;
  async::Loop& control_;
  base::Log& log_;
  observe::Metrics metrics_;
  observe::MetricsShard& shard_;
  observe::Readiness readiness_;
  model::MeshStore store_;
  std::unique_ptr<Certificates> certificates_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<Fleet> fleet_;
  std::unique_ptr<xds::XdsClient> xds_;
  std::unique_ptr<InpodClient> inpod_;
  async::Event synced_;
  async::Event stopping_;
  std::unique_ptr<AppPages> pages_;
  std::unique_ptr<Servers> servers_;
  async::Scope zds_;
  async::Scope tasks_;
};

}  // namespace culvert::ztunnel
