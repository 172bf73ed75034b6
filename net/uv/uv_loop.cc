// SPDX-License-Identifier: Apache-2.0
#include "net/uv/uv_loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "net/base/check.h"

namespace culvert::uv {

namespace {
constexpr int kEventsPerWait = 256;
}

struct UvLoop::Batch {
  epoll_event events[kEventsPerWait];
  int count = 0;
  int next = 0;
};

UvLoop::UvLoop() : uv_(std::make_unique<uv_loop_s>()) {
  CULVERT_CHECK(uv_loop_init(uv_.get()) == 0);
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  wakeup_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  CULVERT_CHECK(epoll_.valid() && wakeup_.valid());
  // The two descriptors of the loop itself are level-triggered and told apart by their pointer.
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &wakeup_;
  CULVERT_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wakeup_.get(), &event) == 0);
  event.data.ptr = uv_.get();
  CULVERT_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, uv_backend_fd(uv_.get()), &event) == 0);
}

UvLoop::~UvLoop() {
  // Requests still under way (name look-ups) hold no reference to us; let them end.
  uv_run(uv_.get(), UV_RUN_NOWAIT);
  while (uv_loop_close(uv_.get()) == UV_EBUSY) uv_run(uv_.get(), UV_RUN_ONCE);
}

base::TimePoint UvLoop::now() const {
  if (now_stale_) {
    timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    now_ = base::TimePoint(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec));
    now_stale_ = false;
  }
  return now_;
}

base::WallTime UvLoop::wall_now() const {
  timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return base::WallTime(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec));
}

void UvLoop::post(std::function<void()> call) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(call));
  }
  uint64_t one = 1;
  (void)!write(wakeup_.get(), &one, sizeof one);
}

void UvLoop::run_posted() {
  std::vector<std::function<void()>> calls;
  {
    std::lock_guard lock(posted_mutex_);
    calls.swap(posted_);
  }
  for (auto& call : calls) call();
}

bool UvLoop::watch(int fd, FdWatch& watch) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
  event.data.ptr = &watch;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void UvLoop::unwatch(int fd, FdWatch& watch) {
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  if (!batch_) return;
  for (int i = batch_->next; i < batch_->count; ++i) {
    if (batch_->events[i].data.ptr == &watch) batch_->events[i].data.ptr = nullptr;
  }
}

int UvLoop::wait_milliseconds() const {
  if (has_jobs() || uv_touched_) return 0;
  if (!has_timers()) return -1;
  auto left = next_timer() - now();
  if (left <= base::Duration::zero()) return 0;
  // Round up: a timer must not be polled for with a zero wait until its millisecond has come.
  auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::min<int64_t>(milliseconds, 60'000));
}

void UvLoop::turn() {
  Batch batch;
  batch.count = epoll_wait(epoll_.get(), batch.events, kEventsPerWait, wait_milliseconds());
  CULVERT_CHECK(batch.count >= 0 || errno == EINTR);
  now_stale_ = true;
  bool run_libuv = uv_touched_;
  batch_ = &batch;
  while (batch.next < batch.count) {
    epoll_event event = batch.events[batch.next++];
    if (event.data.ptr == nullptr) continue;
    if (event.data.ptr == &wakeup_) {
      uint64_t ignored;
      (void)!read(wakeup_.get(), &ignored, sizeof ignored);
    } else if (event.data.ptr == uv_.get()) {
      run_libuv = true;
    } else {
      static_cast<FdWatch*>(event.data.ptr)->on_events(event.events);
    }
  }
  batch_ = nullptr;
  if (run_libuv) {
    uv_touched_ = false;
    uv_run(uv_.get(), UV_RUN_NOWAIT);
  }
  run_posted();
  run_due_timers(now());
  run_jobs();
}

void UvLoop::run() {
  now_stale_ = true;
  run_posted();
  run_jobs();
  while (!stopping_.load(std::memory_order_acquire)) turn();
  stopping_ = false;
}

void UvLoop::stop() {
  stopping_.store(true, std::memory_order_release);
  uint64_t one = 1;
  (void)!write(wakeup_.get(), &one, sizeof one);
}

LoopThread::LoopThread() : loop_(std::make_unique<UvLoop>()) {}

LoopThread::~LoopThread() { join(); }

void LoopThread::start(std::string name) {
  thread_ = std::thread([this, name = std::move(name)] {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    loop_->run();
  });
}

void LoopThread::join() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
}

}  // namespace culvert::uv
