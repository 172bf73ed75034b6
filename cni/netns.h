// SPDX-License-Identifier: Apache-2.0
// Network namespaces for the node agent: open and check one, and do blocking work inside it on a
// throw-away thread (spec cni 2.8 and 10). Descriptors are shared and close with the last user.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/base/ip.h"
#include "net/base/result.h"
#include "net/base/unique_fd.h"

namespace culvert::cni {

struct NetnsId {
  uint64_t device = 0;
  uint64_t inode = 0;
  auto operator<=>(const NetnsId&) const = default;
};

class Netns {
 public:
  // kInvalid unless `fd` is a network namespace.
  static base::Result<std::shared_ptr<const Netns>> adopt(base::UniqueFd fd);
  // Opens close-on-exec. `path` must be absolute and without "..".
  static base::Result<std::shared_ptr<const Netns>> open(const std::string& path);

  int fd() const { return fd_.get(); }
  NetnsId id() const { return id_; }

 private:
  Netns(base::UniqueFd fd, NetnsId id) : fd_(std::move(fd)), id_(id) {}
  base::UniqueFd fd_;
  NetnsId id_;
};
using NetnsRef = std::shared_ptr<const Netns>;

// Runs `work` on a new thread inside `netns` (null: where the caller is) and waits for it. The
// thread ends afterwards, so no thread ever comes back wrong.
base::Result<> run_in_netns(const NetnsRef& netns, const std::function<base::Result<>()>& work);

// Addresses of all interfaces in the calling thread's namespace.
base::Result<std::vector<base::IpAddr>> interface_addresses();

}  // namespace culvert::cni
