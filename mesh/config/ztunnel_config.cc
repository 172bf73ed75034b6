// SPDX-License-Identifier: Apache-2.0
#include "mesh/config/ztunnel_config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace culvert::config {

namespace {

using base::Code;
using base::Result;

template <class T, class U>
Result<> take(T& into, Result<U> value) {
  if (!value) return base::fail(std::move(value).error());
  into = static_cast<T>(std::move(*value));
  return {};
}

// What PROXY_CONFIG and the mesh file's defaultConfig may say.
struct ProxyConfig {
  std::string discovery_address;
  std::optional<uint16_t> admin_port;
  std::optional<uint16_t> stats_port;
  std::optional<unsigned> concurrency;
  std::map<std::string, std::string> metadata;

  void overlay(ProxyConfig other) {
    if (!other.discovery_address.empty()) discovery_address = std::move(other.discovery_address);
    if (other.admin_port) admin_port = other.admin_port;
    if (other.stats_port) stats_port = other.stats_port;
    if (other.concurrency) concurrency = other.concurrency;
    for (auto& [key, value] : other.metadata) metadata[key] = std::move(value);
  }
};

ProxyConfig read_proxy_config(const YAML::Node& node) {
  ProxyConfig config;
  if (node["discoveryAddress"]) config.discovery_address = node["discoveryAddress"].as<std::string>();
  if (node["proxyAdminPort"]) config.admin_port = node["proxyAdminPort"].as<uint16_t>();
  if (node["statsPort"]) config.stats_port = node["statsPort"].as<uint16_t>();
  if (node["concurrency"]) config.concurrency = node["concurrency"].as<unsigned>();
  if (!node["proxyMetadata"]) throw YAML::Exception(node.Mark(), "the key proxyMetadata is required");
  for (const auto& entry : node["proxyMetadata"]) {
    config.metadata[entry.first.as<std::string>()] = entry.second.as<std::string>();
  }
  return config;
}

// `key` "": the whole document is the proxy configuration. An empty document is none.
Result<ProxyConfig> parse_proxy_config(const std::string& text, const char* key, std::string_view source) {
  try {
    YAML::Node node = YAML::Load(text);
    if (*key != '\0' && node.IsMap()) {
      YAML::Node inner = node[key];
      node.reset(inner);
    }
    if (!node.IsDefined() || node.IsNull()) return ProxyConfig{};
    if (!node.IsMap()) return base::fail(Code::kInvalid, fmt::format("{}: expected a YAML map", source));
    return read_proxy_config(node);
  } catch (const std::exception& problem) {
    return base::fail(Code::kInvalid, fmt::format("{}: {}", source, problem.what()));
  }
}

Result<ProxyConfig> gather_proxy_config(const Environment& env, const FileReader& files) {
  ProxyConfig config;
  auto mesh_file = files(kMeshFilePath);
  if (mesh_file) {
    auto parsed = parse_proxy_config(*mesh_file, "defaultConfig", kMeshFilePath);
    if (!parsed) return base::fail(std::move(parsed).error());
    config = std::move(*parsed);
  } else if (mesh_file.error().code() != Code::kNotFound) {
    return base::fail(std::move(mesh_file).error());
  }
  if (auto text = env.get("PROXY_CONFIG")) {
    auto parsed = parse_proxy_config(*text, "", "PROXY_CONFIG");
    if (!parsed) return base::fail(std::move(parsed).error());
    config.overlay(std::move(*parsed));
  }
  for (auto& [key, value] : env.with_prefix("ISTIO_META_")) config.metadata[key] = value;
  return config;
}

// A Kubernetes quantity in CPUs, rounded up: "2", "1.5", "500m".
Result<std::optional<unsigned>> cpu_quantity(const Environment& env, std::string_view name) {
  auto text = env.get(name);
  if (!text || text->empty()) return std::optional<unsigned>{};
  std::string_view digits = *text;
  double scale = 1;
  if (digits.ends_with('m')) {
    digits.remove_suffix(1);
    scale = 0.001;
  }
  double value = 0;
  auto [at, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || at != digits.data() + digits.size() || value < 0 || value > 1e6) {
    return base::fail(
        Code::kInvalid,
        fmt::format("{}=\"{}\" is not a CPU quantity (for example 2, 1.5 or 500m)", name, *text));
  }
  return std::optional<unsigned>(static_cast<unsigned>(std::ceil(value * scale)));
}

Result<unsigned> worker_threads(const Environment& env, std::optional<unsigned> concurrency,
                                unsigned machine) {
  auto bad = [&](std::string_view text) {
    return base::fail(Code::kInvalid, fmt::format("ZTUNNEL_WORKER_THREADS=\"{}\" must be a number, 0 for all "
                                                  "CPUs, or a percentage such as 25%",
                                                  text));
  };
  auto limit = cpu_quantity(env, "ZTUNNEL_RESOURCE_CPU_LIMIT");
  if (!limit) return base::fail(std::move(limit).error());
  auto request = cpu_quantity(env, "ZTUNNEL_RESOURCE_CPU_REQUEST");
  if (!request) return base::fail(std::move(request).error());
  auto cpu_limit = env.number("ZTUNNEL_CPU_LIMIT", 1'000'000);
  if (!cpu_limit) return base::fail(std::move(cpu_limit).error());
  unsigned cpus = std::max(1u, machine);
  if (*limit) {
    cpus = std::max(1u, **limit);
  } else if (*cpu_limit) {
    cpus = std::max(1u, static_cast<unsigned>(**cpu_limit));
  }
  if (auto text = env.get("ZTUNNEL_WORKER_THREADS"); text && !text->empty()) {
    std::string_view digits = *text;
    bool percent = digits.ends_with('%');
    if (percent) digits.remove_suffix(1);
    unsigned value = 0;
    auto [at, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || at != digits.data() + digits.size() || value > 10'000) return bad(*text);
    if (!percent) return value == 0 ? cpus : value;
    return std::max(1u, (cpus * value + 99) / 100);
  }
  if (concurrency) return *concurrency == 0 ? cpus : *concurrency;
  if (*limit) return std::max({**limit, request->value_or(0), 1u});
  return std::max({(cpus * 25 + 99) / 100, request->value_or(0), 2u});
}

Result<WorkloadName> parse_workload_name(std::string_view text) {
  size_t first = text.find('/');
  size_t second = first == std::string_view::npos ? first : text.find('/', first + 1);
  if (second == std::string_view::npos || text.find('/', second + 1) != std::string_view::npos) {
    return base::fail(Code::kInvalid, fmt::format("PROXY_WORKLOAD_INFO=\"{}\" must be "
                                                  "namespace/name/serviceaccount",
                                                  text));
  }
  return WorkloadName{std::string(text.substr(0, first)),
                      std::string(text.substr(first + 1, second - first - 1)),
                      std::string(text.substr(second + 1))};
}

std::string with_scheme(std::string address) {
  if (address.empty() || address.find("://") != std::string::npos) return address;
  return "https://" + address;
}

std::map<std::string, std::string> lower_keys(std::map<std::string, std::string> headers) {
  std::map<std::string, std::string> lowered;
  for (auto& [key, value] : headers) {
    std::string name = key;
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    lowered[name] = std::move(value);
  }
  return lowered;
}

Result<base::Duration> drain_deadline(const Environment& env) {
  if (env.has("CONNECTION_TERMINATION_DEADLINE")) return env.duration("CONNECTION_TERMINATION_DEADLINE", {});
  auto grace = env.number("TERMINATION_GRACE_PERIOD_SECONDS", 1'000'000);
  if (!grace) return base::fail(std::move(grace).error());
  if (!*grace) return std::chrono::seconds(5);
  uint64_t seconds = **grace > 10 ? **grace - 5 : (**grace > 2 ? **grace - 1 : 1);
  return std::chrono::seconds(seconds);
}

Result<> read_mode(ZtunnelConfig& config, const Environment& env) {
  CULVERT_TRY(take(config.proxy_enabled, env.boolean("ENABLE_PROXY", true)));
  std::string mode = env.get_or("PROXY_MODE", "shared");
  if (mode != "shared" && mode != "dedicated") {
    return base::fail(Code::kInvalid, fmt::format("PROXY_MODE=\"{}\" must be shared or dedicated", mode));
  }
  config.mode = mode == "shared" ? ProxyMode::kShared : ProxyMode::kDedicated;
  bool shared = config.mode == ProxyMode::kShared;
  if (auto text = env.get("PROXY_WORKLOAD_INFO")) {
    auto name = parse_workload_name(*text);
    if (!name) return base::fail(std::move(name).error());
    config.dedicated_workload = std::move(*name);
  } else if (!shared) {
    return base::fail(Code::kInvalid,
                      "PROXY_MODE=dedicated needs PROXY_WORKLOAD_INFO=namespace/name/serviceaccount");
  }
  CULVERT_TRY(take(config.readiness_port, env.number_or("CULVERT_READINESS_PORT", kReadinessPort, 65535)));
  return take(config.packet_mark, env.number_or("PACKET_MARK", shared ? 1337 : 0, UINT32_MAX));
}

void read_names(ZtunnelConfig& config, const Environment& env) {
  config.node_name = env.get_or("NODE_NAME", "");
  config.network = env.get_or("NETWORK", "");
  config.cluster_id = env.get_or("ISTIO_META_CLUSTER_ID", env.get_or("CLUSTER_ID", "Kubernetes"));
  config.cluster_domain = env.get_or("CLUSTER_DOMAIN", "cluster.local");
  config.pod_name = env.get_or("POD_NAME", "");
  config.pod_namespace = env.get_or("POD_NAMESPACE", "");
  config.service_account = env.get_or("SERVICE_ACCOUNT", "");
  config.trust_domain = env.get_or("TRUST_DOMAIN", "cluster.local");
  config.instance_ip = env.get_or("INSTANCE_IP", "1.1.1.1");
}

Result<> read_control_plane(ZtunnelConfig& config, const ProxyConfig& proxy, const Environment& env,
                            const FileReader& files) {
  std::string istiod = env.has("KUBERNETES_SERVICE_HOST") ? "https://istiod.istio-system.svc:15012"
                                                          : "https://localhost:15012";
  std::string xds_default = proxy.discovery_address.empty() ? istiod : proxy.discovery_address;
  config.xds_address = with_scheme(env.get_or("XDS_ADDRESS", xds_default));
  config.ca_address = with_scheme(env.get_or("CA_ADDRESS", istiod));
  config.xds_root_ca = env.get_or("XDS_ROOT_CA", "./var/run/secrets/istio/root-cert.pem");
  config.ca_root_ca = env.get_or("CA_ROOT_CA", "./var/run/secrets/istio/root-cert.pem");
  config.alt_xds_hostname = env.get_or("ALT_XDS_HOSTNAME", "");
  config.alt_ca_hostname = env.get_or("ALT_CA_HOSTNAME", "");
  constexpr char kTokenPath[] = "./var/run/secrets/tokens/istio-token";
  config.auth_token = env.get_or("AUTH_TOKEN", files(kTokenPath) ? kTokenPath : "");
  CULVERT_TRY(take(config.secret_ttl, env.duration("SECRET_TTL", std::chrono::hours(24))));
  if (config.secret_ttl <= base::Duration::zero()) {
    return base::fail(Code::kInvalid, "SECRET_TTL must be longer than 0");
  }
  CULVERT_TRY(take(config.fake_ca, env.boolean("FAKE_CA", false)));
  CULVERT_TRY(take(config.xds_on_demand, env.boolean("XDS_ON_DEMAND", false)));
  config.local_xds_path = env.get_or("LOCAL_XDS_PATH", "");
  config.local_xds = env.get_or("LOCAL_XDS", "");
  if (!config.local_xds_path.empty() && !config.local_xds.empty()) {
    return base::fail(Code::kInvalid, "LOCAL_XDS_PATH and LOCAL_XDS are both set: choose one");
  }
  config.xds_headers = lower_keys(env.with_prefix("XDS_HEADER_"));
  config.ca_headers = lower_keys(env.with_prefix("CA_HEADER_"));
  config.json_metadata = env.with_prefix("ISTIO_METAJSON_");
  return {};
}

Result<> read_sockets(ZtunnelConfig& config, const Environment& env) {
  CULVERT_TRY(take(config.ipv6_enabled, env.boolean("IPV6_ENABLED", true)));
  if (env.has("ENABLE_ORIG_SRC")) {
    bool on = false;
    CULVERT_TRY(take(on, env.boolean("ENABLE_ORIG_SRC", false)));
    config.orig_src = on ? OrigSrc::kOn : OrigSrc::kOff;
  }
  config.zds_path = env.get_or("INPOD_UDS", config.zds_path);
  CULVERT_TRY(take(config.port_reuse, env.boolean("INPOD_PORT_REUSE", true)));
  CULVERT_TRY(take(config.keepalive_enabled, env.boolean("KEEPALIVE_ENABLED", true)));
  CULVERT_TRY(take(config.keepalive_time, env.duration("KEEPALIVE_TIME", config.keepalive_time)));
  CULVERT_TRY(take(config.keepalive_interval, env.duration("KEEPALIVE_INTERVAL", config.keepalive_interval)));
  CULVERT_TRY(take(config.keepalive_retries, env.number_or("KEEPALIVE_RETRIES", 9, 127)));
  CULVERT_TRY(take(config.user_timeout_enabled, env.boolean("USER_TIMEOUT_ENABLED", false)));
  CULVERT_TRY(
      take(config.handshake_timeout, env.duration("CULVERT_HANDSHAKE_TIMEOUT", config.handshake_timeout)));
  CULVERT_TRY(take(config.connect_timeout, env.duration("CULVERT_CONNECT_TIMEOUT", config.connect_timeout)));
  CULVERT_TRY(take(config.local_path, env.boolean("CULVERT_LOCAL_PATH", true)));
  return take(config.localhost_app_tunnel, env.boolean("LOCALHOST_APP_TUNNEL", true));
}

Result<> read_tunnels(ZtunnelConfig& config, const Environment& env) {
  constexpr uint64_t kWindowMax = 0x7fffffff;
  CULVERT_TRY(take(config.http2_stream_window,
                   env.number_or("HTTP2_STREAM_WINDOW_SIZE", config.http2_stream_window, kWindowMax)));
  CULVERT_TRY(
      take(config.http2_connection_window,
           env.number_or("HTTP2_CONNECTION_WINDOW_SIZE", config.http2_connection_window, kWindowMax)));
  CULVERT_TRY(
      take(config.http2_frame_size, env.number_or("HTTP2_FRAME_SIZE", config.http2_frame_size, 0xffffff)));
  if (config.http2_frame_size < 16384) {
    return base::fail(
        Code::kInvalid,
        fmt::format("HTTP2_FRAME_SIZE={} is below 16384, the least HTTP/2 allows", config.http2_frame_size));
  }
  CULVERT_TRY(take(config.pool_streams_max, env.number_or("POOL_MAX_STREAMS_PER_CONNECTION", 100, 65535)));
  if (config.pool_streams_max == 0) {
    return base::fail(Code::kInvalid, "POOL_MAX_STREAMS_PER_CONNECTION must be at least 1");
  }
  CULVERT_TRY(
      take(config.pool_idle_release, env.duration("POOL_UNUSED_RELEASE_TIMEOUT", config.pool_idle_release)));
  CULVERT_TRY(take(config.drain_deadline, drain_deadline(env)));
  CULVERT_TRY(take(config.response_baggage, env.boolean("ENABLE_RESPONSE_BAGGAGE", true)));
  CULVERT_TRY(take(config.authz_info_logging, env.boolean("AUTHZ_POLICY_INFO_LOGGING", false)));
  config.tls12_enabled = env.get_or("TLS12_ENABLED", "") == "true";
  config.pqc_only = env.get_or("COMPLIANCE_POLICY", "") == "pqc";
  return {};
}

Result<> read_logging(ZtunnelConfig& config, const Environment& env) {
  config.log_filter = env.get_or("RUST_LOG", "info");
  if (config.log_filter.empty()) config.log_filter = "info";
  std::string format = env.get_or("LOG_FORMAT", "plain");
  if (format != "plain" && format != "json") {
    return base::fail(Code::kInvalid, fmt::format("LOG_FORMAT=\"{}\" must be plain or json", format));
  }
  config.log_json = format == "json";
  return {};
}

Result<> check_and_note(ZtunnelConfig& config, const Environment& env) {
  std::string capture = env.get_or("ISTIO_META_DNS_CAPTURE", "true");
  std::transform(capture.begin(), capture.end(), capture.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  config.dns_capture = capture == "true";
  if (!config.proxy_enabled && !config.dns_capture) {
    return base::fail(Code::kInvalid,
                      "ENABLE_PROXY=false and ISTIO_META_DNS_CAPTURE=false: nothing is left to run");
  }
  if (config.xds_on_demand && config.dns_capture) {
    return base::fail(Code::kInvalid,
                      "XDS_ON_DEMAND=true cannot be combined with ISTIO_META_DNS_CAPTURE=true: "
                      "the DNS proxy needs every service");
  }
  if (config.xds_on_demand) {
    return base::fail(Code::kUnsupported,
                      "XDS_ON_DEMAND=true, but this build does not ask for single destinations; refusing to "
                      "start rather than to send plaintext to workloads it was not told of");
  }
  if (config.dns_capture) {
    config.notes.push_back(
        "ISTIO_META_DNS_CAPTURE is true, but this build has no DNS proxy: port 15053 is not "
        "served; keep DNS capture off in the node agent");
  }
  bool socks = false;
  CULVERT_TRY(take(socks, env.boolean("UNSTABLE_ENABLE_SOCKS5", false)));
  if (socks) config.notes.push_back("UNSTABLE_ENABLE_SOCKS5 is true, but this build has no SOCKS5 listener");
  if (!env.get_or("CRL_PATH", "").empty()) {
    return base::fail(Code::kUnsupported,
                      "CRL_PATH is set, but this build cannot check revocation lists; refusing "
                      "to start rather than to accept revoked certificates");
  }
  if (config.pqc_only) {
    return base::fail(Code::kUnsupported,
                      "COMPLIANCE_POLICY=pqc needs X25519MLKEM768, which this build's TLS "
                      "library does not have");
  }
  return {};
}

}  // namespace

base::Result<ZtunnelConfig> load_ztunnel_config(const Environment& environment, const FileReader& files,
                                                unsigned cpu_count) {
  ZtunnelConfig config;
  auto proxy = gather_proxy_config(environment, files);
  if (!proxy) return base::fail(std::move(proxy).error());
  CULVERT_TRY(read_mode(config, environment));
  read_names(config, environment);
  CULVERT_TRY(read_control_plane(config, *proxy, environment, files));
  CULVERT_TRY(read_sockets(config, environment));
  CULVERT_TRY(read_tunnels(config, environment));
  CULVERT_TRY(read_logging(config, environment));
  CULVERT_TRY(check_and_note(config, environment));
  config.admin_port = proxy->admin_port.value_or(config.admin_port);
  config.stats_port = proxy->stats_port.value_or(config.stats_port);
  config.istio_version = environment.get_or("ISTIO_META_ISTIO_VERSION", "unknown");
  CULVERT_TRY(take(config.worker_threads, worker_threads(environment, proxy->concurrency, cpu_count)));
  config.worker_threads = std::min(config.worker_threads, 256u);
  config.proxy_metadata = std::move(proxy->metadata);
  return config;
}

}  // namespace culvert::config
