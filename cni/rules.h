// SPDX-License-Identifier: Apache-2.0
// Redirect rules as text: inputs in, nft scripts out. Pure, so that goldens need no kernel
// (spec cni sections 3.1-3.5, native nftables). Applied by nft.h, routes by route.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/base/ip.h"
#include "net/base/result.h"

namespace culvert::cni {

// Fixed by compatibility with ztunnel (spec cni 3.1).
inline constexpr uint32_t kProxyMark = 0x539;
inline constexpr uint32_t kReturnMark = 0x111;
inline constexpr uint32_t kMarkMask = 0xfff;
inline constexpr uint16_t kOutboundPort = 15001;
inline constexpr uint16_t kInboundPort = 15006;
inline constexpr uint16_t kHbonePort = 15008;
inline constexpr uint16_t kDnsPort = 15053;
inline constexpr std::string_view kNatTable = "istio-ambient-nat";
inline constexpr std::string_view kMangleTable = "istio-ambient-mangle";
inline constexpr std::string_view kRawTable = "istio-ambient-raw";
inline constexpr std::string_view kProbeSetV4 = "istio-inpod-probes-v4";
inline constexpr std::string_view kProbeSetV6 = "istio-inpod-probes-v6";

base::IpAddr default_probe_v4();
base::IpAddr default_probe_v6();

struct PodRuleInput {
  bool dns_capture = false;
  bool ipv6 = true;
  bool ingress_mode = false;                    // no inbound redirection
  std::vector<std::string> virtual_interfaces;  // each one valid_interface()
  base::IpAddr probe_v4 = default_probe_v4();
  base::IpAddr probe_v6 = default_probe_v6();
  auto operator<=>(const PodRuleInput&) const = default;
};

struct HostRuleInput {
  uint32_t kubelet_uid = 0;
  bool ipv6 = true;
  base::IpAddr probe_v4 = default_probe_v4();
  base::IpAddr probe_v6 = default_probe_v6();
};

// 1-15 printable ASCII characters; none of `/ " \ *`, no blank, not "." or ".." (2.3 [D]).
bool valid_interface(std::string_view name);
// Comma list, trimmed, empties dropped. Rejected names go to `dropped`.
std::vector<std::string> parse_interfaces(std::string_view text, std::vector<std::string>* dropped);

// One transaction that leaves exactly these rules, whatever was there. `rebuild` also replaces
// the tables themselves: for a table whose chains somebody has changed.
std::string pod_rules(const PodRuleInput& input, bool rebuild = false);
std::string pod_rules_removal();
// The tables pod_rules() leaves behind, for listing.
std::vector<std::string_view> pod_tables(const PodRuleInput& input);

std::string host_rules(const HostRuleInput& input);
// Deletes the host table with chain and sets.
std::string host_rules_removal();

// Elements of the host set; the comment is the pod's UID. An element that exists gets the new
// comment (nft alone keeps the old one, 3.5 [D]).
std::string host_set_upsert(const base::IpAddr& ip, std::string_view uid);
std::string host_set_delete(const base::IpAddr& ip);
// UID text that may stand in a comment.
bool valid_uid(std::string_view uid);

struct SetEntry {
  base::IpAddr ip;
  std::string uid;
  auto operator<=>(const SetEntry&) const = default;
};
// From the JSON answer of `list set`.
base::Result<std::vector<SetEntry>> parse_set_listing(std::string_view json);

}  // namespace culvert::cni
