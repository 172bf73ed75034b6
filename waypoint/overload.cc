// SPDX-License-Identifier: Apache-2.0
#include "waypoint/overload.h"

#include <charconv>

namespace culvert::waypoint {

Overload::Seat::~Seat() {
  if (all_) all_->fetch_sub(1);
  if (client_) client_->fetch_sub(1);
}

void Overload::set_memory(uint64_t used, uint64_t bound) {
  auto reached = [&](uint64_t percent) { return bound != 0 && used / percent >= bound / 100; };
  Pressure now = reached(95)   ? Pressure::kShedding
                 : reached(90) ? Pressure::kRefusing
                 : reached(80) ? Pressure::kSaving
                               : Pressure::kNone;
  pressure_.store(now, std::memory_order_relaxed);
}

Overload::Seat Overload::refuse(std::atomic<uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Overload::Seat Overload::connection() {
  if (pressure() >= Pressure::kShedding) return refuse(refused_connections_);
  // Increment, then check: the bound is never exceeded.
  uint32_t count = connections_.fetch_add(1) + 1;
  Seat seat(connections_, nullptr);
  return count <= bounds_.connections_max ? std::move(seat) : refuse(refused_connections_);
}

Overload::Seat Overload::request(const std::shared_ptr<Counter>& client) {
  if (pressure() >= Pressure::kRefusing) return refuse(refused_requests_);
  uint32_t count = requests_.fetch_add(1) + 1;
  uint32_t own = client->fetch_add(1) + 1;
  Seat seat(requests_, client);
  bool tight = pressure() >= Pressure::kSaving || uint64_t{count} * 5 > uint64_t{bounds_.requests_max} * 4;
  bool greedy = tight && own > (bounds_.requests_max + 1) / 2;
  return count <= bounds_.requests_max && !greedy ? std::move(seat) : refuse(refused_requests_);
}

uint64_t cgroup_memory_bound(std::string_view text) {
  uint64_t bytes = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  return error == std::errc{} && end != text.data() ? bytes : 0;
}

LagWatch::LagWatch(async::Loop& loop) : loop_(loop), due_(loop.now() + kEvery), timer_([this] { fired(); }) {
  loop_.arm(timer_, due_);
}

void LagWatch::fired() {
  base::TimePoint now = loop_.now();
  look(due_, now);
  due_ = now + kEvery;
  loop_.arm(timer_, due_);
}

}  // namespace culvert::waypoint
