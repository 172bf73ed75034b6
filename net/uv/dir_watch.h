// SPDX-License-Identifier: Apache-2.0
// DirWatch: tells that something below a directory changed (inotify, recursive; new subdirectories are
// followed). It says that, not what: the listener looks at the tree itself, so a lost or merged event loses
// nothing.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "net/base/unique_fd.h"
#include "net/uv/uv_loop.h"

namespace culvert::uv {

class DirWatch final : private FdWatch {
 public:
  // More directories than this are not watched; a sweep must find their changes.
  static constexpr size_t kDirectoriesMax = 8192;

  static base::Result<std::unique_ptr<DirWatch>> create(UvLoop& loop, std::string root,
                                                        std::function<void()> changed);
  ~DirWatch();

 private:
  DirWatch(UvLoop& loop, base::UniqueFd fd, std::string root, std::function<void()> changed);
  void on_events(uint32_t events) override;
  void watch_tree();

  UvLoop& loop_;
  base::UniqueFd fd_;
  std::string root_;
  std::function<void()> changed_;
  std::map<std::string, int> directories_;  // watch descriptors by path
};

}  // namespace culvert::uv
