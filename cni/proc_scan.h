// SPDX-License-Identifier: Apache-2.0
// Finds the network namespaces of running pods through /proc, for pods whose namespace nobody
// told us (spec cni 2.8), and kubelet's user id for the host rule (3.5). Blocking; worker threads.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cni/netns.h"

namespace culvert::cni {

struct CgroupIdentity {
  std::string pod_uid;
  std::string container_id;
  auto operator<=>(const CgroupIdentity&) const = default;
};
// All lines of one process's cgroup file. nullopt: no pod. Contradicting lines are an error.
base::Result<std::optional<CgroupIdentity>> parse_cgroup(std::string_view text);
// Field 22 of /proc/PID/stat.
std::optional<uint64_t> parse_start_time(std::string_view stat);

// uid -> addresses of the pods wanted. Found: uid -> namespace, the oldest process's where several.
using WantedPods = std::map<std::string, std::vector<base::IpAddr>>;
base::Result<std::map<std::string, NetnsRef>> scan_pod_netns(const std::string& proc_root,
                                                             const WantedPods& wanted);

// Whether some interface in `netns` has one of `ips`.
base::Result<bool> netns_has_address(const NetnsRef& netns, const std::vector<base::IpAddr>& ips);

// Namespace of process 1 below `proc_root`: never a pod's.
std::optional<NetnsId> host_netns_id(const std::string& proc_root);

// kNotFound if no kubelet runs.
base::Result<uint32_t> find_kubelet_uid(const std::string& proc_root);

}  // namespace culvert::cni
