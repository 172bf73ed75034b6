// SPDX-License-Identifier: Apache-2.0
#include "net/uv/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>

#include "net/base/check.h"

namespace culvert::uv {

namespace {
sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}
}  // namespace

void SignalWatch::block() {
  sigset_t set = watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

SignalWatch::SignalWatch(UvLoop& loop, std::function<void(int)> call) : loop_(loop), call_(std::move(call)) {
  sigset_t set = watched();
  fd_.reset(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  CULVERT_CHECK(fd_.valid());
  loop_.watch(fd_.get(), *this);
}

SignalWatch::~SignalWatch() { loop_.unwatch(fd_.get(), *this); }

void SignalWatch::on_events(uint32_t) {
  signalfd_siginfo info;
  while (::read(fd_.get(), &info, sizeof info) == sizeof info) call_(static_cast<int>(info.ssi_signo));
}

}  // namespace culvert::uv
