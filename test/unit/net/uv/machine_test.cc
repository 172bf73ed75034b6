// SPDX-License-Identifier: Apache-2.0
// UvMachine against the kernel: shells as processes, a namespace of its own where that is allowed.
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>

#include "net/async/scope.h"
#include "net/async/wait.h"
#include "net/uv/uv_machine.h"
#include "net/uv/uv_network.h"

namespace culvert::uv {
namespace {

using base::Result;

struct World {
  World() {
    std::string path = (std::filesystem::temp_directory_path() / "culvert-machine-XXXXXX").string();
    REQUIRE(mkdtemp(path.data()) != nullptr);
    directory = path;
    Result<std::unique_ptr<UvMachine>> made = UvMachine::create(loop);
    REQUIRE(made.has_value());
    machine = std::move(*made);
  }
  ~World() { std::filesystem::remove_all(directory); }

  io::ProcessSpec shell(const std::string& script) {
    return {{"/bin/sh", "-c", script}, {"COLOUR=green"}, nullptr, directory + "/output", true};
  }
  std::unique_ptr<io::Process> start(const io::ProcessSpec& spec) {
    auto started = machine->spawn(spec, [this](io::ProcessEnd how) {
      end = how;
      loop.stop();
    });
    if (!started) FAIL(started.error().message());
    return std::move(*started);
  }
  // Its end; fails after ten seconds.
  io::ProcessEnd wait() {
    async::CallTimer too_late([this] { loop.stop(); });
    loop.arm(too_late, loop.now() + std::chrono::seconds(10));
    if (!end) loop.run();
    REQUIRE(end);
    return *end;
  }
  std::string output() {
    std::ifstream file(directory + "/output");
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

  UvLoop loop;
  std::unique_ptr<UvMachine> machine;
  std::string directory;
  std::optional<io::ProcessEnd> end;
};

base::UniqueFd new_netns() {
  base::UniqueFd fd;
  std::thread([&] {
    if (unshare(CLONE_NEWNET) == 0) fd.reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }).join();
  return fd;
}

TEST_CASE("a process tells its end, its output is appended, its environment is what was given") {
  World world;
  std::ofstream(world.directory + "/output") << "before\n";
  auto process = world.start(world.shell("echo $COLOUR $HOME; echo wrong >&2; exit 3"));
  CHECK(process->pid() > 0);
  io::ProcessEnd end = world.wait();
  CHECK(end.status == 3);
  CHECK(end.signal == 0);
  CHECK(end.to_string() == "ended with status 3");
  CHECK(world.output() == "before\ngreen\nwrong\n");
  CHECK_FALSE(process->send_signal(SIGTERM));
}

TEST_CASE("a signal ends it, although we have blocked that signal for ourselves") {
  World world;
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  auto process = world.start(world.shell("while :; do sleep 1; done"));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  CHECK(process->send_signal(SIGTERM));
  CHECK(world.wait().signal == SIGTERM);
}

TEST_CASE("what cannot be started says why") {
  World world;
  auto missing = world.shell("");
  missing.arguments = {"/nonexistent/waypoint"};
  auto started = world.machine->spawn(missing, [](io::ProcessEnd) {});
  REQUIRE_FALSE(started);
  CHECK(started.error().code() == base::Code::kNotFound);
  CHECK_THAT(started.error().message(), Catch::Contains("start /nonexistent/waypoint"));
  auto no_output = world.shell("true");
  no_output.output = world.directory + "/none/output";
  started = world.machine->spawn(no_output, [](io::ProcessEnd) {});
  REQUIRE_FALSE(started);
  CHECK_THAT(started.error().message(), Catch::Contains("/none/output"));
}

TEST_CASE("a process that is given up is killed and tells nothing") {
  World world;
  auto process = world.start(world.shell("while :; do sleep 1; done"));
  int pid = process->pid();
  process.reset();
  async::CallTimer later([&] { world.loop.stop(); });
  for (int turn = 0; turn < 200 && ::kill(pid, 0) == 0; ++turn) {
    world.loop.arm(later, world.loop.now() + std::chrono::milliseconds(20));
    world.loop.run();
  }
  CHECK(::kill(pid, 0) != 0);  // waited for as well
  CHECK_FALSE(world.end);
}

TEST_CASE("an unprivileged process has no capability and can gain none") {
  World world;
  auto process = world.start(world.shell("grep -E 'Cap(Prm|Eff)|NoNewPrivs' /proc/self/status"));
  CHECK(world.wait().status == 0);
  CHECK(world.output() == "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
}

TEST_CASE("a process is started in a namespace, and addresses are put there and taken away") {
  World world;
  base::UniqueFd fd = new_netns();
  if (!fd.valid()) return;  // not allowed here
  struct stat info;
  REQUIRE(fstat(fd.get(), &info) == 0);
  std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  Result<io::NetNsRef> netns = world.machine->open_netns(path);
  REQUIRE(netns.has_value());
  base::IpAddr address = *base::IpAddr::parse("10.97.0.5");
  base::IpAddr address6 = *base::IpAddr::parse("fd00::5");
  for (int again = 0; again < 2; ++again) {
    CHECK(world.machine->add_address(*netns, address).has_value());
    CHECK(world.machine->add_address(*netns, address6).has_value());
  }
  auto spec = world.shell("readlink /proc/self/ns/net; cat /proc/net/fib_trie /proc/net/if_inet6");
  spec.netns = *netns;
  auto process = world.start(spec);
  CHECK(world.wait().status == 0);
  CHECK_THAT(world.output(), Catch::Contains("net:[" + std::to_string(info.st_ino) + "]"));
  CHECK_THAT(world.output(), Catch::Contains("10.97.0.5"));
  CHECK_THAT(world.output(), Catch::Contains("fd000000000000000000000000000005"));
  for (int again = 0; again < 2; ++again) {
    CHECK(world.machine->remove_address(*netns, address).has_value());
    CHECK(world.machine->remove_address(*netns, address6).has_value());
  }
  spec.output += "-after";
  world.end.reset();
  process = world.start(spec);
  CHECK(world.wait().status == 0);
  std::ifstream after(spec.output);
  std::stringstream text;
  text << after.rdbuf();
  CHECK_THAT(text.str(), !Catch::Contains("10.97.0.5"));
  CHECK_FALSE(world.machine->open_netns("no-such-namespace").has_value());
}

}  // namespace
}  // namespace culvert::uv
