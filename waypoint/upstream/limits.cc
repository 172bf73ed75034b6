// SPDX-License-Identifier: Apache-2.0
#include "waypoint/upstream/limits.h"

#include <algorithm>

namespace culvert::waypoint {

void Seat::release() {
  std::atomic<uint32_t>* counter = std::exchange(counter_, nullptr);
  if (!counter) return;
  counter->fetch_sub(1);
  std::shared_ptr<Limits> limits = std::move(limits_);
  if (counter == &limits->connections_) limits->connection_freed();
}

Seat Limits::take(std::atomic<uint32_t>& counter, uint32_t bound) {
  Seat seat;
  if (counter.fetch_add(1) >= bound) {
    counter.fetch_sub(1);
    return seat;
  }
  seat.limits_ = shared_from_this();
  seat.counter_ = &counter;
  return seat;
}

Seat Limits::retry(const model::TrafficPolicy& policy) {
  uint32_t bound = policy.pool.retries_max;
  if (policy.retry_budget) {
    double share = policy.retry_budget->percent / 100 * (requests() + pending());
    bound = std::max(policy.retry_budget->concurrency_min, static_cast<uint32_t>(share));
  }
  return take(retries_, bound);
}

void Limits::post(Call call) {
  call.loop->post([owner = std::move(call.owner), run = std::move(call.call)] {
    if (!owner.expired()) run();
  });
}

void Limits::wake_when_free(async::Loop& loop, std::weak_ptr<void> owner, std::function<void()> wake) {
  std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [](const Call& call) { return call.owner.expired(); });
  waiting_.push_back({&loop, std::move(owner), std::move(wake)});
}

void Limits::connection_freed() {
  std::vector<Call> woken;
  {
    std::lock_guard lock(mutex_);
    woken.swap(waiting_);
  }
  for (Call& call : woken) post(std::move(call));
}

void Limits::add_reclaimer(async::Loop& loop, std::weak_ptr<void> owner, std::function<void()> reclaim) {
  std::lock_guard lock(mutex_);
  std::erase_if(reclaimers_, [](const Call& call) { return call.owner.expired(); });
  reclaimers_.push_back({&loop, std::move(owner), std::move(reclaim)});
}

void Limits::reclaim_elsewhere(const async::Loop& own) {
  std::lock_guard lock(mutex_);
  for (const Call& call : reclaimers_) {
    if (call.loop != &own) post(call);
  }
}

}  // namespace culvert::waypoint
