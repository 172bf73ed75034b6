// SPDX-License-Identifier: Apache-2.0
// App: the whole waypoint as one object. One control loop: xDS, CA, admin, metrics, readiness. N data loops:
// everything that touches a connection (design section 4).
//
// Made on one thread before the loops run, destroyed after they have stopped. `run` lives on the control
// loop. With all places on one loop it runs in a simulation.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mesh/ca/cert_store.h"
#include "mesh/config/waypoint_config.h"
#include "mesh/model/store.h"
#include "mesh/observe/readiness.h"
#include "mesh/xds/xds_client.h"
#include "net/async/scope.h"
#include "net/conn/http_server.h"
#include "waypoint/telemetry/reporter.h"
#include "waypoint/telemetry/span_exporter.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

struct LoopPlace {
  async::Loop& loop;
  io::Network& network;
};

struct AppParts {
  LoopPlace control;
  std::vector<LoopPlace> data;  // at least one
  base::LineLog& log;
  config::FileReader files;
  Reporter::AccessLog access_log;
  uint64_t seed = 0;
  // Where certificates come from; null: the CA of the configuration. Tests bring their own.
  std::unique_ptr<ca::CertFetcher> certificates;
  // What is allocated; null: unknown, and memory never refuses anybody.
  std::function<uint64_t()> heap_bytes;
};

class App {
 public:
  App(config::WaypointConfig config, AppParts parts);
  ~App();
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  // Ends when a shutdown has been asked for and the connections have ended or their deadline has passed. An
  // error is a start that failed.
  async::Task<base::Result<>> run();
  // SIGTERM, SIGINT, POST /drain. Control loop; again has no effect.
  void shut_down(std::string why);
  // Takes an update as if the control plane had sent it.
  void apply(model::MeshUpdate mesh, model::WaypointUpdate l7);

  observe::Readiness& readiness() { return readiness_; }

 private:
  base::Result<> make_certificates();
  base::Result<> start_xds();
  base::Result<> start_pages();
  async::Task<base::Result<>> start_workers();
  async::Task<void> drain();
  static async::Task<void> watch_memory(App& app);
  std::unique_ptr<SpanExporter> make_spans(base::Rng rng);
  static async::Task<base::Result<wire::TlsIdentityRef>> own_certificate(App& app, model::Identity identity,
                                                                         async::Deadline deadline);
  ca::CertRequest cert_request(async::Loop& loop);
  static async::Task<void> answer_cert(App& app, model::Identity identity, ca::CertAnswer answer,
                                       async::Loop& loop);
  async::Task<conn::HttpResponse> admin(conn::HttpRequest request);
  async::Task<conn::HttpResponse> stats(conn::HttpRequest request);
  async::Task<conn::HttpResponse> ready(conn::HttpRequest request);
  void serve(std::unique_ptr<io::Listener> listener, conn::HttpHandler handler);

  config::WaypointConfig config_;
  AppParts parts_;
  async::Loop& control_;
  base::Log& log_;
  Shared shared_;
  observe::Readiness readiness_;
  Reporter reporter_;
  model::MeshStore store_;
  model::WaypointViewRef l7_ = model::WaypointView::empty();
  std::unique_ptr<ca::CertFetcher> fetcher_;
  std::unique_ptr<ca::CertStore> certificates_;
  std::unique_ptr<SpanExporter> spans_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<xds::XdsClient> xds_;
  async::Event synced_;
  async::Event stopping_;
  std::vector<std::unique_ptr<conn::HttpServer>> servers_;
  async::Scope tasks_;
};

}  // namespace culvert::waypoint
