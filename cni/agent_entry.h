// SPDX-License-Identifier: Apache-2.0
// The agent's record of one pod; private to agent*.cc.
#pragma once

#include "cni/agent.h"

namespace culvert::cni {

struct Agent::Entry {
  Entry(async::Loop& loop, std::string id) : uid(std::move(id)), wake(loop), released(loop) {}

  std::string uid;
  bool present = false;  // the source has it
  PodInfo pod;           // last known
  Redirection redirection = Redirection::kNone;
  bool in_cache = false;  // named in snapshots
  NetnsRef netns;
  std::string netns_path;  // told by the runtime at ADD
  NetnsId netns_id;
  std::vector<base::IpAddr> set_ips;  // what the host set should hold for it
  PodRuleInput rules;
  bool has_listing = false;
  std::string listing;  // what the kernel showed right after the rules were made

  uint64_t conntrack_drops = 0;  // at the last look

  bool dirty = false;
  bool driving = false;
  bool busy = false;  // a flow is running; others wait for `released`
  base::Duration backoff{0};
  async::Event wake;
  async::Event released;
};

// Exclusive right to change one pod. Released on every way out.
class Agent::Hold {
 public:
  static async::Task<std::unique_ptr<Hold>> take(EntryRef entry) {
    while (entry->busy) co_await entry->released.wait();
    co_return std::make_unique<Hold>(entry);
  }
  explicit Hold(EntryRef entry) : entry_(std::move(entry)) { entry_->busy = true; }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() {
    entry_->busy = false;
    entry_->released.pulse();
  }

 private:
  EntryRef entry_;
};

}  // namespace culvert::cni
