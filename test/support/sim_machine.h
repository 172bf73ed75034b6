// SPDX-License-Identifier: Apache-2.0
// SimMachine: io::Machine of a simulated day. A process is what the test makes of it: `on_start` sees each
// one, signals are recorded, and `end` ends it.
#pragma once

#include <csignal>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "net/async/loop.h"
#include "net/io/machine.h"

namespace culvert::test {

class SimMachine final : public io::Machine {
 public:
  struct Started {
    io::ProcessSpec spec;
    int pid = 0;
    bool running = true;
    std::vector<int> signals;
    std::function<void(io::ProcessEnd)> ended;  // null: nobody asks any more
    std::string variable(const std::string& name) const {
      for (const std::string& one : spec.environment) {
        if (one.starts_with(name + "=")) return one.substr(name.size() + 1);
      }
      return {};
    }
  };

  explicit SimMachine(async::Loop& loop) : loop_(loop) {}

  std::deque<Started> started;         // all, in order
  std::set<base::IpAddr> addresses;    // on loopback
  std::optional<base::Error> refuses;  // to start anything
  bool ends_on_sigterm = true;         // SIGKILL ends it always
  std::function<void(Started&)> on_start = [](Started&) {};
  std::function<void(Started&)> on_end = [](Started&) {};

  void end(Started& process, io::ProcessEnd how) {
    if (!process.running) return;
    process.running = false;
    on_end(process);
    loop_.post([&process, how] {
      if (auto ended = std::exchange(process.ended, nullptr)) ended(how);
    });
  }
  size_t running() const {
    size_t count = 0;
    for (const Started& one : started) count += one.running ? 1 : 0;
    return count;
  }

  base::Result<std::unique_ptr<io::Process>> spawn(const io::ProcessSpec& spec,
                                                   std::function<void(io::ProcessEnd)> ended) override {
    if (refuses) return base::fail(*refuses);
    int pid = 1000 + static_cast<int>(started.size());
    started.push_back({spec, pid, true, {}, std::move(ended)});
    on_start(started.back());
    return std::make_unique<Handle>(*this, started.back());
  }
  base::Result<io::NetNsRef> open_netns(const std::string& name) override {
    return base::fail(base::Code::kNotFound, "no namespace " + name);
  }
  base::Result<> add_address(const io::NetNsRef&, const base::IpAddr& address) override {
    addresses.insert(address);
    return {};
  }
  base::Result<> remove_address(const io::NetNsRef&, const base::IpAddr& address) override {
    addresses.erase(address);
    return {};
  }

 private:
  class Handle final : public io::Process {
   public:
    Handle(SimMachine& machine, Started& process) : machine_(machine), process_(process) {}
    ~Handle() override {
      process_.ended = nullptr;
      machine_.end(process_, {0, SIGKILL});
    }
    int pid() const override { return process_.pid; }
    bool send_signal(int number) override {
      if (!process_.running) return false;
      process_.signals.push_back(number);
      if (number == SIGKILL || (number == SIGTERM && machine_.ends_on_sigterm))
        machine_.end(process_, number == SIGKILL ? io::ProcessEnd{0, SIGKILL} : io::ProcessEnd{0, 0});
      return true;
    }

   private:
    SimMachine& machine_;
    Started& process_;
  };
  async::Loop& loop_;
};

}  // namespace culvert::test
