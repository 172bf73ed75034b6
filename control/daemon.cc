// SPDX-License-Identifier: Apache-2.0
#include "control/daemon.h"

#include <sys/stat.h>

#include <chrono>
#include <cstdio>

#include "mesh/kube/directory_source.h"
#include "net/uv/dir_watch.h"
#include "net/uv/signals.h"
#include "net/uv/uv_network.h"

namespace culvert::control {

using base::fail;
using base::Result;

namespace {

void write_line(std::string line) {
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fflush(stdout);
}

base::WallTime wall_clock() {
  return std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now());
}

async::Task<void> run_plane(ControlPlane& plane, uv::UvLoop& loop, Result<>& outcome) {
  outcome = co_await plane.run();
  loop.stop();
}

Result<> run(DaemonOptions options, base::Log& log) {
  Result<base::SocketAddr> listen = base::SocketAddr::parse(options.listen);
  if (!listen) return fail(std::move(listen).error().wrap("--listen"));
  Result<base::SocketAddr> http = base::SocketAddr::parse(options.http);
  if (!http) return fail(std::move(http).error().wrap("--http"));
  Result<base::Cidr> range = base::Cidr::parse(options.vip_range);
  if (!range) return fail(std::move(range).error().wrap("--vip-cidr"));
  Result<VipPool> vips = VipPool::make(*range);
  if (!vips) return fail(std::move(vips).error().wrap("--vip-cidr"));
  Result<StateDir> state = StateDir::open(options.state);
  if (!state) return fail(std::move(state).error().wrap("--state"));
  options.plane.listen = *listen;
  options.plane.http = *http;

  uv::SignalWatch::block();
  uv::UvLoop loop;
  Result<std::unique_ptr<uv::UvNetwork>> network = uv::UvNetwork::create(loop);
  if (!network) return fail(std::move(network).error());
  kube::DirectorySource source(loop, log, options.directory);
  // Watch first, then read: a change in between is seen twice rather than never.
  Result<std::unique_ptr<uv::DirWatch>> watch =
      uv::DirWatch::create(loop, options.directory, [&source] { source.changed(); });
  if (!watch) return fail(std::move(watch).error().wrap("--dir"));
  if (Result<> read = source.start(); !read) return fail(std::move(read).error().wrap("--dir"));
  Result<std::unique_ptr<ControlPlane>> plane = ControlPlane::make(
      loop, **network, log, source, std::move(*state), std::move(*vips), std::move(options.plane));
  if (!plane) return fail(std::move(plane).error());
  uv::SignalWatch signals(loop, [&](int) {
    log.info("culvertd", "shutting down");
    (*plane)->shut_down();
  });
  Result<> outcome;
  async::Scope main(loop);
  main.spawn(run_plane(**plane, loop, outcome));
  loop.run();
  return outcome;
}

}  // namespace

int run_daemon(DaemonOptions options) {
  Result<base::LogFilter> filter = base::LogFilter::parse(options.log_filter);
  if (!filter) {
    std::fprintf(stderr, "culvertd: --log: %s\n", filter.error().message().c_str());
    return 2;
  }
  base::LineLog log(std::move(*filter), base::LogFormat::kPlain, wall_clock, write_line);
  Result<> outcome = run(std::move(options), log);
  if (outcome) return 0;
  std::fprintf(stderr, "culvertd: %s\n", outcome.error().message().c_str());
  return 1;
}

}  // namespace culvert::control
