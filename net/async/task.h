// SPDX-License-Identifier: Apache-2.0
// Task<T>: a lazy coroutine with one owner; destroying it cancels it (design section 3.4).
//
// `co_await task` starts the child and, if it finished at once, goes on without a nested resume,
// so that the stack stays flat. Every awaitable of this house takes back its registration in
// its destructor; therefore a Task may be destroyed at any suspension point. It must not be
// destroyed from inside itself: owners cancel through Scope, which reaps on a later job.
//
// House rules for coroutines: parameters by value, or references to something that owns the
// task; no capturing lambda as a coroutine; one await, one statement.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "net/base/check.h"

namespace culvert::async {

template <class T = void>
class [[nodiscard]] Task;

namespace detail {

struct PromiseBase {
  std::coroutine_handle<> continuation;  // set once the awaiting parent is really suspended

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> self) noexcept {
      auto next = self.promise().continuation;
      return next ? next : std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };
  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  // No exceptions cross a coroutine in this house; one that does is our own fault.
  void unhandled_exception() noexcept { std::terminate(); }
};

template <class T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  template <class U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  void return_void() {}
};

}  // namespace detail

template <class T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~Task() { reset(); }

  bool valid() const { return static_cast<bool>(handle_); }
  bool done() const { return handle_ && handle_.done(); }
  // Cancels: destroys the frame with everything it holds.
  void reset() {
    if (auto handle = std::exchange(handle_, nullptr)) handle.destroy();
  }

  // For drivers (Scope, with_deadline): runs until the first suspension. `continuation` is
  // resumed when the task ends later; if it has ended at once, done() is true instead.
  void start(std::coroutine_handle<> continuation) {
    handle_.resume();
    if (!handle_.done()) handle_.promise().continuation = continuation;
  }
  T take_result() {
    if constexpr (!std::is_void_v<T>) {
      CULVERT_CHECK(handle_.promise().value.has_value());
      return std::move(*handle_.promise().value);
    }
  }

  struct Awaiter {
    Task& task;
    bool await_ready() noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> parent) {
      task.start(parent);
      return !task.done();
    }
    T await_resume() { return task.take_result(); }
  };
  Awaiter operator co_await() & { return Awaiter{*this}; }
  // A temporary lives in the parent's frame until the full expression ends.
  Awaiter operator co_await() && { return Awaiter{*this}; }

 private:
  Handle handle_;
};

namespace detail {
template <class T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}
}  // namespace detail

}  // namespace culvert::async
