// SPDX-License-Identifier: Apache-2.0
// Program: everything `install-cni` runs, put together in the order of spec cni 1.1: metrics,
// log and health servers, the ztunnel socket, the source, restore, plugin socket, installer.
// One control loop; owned by main.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cni/agent.h"
#include "cni/agent_config.h"
#include "cni/installer.h"
#include "cni/local_http.h"

namespace culvert::cni {

// Where pods and namespaces come from. Calls back on the loop with complete states.
class PodSource {
 public:
  virtual ~PodSource() = default;
  virtual void start(std::function<void(ClusterRef)> changed) = 0;
};

class Program {
 public:
  Program(async::Loop& loop, io::Network& network, base::Log& log, AgentConfig config,
          std::unique_ptr<PodSource> source);
  ~Program();

  // Fails if a socket cannot be opened; later fatal errors go to `fatal`.
  base::Result<> start(std::function<void(base::Error)> fatal);
  // Ends worker threads and the installer; with `clean` takes everything of ours off the node.
  void stop(bool clean);

 private:
  static async::Task<void> run(Program& program);
  async::Task<LocalResponse> health(LocalRequest request);
  async::Task<LocalResponse> metrics(LocalRequest request);
  async::Task<LocalResponse> plugin_log(LocalRequest request);
  async::Task<LocalResponse> command(LocalRequest request);
  base::Result<> listen_tcp(uint16_t port, std::unique_ptr<LocalHttp>& server, LocalHttp::Handler handler);
  base::Result<> listen_local(const std::string& name, std::unique_ptr<LocalHttp>& server,
                              LocalHttp::Handler handler);

  async::Loop& loop_;
  io::Network& network_;
  base::Log& log_;
  AgentConfig config_;
  std::unique_ptr<PodSource> source_;
  std::function<void(base::Error)> fatal_;
  LinuxKernel kernel_;
  Installer installer_;
  InstallerWatch installer_watch_;
  std::unique_ptr<ThreadWorker> worker_;
  std::unique_ptr<io::PacketListener> zds_listener_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<LocalHttp> health_server_, metrics_server_, log_server_, command_server_;
  bool watch_ready_ = false;
  async::Scope scope_;
};

// Removes configuration, binary, host rules and set (spec cni 1.6), for the subcommand `uninstall`.
base::Result<> uninstall(const AgentConfig& config, base::Log& log);

}  // namespace culvert::cni
