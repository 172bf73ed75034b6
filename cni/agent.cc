// SPDX-License-Identifier: Apache-2.0
#include "cni/agent.h"

#include <fmt/format.h>

#include <algorithm>

#include "cni/agent_entry.h"

namespace culvert::cni {
namespace {

constexpr std::string_view kTarget = "cni-agent";
constexpr std::string_view kBypassInbound = "ambient.istio.io/bypass-inbound-capture";
constexpr std::string_view kDnsCapture = "ambient.istio.io/dns-capture";
constexpr std::string_view kVirtualInterfaces = "istio.io/reroute-virtual-interfaces";

bool same_ips(std::vector<base::IpAddr> a, std::vector<base::IpAddr> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b;
}

}  // namespace

Agent::Agent(async::Loop& loop, base::Log& log, Kernel& kernel, Worker& worker, AgentOptions options,
             Enrolment enrolment)
    : loop_(loop),
      log_(log),
      kernel_(kernel),
      worker_(worker),
      options_(std::move(options)),
      enrolment_(std::move(enrolment)),
      bindings_(options_.bindings_dir, options_.node),
      seen_(options_.seen_dir),
      first_update_(loop),
      zds_(loop, log, [this] { return snapshot(); }),
      scope_(loop) {
  // A ztunnel that comes makes pending pods whole at once.
  zds_.on_change([this] { kick_unsettled(); });
}

Agent::~Agent() { zds_.on_change(nullptr); }

std::string Agent::uid_of(const PodInfo& pod) {
  return pod.uid.empty() ? fmt::format("{}.{}", pod.name_space, pod.name) : pod.uid;
}

bool Agent::is_ztunnel(const PodInfo& pod) const {
  auto at = pod.labels.find("app");
  return pod.name_space == options_.system_namespace && at != pod.labels.end() && at->second == "ztunnel";
}

const Labels* Agent::namespace_labels(const std::string& name) const {
  auto at = cluster_->namespaces.find(name);
  return at == cluster_->namespaces.end() ? nullptr : &at->second;
}

Agent::EntryRef Agent::entry_of(const std::string& uid) {
  auto& slot = entries_[uid];
  if (!slot) slot = std::make_shared<Entry>(loop_, uid);
  return slot;
}

void Agent::note(base::Level level, std::string_view message, const Entry& entry, std::string error) {
  std::vector<base::Field> fields{base::Field::text("namespace", entry.pod.name_space),
                                  base::Field::text("pod", entry.pod.name),
                                  base::Field::text("uid", entry.uid)};
  if (!error.empty()) fields.push_back(base::Field::text("error", std::move(error)));
  log_.write(level, kTarget, message, std::span<const base::Field>(fields));
}

void Agent::update(ClusterRef cluster) {
  ClusterRef before = std::exchange(cluster_, std::move(cluster));
  std::map<std::string, const PodInfo*> current;
  for (const auto& [key, pod] : cluster_->pods) current[uid_of(pod)] = &pod;
  for (const auto& [uid, pod] : current) {
    EntryRef entry = entry_of(uid);
    auto labels = [&](const ClusterRef& from) -> const Labels* {
      if (!from) return nullptr;
      auto at = from->namespaces.find(pod->name_space);
      return at == from->namespaces.end() ? nullptr : &at->second;
    };
    const Labels* old_labels = labels(before);
    const Labels* new_labels = labels(cluster_);
    const bool same_labels =
        (!old_labels && !new_labels) || (old_labels && new_labels && *old_labels == *new_labels);
    const bool same = entry->present && entry->pod == *pod && same_labels;
    entry->present = true;
    if (same) continue;
    entry->pod = *pod;
    kick(entry);
  }
  for (const auto& [uid, entry] : entries_) {
    if (!entry->present || current.contains(uid)) continue;
    entry->present = false;
    kick(entry);
  }
  first_update_.set();
}

void Agent::kick(const EntryRef& entry) {
  entry->dirty = true;
  entry->wake.set();
  if (!started_ || entry->driving) return;
  entry->driving = true;
  scope_.spawn(drive(*this, entry));
}

void Agent::kick_unsettled() {
  if (!started_) return;
  for (const auto& [uid, entry] : entries_) {
    if (entry->redirection == Redirection::kPending) kick(entry);
  }
}

async::Task<void> Agent::drive(Agent& agent, EntryRef entry) {
  while (entry->dirty) {
    entry->dirty = false;
    entry->wake.reset();
    Outcome outcome = Outcome::kDone;
    {
      auto hold = co_await Hold::take(entry);
      outcome = co_await agent.settle(entry);
    }
    if (outcome == Outcome::kGone && !entry->present) {
      agent.entries_.erase(entry->uid);
      agent.seen_.forget(entry->uid);
      break;
    }
    if (outcome != Outcome::kRetry) {
      entry->backoff = base::Duration{0};
      continue;
    }
    entry->backoff = std::clamp(entry->backoff * 2, kBackoffMin, kBackoffMax);
    const auto deadline = async::Deadline::in(agent.loop_, entry->backoff);
    co_await entry->wake.wait(deadline);
    entry->dirty = true;
  }
  entry->driving = false;
}

async::Task<Agent::Outcome> Agent::settle(EntryRef entry) {
  const bool enrolled = entry->redirection != Redirection::kNone || entry->in_cache;
  Flow flow;
  if (!entry->present || entry->pod.terminal) {
    const bool gone = !entry->present;
    if (enrolled) {
      ++counters_.deletes;
      flow = co_await remove_flow(entry, true);
      if (!flow.result)
        note(base::Level::kWarn, "removing a pod failed, trying again", *entry,
             flow.result.error().message());
      if (!flow.result) co_return Outcome::kRetry;
    }
    co_return gone ? Outcome::kGone : Outcome::kDone;
  }
  // A pod whose Namespace is unknown stays as it is: neither captured by guess nor exposed.
  const Labels* labels = namespace_labels(entry->pod.name_space);
  if (!labels || is_ztunnel(entry->pod)) co_return Outcome::kDone;
  const bool wanted = enrolment_.should_be_enabled(entry->pod, *labels);
  if (!wanted && enrolled) {
    ++counters_.deletes;
    flow = co_await remove_flow(entry, false);
  } else if (wanted && entry->redirection == Redirection::kEnabled) {
    if (entry->pod.ips.empty() || same_ips(entry->pod.ips, entry->set_ips)) co_return Outcome::kDone;
    ++counters_.updates;
    flow = co_await update_addresses(entry);
  } else if (wanted) {
    // Without an address the runtime is still at work; its ADD or the next update brings one.
    if (entry->pod.ips.empty()) co_return Outcome::kDone;
    ++counters_.adds;
    flow = co_await add_flow(entry, nullptr, entry->pod.ips);
  }
  if (flow.result) co_return Outcome::kDone;
  note(base::Level::kWarn,
       flow.retry ? "a pod could not be settled, trying again" : "a pod could not be settled", *entry,
       flow.result.error().message());
  co_return flow.retry ? Outcome::kRetry : Outcome::kDone;
}

PodRuleInput Agent::rule_input(const PodInfo& pod) {
  PodRuleInput input;
  input.dns_capture = options_.dns_capture;
  input.ipv6 = options_.ipv6;
  input.probe_v4 = options_.probe_v4;
  input.probe_v6 = options_.probe_v6;
  auto warn = [&](std::string_view annotation, std::string value) {
    log_.warn(kTarget, "annotation ignored",
              {base::Field::text("pod", pod.key()), base::Field::text("annotation", std::string(annotation)),
               base::Field::text("value", value.substr(0, 100))});
  };
  auto boolean = [&](std::string_view annotation, bool& into) {
    auto at = pod.annotations.find(std::string(annotation));
    if (at == pod.annotations.end()) return;
    auto value = parse_go_bool(at->second);
    if (value) into = *value;
    if (!value) warn(annotation, at->second);
  };
  boolean(kBypassInbound, input.ingress_mode);
  boolean(kDnsCapture, input.dns_capture);
  auto interfaces = pod.annotations.find(std::string(kVirtualInterfaces));
  if (interfaces != pod.annotations.end()) {
    std::vector<std::string> dropped;
    input.virtual_interfaces = parse_interfaces(interfaces->second, &dropped);
    for (auto& name : dropped) warn(kVirtualInterfaces, std::move(name));
  }
  return input;
}

std::vector<SetEntry> Agent::set_entries(const std::string& uid, const std::vector<base::IpAddr>& ips) const {
  std::vector<SetEntry> entries;
  for (const auto& ip : ips) {
    // Without IPv6 there is no v6 set (3.5 [D]).
    if (ip.is_v4() || options_.ipv6) entries.push_back({ip, uid});
  }
  return entries;
}

base::Result<> Agent::write_binding(Entry& entry, Redirection redirection) {
  auto written = bindings_.write(
      {entry.pod.name, entry.pod.name_space, entry.uid, options_.node, redirection, entry.set_ips});
  if (written) entry.redirection = redirection;
  return written;
}

async::Task<base::Result<NetnsRef>> Agent::find_netns(EntryRef entry, std::vector<base::IpAddr> ips) {
  if (entry->netns) co_return entry->netns;
  std::string told;
  if (!entry->netns_path.empty()) {
    auto opened = co_await on_worker<NetnsRef>(
        loop_, worker_, [this, path = entry->netns_path, ips] { return kernel_.open_netns(path, ips); });
    if (opened && (*opened)->id() == entry->netns_id) co_return *opened;
    told = opened ? "its path names another namespace now" : opened.error().message();
  }
  using Found = std::map<std::string, NetnsRef>;
  auto found = co_await on_worker<Found>(
      loop_, worker_, [this, uid = entry->uid, ips] { return kernel_.scan({{uid, ips}}); });
  if (!found) co_return base::fail(found.error());
  auto at = found->find(entry->uid);
  if (at != found->end()) co_return at->second;
  co_return base::fail(base::Code::kNotFound,
                       "no network namespace found for the pod" + (told.empty() ? "" : " (" + told + ")"));
}

async::Task<Agent::Flow> Agent::add_flow(EntryRef entry, NetnsRef given, std::vector<base::IpAddr> ips) {
  entry->in_cache = true;
  if (given) {
    if (!entry->netns || entry->netns->id() != given->id()) entry->netns = std::move(given);
  } else {
    auto netns = co_await find_netns(entry, ips);
    if (!netns) {
      entry->in_cache = entry->redirection != Redirection::kNone;
      co_return Flow{base::fail(netns.error()), false};
    }
    entry->netns = std::move(*netns);
  }
  const PodRuleInput input = rule_input(entry->pod);
  auto listing = co_await on_worker<std::string>(
      loop_, worker_, [this, netns = entry->netns, input] { return kernel_.apply_pod(netns, input); });
  if (!listing) {
    entry->in_cache = entry->redirection != Redirection::kNone;
    entry->netns = nullptr;
    co_return Flow{base::fail(listing.error()), false};
  }
  entry->rules = input;
  entry->listing = std::move(*listing);
  entry->has_listing = true;

  auto sent = co_await zds_.add(
      {entry->uid, entry->pod.name, entry->pod.name_space, entry->pod.service_account, entry->netns});
  if (!sent) {
    // Captured, and nobody serves it: traffic stops rather than leaving in plaintext.
    auto written = write_binding(*entry, Redirection::kPending);
    co_return Flow{written ? base::fail(sent.error()) : written, true};
  }
  auto stored = co_await move_host_set(entry, std::move(ips));
  if (!stored) co_return Flow{std::move(stored), true};
  auto written = write_binding(*entry, Redirection::kEnabled);
  if (!written) co_return Flow{std::move(written), true};
  note(base::Level::kInfo, "pod is in the mesh", *entry);
  co_return Flow{};
}

// Addresses that may be in the set stay in set_ips until they are known to be out of it.
async::Task<base::Result<>> Agent::move_host_set(EntryRef entry, std::vector<base::IpAddr> ips) {
  auto fresh = set_entries(entry->uid, ips);
  auto stale = set_entries(entry->uid, entry->set_ips);
  std::erase_if(
      stale, [&](const SetEntry& old) { return std::find(fresh.begin(), fresh.end(), old) != fresh.end(); });
  auto both = ips;
  for (const auto& old : stale) both.push_back(old.ip);
  entry->set_ips = std::move(both);
  auto stored = co_await on_worker<void>(loop_, worker_, [this, fresh, stale]() -> base::Result<> {
    CULVERT_TRY(kernel_.upsert_host_set(fresh));
    return stale.empty() ? base::Result<>{} : kernel_.delete_host_set(stale, options_.ipv6);
  });
  if (stored) entry->set_ips = std::move(ips);
  co_return stored;
}

async::Task<Agent::Flow> Agent::update_addresses(EntryRef entry) {
  auto stored = co_await move_host_set(entry, entry->pod.ips);
  if (!stored) co_return Flow{std::move(stored), true};
  co_return Flow{write_binding(*entry, Redirection::kEnabled), true};
}

async::Task<Agent::Flow> Agent::remove_flow(EntryRef entry, bool is_delete) {
  auto entries = set_entries(entry->uid, entry->set_ips.empty() ? entry->pod.ips : entry->set_ips);
  auto cleared = co_await on_worker<void>(
      loop_, worker_, [this, entries] { return kernel_.delete_host_set(entries, options_.ipv6); });
  if (!cleared) co_return Flow{std::move(cleared), true};
  if (!is_delete) {
    auto netns = co_await find_netns(entry, entry->pod.ips);
    if (netns) {
      auto removed =
          co_await on_worker<void>(loop_, worker_, [this, ns = *netns] { return kernel_.remove_pod(ns); });
      if (!removed) co_return Flow{std::move(removed), true};
    } else {
      note(base::Level::kWarn, "a pod leaves the mesh but its namespace was not found: its rules stay",
           *entry, netns.error().message());
    }
  }
  entry->in_cache = false;
  entry->has_listing = false;
  auto told = co_await zds_.remove(entry->uid);
  auto unbound = bindings_.remove(entry->pod.name_space, entry->pod.name, entry->uid);
  if (!told || (!unbound && !is_delete)) {
    entry->in_cache = !told;
    co_return Flow{!told ? std::move(told) : std::move(unbound), true};
  }
  entry->redirection = Redirection::kNone;
  entry->set_ips.clear();
  if (is_delete || !entry->netns_path.empty()) entry->netns = nullptr;
  note(base::Level::kInfo, "pod has left the mesh", *entry);
  co_return Flow{};
}

const PodInfo* Agent::find_pod(const AddEvent& event) const {
  if (!cluster_) return nullptr;
  auto at = cluster_->pods.find(event.pod_namespace + "/" + event.pod_name);
  if (at == cluster_->pods.end() || !namespace_labels(event.pod_namespace)) return nullptr;
  const PodInfo& pod = at->second;
  // A recreated pod has the same name and another UID: the source is behind, wait for it.
  if (!event.pod_uid.empty() && !pod.uid.empty() && event.pod_uid != pod.uid) return nullptr;
  return &pod;
}

async::Task<CmdAnswer> Agent::cmd_add(std::string body) {
  CmdAnswer answer;
  auto event = parse_add_event(body);
  if (!event) {
    answer = {400, event.error().message()};
  } else if (!started_) {
    answer = {500, "the node agent is starting"};
  } else {
    answer = co_await answer_add(std::move(*event));
  }
  ++counters_.plugin_requests[answer.status];
  if (answer.status != 200) {
    log_.warn(kTarget, "CNI request refused",
              {base::Field::number("status", static_cast<uint64_t>(answer.status)),
               base::Field::text("reason", answer.body)});
  }
  co_return answer;
}

async::Task<CmdAnswer> Agent::answer_add(AddEvent event) {
  const auto patience = async::Deadline::in(loop_, options_.source_patience);
  while (!find_pod(event) && !patience.passed(loop_.now())) {
    co_await async::sleep_for(loop_, std::chrono::milliseconds(10));
  }
  const PodInfo* pod = find_pod(event);
  if (!pod) {
    co_return CmdAnswer{500, fmt::format("pod {}/{} (uid {}) or its namespace is not known to the node agent",
                                         event.pod_namespace, event.pod_name, event.pod_uid)};
  }
  if (pod->node != options_.node) co_return CmdAnswer{500, "the pod belongs to another node"};
  EntryRef entry = entry_of(uid_of(*pod));
  entry->present = true;
  entry->pod = *pod;
  const bool wanted =
      !is_ztunnel(*pod) && enrolment_.should_be_enabled(*pod, *namespace_labels(event.pod_namespace));
  auto netns = co_await on_worker<NetnsRef>(
      loop_, worker_, [this, event] { return kernel_.open_netns(event.netns, event.ips); });
  if (!netns && wanted) co_return CmdAnswer{500, netns.error().message()};
  if (netns) {
    // Remembered also for pods that are not in the mesh: a label may bring them in later.
    entry->netns_path = event.netns;
    entry->netns_id = (*netns)->id();
    auto kept = seen_.write(
        {entry->uid, entry->pod.name, entry->pod.name_space, event.netns, entry->netns_id, event.ips});
    if (!kept)
      note(base::Level::kWarn, "a pod's namespace could not be remembered", *entry, kept.error().message());
  }
  if (!wanted) {
    // The namespace held before belonged to an earlier sandbox.
    if (entry->redirection == Redirection::kNone) entry->netns = nullptr;
    co_return CmdAnswer{200, "{\"enrolled\":false}"};
  }
  auto done = std::make_shared<async::OneShot<base::Result<>>>(loop_);
  const auto ips = event.ips.empty() ? entry->pod.ips : event.ips;
  scope_.spawn(plugin_add(*this, entry, std::move(*netns), ips, done));
  co_await done->event().wait();
  auto result = done->take();
  if (!result) co_return CmdAnswer{500, result.error().message()};
  co_return CmdAnswer{200, "{\"enrolled\":true}"};
}

async::Task<void> Agent::plugin_add(Agent& agent, EntryRef entry, NetnsRef netns,
                                    std::vector<base::IpAddr> ips,
                                    std::shared_ptr<async::OneShot<base::Result<>>> done) {
  {
    auto hold = co_await Hold::take(entry);
    ++agent.counters_.adds;
    auto flow = co_await agent.add_flow(entry, std::move(netns), std::move(ips));
    if (!flow.result)
      agent.note(base::Level::kWarn, "a starting pod could not be enrolled", *entry,
                 flow.result.error().message());
    done->set(std::move(flow.result));
  }
  // Labels may have changed, or the pod may have gone, meanwhile.
  agent.kick(entry);
}

std::optional<std::vector<ZdsPod>> Agent::snapshot() const {
  if (!restored_) return std::nullopt;
  std::vector<ZdsPod> pods;
  for (const auto& [uid, entry] : entries_) {
    if (!entry->in_cache || is_ztunnel(entry->pod)) continue;
    pods.push_back({uid, entry->pod.name, entry->pod.name_space, entry->pod.service_account, entry->netns});
  }
  return pods;
}

std::map<std::string, Redirection> Agent::redirections() const {
  std::map<std::string, Redirection> all;
  for (const auto& [uid, entry] : entries_) all[uid] = entry->redirection;
  return all;
}

}  // namespace culvert::cni
