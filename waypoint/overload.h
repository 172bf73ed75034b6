// SPDX-License-Identifier: Apache-2.0
// Overload: what this process still takes on (spec waypoint section 7.6). One for all loops; any thread.
//
// | pressure   | from             | what becomes of newcomers                                             |
// |------------|------------------|-----------------------------------------------------------------------|
// | kNone      |                  | refused only beyond the bounds                                        |
// | kSaving    | 80 % of the heap | one client pod may hold half of the requests; HTTP/1 ends its answers |
// | kRefusing  | 90 %             | requests and CONNECTs are answered 503                                |
// | kShedding  | 95 %             | connections are not taken                                             |
//
// The bound on one client also holds once 80 % of the requests are under way.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "net/async/loop.h"

namespace culvert::waypoint {

class Overload {
 public:
  enum class Pressure : unsigned char { kNone, kSaving, kRefusing, kShedding };
  using Counter = std::atomic<uint32_t>;
  struct Bounds {
    uint32_t connections_max = 0;  // of clients
    uint32_t requests_max = 0;     // under way
  };

  // Counted in while it lives.
  class Seat {
   public:
    Seat() = default;
    Seat(Seat&& other) noexcept
        : all_(std::exchange(other.all_, nullptr)), client_(std::move(other.client_)) {}
    Seat& operator=(Seat&&) = delete;
    ~Seat();
    explicit operator bool() const { return all_ != nullptr; }

   private:
    friend class Overload;
    Seat(Counter& all, std::shared_ptr<Counter> client) : all_(&all), client_(std::move(client)) {}
    Counter* all_ = nullptr;
    std::shared_ptr<Counter> client_;
  };

  explicit Overload(Bounds bounds) : bounds_(bounds) {}

  // `bound` 0: none is known.
  void set_memory(uint64_t used, uint64_t bound);
  Pressure pressure() const { return pressure_.load(std::memory_order_relaxed); }
  // Each gives an empty seat to those who are refused. `client` counts the requests of one client pod.
  Seat connection();
  Seat request(const std::shared_ptr<Counter>& client);

  uint32_t connections() const { return connections_.load(); }
  uint32_t requests() const { return requests_.load(); }
  uint64_t refused_connections() const { return refused_connections_.load(); }
  uint64_t refused_requests() const { return refused_requests_.load(); }

 private:
  Seat refuse(std::atomic<uint64_t>& counter);

  Bounds bounds_;
  std::atomic<Pressure> pressure_{Pressure::kNone};
  Counter connections_{0}, requests_{0};
  std::atomic<uint64_t> refused_connections_{0}, refused_requests_{0};
};

// The bytes that a cgroup's memory.max allows; 0 for "max" and what cannot be read.
uint64_t cgroup_memory_bound(std::string_view text);

// How late a loop comes to its timers.
class LagWatch {
 public:
  static constexpr base::Duration kEvery = std::chrono::milliseconds(100);
  static constexpr base::Duration kLagMax = std::chrono::milliseconds(200);

  explicit LagWatch(async::Loop& loop);
  // The loop was late when it last looked.
  bool late() const { return late_; }
  // A timer that was due at `due` is served at `now`.
  void look(base::TimePoint due, base::TimePoint now) { late_ = now - due > kLagMax; }

 private:
  void fired();
  async::Loop& loop_;
  base::TimePoint due_;
  bool late_ = false;
  async::CallTimer timer_;
};

}  // namespace culvert::waypoint
