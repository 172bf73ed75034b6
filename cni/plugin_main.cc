// SPDX-License-Identifier: Apache-2.0
// istio-cni: the process around cni/plugin. One thread, no loop, links statically.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>
#include <exception>
#include <iostream>

#include "cni/plugin.h"
#include "cni/plugin_log.h"
#include "cni/unix_http.h"
#include "net/base/unique_fd.h"

namespace {

using namespace culvert;

std::string env(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string read_stdin() {
  std::string text;
  char buffer[16 * 1024];
  ssize_t got = 0;
  while (text.size() <= cni::NetworkConfig::kBytesMax && (got = ::read(0, buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

bool is_own_netns(const std::string& path) {
  struct stat own{}, other{};
  return ::stat("/proc/self/ns/net", &own) == 0 && ::stat(path.c_str(), &other) == 0 &&
         own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

}  // namespace

int main() {
  cni::PluginLog log;
  cni::PluginEnvironment environment{env("CNI_COMMAND"),       env("CNI_CONTAINERID"), env("CNI_NETNS"),
                                     env("CNI_IFNAME"),        env("CNI_ARGS"),        env("CNI_PATH"),
                                     env("CNI_NETNS_OVERRIDE")};
  cni::PluginHooks hooks;
  hooks.read_stdin = read_stdin;
  hooks.is_own_netns = is_own_netns;
  hooks.configured = [&log](const cni::NetworkConfig& config) {
    log.configure(config.run_dir, config.log_level);
  };
  hooks.post_add = [](const std::string& socket, const std::string& body) {
    return cni::post_unix(socket, "/cmdadd", body, std::chrono::seconds(5));
  };
  cni::PluginOutcome outcome;
  try {
    outcome = cni::run_plugin(environment, hooks, log);
  } catch (const std::exception& error) {
    outcome = {1, cni::CniError{cni::CniCode::kOwn, "istio-cni failed unexpectedly", error.what()}.to_json(),
               ""};
  }
  std::cerr << outcome.notice;
  std::cout << outcome.output << std::flush;
  log.flush();
  return outcome.exit_code;
}
