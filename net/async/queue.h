// SPDX-License-Identifier: Apache-2.0
// BoundedQueue: a mailbox between tasks of one loop, with a limit and an end.
#pragma once

#include <deque>
#include <optional>
#include <utility>

#include "net/async/wait.h"

namespace culvert::async {

template <class T>
class BoundedQueue {
 public:
  BoundedQueue(Loop& loop, size_t limit) : limit_(limit), readable_(loop) {}

  // False if full or closed; the value is then untouched.
  bool try_push(T&& value) {
    if (closed_ || items_.size() >= limit_) return false;
    items_.push_back(std::move(value));
    readable_.set();
    return true;
  }
  void close() {
    closed_ = true;
    readable_.set();
  }
  // nullopt once closed and empty.
  Task<std::optional<T>> pop() {
    while (items_.empty() && !closed_) {
      readable_.reset();
      co_await readable_.wait();
    }
    if (items_.empty()) co_return std::nullopt;
    std::optional<T> value(std::move(items_.front()));
    items_.pop_front();
    co_return value;
  }
  size_t size() const { return items_.size(); }
  bool closed() const { return closed_; }

 private:
  size_t limit_;
  Event readable_;
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace culvert::async
