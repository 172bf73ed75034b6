// SPDX-License-Identifier: Apache-2.0
#include "control/deploy/processes.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "net/async/wait.h"
#include "net/conn/http_client.h"

namespace culvert::control {

using async::Deadline;
using base::fail;
using base::Field;
using base::Result;

std::string_view to_string(ProcessPhase phase) {
  switch (phase) {
    case ProcessPhase::kStarting: return "starting";
    case ProcessPhase::kReady: return "ready";
    case ProcessPhase::kUnready: return "unready";
    case ProcessPhase::kWaiting: return "waiting";
    case ProcessPhase::kStopping: break;
  }
  return "stopping";
}

// One waypoint from when it is wanted until it has gone. Its coroutine is owned by WaypointProcesses::tasks_.
class WaypointProcesses::Runner {
 public:
  Runner(WaypointProcesses& owner, std::string key, ProcessWanted wanted)
      : owner_(owner), key_(std::move(key)), wanted_(std::move(wanted)), news_(owner.loop_) {}

  async::Task<void> run();
  void stop() {
    stopping_ = true;
    news_.set();
  }
  bool gone() const { return gone_; }
  const ProcessWanted& wanted() const { return wanted_; }
  ProcessState state() const { return {phase_, process_ ? process_->pid() : 0, restarts_, problem_}; }

 private:
  Result<> start();
  async::Task<void> watch();
  async::Task<std::string> probe();
  async::Task<void> pause(base::Duration duration);
  async::Task<void> end_process();
  async::Task<void> await_end(Deadline deadline);
  void take_probe(std::string refusal);
  void set(ProcessPhase phase, std::string problem);
  void remove_address();

  WaypointProcesses& owner_;
  const std::string key_;
  const ProcessWanted wanted_;
  async::Event news_;  // the process ended, or we are to stop
  std::unique_ptr<io::Process> process_;
  io::NetNsRef netns_;
  bool has_address_ = false;
  bool stopping_ = false;
  bool gone_ = false;
  ProcessPhase phase_ = ProcessPhase::kStarting;
  std::string problem_;
  std::string end_;  // how the last process ended
  uint64_t restarts_ = 0;
  int probe_failures_ = 0;
};

async::Task<void> WaypointProcesses::Runner::run() {
  base::Duration next_pause = kPauseMin;
  while (!stopping_) {
    base::TimePoint began = owner_.loop_.now();
    Result<> started = start();
    if (started) co_await watch();
    if (stopping_) break;
    if (owner_.loop_.now() - began >= kSettledAfter) next_pause = kPauseMin;
    set(ProcessPhase::kWaiting, started ? end_ : started.error().message());
    owner_.log_.warn(
        "waypoint", started ? "ended" : "cannot be started",
        {Field::text("waypoint", key_), Field::text("problem", problem_),
         Field::text("again_in", base::format_duration(next_pause)), Field::text("output", wanted_.output)});
    co_await pause(next_pause);
    next_pause = std::min(next_pause * 2, kPauseMax);
    if (stopping_) break;
    ++restarts_;
    ++owner_.restarts_;
  }
  set(ProcessPhase::kStopping, {});
  co_await end_process();
  remove_address();
  gone_ = true;
  owner_.loop_.defer(owner_.changed_job_);
}

Result<> WaypointProcesses::Runner::start() {
  set(ProcessPhase::kStarting, {});
  probe_failures_ = 0;
  if (!wanted_.netns.empty()) {
    // Opened every time: a namespace of that name may have been made anew.
    Result<io::NetNsRef> netns = owner_.machine_.open_netns(wanted_.netns);
    if (!netns) return fail(std::move(netns).error());
    netns_ = std::move(*netns);
  }
  if (Result<> added = owner_.machine_.add_address(netns_, wanted_.address); !added) return added;
  has_address_ = true;
  if (Result<> prepared = owner_.before_start_(key_); !prepared) return prepared;
  io::ProcessSpec spec{
      {wanted_.program, "proxy"}, wanted_.environment, netns_, wanted_.output, /*unprivileged=*/true};
  Result<std::unique_ptr<io::Process>> process = owner_.machine_.spawn(spec, [this](io::ProcessEnd end) {
    end_ = end.to_string();
    process_.reset();
    news_.set();
  });
  if (!process) return fail(std::move(process).error());
  process_ = std::move(*process);
  owner_.log_.info(
      "waypoint", "started",
      {Field::text("waypoint", key_), Field::number("pid", static_cast<uint64_t>(process_->pid())),
       Field::bare("address", wanted_.address.to_string()), Field::text("output", wanted_.output)});
  owner_.loop_.defer(owner_.changed_job_);
  return {};
}

// Until it ended or is to stop: asks whether it is ready.
async::Task<void> WaypointProcesses::Runner::watch() {
  base::TimePoint began = owner_.loop_.now();
  while (process_ && !stopping_) {
    std::string refusal = co_await probe();
    if (!process_ || stopping_) break;
    take_probe(std::move(refusal));
    bool soon = phase_ == ProcessPhase::kStarting && owner_.loop_.now() - began < kProbeOftenFor;
    co_await pause(soon ? kProbeOften : kProbeEvery);
  }
}

// Empty: it is ready; else why not.
async::Task<std::string> WaypointProcesses::Runner::probe() {
  Deadline deadline = Deadline::in(owner_.loop_, kProbeTimeout);
  io::DialOptions options;
  options.netns = netns_;
  auto stream = co_await owner_.network_.dial({wanted_.address, kReadinessPort}, options, deadline);
  if (!stream) co_return stream.error().message();
  conn::HttpCall call{"GET", "/healthz/ready", {{"connection", "close"}}, ""};
  auto answer = co_await conn::http_request(owner_.loop_, **stream, std::move(call), {}, deadline);
  if (!answer) co_return answer.error().message();
  if (answer->status == 200) co_return "";
  std::string body = answer->body.substr(0, 200);
  while (!body.empty() && (body.back() == '\n' || body.back() == '\r')) body.pop_back();
  co_return fmt::format("readiness answers {} {}", answer->status, body);
}

void WaypointProcesses::Runner::take_probe(std::string refusal) {
  if (refusal.empty()) {
    probe_failures_ = 0;
    if (phase_ != ProcessPhase::kReady) {
      owner_.log_.info("waypoint", "ready",
                       {Field::text("waypoint", key_), Field::bare("address", wanted_.address.to_string())});
    }
    set(ProcessPhase::kReady, {});
    return;
  }
  if (phase_ == ProcessPhase::kReady && ++probe_failures_ < kProbeFailuresMax) return;
  if (phase_ == ProcessPhase::kReady) {
    owner_.log_.warn("waypoint", "no longer ready",
                     {Field::text("waypoint", key_), Field::text("problem", refusal)});
    set(ProcessPhase::kUnready, std::move(refusal));
    return;
  }
  set(phase_, std::move(refusal));
}

async::Task<void> WaypointProcesses::Runner::pause(base::Duration duration) {
  if (stopping_) co_return;
  news_.reset();
  co_await news_.wait(Deadline::in(owner_.loop_, duration));
}

async::Task<void> WaypointProcesses::Runner::end_process() {
  if (!process_) co_return;
  process_->send_signal(SIGTERM);
  co_await await_end(Deadline::in(owner_.loop_, wanted_.drain + kKillMargin));
  if (process_) {
    owner_.log_.warn("waypoint", "killed: it did not end within its drain deadline",
                     {Field::text("waypoint", key_)});
    process_->send_signal(SIGKILL);
    co_await await_end(Deadline::in(owner_.loop_, kKillMargin));
  }
  owner_.log_.info("waypoint", "stopped",
                   {Field::text("waypoint", key_), Field::text("how", process_ ? "not at all" : end_)});
  process_.reset();
}

async::Task<void> WaypointProcesses::Runner::await_end(Deadline deadline) {
  while (process_ && !deadline.passed(owner_.loop_.now())) {
    news_.reset();
    co_await news_.wait(deadline);
  }
}

void WaypointProcesses::Runner::set(ProcessPhase phase, std::string problem) {
  if (phase_ == phase && problem_ == problem) return;
  phase_ = phase;
  problem_ = std::move(problem);
  owner_.loop_.defer(owner_.changed_job_);
}

void WaypointProcesses::Runner::remove_address() {
  if (!has_address_) return;
  if (Result<> removed = owner_.machine_.remove_address(netns_, wanted_.address); !removed) {
    owner_.log_.warn("waypoint", "its address stays behind",
                     {Field::text("waypoint", key_), Field::text("error", removed.error().message())});
  }
}

WaypointProcesses::WaypointProcesses(async::Loop& loop, io::Machine& machine, io::Network& network,
                                     base::Log& log, BeforeStart before_start, std::function<void()> changed)
    : loop_(loop),
      machine_(machine),
      network_(network),
      log_(log),
      before_start_(std::move(before_start)),
      changed_(std::move(changed)),
      changed_job_([this] { run_changed(); }),
      tasks_(loop) {}

WaypointProcesses::~WaypointProcesses() = default;

void WaypointProcesses::set(std::map<std::string, ProcessWanted> wanted) {
  if (stopping_) return;
  wanted_ = std::move(wanted);
  for (const auto& [key, runner] : runners_) {
    auto found = wanted_.find(key);
    if (found == wanted_.end() || found->second != runner->wanted()) runner->stop();
  }
  start_wanted();
}

void WaypointProcesses::start_wanted() {
  if (stopping_) return;
  for (const auto& [key, wanted] : wanted_) {
    if (runners_.contains(key)) continue;
    auto runner = std::make_unique<Runner>(*this, key, wanted);
    Runner& started = *runner;
    runners_[key] = std::move(runner);
    tasks_.spawn(started.run());
  }
}

std::map<std::string, ProcessState> WaypointProcesses::states() const {
  std::map<std::string, ProcessState> out;
  for (const auto& [key, runner] : runners_) out[key] = runner->state();
  return out;
}

void WaypointProcesses::run_changed() {
  std::erase_if(runners_, [](const auto& entry) { return entry.second->gone(); });
  start_wanted();
  changed_();
}

async::Task<void> WaypointProcesses::stop() {
  stopping_ = true;
  wanted_.clear();
  for (const auto& [key, runner] : runners_) runner->stop();
  co_await tasks_.idle().wait();
}

}  // namespace culvert::control
