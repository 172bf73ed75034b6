// SPDX-License-Identifier: Apache-2.0
// UvLoop: the production Loop, one per thread (design section 3.3).
//
// Readiness of sockets comes from an edge-triggered epoll set of our own: each descriptor is
// registered once for its whole life, where libuv's level-triggered uv_poll would cost one epoll_ctl
// for every arm. libuv is embedded in the same set through its backend descriptor and brings what it
// is best at: name resolution and its thread pool.
//
// A turn: wait, on_events of ready descriptors, posted calls, due timers, jobs, end-of-turn jobs.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "net/async/loop.h"
#include "net/base/unique_fd.h"

struct uv_loop_s;

namespace culvert::uv {

// A descriptor in the loop's epoll set. on_events runs on the loop with a flat stack; it may do
// anything, including unwatching itself or others.
class FdWatch {
 public:
  virtual void on_events(uint32_t epoll_events) = 0;

 protected:
  ~FdWatch() = default;
};

class UvLoop final : public async::Loop {
 public:
  UvLoop();
  ~UvLoop() override;

  base::TimePoint now() const override;
  base::WallTime wall_now() const override;
  void post(std::function<void()> call) override;

  // Runs until stop(). Only on the thread that will own all objects of this loop.
  void run();
  // Thread safe. run() returns at the end of the turn in which it notices.
  void stop();

  // Edge-triggered EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI. One watch per descriptor; unwatch before
  // close.
  bool watch(int fd, FdWatch& watch);
  void unwatch(int fd, FdWatch& watch);

  // For wrappers of libuv requests: the embedded loop is given a turn soon.
  uv_loop_s* raw() { return uv_.get(); }
  void libuv_used() { uv_touched_ = true; }

 private:
  void turn();
  void run_posted();
  void wake() override {}
  int wait_milliseconds() const;

  std::unique_ptr<uv_loop_s> uv_;
  base::UniqueFd epoll_;
  base::UniqueFd wakeup_;
  mutable bool now_stale_ = true;
  mutable base::TimePoint now_{};
  bool uv_touched_ = true;
  std::atomic<bool> stopping_{false};
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
  // The batch being delivered, so that unwatch can withdraw events not yet told.
  struct Batch;
  Batch* batch_ = nullptr;
};

// LoopThread: a UvLoop in a thread of its own. Objects of the loop are made and destroyed by
// calls posted to it; join() stops the loop and waits.
class LoopThread {
 public:
  LoopThread();
  ~LoopThread();
  UvLoop& loop() { return *loop_; }
  void start(std::string name);
  void join();

 private:
  std::unique_ptr<UvLoop> loop_;
  std::thread thread_;
};

}  // namespace culvert::uv
