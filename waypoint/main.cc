// SPDX-License-Identifier: Apache-2.0
// waypoint: the L7 proxy. Builds loops, log and App and waits for signals; everything else is in app.h.
#include <malloc.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <list>
#include <thread>

#include "mesh/config/program.h"
#include "net/uv/log_files.h"
#include "net/uv/signals.h"
#include "net/uv/uv_network.h"
#include "waypoint/app.h"
#include "waypoint/version.h"

using namespace culvert;

namespace {

struct Place {
  uv::LoopThread thread;
  std::unique_ptr<uv::UvNetwork> network;
};

int refuse(const base::Error& error) {
  return std::fprintf(stderr, "waypoint: %s\n", error.message().c_str()), 1;
}

uint64_t heap_bytes() {
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

async::Task<void> run_app(waypoint::App& app, base::Log& log, uv::UvLoop& control, int& status) {
  base::Result<> ended = co_await app.run();
  if (!ended) log.error("app", "cannot start", {base::Field::text("error", ended.error().message())});
  status = ended ? 0 : 1;
  control.stop();
}

int proxy(char** environment) {
  uv::SignalWatch::block();
  std::signal(SIGPIPE, SIG_IGN);
  if (auto raised = config::raise_descriptor_limit(); !raised) return refuse(raised.error());
  auto config = config::load_waypoint_config(config::Environment::from_block(environment),
                                             std::thread::hardware_concurrency());
  if (!config) return refuse(config.error());
  uv::LogSink sink(STDOUT_FILENO);
  uv::LogFiles files(sink);
  auto push = [&sink](std::string line) { sink.push(std::move(line)); };
  auto access_log = [&files](const std::string& path, std::string line) {
    return files.push(path, std::move(line));
  };
  auto log = config::make_log(config->log_filter, config->log_json, push);
  if (!log) return refuse(log.error());
  uv::UvLoop control;
  auto control_network = uv::UvNetwork::create(control);
  if (!control_network) return refuse(control_network.error());
  std::list<Place> places(config->worker_threads);
  std::vector<waypoint::LoopPlace> data;
  for (Place& place : places) {
    auto network = uv::UvNetwork::create(place.thread.loop());
    if (!network) return refuse(network.error());
    place.network = std::move(*network);
    data.push_back({place.thread.loop(), *place.network});
  }
  int status = 0;
  waypoint::App app(std::move(*config), {{control, **control_network},
                                         std::move(data),
                                         **log,
                                         config::read_file_from_disk,
                                         access_log,
                                         config::random_seed(),
                                         nullptr,
                                         heap_bytes});
  uv::SignalWatch signals(control, [&app](int) { app.shut_down("signal"); });
  async::Scope tasks(control);
  tasks.spawn(run_app(app, **log, control, status));
  for (Place& place : places) place.thread.start("data");
  control.run();
  for (Place& place : places) place.thread.join();
  return status;
}

}  // namespace

int main(int argc, char** argv, char** environment) {
  std::string_view command = argc > 1 ? argv[1] : "proxy";
  if (command == "proxy") return proxy(environment);
  if (command == "version") return std::puts(waypoint::kVersion), 0;
  std::puts("usage: waypoint [proxy|version|help]\nThe configuration comes from the environment.");
  return command == "help" ? 0 : 1;
}
