// SPDX-License-Identifier: Apache-2.0
// Scope: owns the running tasks of one object; cancels, reaps, joins (design section 3.5).
#pragma once

#include <cstddef>
#include <list>

#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/async/wait.h"

namespace culvert::async {

// Destroying a Scope destroys (cancels) its tasks at once; do not do that from inside one of
// them. `cancel_all` may be called from anywhere: the tasks end in a later job.
class Scope {
 public:
  explicit Scope(Loop& loop) : loop_(loop), idle_(loop) { idle_.set(); }
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  // Starts the task now, until its first suspension. A finished task is reaped by a job.
  void spawn(Task<void> task);
  void cancel_all();
  size_t running() const { return running_; }
  // Set while no task is left: co_await scope.idle().wait(deadline).
  Event& idle() { return idle_; }

 private:
  struct Root;
  struct Entry {
    Task<void> task;
    bool finished = false;
  };
  class Reaper final : public Job {
   public:
    explicit Reaper(Scope& scope) : scope_(scope) {}
    ~Reaper() override = default;

   private:
    void run() override { scope_.reap(); }
    Scope& scope_;
  };
  static Task<void> drive(Scope& scope, Entry& entry, Task<void> body);
  void reap();

  Loop& loop_;
  Event idle_;
  Reaper reaper_{*this};
  std::list<Entry> entries_;
  size_t running_ = 0;
  bool cancelling_ = false;
};

}  // namespace culvert::async
