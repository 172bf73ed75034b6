// SPDX-License-Identifier: Apache-2.0
// Loop: now, timers, jobs for the next moment, post from another thread (design section 3.3).
//
// One Loop belongs to one thread; only `post` may be called from others. UvLoop (net/uv) runs in
// production, SimLoop (test/support) in tests; both feed the queues kept here, so that order is
// the same in both.
//
// A turn: I/O waiters and due timers fire, then jobs run until none is left, then the
// end-of-turn jobs (flushes) run once; if those queued new jobs, the turn goes on.
// Nothing fires from inside another object's method: wake-ups always come from the loop, with
// a flat stack.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "net/base/duration.h"

namespace culvert::async {

class Loop;

// Job: runs once after being queued. Destroying it unqueues it. Owned by whoever waits.
class Job {
 public:
  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  bool queued() const { return next_ != nullptr; }
  void unqueue();

 protected:
  virtual ~Job() { unqueue(); }
  virtual void run() = 0;

 private:
  friend class Loop;
  friend class JobList;
  Job* prev_ = nullptr;
  Job* next_ = nullptr;
};

// A circular list with a sentinel.
class JobList {
 public:
  JobList();
  ~JobList();
  bool empty() const;
  void push_back(Job& job);
  Job* pop_front();
  // Moves everything here to the end of `other`.
  void splice_to(JobList& other);

 private:
  class Sentinel final : public Job {
    void run() override {}
  };
  Sentinel head_;
};

// Timer: fires once at its time. Destroying it disarms it.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  bool armed() const { return loop_ != nullptr; }
  base::TimePoint when() const { return when_; }
  void disarm();

 protected:
  virtual ~Timer() { disarm(); }
  virtual void fire() = 0;

 private:
  friend class Loop;
  Loop* loop_ = nullptr;
  base::TimePoint when_{};
  uint64_t sequence_ = 0;
  size_t heap_index_ = 0;
};

class Loop {
 public:
  virtual ~Loop();

  // Cached at the start of a turn.
  virtual base::TimePoint now() const = 0;
  virtual base::WallTime wall_now() const = 0;
  // Runs `call` in a later turn on this loop. Thread safe, keeps order per caller.
  virtual void post(std::function<void()> call) = 0;

  // Runs the job in this turn's job phase (a job queued by a job runs in the same turn).
  void defer(Job& job);
  // Runs the job in the next turn, after I/O had its chance: for work that gives way (fairness).
  void defer_next_turn(Job& job);
  // Runs the job once when the turn's jobs are done: flush what the whole turn has produced.
  void at_turn_end(Job& job);
  // (Re)arms. A time in the past fires in the next turn. Equal times fire in order of arming.
  void arm(Timer& timer, base::TimePoint when);

 protected:
  // For implementations. Fires timers due at `now`; then jobs and end-of-turn jobs.
  void run_due_timers(base::TimePoint now);
  void run_jobs();
  // While true the implementation polls I/O without waiting.
  bool has_jobs() const { return !jobs_.empty() || !turn_end_.empty() || !next_turn_.empty(); }
  bool has_timers() const { return !heap_.empty(); }
  // Earliest armed time; only if has_timers().
  base::TimePoint next_timer() const { return heap_.front()->when_; }
  // Called when the earliest time changed or a job was queued from outside a turn.
  virtual void wake() {}

 private:
  friend class Timer;
  void disarm(Timer& timer);
  bool earlier(const Timer* a, const Timer* b) const;
  void sift_up(size_t index);
  void sift_down(size_t index);

  JobList jobs_;
  JobList turn_end_;
  JobList next_turn_;
  std::vector<Timer*> heap_;
  uint64_t next_sequence_ = 0;
  bool running_jobs_ = false;
};

// Job and Timer around a function, for owners that have one or two of them.
class CallJob final : public Job {
 public:
  explicit CallJob(std::function<void()> call) : call_(std::move(call)) {}
  ~CallJob() override = default;

 private:
  void run() override { call_(); }
  std::function<void()> call_;
};

class CallTimer final : public Timer {
 public:
  explicit CallTimer(std::function<void()> call) : call_(std::move(call)) {}
  ~CallTimer() override = default;

 private:
  void fire() override { call_(); }
  std::function<void()> call_;
};

}  // namespace culvert::async
