// SPDX-License-Identifier: Apache-2.0
// WaypointProcesses: runs waypoints as processes of this machine: starts them, asks whether they are ready,
// starts them again with growing pauses when they end, stops them with SIGTERM, a deadline and SIGKILL.
// Control loop. Knows no manifest: what to run comes from controller.h.
//
//   state     entered when                              then
//   starting  the process runs, never answered ready    ready at its first 200
//   ready     the readiness port answered 200           unready after kProbeFailuresMax refusals
//   unready   it answered before and does no longer     ready at the next 200
//   waiting   it ended, or could not be started         starting after the pause
//   stopping  it is no longer wanted                    gone: at once, or by the drain deadline
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "net/async/scope.h"
#include "net/base/log.h"
#include "net/io/machine.h"

namespace culvert::control {

struct ProcessWanted {
  std::string program;
  std::vector<std::string> environment;  // "NAME=value"
  base::IpAddr address;                  // on the loopback interface while it runs; it listens there
  std::string netns;                     // as Machine::open_netns takes it; empty: our own
  std::string output;                    // file of its lines
  base::Duration drain{};                // between SIGTERM and SIGKILL
  bool operator==(const ProcessWanted&) const = default;
};

enum class ProcessPhase : unsigned char { kStarting, kReady, kUnready, kWaiting, kStopping };
std::string_view to_string(ProcessPhase phase);

struct ProcessState {
  ProcessPhase phase = ProcessPhase::kStarting;
  int pid = 0;  // 0: none runs
  uint64_t restarts = 0;
  std::string problem;  // why it is not ready; empty: nothing is known to be wrong
  bool operator==(const ProcessState&) const = default;
};

class WaypointProcesses {
 public:
  static constexpr base::Duration kPauseMin = std::chrono::milliseconds(250);
  static constexpr base::Duration kPauseMax = std::chrono::seconds(30);
  // One that ran this long begins again with the shortest pause.
  static constexpr base::Duration kSettledAfter = std::chrono::minutes(1);
  static constexpr base::Duration kProbeOften = std::chrono::milliseconds(50);  // while it starts
  static constexpr base::Duration kProbeOftenFor = std::chrono::seconds(10);
  static constexpr base::Duration kProbeEvery = std::chrono::seconds(1);
  static constexpr base::Duration kProbeTimeout = std::chrono::seconds(1);
  static constexpr int kProbeFailuresMax = 3;
  // After the drain deadline of its own, which it is given to end by itself.
  static constexpr base::Duration kKillMargin = std::chrono::seconds(2);
  static constexpr uint16_t kReadinessPort = 15021;

  // `before_start`: makes what the process will read (its token), every time it is started.
  using BeforeStart = std::function<base::Result<>(const std::string& key)>;
  // `changed`: states are different; from a job of the loop.
  WaypointProcesses(async::Loop& loop, io::Machine& machine, io::Network& network, base::Log& log,
                    BeforeStart before_start, std::function<void()> changed);
  ~WaypointProcesses();

  // All that should run, by key. One that is wanted otherwise than it runs is stopped and started again.
  void set(std::map<std::string, ProcessWanted> wanted);
  // Of all that run or are on their way; one that stops stays until it has gone.
  std::map<std::string, ProcessState> states() const;
  // Since we began.
  uint64_t restarts() const { return restarts_; }
  // Ends all of them; nothing is started any more.
  async::Task<void> stop();

 private:
  class Runner;
  void start_wanted();
  void run_changed();

  async::Loop& loop_;
  io::Machine& machine_;
  io::Network& network_;
  base::Log& log_;
  BeforeStart before_start_;
  std::function<void()> changed_;
  async::CallJob changed_job_;
  std::map<std::string, ProcessWanted> wanted_;
  std::map<std::string, std::unique_ptr<Runner>> runners_;
  bool stopping_ = false;
  uint64_t restarts_ = 0;
  async::Scope tasks_;
};

}  // namespace culvert::control
