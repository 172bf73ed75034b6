// SPDX-License-Identifier: Apache-2.0
// Machine: what a program that runs other programs asks of the machine it is on: processes, host addresses,
// namespaces by name. UvMachine (net/uv) and SimMachine (test/support) implement it. Lives on one Loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/base/ip.h"
#include "net/base/result.h"
#include "net/io/network.h"

namespace culvert::io {

struct ProcessSpec {
  std::vector<std::string> arguments;    // the first is the path of the program
  std::vector<std::string> environment;  // "NAME=value"; nothing is inherited
  NetNsRef netns;                        // null: our own
  std::string output;                    // stdout and stderr are appended to this file
  // The process and what it starts can gain no privilege, and have none of root's from the beginning.
  bool unprivileged = true;
};

struct ProcessEnd {
  int status = 0;  // of exit
  int signal = 0;  // 0: it ended by itself
  std::string to_string() const;
};

// One running process. Destroying it kills the process and does not wait. It is killed as well when we end
// however that happens.
class Process {
 public:
  virtual ~Process() = default;
  virtual int pid() const = 0;
  // False: it has ended already.
  virtual bool send_signal(int number) = 0;
};

class Machine {
 public:
  virtual ~Machine() = default;
  // An error: the program cannot be started; the reason is the kernel's. `ended` is called once, from the
  // loop, with a flat stack; not after the Process was destroyed.
  virtual base::Result<std::unique_ptr<Process>> spawn(const ProcessSpec& spec,
                                                       std::function<void(ProcessEnd)> ended) = 0;
  // `name`: a path, or a name below /run/netns.
  virtual base::Result<NetNsRef> open_netns(const std::string& name) = 0;
  // A host address on the loopback interface of `netns` (null: our own). Both succeed if it is so already.
  virtual base::Result<> add_address(const NetNsRef& netns, const base::IpAddr& address) = 0;
  virtual base::Result<> remove_address(const NetNsRef& netns, const base::IpAddr& address) = 0;
};

}  // namespace culvert::io
