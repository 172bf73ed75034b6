// SPDX-License-Identifier: Apache-2.0
// Network namespaces by descriptor, and running one call inside another namespace.
#pragma once

#include <functional>

#include "net/base/result.h"
#include "net/base/unique_fd.h"
#include "net/io/network.h"

namespace culvert::uv {

class FdNetNs final : public io::NetNs {
 public:
  static base::Result<io::NetNsRef> adopt(base::UniqueFd fd);
  static base::Result<io::NetNsRef> open(const std::string& path);
  FdNetNs(base::UniqueFd fd, Id id) : fd_(std::move(fd)), id_(id) {}
  Id id() const override { return id_; }
  int fd() const { return fd_.get(); }

 private:
  base::UniqueFd fd_;
  Id id_;
};

// The namespace this thread was in when first asked; threads of one process share it here.
class HomeNetNs {
 public:
  static base::Result<HomeNetNs> open();
  // Runs `call` inside `netns` (null: here) on the calling thread. Not coming home is fatal: a thread
  // left in a pod's namespace would open every later socket there (spec ztunnel section 5).
  base::Result<> run_in(const io::NetNs* netns, const std::function<base::Result<>()>& call) const;

 private:
  explicit HomeNetNs(base::UniqueFd fd) : fd_(std::move(fd)) {}
  base::UniqueFd fd_;
};

}  // namespace culvert::uv
