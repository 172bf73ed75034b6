// SPDX-License-Identifier: Apache-2.0
// UvMachine: io::Machine on the kernel, for one UvLoop. The end of a process is told by its pidfd
// (Linux 5.3), so that no signal handler and no other child of this program is concerned.
#pragma once

#include <map>

#include "net/io/machine.h"
#include "net/uv/netns.h"
#include "net/uv/uv_loop.h"

namespace culvert::uv {

class UvMachine final : public io::Machine {
 public:
  // Only on the thread of the loop: that thread's end is what ends the processes.
  static base::Result<std::unique_ptr<UvMachine>> create(UvLoop& loop);
  // Kills what still runs.
  ~UvMachine() override;

  base::Result<std::unique_ptr<io::Process>> spawn(const io::ProcessSpec& spec,
                                                   std::function<void(io::ProcessEnd)> ended) override;
  base::Result<io::NetNsRef> open_netns(const std::string& name) override;
  base::Result<> add_address(const io::NetNsRef& netns, const base::IpAddr& address) override;
  base::Result<> remove_address(const io::NetNsRef& netns, const base::IpAddr& address) override;

 private:
  class Child;
  class Handle;
  UvMachine(UvLoop& loop, HomeNetNs home);
  void forget(Child& child);

  UvLoop& loop_;
  HomeNetNs home_;
  // By pid, until each has been waited for: also those whose Process is gone.
  std::map<int, std::unique_ptr<Child>> children_;
};

}  // namespace culvert::uv
