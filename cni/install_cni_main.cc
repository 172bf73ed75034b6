// SPDX-License-Identifier: Apache-2.0
// install-cni: the node agent. `install-cni` runs it until SIGTERM or SIGINT, which leaves
// everything in place for its successor; `install-cni uninstall` takes it off the node.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string_view>

#include "cni/directory_pods.h"
#include "cni/program.h"
#include "net/uv/signals.h"
#include "net/uv/uv_network.h"

using namespace culvert;

int main(int argc, char** argv, char** environment) {
  const std::string_view command = argc > 1 ? argv[1] : "run";
  if (command != "run" && command != "uninstall") {
    std::fprintf(stderr, "usage: install-cni [run|uninstall]\nConfiguration comes from the environment.\n");
    return command == "help" ? 0 : 2;
  }
  auto config = cni::read_agent_config(config::Environment::from_block(environment));
  if (!config) return std::fprintf(stderr, "install-cni: %s\n", config.error().message().c_str()), 1;
  auto filter = base::LogFilter::parse(config->log_filter);
  if (!filter) return std::fprintf(stderr, "LOG_LEVEL: %s\n", filter.error().message().c_str()), 1;
  auto clock = [] { return std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now()); };
  base::LineLog log(*filter, base::LogFormat::kPlain, clock,
                    [](std::string line) { std::fwrite(line.data(), 1, line.size(), stderr); });
  if (command == "uninstall") {
    auto done = cni::uninstall(*config, log);
    if (!done) std::fprintf(stderr, "install-cni: %s\n", done.error().message().c_str());
    return done ? 0 : 1;
  }
  uv::SignalWatch::block();
  std::signal(SIGPIPE, SIG_IGN);
  uv::UvLoop loop;
  auto network = uv::UvNetwork::create(loop);
  if (!network) return std::fprintf(stderr, "install-cni: %s\n", network.error().message().c_str()), 1;
  int status = 0;
  const bool clean = config->uninstall_on_exit;
  auto source = cni::make_directory_pods(loop, log, config->directory, config->agent.node);
  cni::Program program(loop, **network, log, std::move(*config), std::move(source));
  auto fatal = [&](base::Error error) {
    log.error("cni-agent", error.message());
    status = 1;
    loop.stop();
  };
  uv::SignalWatch signals(loop, [&](int) { loop.stop(); });
  if (auto started = program.start(fatal); !started) return fatal(started.error()), status;
  loop.run();
  program.stop(clean);
  return status;
}
