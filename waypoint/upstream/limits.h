// SPDX-License-Identifier: Apache-2.0
// Limits: the circuit breakers of one cluster, shared by all loops (spec waypoint section 2.3.3). Admission
// is increment, then check: a bound is never exceeded. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "mesh/model/backend.h"
#include "net/async/loop.h"

namespace culvert::waypoint {

class Limits;

// A counted seat below a bound; given back when destroyed.
class Seat {
 public:
  Seat() = default;
  Seat(Seat&& other) noexcept
      : limits_(std::move(other.limits_)), counter_(std::exchange(other.counter_, nullptr)) {}
  Seat& operator=(Seat&& other) noexcept {
    release();
    limits_ = std::move(other.limits_);
    counter_ = std::exchange(other.counter_, nullptr);
    return *this;
  }
  ~Seat() { release(); }
  explicit operator bool() const { return counter_ != nullptr; }
  void release();

 private:
  friend class Limits;
  std::shared_ptr<Limits> limits_;
  std::atomic<uint32_t>* counter_ = nullptr;
};

class Limits : public std::enable_shared_from_this<Limits> {
 public:
  // Each gives an empty seat if the bound is reached.
  Seat connection(const model::PoolLimits& pool) { return take(connections_, pool.connections_max); }
  Seat pending(const model::PoolLimits& pool) { return take(pending_, pool.pending_max); }
  Seat request(const model::PoolLimits& pool) { return take(requests_, pool.requests_max); }
  // One more retry: below the budget if there is one, else below retries_max.
  Seat retry(const model::TrafficPolicy& policy);

  // Calls `wake` once, on its loop, when a connection has been given back. The call is dropped if `owner` has
  // gone by then.
  void wake_when_free(async::Loop& loop, std::weak_ptr<void> owner, std::function<void()> wake);

  // Who may give an idle connection back when another pool of the cluster needs one.
  void add_reclaimer(async::Loop& loop, std::weak_ptr<void> owner, std::function<void()> reclaim);
  // Asks those of the other loops.
  void reclaim_elsewhere(const async::Loop& own);

  uint32_t connections() const { return connections_.load(); }
  uint32_t pending() const { return pending_.load(); }
  uint32_t requests() const { return requests_.load(); }
  uint32_t retries() const { return retries_.load(); }

 private:
  friend class Seat;
  struct Call {
    async::Loop* loop;
    std::weak_ptr<void> owner;
    std::function<void()> call;
  };
  Seat take(std::atomic<uint32_t>& counter, uint32_t bound);
  void connection_freed();
  static void post(Call call);

  std::atomic<uint32_t> connections_{0}, pending_{0}, requests_{0}, retries_{0};
  std::mutex mutex_;
  std::vector<Call> waiting_;
  std::vector<Call> reclaimers_;
};

}  // namespace culvert::waypoint
