// SPDX-License-Identifier: Apache-2.0
// culvertd: the control plane on a directory of manifests.
#include <chrono>
#include <csignal>
#include <cstdio>

#include "control/flags.h"
#include "mesh/kube/directory_source.h"
#include "net/uv/dir_watch.h"
#include "net/uv/signals.h"
#include "net/uv/uv_machine.h"
#include "net/uv/uv_network.h"

using namespace culvert;

namespace {

async::Task<void> run_plane(control::ControlPlane& plane, uv::UvLoop& loop, base::Result<>& outcome) {
  outcome = co_await plane.run();
  loop.stop();
}

base::Result<> run(control::DaemonOptions options, base::Log& log) {
  uv::SignalWatch::block();
  uv::UvLoop loop;
  auto network = uv::UvNetwork::create(loop);
  auto machine = uv::UvMachine::create(loop);
  if (!network || !machine) return base::fail(network ? machine.error() : network.error());
  kube::DirectorySource source(loop, log, options.directory);
  // Watch first, then read: a change in between is seen twice rather than never.
  auto watch = uv::DirWatch::create(loop, options.directory, [&source] { source.changed(); });
  if (!watch) return base::fail(std::move(watch).error().wrap("--dir"));
  if (auto read = source.start(); !read) return base::fail(std::move(read).error().wrap("--dir"));
  auto plane = control::ControlPlane::make(loop, **network, log, source, std::move(options.state),
                                           std::move(options.vips), std::move(options.plane), machine->get());
  if (!plane) return base::fail(std::move(plane).error());
  uv::SignalWatch signals(loop, [&](int) { (*plane)->shut_down(); });
  base::Result<> outcome;
  async::Scope main_task(loop);
  main_task.spawn(run_plane(**plane, loop, outcome));
  loop.run();
  return outcome;
}

}  // namespace

int main(int argc, char** argv) {
  int status = 0;
  auto options = control::parse_daemon_options(argc, argv, status);
  if (!options) return status;
  std::signal(SIGPIPE, SIG_IGN);
  auto clock = [] { return std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now()); };
  auto print = [](std::string line) {
    std::fwrite(line.data(), 1, line.size(), stdout), std::fflush(stdout);
  };
  base::LineLog log(options->log, base::LogFormat::kPlain, clock, print);
  auto outcome = run(std::move(*options), log);
  if (!outcome) std::fprintf(stderr, "culvertd: %s\n", outcome.error().message().c_str());
  return outcome ? 0 : 1;
}
