// SPDX-License-Identifier: Apache-2.0
// SignalWatch: SIGTERM and SIGINT as a callback on a loop (signalfd).
#pragma once

#include <functional>

#include "net/base/unique_fd.h"
#include "net/uv/uv_loop.h"

namespace culvert::uv {

class SignalWatch final : private FdWatch {
 public:
  // Before any thread is started: the signals must be blocked in all of them.
  static void block();
  SignalWatch(UvLoop& loop, std::function<void(int signal)> call);
  ~SignalWatch();

 private:
  void on_events(uint32_t events) override;
  UvLoop& loop_;
  base::UniqueFd fd_;
  std::function<void(int)> call_;
};

}  // namespace culvert::uv
