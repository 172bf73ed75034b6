// SPDX-License-Identifier: Apache-2.0
// The awaitables: Event, OneShot, sleep_until, with_deadline. All wake through a loop job.
#pragma once

#include <coroutine>
#include <optional>
#include <utility>

#include "net/async/deadline.h"
#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/base/result.h"

namespace culvert::async {

// Event: false until set. Any number of waiters; each wakes in order through a job.
class Event {
 public:
  explicit Event(Loop& loop) : loop_(loop) {}
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  bool is_set() const { return set_; }
  void set();
  void reset() { set_ = false; }
  // Wakes the present waiters without staying set.
  void pulse();

  // co_await event.wait(): true. co_await event.wait(deadline): false if the deadline came first.
  class Awaiter final : private Job, private Timer {
   public:
    Awaiter(Event& event, Deadline deadline) : event_(event), deadline_(deadline) {}
    ~Awaiter() override;
    bool await_ready() const { return event_.set_; }
    void await_suspend(std::coroutine_handle<> handle);
    bool await_resume() const { return !timed_out_; }

   private:
    friend class Event;
    void run() override;
    void fire() override;
    void unlink();
    Event& event_;
    Deadline deadline_;
    std::coroutine_handle<> handle_;
    Awaiter* prev_ = nullptr;
    Awaiter* next_ = nullptr;
    bool linked_ = false;
    bool timed_out_ = false;
  };
  Awaiter wait(Deadline deadline = Deadline::never()) { return Awaiter(*this, deadline); }

 private:
  Loop& loop_;
  bool set_ = false;
  Awaiter* first_ = nullptr;
  Awaiter* last_ = nullptr;
};

// OneShot: a value that arrives once; `co_await slot.event().wait()` then take().
template <class T>
class OneShot {
 public:
  explicit OneShot(Loop& loop) : event_(loop) {}
  bool ready() const { return value_.has_value(); }
  // The first value wins.
  void set(T value) {
    if (value_) return;
    value_.emplace(std::move(value));
    event_.set();
  }
  Event& event() { return event_; }
  T take() { return std::move(*value_); }
  const T& peek() const { return *value_; }

 private:
  Event event_;
  std::optional<T> value_;
};

// co_await sleep_until(loop, deadline);
class SleepAwaiter final : private Timer {
 public:
  SleepAwaiter(Loop& loop, Deadline deadline) : loop_(loop), deadline_(deadline) {}
  ~SleepAwaiter() override = default;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    if (!deadline_.is_never()) loop_.arm(*this, deadline_.when());
  }
  void await_resume() const {}

 private:
  void fire() override { handle_.resume(); }
  Loop& loop_;
  Deadline deadline_;
  std::coroutine_handle<> handle_;
};
inline SleepAwaiter sleep_until(Loop& loop, Deadline deadline) { return {loop, deadline}; }
inline SleepAwaiter sleep_for(Loop& loop, base::Duration delay) { return {loop, Deadline::in(loop, delay)}; }

// Result<T> r = co_await with_deadline(loop, deadline, "connect", task);
// On time-out the child is destroyed (cancelled) and the answer is Code::kTimeout.
template <class T>
class DeadlineAwaiter final : private Timer {
 public:
  DeadlineAwaiter(Loop& loop, Deadline deadline, std::string_view doing, Task<base::Result<T>> task)
      : loop_(loop), deadline_(deadline), doing_(doing), task_(std::move(task)) {}
  ~DeadlineAwaiter() override = default;
  bool await_ready() const { return false; }
  bool await_suspend(std::coroutine_handle<> parent) {
    task_.start(parent);
    if (task_.done()) return false;
    parent_ = parent;
    if (!deadline_.is_never()) loop_.arm(*this, deadline_.when());
    return true;
  }
  base::Result<T> await_resume() {
    disarm();
    if (timed_out_) {
      return base::fail(base::Code::kTimeout, std::string(doing_) + ": deadline passed");
    }
    return task_.take_result();
  }

 private:
  void fire() override {
    timed_out_ = true;
    task_.reset();
    parent_.resume();
  }
  Loop& loop_;
  Deadline deadline_;
  std::string_view doing_;
  Task<base::Result<T>> task_;
  std::coroutine_handle<> parent_;
  bool timed_out_ = false;
};
template <class T>
DeadlineAwaiter<T> with_deadline(Loop& loop, Deadline deadline, std::string_view doing,
                                 Task<base::Result<T>> task) {
  return {loop, deadline, doing, std::move(task)};
}

}  // namespace culvert::async
