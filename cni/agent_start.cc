// SPDX-License-Identifier: Apache-2.0
// The agent's start-up reconciliation (spec cni 2.7) and the check for drift (design of 3.7: what
// somebody changed is put back).
#include <fmt/format.h>

#include <algorithm>

#include "cni/agent.h"
#include "cni/agent_entry.h"

namespace culvert::cni {
namespace {

constexpr std::string_view kTarget = "cni-agent";

}  // namespace

HostRuleInput Agent::host_input() const {
  return {kubelet_uid_, options_.ipv6, options_.probe_v4, options_.probe_v6};
}

async::Task<base::Result<>> Agent::start() {
  co_await first_update_.wait();
  co_await restore_entries();
  auto host = co_await start_host_rules();
  if (!host) co_return host;
  co_await restore_host_set();
  co_await restore_namespaces();
  restored_ = true;
  started_ = true;
  log_.info(kTarget, "pods restored", {base::Field::number("pods", snapshot()->size())});
  for (const auto& [uid, entry] : std::map(entries_)) kick(entry);
  scope_.spawn(drift_loop(*this));
  co_return base::Result<>{};
}

async::Task<base::Result<>> Agent::start_host_rules() {
  base::Result<> last;
  for (int attempt = 0; attempt < options_.host_rule_tries; ++attempt) {
    if (attempt > 0) co_await async::sleep_for(loop_, kHostRetry);
    if (options_.kubelet_uid) {
      kubelet_uid_ = *options_.kubelet_uid;
    } else {
      auto uid = co_await on_worker<uint32_t>(loop_, worker_, [this] { return kernel_.kubelet_uid(); });
      if (!uid && options_.kubelet_required) {
        last = base::fail(uid.error());
        continue;
      }
      if (!uid) log_.warn(kTarget, "no kubelet found: probes are expected from root");
      kubelet_uid_ = uid ? *uid : 0;
    }
    auto listing = co_await on_worker<std::string>(
        loop_, worker_, [this, input = host_input()] { return kernel_.apply_host(input); });
    if (listing) {
      host_listing_ = std::move(*listing);
      co_return base::Result<>{};
    }
    last = base::fail(listing.error());
    log_.warn(kTarget, "host rules could not be made, trying again",
              {base::Field::text("error", last.error().message())});
  }
  co_return base::fail(last.error().wrap("host rules"));
}

async::Task<void> Agent::restore_entries() {
  std::vector<std::string> bad;
  auto bindings = bindings_.load(&bad);
  // A directory that cannot be read would mean an incomplete snapshot: wait until it can be.
  while (!bindings) {
    log_.error(kTarget, "pod bindings cannot be read, trying again",
               {base::Field::text("error", bindings.error().message())});
    co_await async::sleep_for(loop_, kHostRetry);
    bad.clear();
    bindings = bindings_.load(&bad);
  }
  for (auto& name : bad)
    log_.warn(kTarget, "a binding file is unusable", {base::Field::text("file", std::move(name))});
  for (const auto& binding : *bindings) {
    EntryRef entry = entry_of(binding.uid);
    // Of a pod that is gone, what its binding says is all there is for taking it down.
    if (!entry->present) {
      entry->pod.uid = binding.uid;
      entry->pod.name = binding.name;
      entry->pod.name_space = binding.name_space;
      entry->pod.ips = binding.ips;
    }
    entry->redirection = binding.redirection;
    entry->in_cache = entry->present && !entry->pod.terminal;
    entry->set_ips = binding.ips;
  }
  auto seen = seen_.load();
  if (!seen)
    log_.warn(kTarget, "remembered namespaces cannot be read",
              {base::Field::text("error", seen.error().message())});
  for (const auto& pod : seen ? *seen : std::vector<SeenPod>{}) {
    auto at = entries_.find(pod.uid);
    if (at == entries_.end()) {
      seen_.forget(pod.uid);
      continue;
    }
    at->second->netns_path = pod.netns_path;
    at->second->netns_id = pod.netns_id;
  }
}

async::Task<void> Agent::restore_host_set() {
  std::vector<SetEntry> wanted;
  bool complete = true;
  for (const auto& [uid, entry] : entries_) {
    if (!entry->in_cache) continue;
    if (entry->set_ips.empty()) entry->set_ips = entry->pod.ips;
    complete = complete && !entry->set_ips.empty();
    for (auto& item : set_entries(uid, entry->set_ips)) wanted.push_back(std::move(item));
  }
  auto restored = co_await on_worker<void>(loop_, worker_, [this, wanted, complete]() -> base::Result<> {
    CULVERT_TRY(kernel_.upsert_host_set(wanted));
    if (!complete) return {};
    auto present = kernel_.list_host_set(options_.ipv6);
    if (!present) return base::fail(present.error());
    std::erase_if(*present, [&](const SetEntry& item) {
      return std::find(wanted.begin(), wanted.end(), item) != wanted.end();
    });
    return present->empty() ? base::Result<>{} : kernel_.delete_host_set(*present, options_.ipv6);
  });
  // Not fatal, and it must not keep the rest from being restored (2.7 [D]); the drift check retries.
  if (!restored)
    log_.warn(kTarget, "the host set could not be restored",
              {base::Field::text("error", restored.error().message())});
}

async::Task<void> Agent::restore_namespaces() {
  WantedPods missing;
  for (const auto& [uid, entry] : std::map(entries_)) {
    if (!entry->in_cache) continue;
    if (!entry->netns_path.empty()) {
      auto netns = co_await on_worker<NetnsRef>(
          loop_, worker_,
          [this, path = entry->netns_path, ips = entry->set_ips] { return kernel_.open_netns(path, ips); });
      if (netns && (*netns)->id() == entry->netns_id) entry->netns = std::move(*netns);
    }
    if (!entry->netns) missing[uid] = entry->set_ips;
  }
  if (!missing.empty()) {
    using Found = std::map<std::string, NetnsRef>;
    auto found = co_await on_worker<Found>(loop_, worker_, [this, missing] { return kernel_.scan(missing); });
    if (!found)
      log_.warn(kTarget, "looking for pods' namespaces failed",
                {base::Field::text("error", found.error().message())});
    for (const auto& [uid, netns] : found ? *found : Found{}) entries_.at(uid)->netns = netns;
  }
  for (const auto& [uid, entry] : std::map(entries_)) {
    if (!entry->in_cache) continue;
    if (!entry->netns) {
      note(base::Level::kWarn, "the namespace of an enrolled pod was not found; ztunnel keeps what it has",
           *entry);
      continue;
    }
    if (!options_.reconcile_on_start) continue;
    const PodRuleInput input = rule_input(entry->pod);
    auto listing = co_await on_worker<std::string>(
        loop_, worker_, [this, netns = entry->netns, input] { return kernel_.apply_pod(netns, input); });
    if (!listing) {
      note(base::Level::kWarn, "the rules of a pod could not be renewed", *entry, listing.error().message());
      continue;
    }
    entry->rules = input;
    entry->listing = std::move(*listing);
    entry->has_listing = true;
  }
}

async::Task<void> Agent::drift_loop(Agent& agent) {
  while (true) {
    co_await async::sleep_for(agent.loop_, agent.options_.drift_interval);
    co_await agent.check_host();
    for (const auto& [uid, entry] : std::map(agent.entries_)) {
      if (entry->driving || entry->busy) continue;
      if (entry->redirection == Redirection::kEnabled && entry->netns && entry->has_listing) {
        co_await agent.check_pod(entry);
      } else {
        agent.kick(entry);
      }
    }
  }
}

async::Task<void> Agent::check_host() {
  std::vector<SetEntry> wanted;
  for (const auto& [uid, entry] : entries_) {
    if (entry->redirection != Redirection::kEnabled) continue;
    for (auto& item : set_entries(uid, entry->set_ips)) wanted.push_back(std::move(item));
  }
  auto repaired = co_await on_worker<bool>(
      loop_, worker_, [this, wanted, before = host_listing_, input = host_input()]() -> base::Result<bool> {
        bool changed = false;
        auto listing = kernel_.list_host();
        if (!listing) return base::fail(listing.error());
        if (*listing != before) {
          auto applied = kernel_.apply_host(input);
          if (!applied) return base::fail(applied.error());
          changed = true;
        }
        auto present = kernel_.list_host_set(options_.ipv6);
        if (!present) return base::fail(present.error());
        std::vector<SetEntry> absent;
        for (const auto& item : wanted) {
          if (std::find(present->begin(), present->end(), item) == present->end()) absent.push_back(item);
        }
        if (absent.empty()) return changed;
        auto added = kernel_.upsert_host_set(absent);
        if (!added) return base::fail(added.error());
        return true;
      });
  if (!repaired)
    log_.warn(kTarget, "host rules could not be checked",
              {base::Field::text("error", repaired.error().message())});
  if (!repaired || !*repaired) co_return;
  ++counters_.drift_repaired;
  log_.warn(kTarget, "host rules had been changed by someone else and were put back");
  auto listing = co_await on_worker<std::string>(loop_, worker_, [this] { return kernel_.list_host(); });
  if (listing) host_listing_ = std::move(*listing);
}

async::Task<void> Agent::check_pod(EntryRef entry) {
  auto hold = co_await Hold::take(entry);
  if (entry->redirection != Redirection::kEnabled || !entry->netns || !entry->has_listing) co_return;
  auto listing = co_await on_worker<std::string>(
      loop_, worker_,
      [this, netns = entry->netns, rules = entry->rules] { return kernel_.list_pod(netns, rules); });
  if (!listing) {
    note(base::Level::kWarn, "a pod's rules could not be checked", *entry, listing.error().message());
    co_return;
  }
  if (*listing == entry->listing) {
    auto routes =
        co_await on_worker<void>(loop_, worker_, [this, netns = entry->netns, ipv6 = entry->rules.ipv6] {
          return kernel_.repair_routes(netns, ipv6);
        });
    if (!routes)
      note(base::Level::kWarn, "a pod's routes could not be checked", *entry, routes.error().message());
    co_await check_conntrack(entry);
    co_return;
  }
  auto applied = co_await on_worker<std::string>(
      loop_, worker_,
      [this, netns = entry->netns, rules = entry->rules] { return kernel_.apply_pod(netns, rules); });
  if (!applied) {
    note(base::Level::kError, "a pod's rules were changed and could not be put back", *entry,
         applied.error().message());
    co_return;
  }
  entry->listing = std::move(*applied);
  ++counters_.drift_repaired;
  note(base::Level::kWarn, "a pod's rules had been changed and were put back", *entry);
}

// A full table loses packets without a word: neither the pod nor its proxy can tell why nothing connects.
async::Task<void> Agent::check_conntrack(EntryRef entry) {
  auto drops = co_await on_worker<uint64_t>(
      loop_, worker_, [this, netns = entry->netns] { return kernel_.conntrack_drops(netns); });
  if (!drops || *drops <= entry->conntrack_drops) co_return;
  uint64_t lost = *drops - std::exchange(entry->conntrack_drops, *drops);
  counters_.conntrack_drops += lost;
  note(base::Level::kWarn, "the table of connections is full and packets of the pod were lost", *entry,
       std::to_string(lost) + " packets lost: raise net.netfilter.nf_conntrack_max");
}

async::Task<base::Result<>> Agent::remove_host() {
  auto removed = co_await on_worker<void>(loop_, worker_, [this] { return kernel_.remove_host(); });
  co_return removed;
}

}  // namespace culvert::cni
