// SPDX-License-Identifier: Apache-2.0
// StopSignal: ends what one connection is waiting for, from outside it: a policy changed, the pod
// went, the deadline of a drain passed. One waiting operation at a time; first reason wins.
#pragma once

#include <coroutine>
#include <optional>
#include <utility>

#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/base/result.h"

namespace culvert::async {

class StopSignal {
 public:
  explicit StopSignal(Loop& loop) : loop_(loop) {}
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  void stop(base::Error why) {
    if (why_) return;
    why_ = std::move(why);
    if (waiter_) loop_.defer(*waiter_);
  }
  bool stopped() const { return why_.has_value(); }
  const base::Error& why() const { return *why_; }

 private:
  template <class T>
  friend class StopAwaiter;
  Loop& loop_;
  Job* waiter_ = nullptr;
  std::optional<base::Error> why_;
};

// co_await until_stopped(signal, task): the task's result, or the signal's reason, in which case
// the task has been destroyed (cancelled).
template <class T>
class StopAwaiter final : private Job {
 public:
  StopAwaiter(StopSignal& signal, Task<base::Result<T>> task) : signal_(signal), task_(std::move(task)) {}
  ~StopAwaiter() override { detach(); }
  bool await_ready() const { return signal_.stopped(); }
  bool await_suspend(std::coroutine_handle<> parent) {
    parent_ = parent;
    task_.start(parent);
    // The task may have called stop itself before it first waited.
    if (task_.done() || signal_.stopped()) return false;
    signal_.waiter_ = this;
    return true;
  }
  base::Result<T> await_resume() {
    detach();
    if (task_.done()) return task_.take_result();
    task_.reset();
    return base::fail(signal_.why());
  }

 private:
  void run() override { parent_.resume(); }
  void detach() {
    if (signal_.waiter_ == this) signal_.waiter_ = nullptr;
    unqueue();
  }
  StopSignal& signal_;
  Task<base::Result<T>> task_;
  std::coroutine_handle<> parent_;
};
template <class T>
StopAwaiter<T> until_stopped(StopSignal& signal, Task<base::Result<T>> task) {
  return {signal, std::move(task)};
}

}  // namespace culvert::async
