// SPDX-License-Identifier: Apache-2.0
#include "cni/rules.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace culvert::cni {
namespace {

constexpr std::string_view kNotProxy = "meta mark & 0x00000fff != 0x00000539";
constexpr std::string_view kIsProxy = "meta mark & 0x00000fff == 0x00000539";

// Appends statements for one table, family inet.
class TableWriter {
 public:
  TableWriter(std::string& out, std::string_view table, bool rebuild) : out_(out), table_(table) {
    out_ += fmt::format("add table inet {}\n", table_);
    if (rebuild) {
      out_ += fmt::format("delete table inet {0}\nadd table inet {0}\n", table_);
    } else {
      out_ += fmt::format("flush table inet {}\n", table_);
    }
  }
  void base_chain(std::string_view name, std::string_view type, int priority) {
    out_ += fmt::format("add chain inet {} {} {{ type {} hook {} priority {}; policy accept; }}\n", table_,
                        name, type, name, priority);
  }
  void chain(std::string_view name) { out_ += fmt::format("add chain inet {} {}\n", table_, name); }
  void rule(std::string_view chain, std::string_view body) {
    out_ += fmt::format("add rule inet {} {} {}\n", table_, chain, body);
  }
  void jumps() {
    rule("prerouting", "jump istio-prerouting");
    rule("output", "jump istio-output");
  }

 private:
  std::string& out_;
  std::string_view table_;
};

// One family's words.
struct Words {
  std::string_view ip;
  std::string_view loopback;
  std::string probe;
};

std::vector<Words> families(const PodRuleInput& input) {
  std::vector<Words> list{{"ip", "127.0.0.1", input.probe_v4.to_string()}};
  if (input.ipv6) list.push_back({"ip6", "::1", input.probe_v6.to_string()});
  return list;
}

void nat_prerouting(TableWriter& table, const PodRuleInput& input) {
  for (const auto& name : input.virtual_interfaces) {
    if (!valid_interface(name)) continue;
    table.rule("istio-prerouting",
               fmt::format("iifname \"{}\" meta l4proto tcp counter redirect to :{}", name, kOutboundPort));
    table.rule("istio-prerouting", fmt::format("iifname \"{}\" meta l4proto tcp counter return", name));
  }
  if (input.ingress_mode) return;
  for (const auto& family : families(input)) {
    table.rule("istio-prerouting",
               fmt::format("{} saddr {} meta l4proto tcp counter accept", family.ip, family.probe));
  }
  for (const auto& family : families(input)) {
    table.rule("istio-prerouting",
               fmt::format("{} daddr != {} tcp dport != {} {} counter redirect to :{}", family.ip,
                           family.loopback, kHbonePort, kNotProxy, kInboundPort));
  }
}

void nat_output(TableWriter& table, const PodRuleInput& input) {
  auto each = [&](auto make) {
    for (const auto& family : families(input)) table.rule("istio-output", make(family));
  };
  each([](const Words& f) {
    return fmt::format("{} daddr {} meta l4proto tcp counter accept", f.ip, f.probe);
  });
  if (input.dns_capture) {
    // Without IPv6 nobody serves v6 DNS in the pod: leave it alone (3.4 [D]).
    table.rule("istio-output", fmt::format("{}oifname != \"lo\" udp dport 53 {} counter redirect to :{}",
                                           input.ipv6 ? "" : "meta nfproto ipv4 ", kNotProxy, kDnsPort));
    each([](const Words& f) {
      return fmt::format("{} daddr != {} tcp dport 53 {} counter redirect to :{}", f.ip, f.loopback,
                         kNotProxy, kDnsPort);
    });
  }
  table.rule("istio-output", "meta l4proto tcp meta mark & 0x00000fff == 0x00000111 counter accept");
  each([](const Words& f) {
    return fmt::format("{} daddr != {} oifname \"lo\" counter accept", f.ip, f.loopback);
  });
  each([](const Words& f) {
    return fmt::format("{} daddr != {} meta l4proto tcp {} counter redirect to :{}", f.ip, f.loopback,
                       kNotProxy, kOutboundPort);
  });
}

std::string drop_table(std::string_view table) {
  // `add` first: deleting a table that is not there would fail the whole transaction.
  return fmt::format("add table inet {0}\ndelete table inet {0}\n", table);
}

std::string_view set_of(const base::IpAddr& ip) { return ip.is_v4() ? kProbeSetV4 : kProbeSetV6; }

}  // namespace

base::IpAddr default_probe_v4() { return base::IpAddr::v4(169, 254, 7, 127); }
base::IpAddr default_probe_v6() { return *base::IpAddr::parse("fd16:9254:7127:1337:ffff:ffff:ffff:ffff"); }

bool valid_interface(std::string_view name) {
  if (name.empty() || name.size() > 15 || name == "." || name == "..") return false;
  for (char c : name) {
    if (c <= ' ' || c >= 0x7f || c == '/' || c == '"' || c == '\\' || c == '*') return false;
  }
  return true;
}

std::vector<std::string> parse_interfaces(std::string_view text, std::vector<std::string>* dropped) {
  std::vector<std::string> names;
  size_t at = 0;
  while (at <= text.size()) {
    size_t end = std::min(text.find(',', at), text.size());
    std::string_view part = text.substr(at, end - at);
    while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
    while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
    if (valid_interface(part)) {
      names.emplace_back(part);
    } else if (!part.empty() && dropped) {
      dropped->emplace_back(part);
    }
    at = end + 1;
  }
  return names;
}

std::string pod_rules(const PodRuleInput& input, bool rebuild) {
  std::string out;
  {
    TableWriter nat(out, kNatTable, rebuild);
    nat.base_chain("prerouting", "nat", -100);
    nat.base_chain("output", "nat", -100);
    nat.chain("istio-prerouting");
    nat.chain("istio-output");
    nat.jumps();
    nat_prerouting(nat, input);
    nat_output(nat, input);
  }
  {
    TableWriter mangle(out, kMangleTable, rebuild);
    mangle.base_chain("prerouting", "filter", -150);
    mangle.base_chain("output", "route", -150);
    mangle.chain("istio-prerouting");
    mangle.chain("istio-output");
    mangle.jumps();
    mangle.rule("istio-prerouting",
                fmt::format("{} counter ct mark set ct mark & 0xfffff000 | 0x00000111", kIsProxy));
    mangle.rule("istio-output", "ct mark & 0x00000fff == 0x00000111 counter meta mark set ct mark");
  }
  if (!input.dns_capture) {
    out += drop_table(kRawTable);
    return out;
  }
  TableWriter raw(out, kRawTable, rebuild);
  raw.base_chain("prerouting", "filter", -300);
  raw.base_chain("output", "filter", -300);
  raw.chain("istio-prerouting");
  raw.chain("istio-output");
  raw.jumps();
  const std::string_view guard = input.ipv6 ? "" : "meta nfproto ipv4 ";
  raw.rule("istio-output", fmt::format("{}udp dport 53 {} counter ct zone set 1", guard, kIsProxy));
  raw.rule("istio-prerouting", fmt::format("{}udp sport 53 {} counter ct zone set 1", guard, kNotProxy));
  return out;
}

std::string pod_rules_removal() {
  return drop_table(kNatTable) + drop_table(kMangleTable) + drop_table(kRawTable);
}

std::vector<std::string_view> pod_tables(const PodRuleInput& input) {
  std::vector<std::string_view> tables{kNatTable, kMangleTable};
  if (input.dns_capture) tables.push_back(kRawTable);
  return tables;
}

std::string host_rules(const HostRuleInput& input) {
  // The sets live in the same table: rules are flushed, the sets keep their elements (2.7 [D]).
  std::string out = fmt::format(
      "add table inet {0}\n"
      "add set inet {0} {1} {{ type ipv4_addr; }}\n",
      kNatTable, kProbeSetV4);
  if (input.ipv6) out += fmt::format("add set inet {} {} {{ type ipv6_addr; }}\n", kNatTable, kProbeSetV6);
  out += fmt::format(
      "add chain inet {0} postrouting {{ type nat hook postrouting priority 100; policy accept; }}\n"
      "flush chain inet {0} postrouting\n"
      "add rule inet {0} postrouting meta l4proto tcp meta skuid {1} ip daddr @{2} counter snat ip to {3}\n",
      kNatTable, input.kubelet_uid, kProbeSetV4, input.probe_v4.to_string());
  if (input.ipv6) {
    out += fmt::format(
        "add rule inet {} postrouting meta l4proto tcp meta skuid {} ip6 daddr @{} counter snat ip6 to {}\n",
        kNatTable, input.kubelet_uid, kProbeSetV6, input.probe_v6.to_string());
  }
  return out;
}

std::string host_rules_removal() { return drop_table(kNatTable); }

std::string host_set_upsert(const base::IpAddr& ip, std::string_view uid) {
  return host_set_delete(ip) + fmt::format("add element inet {} {} {{ {} comment \"{}\" }}\n", kNatTable,
                                           set_of(ip), ip.to_string(), uid);
}

std::string host_set_delete(const base::IpAddr& ip) {
  return fmt::format("add element inet {0} {1} {{ {2} }}\ndelete element inet {0} {1} {{ {2} }}\n", kNatTable,
                     set_of(ip), ip.to_string());
}

bool valid_uid(std::string_view uid) {
  if (uid.empty() || uid.size() > 100 || uid.front() == '.') return false;
  for (char c : uid) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '-' && c != '_' && c != '.') return false;
  }
  return true;
}

base::Result<std::vector<SetEntry>> parse_set_listing(std::string_view text) {
  auto fail = [](std::string_view why) {
    return base::fail(base::Code::kInvalid, fmt::format("nft set listing: {}", why));
  };
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("nftables") || !json["nftables"].is_array())
    return fail("not an nft answer");
  std::vector<SetEntry> entries;
  for (const auto& item : json["nftables"]) {
    if (!item.is_object() || !item.contains("set")) continue;
    const auto& set = item["set"];
    if (!set.is_object() || !set.contains("elem") || !set["elem"].is_array()) continue;
    for (const auto& elem : set["elem"]) {
      std::string address;
      SetEntry entry;
      if (elem.is_string()) {
        address = elem.get<std::string>();
      } else if (elem.is_object() && elem.contains("elem") && elem["elem"].is_object()) {
        const auto& inner = elem["elem"];
        if (inner.contains("val") && inner["val"].is_string()) address = inner["val"].get<std::string>();
        if (inner.contains("comment") && inner["comment"].is_string())
          entry.uid = inner["comment"].get<std::string>();
      }
      auto ip = base::IpAddr::parse(address);
      if (!ip) return fail("an element is not an address");
      entry.ip = *ip;
      entries.push_back(std::move(entry));
    }
  }
  return entries;
}

}  // namespace culvert::cni
