// SPDX-License-Identifier: Apache-2.0
#include "cni/kernel.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "cni/files.h"
#include "cni/nft.h"
#include "cni/route.h"

namespace culvert::cni {
namespace {

constexpr std::array<std::string_view, 1> kHostTables{kNatTable};

std::optional<NetnsId> own_netns_id() {
  struct stat info{};
  if (::stat("/proc/self/ns/net", &info) != 0) return std::nullopt;
  return NetnsId{info.st_dev, info.st_ino};
}

base::Result<> run_script(const std::string& script) {
  auto done = nft_run(script);
  if (!done) return base::fail(done.error());
  return {};
}

}  // namespace

base::Result<NetnsRef> LinuxKernel::open_netns(const std::string& path,
                                               const std::vector<base::IpAddr>& ips) {
  if (!options_.netns_dir.empty() && !path.starts_with(options_.netns_dir + "/")) {
    return base::fail(base::Code::kDenied,
                      "network namespace path " + path + " is not in " + options_.netns_dir);
  }
  auto netns = Netns::open(options_.netns_prefix + path);
  if (!netns) return netns;
  const NetnsId id = (*netns)->id();
  if (id == host_netns_id(options_.proc_root) || id == own_netns_id() ||
      (options_.host && id == options_.host->id())) {
    return base::fail(base::Code::kDenied,
                      "network namespace " + path + " is the host's: no pod rules go there");
  }
  if (ips.empty()) return netns;
  auto fits = netns_has_address(*netns, ips);
  if (!fits) return base::fail(std::move(fits.error()).wrap("check " + path));
  if (!*fits)
    return base::fail(base::Code::kDenied, "network namespace " + path + " has none of the pod's addresses");
  return netns;
}

base::Result<std::map<std::string, NetnsRef>> LinuxKernel::scan(const WantedPods& wanted) {
  return scan_pod_netns(options_.proc_root, wanted);
}

base::Result<std::string> LinuxKernel::apply_pod(const NetnsRef& netns, const PodRuleInput& input) {
  std::string listing;
  auto done = run_in_netns(netns, [&]() -> base::Result<> {
    auto applied = run_script(pod_rules(input));
    // A chain of ours with another hook cannot be changed in place: replace the tables.
    if (!applied) applied = run_script(pod_rules(input, true));
    if (!applied) return applied;
    CULVERT_TRY(add_pod_routes(input.ipv6));
    auto text = nft_list_tables(pod_tables(input));
    if (!text) return base::fail(text.error());
    listing = std::move(*text);
    return {};
  });
  if (!done) return base::fail(std::move(done.error()).wrap("create the pod's rules"));
  return listing;
}

base::Result<std::string> LinuxKernel::list_pod(const NetnsRef& netns, const PodRuleInput& input) {
  std::string listing;
  auto done = run_in_netns(netns, [&]() -> base::Result<> {
    auto text = nft_list_tables(pod_tables(input));
    if (!text) return base::fail(text.error());
    listing = std::move(*text);
    return {};
  });
  if (!done) return base::fail(done.error());
  return listing;
}

base::Result<> LinuxKernel::repair_routes(const NetnsRef& netns, bool ipv6) {
  return run_in_netns(netns, [ipv6] { return add_pod_routes(ipv6); });
}

base::Result<> LinuxKernel::remove_pod(const NetnsRef& netns) {
  auto done = run_in_netns(netns, []() -> base::Result<> {
    CULVERT_TRY(run_script(pod_rules_removal()));
    return remove_pod_routes();
  });
  if (!done) return base::fail(std::move(done.error()).wrap("delete the pod's rules"));
  return {};
}

base::Result<uint64_t> parse_conntrack_drops(std::string_view text) {
  uint64_t sum = 0;
  std::optional<size_t> column;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    std::vector<std::string_view> words;
    for (size_t at = line.find_first_not_of(' '); at != line.npos; at = line.find_first_not_of(' ', at)) {
      size_t end = std::min(line.find(' ', at), line.size());
      words.push_back(line.substr(at, end - at));
      at = end;
    }
    if (!column) {
      auto found = std::find(words.begin(), words.end(), "drop");
      if (found == words.end()) break;
      column = static_cast<size_t>(found - words.begin());
      continue;
    }
    uint64_t value = 0;
    if (*column >= words.size()) continue;
    std::string_view word = words[*column];
    if (std::from_chars(word.data(), word.data() + word.size(), value, 16).ec == std::errc{}) sum += value;
  }
  if (!column) return base::fail(base::Code::kUnsupported, "the kernel tells no conntrack statistics");
  return sum;
}

base::Result<uint64_t> LinuxKernel::conntrack_drops(const NetnsRef& netns) {
  uint64_t drops = 0;
  auto done = run_in_netns(netns, [&]() -> base::Result<> {
    auto text = read_small_file("/proc/thread-self/net/stat/nf_conntrack");
    if (!text) return base::fail(text.error());
    auto parsed = parse_conntrack_drops(*text);
    if (!parsed) return base::fail(parsed.error());
    drops = *parsed;
    return {};
  });
  if (!done) return base::fail(done.error());
  return drops;
}

base::Result<std::string> LinuxKernel::apply_host(const HostRuleInput& input) {
  auto done = run_in_netns(options_.host, [&] { return run_script(host_rules(input)); });
  if (!done) return base::fail(std::move(done.error()).wrap("create the host's rules"));
  return list_host();
}

base::Result<std::string> LinuxKernel::list_host() {
  std::string listing;
  auto done = run_in_netns(options_.host, [&]() -> base::Result<> {
    auto text = nft_list_tables(kHostTables, true);
    if (!text) return base::fail(text.error());
    listing = std::move(*text);
    return {};
  });
  if (!done) return base::fail(done.error());
  return listing;
}

base::Result<> LinuxKernel::remove_host() {
  return run_in_netns(options_.host, [] { return run_script(host_rules_removal()); });
}

base::Result<std::vector<SetEntry>> LinuxKernel::list_host_set(bool ipv6) {
  std::vector<SetEntry> entries;
  auto done = run_in_netns(options_.host, [&]() -> base::Result<> {
    for (std::string_view set : {kProbeSetV4, kProbeSetV6}) {
      if (set == kProbeSetV6 && !ipv6) continue;
      auto text = nft_run("list set inet " + std::string(kNatTable) + " " + std::string(set) + "\n", true);
      if (!text) return base::fail(text.error());
      auto parsed = parse_set_listing(*text);
      if (!parsed) return base::fail(parsed.error());
      entries.insert(entries.end(), parsed->begin(), parsed->end());
    }
    return {};
  });
  if (!done) return base::fail(std::move(done.error()).wrap("list the host set"));
  return entries;
}

base::Result<> LinuxKernel::upsert_host_set(const std::vector<SetEntry>& entries) {
  std::string script;
  for (const auto& entry : entries) {
    if (!valid_uid(entry.uid))
      return base::fail(base::Code::kInvalid, "a pod's UID is not one: " + entry.uid.substr(0, 100));
    script += host_set_upsert(entry.ip, entry.uid);
  }
  if (script.empty()) return {};
  auto done = run_in_netns(options_.host, [&] { return run_script(script); });
  if (!done) return base::fail(std::move(done.error()).wrap("add to the host set"));
  return {};
}

base::Result<> LinuxKernel::delete_host_set(const std::vector<SetEntry>& entries, bool ipv6) {
  auto present = list_host_set(ipv6);
  if (!present) return base::fail(present.error());
  std::string script;
  for (const auto& entry : entries) {
    for (const auto& found : *present) {
      if (found == entry) script += host_set_delete(entry.ip);
    }
  }
  if (script.empty()) return {};
  auto done = run_in_netns(options_.host, [&] { return run_script(script); });
  if (!done) return base::fail(std::move(done.error()).wrap("delete from the host set"));
  return {};
}

struct ThreadWorker::State {
  std::mutex mutex;
  std::condition_variable ready;
  std::deque<std::function<void()>> jobs;
  bool stopping = false;
  std::vector<std::thread> threads;

  void work() {
    std::unique_lock lock(mutex);
    while (true) {
      ready.wait(lock, [&] { return stopping || !jobs.empty(); });
      if (jobs.empty()) return;
      auto job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();
    }
  }
};

ThreadWorker::ThreadWorker(int threads) : state_(std::make_unique<State>()) {
  for (int i = 0; i < threads; ++i) state_->threads.emplace_back([state = state_.get()] { state->work(); });
}

ThreadWorker::~ThreadWorker() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->ready.notify_all();
  for (auto& thread : state_->threads) thread.join();
}

void ThreadWorker::run(std::function<void()> job) {
  {
    std::lock_guard lock(state_->mutex);
    state_->jobs.push_back(std::move(job));
  }
  state_->ready.notify_one();
}

}  // namespace culvert::cni
