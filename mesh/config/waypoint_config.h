// SPDX-License-Identifier: Apache-2.0
// WaypointConfig: everything a waypoint reads from its environment, typed and read once (spec waypoint
// sections 1.2, 1.3, 1.6). Variables that the node proxy has too keep their names. Immutable afterwards.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mesh/config/environment.h"
#include "net/base/ip.h"

namespace culvert::config {

struct WaypointConfig {
  std::string name;                              // GATEWAY_NAME, else SERVICE_ACCOUNT
  std::string namespace_;                        // POD_NAMESPACE
  std::string pod_name;                          // POD_NAME
  std::string service_account;                   // SERVICE_ACCOUNT
  std::string node_name;                         // NODE_NAME
  base::IpAddr instance_ip;                      // INSTANCE_IP: where our own workload is found
  std::string network;                           // NETWORK
  std::string trust_domain = "cluster.local";    // TRUST_DOMAIN
  std::string cluster_id = "Kubernetes";         // CLUSTER_ID
  std::string cluster_domain = "cluster.local";  // CLUSTER_DOMAIN

  std::string xds_address;                             // XDS_ADDRESS; required
  std::string ca_address;                              // CA_ADDRESS; default: XDS_ADDRESS
  std::string xds_root_ca;                             // XDS_ROOT_CA: path, PEM text or SYSTEM
  std::string ca_root_ca;                              // CA_ROOT_CA; default: XDS_ROOT_CA
  std::string auth_token;                              // AUTH_TOKEN: path or token
  base::Duration secret_ttl = std::chrono::hours(24);  // SECRET_TTL

  uint16_t hbone_port = 15008;       // CULVERT_HBONE_PORT
  uint16_t admin_port = 15000;       // CULVERT_ADMIN_PORT; loopback
  uint16_t stats_port = 15020;       // CULVERT_STATS_PORT
  uint16_t prometheus_port = 15090;  // CULVERT_PROMETHEUS_PORT; 0: none
  uint16_t readiness_port = 15021;   // CULVERT_READINESS_PORT
  // CULVERT_BIND: the address all but the admin port listen on; default: every one.
  std::optional<base::IpAddr> bind;
  bool ipv6_enabled = true;         // IPV6_ENABLED
  unsigned worker_threads = 2;      // WORKER_THREADS; 0: one for each CPU
  std::string log_filter = "info";  // RUST_LOG
  bool log_json = false;            // LOG_FORMAT=json
  // TERMINATION_DRAIN_DURATION: how long connections may go on after SIGTERM.
  base::Duration drain_duration = std::chrono::seconds(45);

  base::Duration handshake_timeout = std::chrono::seconds(10);  // CULVERT_HANDSHAKE_TIMEOUT
  // PROTOCOL_DETECTION_TIMEOUT: on a port of unknown protocol; 0: none. Then the stream is taken for TCP.
  base::Duration detection_timeout{0};
  // REQUEST_HEADERS_TIMEOUT, STREAM_IDLE_TIMEOUT; 0: none.
  base::Duration headers_timeout = std::chrono::seconds(60);
  base::Duration stream_idle_timeout = std::chrono::hours(1);

  // CULVERT_TELL_CLIENT_IDENTITY: x-forwarded-client-cert with the client's proven identity goes upstream.
  bool tell_client_identity = false;

  // Beyond these newcomers are refused (section 7.6): connections of clients, requests under way.
  uint32_t connections_max = 65536;  // CULVERT_CONNECTIONS_MAX
  uint32_t requests_max = 100'000;   // CULVERT_REQUESTS_MAX
  uint64_t memory_bytes_max = 0;     // CULVERT_MEMORY_MAX; 0: what the control group allows

  bool is_own_port(uint16_t port) const {
    return port == hbone_port || port == admin_port || port == stats_port || port == prometheus_port ||
           port == readiness_port;
  }
};

// Every bad value is an error that names its variable. `cpu_count` is what the machine has.
base::Result<WaypointConfig> load_waypoint_config(const Environment& environment, unsigned cpu_count);

}  // namespace culvert::config
