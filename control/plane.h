// SPDX-License-Identifier: Apache-2.0
// ControlPlane: culvertd as one object: source -> compile -> snapshot -> ADS, beside it the CA and the pages.
// Lives on one loop; main builds it, `run` ends after shut_down.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "control/deploy/controller.h"
#include "control/serve/ads_server.h"
#include "control/serve/ca_service.h"
#include "control/serve/jwks_fetcher.h"
#include "control/serve/state_dir.h"
#include "control/serve/vip_pool.h"
#include "control/status/pages.h"
#include "mesh/kube/resource_source.h"
#include "net/async/scope.h"
#include "net/base/log.h"
#include "net/io/network.h"

namespace culvert::control {

struct PlaneOptions {
  base::SocketAddr listen{base::IpAddr::any_v6(), 15012};
  base::SocketAddr http{base::IpAddr::any_v4(), 8080};
  std::vector<std::string> server_names;  // beside the conventional ones
  std::string ca_directory;               // plugged-in certificates; empty: our own root
  std::set<std::string> trusted_node_accounts = {"istio-system/ztunnel"};
  std::string token_audience = "istio-ca";
  CompileOptions compile;
  JwksOptions jwks;
  std::string version;
  std::optional<WaypointOptions> waypoints;  // none: their Gateways are somebody else's to run
};

class ControlPlane {
 public:
  static constexpr base::Duration kServerLifetime = std::chrono::hours(24 * 30);
  static constexpr base::Duration kHandshakeTimeout = std::chrono::seconds(10);

  // An error: the state directory, the CA or the VIPs are unusable. `machine`: where waypoints run; needed
  // for nothing else.
  static base::Result<std::unique_ptr<ControlPlane>> make(async::Loop& loop, io::Network& network,
                                                          base::Log& log, kube::ResourceSource& source,
                                                          StateDir state, VipPool vips, PlaneOptions options,
                                                          io::Machine* machine = nullptr);
  // Listens, then serves until shut_down. An error: a port cannot be had.
  async::Task<base::Result<>> run();
  void shut_down() { stopping_.set(); }

 private:
  ControlPlane(async::Loop& loop, io::Network& network, base::Log& log, kube::ResourceSource& source,
               StateDir state, VipPool vips, CertAuthority authority, TokenKey key, PlaneOptions options);
  base::Result<> make_waypoints(io::Machine& machine, const TokenKey& key);
  void recompile();
  void jwks_changed();
  base::Result<> renew_server_certificate();
  bool pod_on_node(const std::string& ns, const std::string& service_account, const std::string& node);
  async::Task<void> accept_loop();
  async::Task<void> serve(std::unique_ptr<io::ByteStream> stream);

  async::Loop& loop_;
  io::Network& network_;
  base::Log& log_;
  kube::ResourceSource& source_;
  StateDir state_;
  VipPool vips_;
  PlaneOptions options_;
  CertAuthority authority_;
  Authenticator authenticator_;
  AdsServer ads_;
  CaService ca_;
  Pages pages_;
  conn::GrpcServer grpc_;
  wire::TlsIdentityRef server_identity_;
  JwksFetcher jwks_;
  async::CallTimer renew_timer_;
  std::unique_ptr<WaypointController> waypoints_;  // null: none are run
  std::unique_ptr<io::Listener> listener_;
  std::unique_ptr<conn::HttpServer> http_;
  async::Event stopping_;
  // Where accounts have pods, as "ns/account/node", of these objects; made again when asked after a change.
  std::unordered_set<std::string> placed_;
  kube::ObjectsRef placed_of_;
  async::Scope tasks_;
};

}  // namespace culvert::control
