// SPDX-License-Identifier: Apache-2.0
// SimLoop: a Loop with a virtual clock. Time moves only when nothing is left to do now, so a simulated
// hour takes no time and the same seed gives the same trace (design section 5).
#pragma once

#include <functional>
#include <vector>

#include "net/async/loop.h"
#include "net/async/scope.h"
#include "net/async/task.h"

namespace culvert::test {

class SimLoop final : public async::Loop {
 public:
  base::TimePoint now() const override { return now_; }
  base::WallTime wall_now() const override { return epoch_ + now_.time_since_epoch(); }
  void post(std::function<void()> call) override { posted_.push_back(std::move(call)); }

  // 2026-01-01T00:00:00Z plus virtual time.
  void set_epoch(base::WallTime epoch) { epoch_ = epoch; }

  // Runs everything due now, without moving the clock. Returns whether anything ran.
  bool run_ready() {
    bool any = false;
    while (!posted_.empty() || has_jobs() || (has_timers() && next_timer() <= now_)) {
      any = true;
      auto calls = std::exchange(posted_, {});
      for (auto& call : calls) call();
      run_due_timers(now_);
      run_jobs();
    }
    return any;
  }
  // Runs until nothing is left to do, or the clock would pass `limit` from now.
  void run_for(base::Duration limit) {
    base::TimePoint end = now_ + limit;
    for (;;) {
      run_ready();
      if (!has_timers() || next_timer() > end) break;
      now_ = std::max(now_, next_timer());
    }
    now_ = std::max(now_, end);
    run_ready();
  }
  // Like run_for, but stops as soon as `done` holds; false if the time ran out first.
  bool run_until(const std::function<bool()>& done, base::Duration limit = std::chrono::hours(1)) {
    base::TimePoint end = now_ + limit;
    for (;;) {
      run_ready();
      if (done()) return true;
      if (!has_timers() || next_timer() > end) return false;
      now_ = std::max(now_, next_timer());
    }
  }
  // Runs a task to its end and returns its value; fails the test by aborting if it never ends.
  template <class T>
  T run(async::Task<T> task, base::Duration limit = std::chrono::hours(1)) {
    task.start(std::noop_coroutine());
    bool ended = run_until([&] { return task.done(); }, limit);
    CULVERT_CHECK(ended);
    return task.take_result();
  }
  bool quiet() const { return posted_.empty() && !has_jobs() && !has_timers(); }

 private:
  base::TimePoint now_{std::chrono::seconds(1)};
  base::WallTime epoch_{std::chrono::seconds(1767225600)};
  std::vector<std::function<void()>> posted_;
};

}  // namespace culvert::test
