// SPDX-License-Identifier: Apache-2.0
// Circuit: keeps calls away from a service that fails: after kFailuresMax failures in a row none is made for
// kPause, then the next decides again (spec waypoint section 4.3). Shared by all loops; thread safe.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>

#include "mesh/model/backend.h"
#include "net/base/duration.h"
#include "waypoint/upstream/cluster.h"

namespace culvert::waypoint {

class Circuit {
 public:
  static constexpr unsigned kFailuresMax = 5;
  static constexpr base::Duration kPause = std::chrono::seconds(1);

  // A call may be made.
  bool closed(base::TimePoint now) const { return now.time_since_epoch().count() >= open_until_.load(); }
  void succeeded() { failures_.store(0); }
  void failed(base::TimePoint now) {
    if (failures_.fetch_add(1) + 1 < kFailuresMax) return;
    // One more opens it again.
    failures_.store(kFailuresMax - 1);
    open_until_.store((now + kPause).time_since_epoch().count());
  }

 private:
  std::atomic<unsigned> failures_{0};
  std::atomic<int64_t> open_until_{0};
};

// One for each service; kept for as long as the process runs, for services are few.
class Circuits {
 public:
  Circuit& get(const ClusterKey& key) {
    std::lock_guard lock(mutex_);
    std::unique_ptr<Circuit>& slot = circuits_[key];
    if (!slot) slot = std::make_unique<Circuit>();
    return *slot;
  }

 private:
  std::mutex mutex_;
  std::map<ClusterKey, std::unique_ptr<Circuit>> circuits_;
};

}  // namespace culvert::waypoint
