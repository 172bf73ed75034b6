// SPDX-License-Identifier: Apache-2.0
// Wake: one waiter of a stream, told through a job, so never from inside a call.
#pragma once

#include <utility>

#include "net/async/loop.h"
#include "net/io/stream.h"

namespace culvert::conn {

class Wake final : private async::Job {
 public:
  explicit Wake(async::Loop& loop) : loop_(loop) {}
  ~Wake() override = default;
  void arm(io::Waiter* waiter, bool ready) {
    waiter_ = waiter;
    if (!waiter_) {
      unqueue();
    } else if (ready) {
      loop_.defer(*this);
    }
  }
  bool armed() const { return waiter_ != nullptr; }
  void tell() {
    if (waiter_) loop_.defer(*this);
  }

 private:
  void run() override {
    if (waiter_) std::exchange(waiter_, nullptr)->on_ready();
  }
  async::Loop& loop_;
  io::Waiter* waiter_ = nullptr;
};

}  // namespace culvert::conn
