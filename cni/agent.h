// SPDX-License-Identifier: Apache-2.0
// Agent: brings every pod of this node to the state its labels ask for (spec cni 2). Level
// triggered: each pod has an Entry; whatever changes kicks it, and `settle` compares what should
// be with what is. One task per pod, so one slow pod delays no other ([D] of 2.1).
//
// | redirection | in-pod rules | ztunnel has it | host set | binding file |
// |-------------|--------------|----------------|----------|--------------|
// | none        | no           | no             | no       | none         |
// | pending     | yes          | not accepted   | maybe    | pending      |
// | enabled     | yes          | yes            | yes      | enabled      |
//
// Order is normative: rules, then ztunnel, then the set, then the binding; the set goes first on
// removal. Lives on the control loop; owned by main; kernel work runs on the worker.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "cni/binding.h"
#include "cni/cni_types.h"
#include "cni/enrol.h"
#include "cni/kernel.h"
#include "cni/zds_server.h"
#include "net/async/scope.h"
#include "net/base/log.h"

namespace culvert::cni {

// What the source knows, complete. Pods of this node only.
struct Cluster {
  std::map<std::string, PodInfo> pods;       // by "namespace/name"
  std::map<std::string, Labels> namespaces;  // by name
};
using ClusterRef = std::shared_ptr<const Cluster>;

struct AgentOptions {
  std::string node;
  std::string bindings_dir;
  std::string seen_dir;
  std::string system_namespace = "istio-system";
  bool dns_capture = false;
  bool ipv6 = true;
  bool reconcile_on_start = true;
  base::IpAddr probe_v4 = default_probe_v4();
  base::IpAddr probe_v6 = default_probe_v6();
  std::optional<uint32_t> kubelet_uid;  // given instead of looked for
  bool kubelet_required = true;         // false: without a kubelet the probes come from root
  base::Duration drift_interval = std::chrono::seconds(10);
  base::Duration source_patience = std::chrono::seconds(2);  // how long a CNI ADD waits for its pod
  int host_rule_tries = 11;                                  // 2 s apart
};

struct AgentCounters {
  uint64_t adds = 0, updates = 0, deletes = 0;  // nodeagent_reconcile_events_total
  uint64_t drift_repaired = 0;
  uint64_t conntrack_drops = 0;             // packets of enrolled pods, lost to a full table
  std::map<int, uint64_t> plugin_requests;  // by response code
};

struct CmdAnswer {
  int status = 200;
  std::string body;
};

class Agent {
 public:
  static constexpr base::Duration kBackoffMin = std::chrono::milliseconds(5);
  static constexpr base::Duration kBackoffMax = std::chrono::seconds(5);
  static constexpr base::Duration kHostRetry = std::chrono::seconds(2);

  Agent(async::Loop& loop, base::Log& log, Kernel& kernel, Worker& worker, AgentOptions options,
        Enrolment enrolment);
  ~Agent();

  // The source's newest state.
  void update(ClusterRef cluster);
  // Waits for the first update, then host rules, restore and rules of what ran before (2.7).
  // After it the snapshot is complete and pods follow their labels.
  async::Task<base::Result<>> start();
  bool started() const { return started_; }
  // One CNI ADD (1.9). Never cancelled half way: the flow goes on if the plugin has left.
  async::Task<CmdAnswer> cmd_add(std::string body);
  // Takes host rules and set away (uninstall).
  async::Task<base::Result<>> remove_host();

  ZdsServer& zds() { return zds_; }
  const AgentCounters& counters() const { return counters_; }
  // Redirection by uid; for tests and the status page.
  std::map<std::string, Redirection> redirections() const;

 private:
  struct Entry;
  using EntryRef = std::shared_ptr<Entry>;
  class Hold;
  enum class Outcome : unsigned char { kDone, kRetry, kGone };
  struct Flow {
    base::Result<> result;
    bool retry = false;
  };

  static std::string uid_of(const PodInfo& pod);
  EntryRef entry_of(const std::string& uid);
  void kick(const EntryRef& entry);
  void kick_unsettled();
  bool is_ztunnel(const PodInfo& pod) const;
  const Labels* namespace_labels(const std::string& name) const;
  PodRuleInput rule_input(const PodInfo& pod);
  HostRuleInput host_input() const;
  std::vector<SetEntry> set_entries(const std::string& uid, const std::vector<base::IpAddr>& ips) const;
  std::optional<std::vector<ZdsPod>> snapshot() const;
  base::Result<> write_binding(Entry& entry, Redirection redirection);
  const PodInfo* find_pod(const AddEvent& event) const;
  void note(base::Level level, std::string_view message, const Entry& entry, std::string error = "");

  static async::Task<void> drive(Agent& agent, EntryRef entry);
  async::Task<Outcome> settle(EntryRef entry);
  async::Task<Flow> add_flow(EntryRef entry, NetnsRef given, std::vector<base::IpAddr> ips);
  async::Task<Flow> remove_flow(EntryRef entry, bool is_delete);
  async::Task<Flow> update_addresses(EntryRef entry);
  async::Task<base::Result<>> move_host_set(EntryRef entry, std::vector<base::IpAddr> ips);
  async::Task<base::Result<NetnsRef>> find_netns(EntryRef entry, std::vector<base::IpAddr> ips);
  async::Task<CmdAnswer> answer_add(AddEvent event);
  static async::Task<void> plugin_add(Agent& agent, EntryRef entry, NetnsRef netns,
                                      std::vector<base::IpAddr> ips,
                                      std::shared_ptr<async::OneShot<base::Result<>>> done);

  // agent_start.cc
  async::Task<base::Result<>> start_host_rules();
  async::Task<void> restore_entries();
  async::Task<void> restore_host_set();
  async::Task<void> restore_namespaces();
  static async::Task<void> drift_loop(Agent& agent);
  async::Task<void> check_host();
  async::Task<void> check_pod(EntryRef entry);
  async::Task<void> check_conntrack(EntryRef entry);

  async::Loop& loop_;
  base::Log& log_;
  Kernel& kernel_;
  Worker& worker_;
  AgentOptions options_;
  Enrolment enrolment_;
  BindingStore bindings_;
  SeenPods seen_;
  ClusterRef cluster_;
  async::Event first_update_;
  std::map<std::string, EntryRef> entries_;  // by uid
  bool started_ = false;
  bool restored_ = false;  // every enrolled pod is in entries_: a snapshot would be complete
  uint32_t kubelet_uid_ = 0;
  std::string host_listing_;
  AgentCounters counters_;
  ZdsServer zds_;
  async::Scope scope_;
};

}  // namespace culvert::cni
