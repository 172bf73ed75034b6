// SPDX-License-Identifier: Apache-2.0
// Drain: one trigger, many watchers, on one loop (design section 3.18). Graceful: stop accepting, let
// what runs finish until the deadline. Immediate: drop everything now.
#pragma once

#include "net/async/wait.h"

namespace culvert::async {

enum class DrainMode : unsigned char { kGraceful, kImmediate };

class Drain {
 public:
  explicit Drain(Loop& loop) : started_(loop) {}

  // The first call wins, except that kImmediate may follow kGraceful.
  void start(DrainMode mode, Deadline deadline) {
    if (started_.is_set() && !(mode == DrainMode::kImmediate && mode_ == DrainMode::kGraceful)) return;
    mode_ = mode;
    deadline_ = deadline;
    started_.set();
  }
  bool draining() const { return started_.is_set(); }
  DrainMode mode() const { return mode_; }
  Deadline deadline() const { return deadline_; }
  // co_await drain.started().wait();
  Event& started() { return started_; }

 private:
  Event started_;
  DrainMode mode_ = DrainMode::kGraceful;
  Deadline deadline_ = Deadline::never();
};

}  // namespace culvert::async
