// SPDX-License-Identifier: Apache-2.0
// How a connection waits for the workload of its own pod (spec ztunnel section 2.1 step 4).
#include "ztunnel/worker.h"

#include <catch2/catch.hpp>

#include "mesh/model/store.h"
#include "test/support/sim_loop.h"
#include "test/support/sim_network.h"

using namespace culvert;
using namespace std::chrono_literals;

namespace {

const config::WorkloadName kApi{"d", "api", "api"};

model::Workload pod(const char* name) {
  model::Workload workload;
  workload.uid = std::string("c//Pod/d/") + name;
  workload.name = name;
  workload.ns = "d";
  workload.service_account = name;
  workload.trust_domain = "td";
  workload.addresses = {base::IpAddr::v4(10, 0, 0, 2)};
  return workload;
}

struct World {
  test::SimLoop loop;
  test::SimNetwork sim{loop};
  std::unique_ptr<io::Network> network =
      sim.process(sim.add_host("n1", "n1", {base::IpAddr::v4(192, 0, 2, 1)}));
  base::LineLog log{base::LogFilter(), base::LogFormat::kPlain, [] { return base::WallTime(); },
                    [](std::string) {}};
  observe::Metrics metrics;
  config::ZtunnelConfig config;
  ztunnel::Worker worker{
      config,      loop, *network, log, metrics.add_shard(), [](const model::Identity&, ca::CertAnswer) {},
      base::Rng(1)};
  model::MeshStore store{""};

  void deliver(const char* name) {
    model::MeshUpdate update;
    update.workloads.push_back(pod(name));
    worker.set_view(store.apply(std::move(update)).view, false);
  }
  base::Result<model::WorkloadRef> wait() {
    return loop.run(worker.local_workload(kApi, async::Deadline::in(loop, 5s)));
  }
};

}  // namespace

TEST_CASE("a workload that is known is there at once", "[R20]") {
  World world;
  world.deliver("api");
  base::TimePoint before = world.loop.now();
  auto found = world.wait();
  REQUIRE(found);
  CHECK((*found)->uid == "c//Pod/d/api");
  CHECK(world.loop.now() == before);
}

TEST_CASE("a workload that comes late is waited for; others wake nobody for good", "[R20]") {
  World world;
  async::CallTimer other([&] { world.deliver("web"); });
  async::CallTimer own([&] { world.deliver("api"); });
  base::TimePoint before = world.loop.now();
  world.loop.arm(other, before + 1s);
  world.loop.arm(own, before + 3s);
  auto found = world.wait();
  REQUIRE(found);
  CHECK((*found)->uid == "c//Pod/d/api");
  CHECK(world.loop.now() - before == 3s);
}

TEST_CASE("a workload that never comes costs the deadline and is named", "[R20]") {
  World world;
  world.deliver("web");  // the same address, another name: who a pod is never follows from its address
  base::TimePoint before = world.loop.now();
  auto found = world.wait();
  REQUIRE_FALSE(found);
  CHECK(found.error().message().find("d/api") != std::string::npos);
  CHECK(world.loop.now() - before == 5s);
}
