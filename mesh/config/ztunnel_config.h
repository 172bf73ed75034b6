// SPDX-License-Identifier: Apache-2.0
// ZtunnelConfig: everything the node proxy reads from its environment and files, typed and read
// once (spec ztunnel section 11, same names and defaults as upstream). Immutable afterwards, so
// every loop may read it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mesh/config/environment.h"
#include "net/base/ip.h"

namespace culvert::config {

enum class ProxyMode : unsigned char { kShared, kDedicated };
enum class OrigSrc : unsigned char { kAuto, kOn, kOff };

// PROXY_WORKLOAD_INFO=ns/name/sa.
struct WorkloadName {
  std::string namespace_;
  std::string name;
  std::string service_account;
  auto operator<=>(const WorkloadName&) const = default;
};

// Fixed ports of section 1.
inline constexpr uint16_t kOutboundPort = 15001;
inline constexpr uint16_t kPassthroughPort = 15006;
inline constexpr uint16_t kHbonePort = 15008;
inline constexpr uint16_t kReadinessPort = 15021;
// Ports no proxied connection may end at (loop guard, section 2.1 step 3).
inline constexpr uint16_t kIllegalPorts[] = {kOutboundPort, kPassthroughPort, kHbonePort};
inline bool is_illegal_port(uint16_t port) {
  return port == kOutboundPort || port == kPassthroughPort || port == kHbonePort;
}

struct ZtunnelConfig {
  bool proxy_enabled = true;                       // ENABLE_PROXY
  ProxyMode mode = ProxyMode::kShared;             // PROXY_MODE
  std::optional<WorkloadName> dedicated_workload;  // PROXY_WORKLOAD_INFO

  // CULVERT_READINESS_PORT: for a second proxy beside the first in one namespace.
  uint16_t readiness_port = kReadinessPort;
  uint16_t admin_port = 15000;  // PROXY_CONFIG proxyAdminPort
  uint16_t stats_port = 15020;  // PROXY_CONFIG statsPort

  std::string node_name;                         // NODE_NAME; "": every workload is local
  std::string network;                           // NETWORK
  std::string cluster_id = "Kubernetes";         // ISTIO_META_CLUSTER_ID, CLUSTER_ID
  std::string cluster_domain = "cluster.local";  // CLUSTER_DOMAIN
  std::string pod_name;                          // POD_NAME
  std::string pod_namespace;                     // POD_NAMESPACE
  std::string service_account;                   // SERVICE_ACCOUNT
  std::string trust_domain = "cluster.local";    // TRUST_DOMAIN
  std::string instance_ip = "1.1.1.1";           // INSTANCE_IP

  std::string xds_address;                             // XDS_ADDRESS; "": xDS is off
  std::string ca_address;                              // CA_ADDRESS; "": no certificates can be fetched
  std::string xds_root_ca;                             // XDS_ROOT_CA: path, PEM text or SYSTEM
  std::string ca_root_ca;                              // CA_ROOT_CA
  std::string alt_xds_hostname;                        // ALT_XDS_HOSTNAME
  std::string alt_ca_hostname;                         // ALT_CA_HOSTNAME
  std::string auth_token;                              // AUTH_TOKEN: path or token; "": none
  base::Duration secret_ttl = std::chrono::hours(24);  // SECRET_TTL
  bool fake_ca = false;                                // FAKE_CA
  bool xds_on_demand = false;                          // XDS_ON_DEMAND
  std::string local_xds_path;                          // LOCAL_XDS_PATH
  std::string local_xds;                               // LOCAL_XDS
  std::map<std::string, std::string> xds_headers;      // XDS_HEADER_*, keys in lower case
  std::map<std::string, std::string> ca_headers;       // CA_HEADER_*
  std::map<std::string, std::string> proxy_metadata;   // mesh file < PROXY_CONFIG < ISTIO_META_*
  std::map<std::string, std::string> json_metadata;    // ISTIO_METAJSON_*, the JSON text
  std::string istio_version = "unknown";               // ISTIO_META_ISTIO_VERSION

  bool dns_capture = true;            // ISTIO_META_DNS_CAPTURE; no DNS proxy in this build
  bool ipv6_enabled = true;           // IPV6_ENABLED
  OrigSrc orig_src = OrigSrc::kAuto;  // ENABLE_ORIG_SRC
  uint32_t packet_mark = 0;           // PACKET_MARK; 1337 in shared mode
  std::string zds_path = "/var/run/ztunnel/ztunnel.sock";         // INPOD_UDS
  bool port_reuse = true;                                         // INPOD_PORT_REUSE
  bool keepalive_enabled = true;                                  // KEEPALIVE_ENABLED
  base::Duration keepalive_time = std::chrono::seconds(180);      // KEEPALIVE_TIME
  base::Duration keepalive_interval = std::chrono::seconds(180);  // KEEPALIVE_INTERVAL
  int keepalive_retries = 9;                                      // KEEPALIVE_RETRIES
  bool user_timeout_enabled = false;                              // USER_TIMEOUT_ENABLED
  uint32_t http2_stream_window = 4 * 1024 * 1024;                 // HTTP2_STREAM_WINDOW_SIZE
  uint32_t http2_connection_window = 16 * 1024 * 1024;            // HTTP2_CONNECTION_WINDOW_SIZE
  uint32_t http2_frame_size = 1024 * 1024;                        // HTTP2_FRAME_SIZE
  uint16_t pool_streams_max = 100;                                // POOL_MAX_STREAMS_PER_CONNECTION
  base::Duration pool_idle_release = std::chrono::minutes(5);     // POOL_UNUSED_RELEASE_TIMEOUT
  // CONNECTION_TERMINATION_DEADLINE, else from TERMINATION_GRACE_PERIOD_SECONDS, else 5 s.
  base::Duration drain_deadline = std::chrono::seconds(5);
  unsigned worker_threads = 2;       // ZTUNNEL_WORKER_THREADS and the rules of section 11
  bool localhost_app_tunnel = true;  // LOCALHOST_APP_TUNNEL
  bool response_baggage = true;      // ENABLE_RESPONSE_BAGGAGE
  bool authz_info_logging = false;   // AUTHZ_POLICY_INFO_LOGGING
  bool tls12_enabled = false;        // TLS12_ENABLED
  bool pqc_only = false;             // COMPLIANCE_POLICY=pqc
  std::string log_filter = "info";   // RUST_LOG
  bool log_json = false;             // LOG_FORMAT=json

  // Deadlines upstream does not have (section 13, defect 5).
  base::Duration handshake_timeout = std::chrono::seconds(10);  // CULVERT_HANDSHAKE_TIMEOUT
  base::Duration connect_timeout = std::chrono::seconds(10);    // CULVERT_CONNECT_TIMEOUT

  // Two pods of this process are joined without a tunnel (ztunnel/local_path.h).
  bool local_path = true;  // CULVERT_LOCAL_PATH

  // Accepted but without effect in this build: said once in the log at start.
  std::vector<std::string> notes;

  // The self listener runs in shared mode when all three names are known (section 1).
  bool has_self_identity() const {
    return !pod_name.empty() && !pod_namespace.empty() && !service_account.empty();
  }
};

// Every bad value is an error that names its variable. `cpu_count` is what the machine has.
base::Result<ZtunnelConfig> load_ztunnel_config(const Environment& environment, const FileReader& files,
                                                unsigned cpu_count);

// The mesh file upstream reads, relative to the working directory.
inline constexpr char kMeshFilePath[] = "./etc/istio/config/mesh";

}  // namespace culvert::config
