// SPDX-License-Identifier: Apache-2.0
// Readiness: what the process still waits for (spec ztunnel section 8.4). Thread safe: set on the
// control loop, answered by a data loop, so that a stuck data loop shows.
#pragma once

#include <mutex>
#include <set>
#include <string>

namespace culvert::observe {

class Readiness {
 public:
  void pending(const std::string& task) {
    std::lock_guard lock(mutex_);
    tasks_.insert(task);
  }
  void ready(const std::string& task) {
    std::lock_guard lock(mutex_);
    tasks_.erase(task);
  }
  void set(const std::string& task, bool is_ready) { is_ready ? ready(task) : pending(task); }
  // Sorted, ", " between; "" when ready.
  std::string pending_text() const {
    std::lock_guard lock(mutex_);
    std::string out;
    for (const std::string& task : tasks_) {
      if (!out.empty()) out += ", ";
      out += task;
    }
    return out;
  }

 private:
  mutable std::mutex mutex_;
  std::set<std::string> tasks_;
};

}  // namespace culvert::observe
