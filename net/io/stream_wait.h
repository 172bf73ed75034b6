// SPDX-License-Identifier: Apache-2.0
// co_await readable(stream) / writable(stream): one arm, one wake. Disarms when cancelled.
#pragma once

#include <coroutine>

#include "net/io/stream.h"

namespace culvert::io {

class StreamAwaiter final : private Waiter {
 public:
  enum class Direction : unsigned char { kRead, kWrite };
  StreamAwaiter(ByteStream& stream, Direction direction) : stream_(stream), direction_(direction) {}
  StreamAwaiter(const StreamAwaiter&) = delete;
  StreamAwaiter& operator=(const StreamAwaiter&) = delete;
  ~StreamAwaiter() {
    if (handle_) arm(nullptr);
  }
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    arm(this);
  }
  void await_resume() const {}

 private:
  void arm(Waiter* waiter) {
    direction_ == Direction::kRead ? stream_.arm_read(waiter) : stream_.arm_write(waiter);
  }
  void on_ready() override { std::exchange(handle_, nullptr).resume(); }
  ByteStream& stream_;
  Direction direction_;
  std::coroutine_handle<> handle_;
};

inline StreamAwaiter readable(ByteStream& stream) { return {stream, StreamAwaiter::Direction::kRead}; }
inline StreamAwaiter writable(ByteStream& stream) { return {stream, StreamAwaiter::Direction::kWrite}; }

}  // namespace culvert::io
