// SPDX-License-Identifier: Apache-2.0
#include "cni/agent_config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <charconv>
#include <nlohmann/json.hpp>

namespace culvert::cni {
namespace {

using config::Environment;

// Upstream reads these with Go's rules; one reader for all, errors name the variable.
base::Result<> read_bool(const Environment& env, const char* name, bool& into) {
  auto text = env.get(name);
  if (!text || text->empty()) return {};
  auto value = parse_go_bool(*text);
  if (!value)
    return base::fail(base::Code::kInvalid, fmt::format("{}: '{}' is neither true nor false", name, *text));
  into = *value;
  return {};
}

base::Result<> read_ip(const Environment& env, const char* name, bool v4, base::IpAddr& into) {
  auto text = env.get(name);
  if (!text || text->empty()) return {};
  auto ip = base::IpAddr::parse(*text);
  if (!ip || ip->is_v4() != v4)
    return base::fail(base::Code::kInvalid,
                      fmt::format("{}: '{}' is not an IPv{} address", name, *text, v4 ? 4 : 6));
  into = *ip;
  return {};
}

base::Result<> read_port(const Environment& env, const char* name, int& into) {
  auto text = env.get(name);
  if (!text || text->empty()) return {};
  int value = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value > 65535) {
    return base::fail(base::Code::kInvalid, fmt::format("{}: '{}' is not a port", name, *text));
  }
  into = value;
  return {};
}

// Scalars stay strings: labels are strings in Kubernetes.
nlohmann::ordered_json json_of(const YAML::Node& node) {
  if (node.IsMap()) {
    auto object = nlohmann::ordered_json::object();
    for (const auto& item : node) object[item.first.as<std::string>()] = json_of(item.second);
    return object;
  }
  if (node.IsSequence()) {
    auto array = nlohmann::ordered_json::array();
    for (const auto& item : node) array.push_back(json_of(item));
    return array;
  }
  if (node.IsScalar()) return node.as<std::string>();
  return nullptr;
}

std::string selectors_json(const std::string& text) {
  try {
    const YAML::Node node = YAML::Load(text);
    if (node.IsSequence()) return json_of(node).dump();
  } catch (const YAML::Exception&) {
    // Reported by Enrolment::parse_pairs with its reason.
  }
  return "[]";
}

base::Result<> read_installer(const Environment& env, AgentConfig& config) {
  auto& options = config.installer;
  options.source_dir = env.get_or("CNI_SOURCE_DIR", "/opt/cni/bin");
  options.bin_dir = env.get_or("MOUNTED_CNI_BIN_DIR", "/host/opt/cni/bin");
  options.net_dir = env.get_or("MOUNTED_CNI_NET_DIR", "/host/etc/cni/net.d");
  options.conf_name = env.get_or("CNI_CONF_NAME", "");
  CULVERT_TRY(read_bool(env, "CHAINED_CNI_PLUGIN", options.chained));
  CULVERT_TRY(read_bool(env, "CNI_CONF_GROUP_READ", options.group_read));
  bool owned = false;
  CULVERT_TRY(read_bool(env, "ISTIO_OWNED_CNI_CONFIG", owned));
  options.owned = owned && options.chained && config.ambient;
  // The chart writes the second name, upstream reads the first: take both (spec cni 5 [D]).
  options.owned_name =
      env.get_or("ISTIO_OWNED_CNI_CONFIG_FILENAME", env.get_or("ISTIO_OWNED_CNI_CONF_FILENAME", ""));
  if (options.owned_name.empty()) options.owned_name = "02-istio-cni.conflist";
  auto& entry = options.entry;
  entry.run_dir = config.run_dir;
  entry.ambient_enabled = config.ambient;
  entry.selectors_json = selectors_json(env.get_or("AMBIENT_ENABLEMENT_SELECTOR", ""));
  entry.exclude_namespaces = config.excluded;
  entry.pod_namespace = env.get_or("POD_NAMESPACE", "");
  entry.directory = config.directory;
  CULVERT_TRY(read_bool(env, "NATIVE_NFTABLES", entry.native_nftables));
  return read_bool(env, "ENABLE_AMBIENT_DETECTION_RETRY", entry.detection_retry);
}

base::Result<> read_agent(const Environment& env, AgentConfig& config) {
  auto& options = config.agent;
  options.node = env.get_or("NODE_NAME", "");
  if (options.node.empty())
    return base::fail(base::Code::kInvalid, "NODE_NAME is not set: the agent serves the pods of one node");
  options.bindings_dir = config.directory + "/bindings";
  options.seen_dir = config.run_dir + "/pods";
  options.system_namespace = env.get_or("SYSTEM_NAMESPACE", "istio-system");
  // A directory has no kubelet of its own to require.
  options.kubelet_required = false;
  options.ipv6 = false;
  options.reconcile_on_start = false;
  CULVERT_TRY(read_bool(env, "AMBIENT_DNS_CAPTURE", options.dns_capture));
  CULVERT_TRY(read_bool(env, "AMBIENT_IPV6", options.ipv6));
  CULVERT_TRY(read_bool(env, "AMBIENT_RECONCILE_POD_RULES_ON_STARTUP", options.reconcile_on_start));
  CULVERT_TRY(read_ip(env, "HOST_PROBE_SNAT_IP", true, options.probe_v4));
  CULVERT_TRY(read_ip(env, "HOST_PROBE_SNAT_IPV6", false, options.probe_v6));
  auto uid = env.number("CULVERT_KUBELET_UID", UINT32_MAX);
  if (!uid) return base::fail(uid.error());
  if (*uid) options.kubelet_uid = static_cast<uint32_t>(**uid);
  auto interval = env.duration("CULVERT_DRIFT_CHECK_INTERVAL", options.drift_interval);
  if (!interval) return base::fail(interval.error());
  if (*interval < std::chrono::milliseconds(100))
    return base::fail(base::Code::kInvalid, "CULVERT_DRIFT_CHECK_INTERVAL is below 100ms");
  options.drift_interval = *interval;
  return {};
}

}  // namespace

base::Result<AgentConfig> read_agent_config(const Environment& env) {
  AgentConfig config;
  config.directory = env.get_or("CULVERT_DIR", "");
  config.run_dir = env.get_or("CNI_AGENT_RUN_DIR", "/var/run/istio-cni");
  config.zds_path = env.get_or("ZTUNNEL_UDS_ADDRESS", "/var/run/ztunnel/ztunnel.sock");
  config.log_filter = env.get_or("LOG_LEVEL", "info");
  CULVERT_TRY(read_bool(env, "AMBIENT_ENABLED", config.ambient));
  CULVERT_TRY(read_bool(env, "ALLOW_SWITCH_TO_HOST_NS", config.switch_to_host));
  CULVERT_TRY(read_bool(env, "CULVERT_UNINSTALL", config.uninstall_on_exit));
  CULVERT_TRY(read_port(env, "MONITORING_PORT", config.monitoring_port));
  int health = config.health_port;
  CULVERT_TRY(read_port(env, "CULVERT_HEALTH_PORT", health));
  if (health <= 0) return base::fail(base::Code::kInvalid, "CULVERT_HEALTH_PORT: not a port");
  config.health_port = static_cast<uint16_t>(health);
  config.excluded = Enrolment::parse_excluded(env.get_or("EXCLUDE_NAMESPACES", ""));
  auto pairs = Enrolment::parse_pairs(env.get_or("AMBIENT_ENABLEMENT_SELECTOR", ""));
  if (!pairs) return base::fail(std::move(pairs.error()).wrap("AMBIENT_ENABLEMENT_SELECTOR"));
  config.pairs = std::move(*pairs);
  config.kernel.netns_prefix = env.get_or("CULVERT_HOST_PREFIX", "");
  config.kernel.proc_root = config.kernel.netns_prefix + "/proc";
  config.kernel.netns_dir = env.get_or("CULVERT_NETNS_DIR", "");
  CULVERT_TRY(read_installer(env, config));
  if (!config.ambient) return config;
  if (config.directory.empty()) {
    return base::fail(
        base::Code::kInvalid,
        "CULVERT_DIR is not set: the agent learns pods and namespaces from a manifest directory");
  }
  CULVERT_TRY(read_agent(env, config));
  return config;
}

}  // namespace culvert::cni
