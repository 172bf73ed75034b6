// SPDX-License-Identifier: Apache-2.0
// TreeWatch: tells, from a thread of its own, that something below a directory changed (inotify).
// Misses nothing for long: the reader sweeps as well.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "net/base/result.h"
#include "net/base/unique_fd.h"

namespace culvert::cni {

class TreeWatch {
 public:
  static constexpr int kDirectoriesMax = 1000;  // watched; deeper ones are left to the sweep
  // `changed` is called on the watch's thread.
  TreeWatch(std::string root, std::function<void()> changed)
      : root_(std::move(root)), changed_(std::move(changed)) {}
  ~TreeWatch() { stop(); }
  base::Result<> start();
  void stop();

 private:
  void run();
  void add_watches(const std::string& directory, int depth, int& budget);

  std::string root_;
  std::function<void()> changed_;
  base::UniqueFd events_;
  base::UniqueFd stop_;
  std::thread thread_;
};

}  // namespace culvert::cni
