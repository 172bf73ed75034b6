// SPDX-License-Identifier: Apache-2.0
// Kernel: everything the agent asks of the operating system about pods and rules, blocking, so
// that tests can put a table in its place. Worker: where such calls run; the loop only awaits.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cni/proc_scan.h"
#include "cni/rules.h"
#include "net/async/loop.h"
#include "net/async/wait.h"

namespace culvert::cni {

class Kernel {
 public:
  virtual ~Kernel() = default;
  // Opens and checks: a network namespace, neither the host's nor ours, with one of `ips` unless
  // `ips` is empty (spec cni 2.8 [D]).
  virtual base::Result<NetnsRef> open_netns(const std::string& path,
                                            const std::vector<base::IpAddr>& ips) = 0;
  virtual base::Result<std::map<std::string, NetnsRef>> scan(const WantedPods& wanted) = 0;
  // Rules and routes; the answer is the listing that a later drift check compares with.
  virtual base::Result<std::string> apply_pod(const NetnsRef& netns, const PodRuleInput& input) = 0;
  virtual base::Result<std::string> list_pod(const NetnsRef& netns, const PodRuleInput& input) = 0;
  // Routes only: cheap and idempotent, so simply done again.
  virtual base::Result<> repair_routes(const NetnsRef& netns, bool ipv6) = 0;
  virtual base::Result<> remove_pod(const NetnsRef& netns) = 0;
  // Packets the namespace has lost so far because the table of connections was full.
  virtual base::Result<uint64_t> conntrack_drops(const NetnsRef& netns) = 0;

  virtual base::Result<std::string> apply_host(const HostRuleInput& input) = 0;
  virtual base::Result<std::string> list_host() = 0;
  virtual base::Result<> remove_host() = 0;
  virtual base::Result<std::vector<SetEntry>> list_host_set(bool ipv6) = 0;
  virtual base::Result<> upsert_host_set(const std::vector<SetEntry>& entries) = 0;
  // Deletes those whose comment matches; others stay.
  virtual base::Result<> delete_host_set(const std::vector<SetEntry>& entries, bool ipv6) = 0;
  virtual base::Result<uint32_t> kubelet_uid() = 0;
};

// The sum of the column `drop` of a nf_conntrack statistics file, one hexadecimal line for each CPU.
base::Result<uint64_t> parse_conntrack_drops(std::string_view text);

struct LinuxKernelOptions {
  std::string proc_root = "/proc";
  std::string netns_prefix;  // "/host" in a DaemonSet: where the host's paths are mounted
  std::string netns_dir;     // when set, a pod's namespace path must be inside it
  NetnsRef host;             // null: host rules go where we are
};

class LinuxKernel final : public Kernel {
 public:
  explicit LinuxKernel(LinuxKernelOptions options) : options_(std::move(options)) {}
  base::Result<NetnsRef> open_netns(const std::string& path, const std::vector<base::IpAddr>& ips) override;
  base::Result<std::map<std::string, NetnsRef>> scan(const WantedPods& wanted) override;
  base::Result<std::string> apply_pod(const NetnsRef& netns, const PodRuleInput& input) override;
  base::Result<std::string> list_pod(const NetnsRef& netns, const PodRuleInput& input) override;
  base::Result<> repair_routes(const NetnsRef& netns, bool ipv6) override;
  base::Result<> remove_pod(const NetnsRef& netns) override;
  base::Result<uint64_t> conntrack_drops(const NetnsRef& netns) override;
  base::Result<std::string> apply_host(const HostRuleInput& input) override;
  base::Result<std::string> list_host() override;
  base::Result<> remove_host() override;
  base::Result<std::vector<SetEntry>> list_host_set(bool ipv6) override;
  base::Result<> upsert_host_set(const std::vector<SetEntry>& entries) override;
  base::Result<> delete_host_set(const std::vector<SetEntry>& entries, bool ipv6) override;
  base::Result<uint32_t> kubelet_uid() override { return find_kubelet_uid(options_.proc_root); }

 private:
  LinuxKernelOptions options_;
};

class Worker {
 public:
  virtual ~Worker() = default;
  virtual void run(std::function<void()> job) = 0;
};

// A few threads and a queue. Destroying it finishes what was queued.
class ThreadWorker final : public Worker {
 public:
  explicit ThreadWorker(int threads = 4);
  ~ThreadWorker() override;
  void run(std::function<void()> job) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Runs jobs at once: tests.
class InlineWorker final : public Worker {
 public:
  void run(std::function<void()> job) override { job(); }
};

// co_await on_worker<T>(loop, worker, work): `work` runs on the worker, its result comes back here.
template <class T>
async::Task<base::Result<T>> on_worker(async::Loop& loop, Worker& worker,
                                       std::function<base::Result<T>()> work) {
  auto slot = std::make_shared<async::OneShot<base::Result<T>>>(loop);
  worker.run([slot, &loop, work = std::move(work)]() mutable {
    auto result = std::make_shared<base::Result<T>>(work());
    loop.post([slot = std::move(slot), result] { slot->set(std::move(*result)); });
  });
  co_await slot->event().wait();
  co_return slot->take();
}

}  // namespace culvert::cni
