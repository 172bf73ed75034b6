// SPDX-License-Identifier: Apache-2.0
// The node agent's configuration, read once from the environment (spec cni 5, plus CULVERT_*).
#pragma once

#include "cni/agent.h"
#include "cni/enrol.h"
#include "cni/installer.h"
#include "cni/kernel.h"
#include "mesh/config/environment.h"

namespace culvert::cni {

struct AgentConfig {
  std::string directory;            // CULVERT_DIR: manifests
  std::string run_dir;              // CNI_AGENT_RUN_DIR
  std::string zds_path;             // ZTUNNEL_UDS_ADDRESS
  std::string log_filter = "info";  // LOG_LEVEL
  bool ambient = false;
  bool switch_to_host = false;     // ALLOW_SWITCH_TO_HOST_NS
  bool uninstall_on_exit = false;  // CULVERT_UNINSTALL
  int monitoring_port = 15014;     // <= 0: off
  uint16_t health_port = 8000;     // CULVERT_HEALTH_PORT
  std::vector<SelectorPair> pairs;
  std::vector<std::string> excluded;
  InstallerOptions installer;
  AgentOptions agent;
  LinuxKernelOptions kernel;
};

// Errors name the variable.
base::Result<AgentConfig> read_agent_config(const config::Environment& environment);

}  // namespace culvert::cni
