// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/program.h"

#include <unistd.h>

#include <csignal>
#include <thread>
#include <utility>

#include "mesh/config/program.h"
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

base::Result<Setup> set_up(char** environment, base::LineLog::Sink sink) {
  CULVERT_TRY(config::raise_descriptor_limit());
  auto config = config::load_ztunnel_config(config::Environment::from_block(environment),
                                            config::read_file_from_disk, std::thread::hardware_concurrency());
  if (!config) return base::fail(std::move(config).error());
  auto log = config::make_log(config->log_filter, config->log_json, std::move(sink));
  if (!log) return base::fail(std::move(log).error());
  return Setup{std::move(*config), std::move(*log)};
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
