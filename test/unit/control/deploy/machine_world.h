// SPDX-License-Identifier: Apache-2.0
// A simulated machine whose processes answer on their readiness port as the test says.
#pragma once

#include <map>

#include "net/conn/http_server.h"
#include "test/support/sim_loop.h"
#include "test/support/sim_machine.h"
#include "test/support/sim_network.h"

namespace culvert::test {

struct MachineWorld {
  MachineWorld() {
    for (int last = 1; last < 255; ++last)
      ips.push_back(base::IpAddr::v4(10, 97, 0, static_cast<uint8_t>(last)));
    network = sim.process(sim.add_host("machine", "machine", ips));
    machine.on_end = [this](SimMachine::Started& process) { servers.erase(process.pid); };
  }
  // What the process answers from now on.
  void serve(const SimMachine::Started& process, int status, std::string body) {
    answer = status;
    words = std::move(body);
    base::SocketAddr at{*base::IpAddr::parse(process.variable("CULVERT_BIND")), 15021};
    auto listener = network->listen(at, {});
    CULVERT_CHECK(listener.has_value());
    Server& server = servers[process.pid];
    server.http = std::make_unique<conn::HttpServer>(
        loop, std::move(*listener), [this](conn::HttpRequest) { return reply(*this); }, log);
    server.task = std::make_unique<async::Scope>(loop);
    server.task->spawn(server.http->run());
  }
  void ready_at_once() {
    machine.on_start = [this](SimMachine::Started& process) { serve(process, 200, "ready\n"); };
  }
  static async::Task<conn::HttpResponse> reply(MachineWorld& world) {
    co_return conn::HttpResponse{world.answer, world.words};
  }

  struct Server {
    std::unique_ptr<conn::HttpServer> http;
    std::unique_ptr<async::Scope> task;
  };
  SimLoop loop;
  base::NullLog log;
  SimNetwork sim{loop};
  std::vector<base::IpAddr> ips;
  std::unique_ptr<io::Network> network;
  int answer = 200;
  std::string words;
  std::map<int, Server> servers;
  SimMachine machine{loop};
};

}  // namespace culvert::test
