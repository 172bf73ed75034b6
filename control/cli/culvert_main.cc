// SPDX-License-Identifier: Apache-2.0
// culvert: the command line. Gives the commands (commands.h) a clock, a network and the terminal.
#include <chrono>
#include <iostream>

#include "control/cli/commands.h"
#include "control/cli/fetch.h"
#include "net/async/scope.h"
#include "net/uv/uv_network.h"

using namespace culvert;

namespace {

async::Task<void> run(uv::UvLoop& loop, async::Task<base::Result<std::string>> task,
                      base::Result<std::string>& out) {
  out = co_await std::move(task);
  loop.stop();
}

base::Result<std::string> fetch(const std::string& host_port, const std::string& path) {
  uv::UvLoop loop;
  base::Result<std::unique_ptr<uv::UvNetwork>> network = uv::UvNetwork::create(loop);
  if (!network) return base::fail(std::move(network).error());
  base::Result<std::string> out;
  async::Scope scope(loop);
  scope.spawn(run(loop, control::fetch(loop, **network, host_port, path), out));
  loop.run();
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  auto now = [] { return std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now()); };
  return control::run_command(argc, argv, {std::cout, std::cerr, now, fetch});
}
