// SPDX-License-Identifier: Apache-2.0
// WaypointController: the waypoints that the Gateways among the manifests ask for, as processes of this
// machine (control-plane spec sections 1.14 and 6). Gives each an address for good, a token and its
// environment, and writes into the objects what an API server would tell: the Gateway's address, the
// waypoint's Pod. Control loop; owned by ControlPlane.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "control/deploy/overlay.h"
#include "control/deploy/processes.h"
#include "control/serve/state_dir.h"
#include "control/serve/token.h"
#include "control/serve/vip_pool.h"

namespace culvert::control {

struct WaypointOptions {
  std::string program;
  base::Cidr range;     // of addresses that are given out
  std::string netns;    // empty: our own
  std::string node;     // where they are, for the node proxies; empty: nowhere in particular
  std::string control;  // https://host:port of xDS and CA as the waypoints reach it
  std::string output_directory;
  std::vector<std::string> environment;  // "NAME=value" beside what is derived, and over it
  base::Duration drain = std::chrono::seconds(10);
  std::string token_audience = "istio-ca";
};

class WaypointController {
 public:
  static constexpr uint16_t kAdminPortFirst = 15100;  // one each, on loopback
  static constexpr size_t kWaypointsMax = 500;
  static constexpr base::Duration kTokenLifetime = std::chrono::hours(24);
  static constexpr base::Duration kTokenRenewal = std::chrono::hours(6);
  static constexpr base::Duration kTokenRetry = std::chrono::minutes(1);

  struct World {
    async::Loop& loop;
    io::Machine& machine;
    io::Network& network;
    base::Log& log;
    const StateDir& state;
    TokenKey key;
  };
  // `roots_pem`: what the waypoints trust the control plane by. `changed`: apply would give something else.
  // An error: the range or what was kept is of no use.
  static base::Result<std::unique_ptr<WaypointController>> make(World world, WaypointOptions options,
                                                                CompileOptions compile, std::string roots_pem,
                                                                std::function<void()> changed);

  // Runs what these objects ask for, no more and no less; the same objects with what runs written in.
  kube::ObjectsRef apply(const kube::ObjectsRef& objects);
  // Of the objects last applied and of what happened since.
  std::vector<Finding> findings() const;
  // How far the waypoint of a Gateway is, if it is ours.
  struct Report {
    RunningWaypoint running;
    ProcessState process;
    uint16_t admin_port = 0;
  };
  std::optional<Report> report(const std::string& key) const;
  size_t running() const;  // processes
  uint64_t restarts() const { return processes_.restarts(); }
  async::Task<void> stop() { return processes_.stop(); }

 private:
  WaypointController(World world, WaypointOptions options, CompileOptions compile, VipPool pool,
                     std::string roots_pem, std::function<void()> changed);
  base::Result<base::IpAddr> address_of(const WaypointDeployment& deployment);
  base::Result<uint16_t> admin_port_of(const std::string& key);
  ProcessWanted wanted(const WaypointDeployment& deployment, base::IpAddr address, uint16_t admin_port);
  base::Result<> prepare(const std::string& key);
  void renew_tokens();
  void processes_changed();
  void take_states();
  std::string file_name(const WaypointDeployment& deployment, const char* what) const;
  void keep(const char* name, const std::string& content);

  World world_;
  WaypointOptions options_;
  CompileOptions compile_;
  VipPool pool_;
  std::string roots_pem_;
  std::function<void()> changed_;
  std::string network_;
  DerivedWaypoints derived_;
  std::vector<Finding> refused_;  // those derived, but without an address or a port
  std::map<std::string, uint16_t> admin_ports_;
  std::map<std::string, RunningWaypoint> running_;
  std::set<std::string> programmed_;  // kept over restarts: see RunningWaypoint
  async::CallTimer renew_timer_;
  WaypointProcesses processes_;
};

// The Gateways of waypoint classes, for people, as {"waypoints": [...]}; `controller` may be null.
std::string describe_waypoints(const kube::Objects& objects, const WaypointController* controller);

}  // namespace culvert::control
