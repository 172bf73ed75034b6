// SPDX-License-Identifier: Apache-2.0
// The chained CNI plugin's logic: one command in, what to print and the exit status out
// (spec cni 1.7-1.9). Pure but for the two callbacks; the process around it is plugin_main.cc.
// Decides nothing about pods itself: in directory mode the node agent does, and no answer from
// it fails the sandbox (fail closed).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cni/cni_types.h"
#include "net/base/log.h"

namespace culvert::cni {

struct PluginEnvironment {
  std::string command;
  std::string container_id;
  std::string netns;
  std::string ifname;
  std::string args;
  std::string path;
  std::string netns_override;
};

struct PluginOutcome {
  int exit_code = 0;
  std::string output;  // stdout
  std::string notice;  // stderr
};

struct HttpAnswer {
  int status = 0;
  std::string body;
};

struct PluginHooks {
  std::function<std::string()> read_stdin;
  // Posts `body` to the agent's socket.
  std::function<base::Result<HttpAnswer>(const std::string& socket_path, const std::string& body)> post_add;
  // Whether `path` can be opened and is the caller's own network namespace.
  std::function<bool(const std::string& path)> is_own_netns;
  // Told as soon as the configuration is known, for the log.
  std::function<void(const NetworkConfig&)> configured;
};

PluginOutcome run_plugin(const PluginEnvironment& environment, const PluginHooks& hooks, base::Log& log);

}  // namespace culvert::cni
