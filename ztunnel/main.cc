// SPDX-License-Identifier: Apache-2.0
// ztunnel: the node proxy. Builds loops, log and App and waits for signals; everything else is in app.h.
#include <unistd.h>

#include <cstdio>
#include <list>

#include "mesh/config/program.h"
#include "net/uv/log_sink.h"
#include "net/uv/uv_network.h"
#include "ztunnel/app.h"
#include "ztunnel/program.h"
#include "ztunnel/version.h"

using namespace culvert;

namespace {

struct Place {
  uv::LoopThread thread;
  std::unique_ptr<uv::UvNetwork> network;
};

int refuse(const base::Error& why) { return std::fprintf(stderr, "ztunnel: %s\n", why.message().c_str()), 1; }

int proxy(char** environment) {
  ztunnel::block_signals();
  uv::LogSink sink(STDOUT_FILENO);
  auto setup = ztunnel::set_up(environment, [&sink](std::string line) { sink.push(std::move(line)); });
  if (!setup) return refuse(setup.error());
  std::list<Place> places(1 + setup->config.worker_threads);
  std::vector<ztunnel::LoopPlace> data;
  for (Place& place : places) {
    auto network = uv::UvNetwork::create(place.thread.loop());
    if (!network) return refuse(network.error());
    place.network = std::move(*network);
    if (&place != &places.front()) data.push_back({place.thread.loop(), *place.network});
  }
  uv::UvLoop& control = places.front().thread.loop();
  int status = 0;
  ztunnel::AppParts parts{{control, *places.front().network}, std::move(data),       *setup->log,
                          config::read_file_from_disk,        config::random_seed(), nullptr};
  ztunnel::App app(std::move(setup->config), std::move(parts));
  async::Scope tasks(control);
  control.post([&] { tasks.spawn(ztunnel::run_to_end(app, *setup->log, status)); });
  for (Place& place : places) place.thread.start(&place == &places.front() ? "control" : "data");
  ztunnel::wait_for_signals([&](const char* name) { control.post([&app, name] { app.shut_down(name); }); });
  for (Place& place : places) place.thread.join();
  return status;
}

}  // namespace

int main(int argc, char** argv, char** environment) {
  std::string_view command = argc > 1 ? argv[1] : "proxy";
  if (command == "proxy") return proxy(environment);
  if (command == "version") return std::puts(ztunnel::kVersion), 0;
  std::puts("usage: ztunnel [proxy|version|help]\nThe configuration comes from the environment.");
  return command == "help" ? 0 : 1;
}
