// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/program.h"

#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "ztunnel/app.h"

namespace culvert::ztunnel {

namespace {

// Wakes the waiting thread from inside the process.
constexpr int kFinished = SIGUSR2;

sigset_t waited_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGTERM, SIGINT, kFinished}) sigaddset(&set, number);
  return set;
}

}  // namespace

base::Result<> raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return base::fail(base::Error::from_errno(errno, "read RLIMIT_NOFILE"));
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
    return base::fail(base::Error::from_errno(errno, "raise RLIMIT_NOFILE"));
  return {};
}

base::Result<std::unique_ptr<base::LineLog>> make_log(const config::ZtunnelConfig& config,
                                                      base::LineLog::Sink sink) {
  auto filter = base::LogFilter::parse(config.log_filter);
  if (!filter) return base::fail(std::move(filter).error().wrap("RUST_LOG"));
  auto format = config.log_json ? base::LogFormat::kJson : base::LogFormat::kPlain;
  auto clock = [] { return std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now()); };
  return std::make_unique<base::LineLog>(std::move(*filter), format, clock, std::move(sink));
}

uint64_t random_seed() {
  uint64_t seed = 0;
  if (::getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = static_cast<uint64_t>(::getpid());
  return seed;
}

async::Task<void> run_to_end(App& app, base::Log& log, int& status) {
  base::Result<> ended = co_await app.run();
  status = ended ? 0 : 1;
  if (!ended) log.error("app", "cannot start", {base::Field::text("error", ended.error().message())});
  finish_waiting();
}

void block_signals() {
  sigset_t set = waited_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void wait_for_signals(const std::function<void(const char* name)>& shut_down) {
  sigset_t set = waited_signals();
  bool interrupted = false;
  for (;;) {
    int number = 0;
    if (sigwait(&set, &number) != 0) continue;
    if (number == kFinished) return;
    if (number == SIGINT && interrupted) ::_exit(0);
    interrupted = interrupted || number == SIGINT;
    shut_down(number == SIGTERM ? "SIGTERM" : "SIGINT");
  }
}

void finish_waiting() { ::kill(::getpid(), kFinished); }

}  // namespace culvert::ztunnel
