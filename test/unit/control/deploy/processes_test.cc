// SPDX-License-Identifier: Apache-2.0
// WaypointProcesses on a simulated machine: starting, readiness, back-off, stopping.
#include "control/deploy/processes.h"

#include <catch2/catch.hpp>

#include "test/unit/control/deploy/machine_world.h"

namespace culvert::control {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::MachineWorld;

constexpr const char* kKey = "production/waypoint";

struct World : MachineWorld {
  World()
      : processes(
            loop, machine, *network, log,
            [this](const std::string&) -> base::Result<> {
              ++prepared;
              if (unprepared) return base::fail(*unprepared);
              return {};
            },
            [this] { ++changes; }) {}
  ProcessWanted wanted(const char* address = "10.97.0.5") {
    return {"/bin/waypoint",
            {std::string("CULVERT_BIND=") + address},
            *base::IpAddr::parse(address),
            "",
            "/tmp/log",
            seconds(10)};
  }
  void run(ProcessWanted one) { processes.set({{kKey, std::move(one)}}); }
  ProcessState state() { return processes.states().at(kKey); }
  bool becomes(ProcessPhase phase) {
    return loop.run_until([&] { return processes.states().contains(kKey) && state().phase == phase; },
                          seconds(120));
  }

  WaypointProcesses processes;
  int prepared = 0;
  int changes = 0;
  std::optional<base::Error> unprepared;
};

TEST_CASE("a process is started at its address and is ready when its readiness port says so") {
  World world;
  world.run(world.wanted());
  REQUIRE(world.machine.started.size() == 1);
  auto& process = world.machine.started[0];
  CHECK(process.spec.arguments == std::vector<std::string>{"/bin/waypoint", "proxy"});
  CHECK(process.spec.environment == std::vector<std::string>{"CULVERT_BIND=10.97.0.5"});
  CHECK(process.spec.unprivileged);
  CHECK(world.machine.addresses.contains(*base::IpAddr::parse("10.97.0.5")));
  CHECK(world.prepared == 1);
  world.loop.run_for(seconds(5));
  CHECK(world.state().phase == ProcessPhase::kStarting);
  CHECK_THAT(world.state().problem, Catch::Contains("refused"));
  world.serve(process, 503, "not ready: configuration\n");
  world.loop.run_for(seconds(1));
  CHECK(world.state().phase == ProcessPhase::kStarting);
  CHECK(world.state().problem == "readiness answers 503 not ready: configuration");
  world.answer = 200;
  world.loop.run_for(milliseconds(100));
  CHECK(world.state() == ProcessState{ProcessPhase::kReady, process.pid, 0, ""});
  CHECK(world.changes > 0);
}

TEST_CASE("one that no longer answers is unready after three refusals, and ready again at its word") {
  World world;
  world.ready_at_once();
  world.run(world.wanted());
  REQUIRE(world.becomes(ProcessPhase::kReady));
  world.answer = 503;
  world.loop.run_for(seconds(2));
  CHECK(world.state().phase == ProcessPhase::kReady);
  world.loop.run_for(seconds(2));
  CHECK(world.state().phase == ProcessPhase::kUnready);
  CHECK(world.machine.started.size() == 1);
  world.answer = 200;
  world.loop.run_for(seconds(2));
  CHECK(world.state().phase == ProcessPhase::kReady);
}

TEST_CASE("one that ends is started again after growing pauses, at most half a minute") {
  World world;
  std::vector<base::TimePoint> at;
  world.machine.on_start = [&](test::SimMachine::Started& process) {
    at.push_back(world.loop.now());
    world.machine.end(process, {1, 0});
  };
  world.run(world.wanted());
  world.loop.run_for(std::chrono::minutes(5));
  REQUIRE(at.size() > 10);
  base::Duration pause = WaypointProcesses::kPauseMin;
  for (size_t i = 1; i < at.size(); ++i) {
    CHECK(at[i] - at[i - 1] >= pause);
    CHECK(at[i] - at[i - 1] <= pause + seconds(1));
    pause = std::min(pause * 2, WaypointProcesses::kPauseMax);
  }
  CHECK(world.state().restarts == at.size() - 1);
  CHECK(world.processes.restarts() == at.size() - 1);
  CHECK(world.prepared == static_cast<int>(at.size()));
}

TEST_CASE("one that ran long begins again with the shortest pause") {
  World world;
  world.ready_at_once();
  world.run(world.wanted());
  for (int round = 0; round < 8; ++round) {
    REQUIRE(world.becomes(ProcessPhase::kReady));
    world.loop.run_for(WaypointProcesses::kSettledAfter);
    base::TimePoint ended = world.loop.now();
    world.machine.end(world.machine.started.back(), {0, SIGSEGV});
    REQUIRE(world.becomes(ProcessPhase::kWaiting));
    CHECK(world.state().problem == "killed by signal 11");
    CHECK(world.state().pid == 0);
    REQUIRE(world.becomes(ProcessPhase::kReady));
    CHECK(world.loop.now() - ended < seconds(1));
  }
}

TEST_CASE("what cannot be started or prepared is tried again and says why") {
  World world;
  world.machine.refuses = base::Error(base::Code::kNotFound, "start /bin/waypoint: no such file");
  world.run(world.wanted());
  world.loop.run_for(seconds(3));
  CHECK(world.state().phase == ProcessPhase::kWaiting);
  CHECK(world.state().problem == "start /bin/waypoint: no such file");
  world.machine.refuses.reset();
  world.unprepared = base::Error(base::Code::kIo, "no token");
  world.loop.run_for(seconds(30));
  CHECK(world.state().problem == "no token");
  CHECK(world.machine.started.empty());
  world.unprepared.reset();
  world.ready_at_once();
  CHECK(world.becomes(ProcessPhase::kReady));
}

TEST_CASE("one that is no longer wanted gets SIGTERM, and its address goes when it has gone") {
  World world;
  world.ready_at_once();
  world.run(world.wanted());
  REQUIRE(world.becomes(ProcessPhase::kReady));
  world.processes.set({});
  world.loop.run_ready();
  auto& process = world.machine.started[0];
  CHECK(process.signals == std::vector<int>{SIGTERM});
  world.loop.run_for(seconds(1));
  CHECK(world.processes.states().empty());
  CHECK(world.machine.addresses.empty());
  CHECK(world.loop.quiet());
}

TEST_CASE("one that does not end by its drain deadline is killed") {
  World world;
  world.ready_at_once();
  world.machine.ends_on_sigterm = false;
  world.run(world.wanted());
  REQUIRE(world.becomes(ProcessPhase::kReady));
  world.processes.set({});
  world.loop.run_for(seconds(10));
  CHECK(world.state().phase == ProcessPhase::kStopping);
  CHECK(world.machine.running() == 1);
  CHECK_FALSE(world.machine.addresses.empty());
  world.loop.run_for(WaypointProcesses::kKillMargin + milliseconds(1));
  CHECK(world.machine.started[0].signals == std::vector<int>{SIGTERM, SIGKILL});
  CHECK(world.processes.states().empty());
  CHECK(world.machine.addresses.empty());
}

TEST_CASE("one wanted otherwise is stopped first, then started so; wanted the same it is left alone") {
  World world;
  world.ready_at_once();
  world.run(world.wanted());
  REQUIRE(world.becomes(ProcessPhase::kReady));
  world.run(world.wanted());
  world.loop.run_for(seconds(5));
  CHECK(world.machine.started.size() == 1);
  ProcessWanted other = world.wanted("10.97.0.6");
  world.run(other);
  CHECK(world.machine.started.size() == 1);
  REQUIRE(world.loop.run_until([&] { return world.machine.started.size() == 2; }, seconds(5)));
  CHECK(world.becomes(ProcessPhase::kReady));
  CHECK_FALSE(world.machine.started[0].running);
  CHECK(world.machine.addresses == std::set<base::IpAddr>{*base::IpAddr::parse("10.97.0.6")});
}

TEST_CASE("one that is wanted again while it stops is started when the old one has gone") {
  World world;
  world.ready_at_once();
  world.machine.ends_on_sigterm = false;
  world.run(world.wanted());
  REQUIRE(world.becomes(ProcessPhase::kReady));
  world.processes.set({});
  world.loop.run_for(seconds(3));
  world.run(world.wanted());
  world.loop.run_for(seconds(3));
  CHECK(world.machine.started.size() == 1);
  world.machine.end(world.machine.started[0], {0, 0});
  world.loop.run_for(seconds(3));
  CHECK(world.machine.started.size() == 2);
  CHECK(world.state().phase == ProcessPhase::kReady);
  CHECK(world.machine.addresses.size() == 1);
}

TEST_CASE("stop ends all, also one that waits for its next start, and starts none") {
  World world;
  world.ready_at_once();
  ProcessWanted second = world.wanted("10.97.0.6");
  world.processes.set({{kKey, world.wanted()}, {"other/waypoint", second}});
  REQUIRE(world.becomes(ProcessPhase::kReady));
  world.machine.refuses = base::Error(base::Code::kExhausted, "no processes left");
  world.machine.end(world.machine.started[1], {1, 0});
  world.loop.run_for(seconds(20));
  base::TimePoint began = world.loop.now();
  world.loop.run(world.processes.stop());
  CHECK(world.loop.now() - began < seconds(1));
  CHECK(world.machine.running() == 0);
  CHECK(world.machine.addresses.empty());
  world.processes.set({{kKey, world.wanted()}});
  world.loop.run_for(seconds(60));
  CHECK(world.machine.running() == 0);
  CHECK(world.loop.quiet());
}

}  // namespace
}  // namespace culvert::control
