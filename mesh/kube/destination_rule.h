// SPDX-License-Identifier: Apache-2.0
// DestinationRule (spec waypoint section 2.3). A block is there or not as a whole, since levels replace whole
// blocks; what a block leaves out has its default here already.
#pragma once

#include "mesh/kube/meta.h"

namespace culvert::kube {

struct TcpKeepalive {
  uint32_t probes = 0;  // 0 in each: the system's
  base::Duration time{};
  base::Duration interval{};
};

struct LocalityLb {
  struct Distribute {
    std::string from;
    std::map<std::string, uint32_t> to;  // in percent, 100 together
  };
  struct Failover {
    std::string from, to;  // regions
  };
  std::optional<bool> enabled;
  // At most one of the three.
  std::vector<Distribute> distribute;
  std::vector<Failover> failover;
  std::vector<std::string> failover_priority;  // "label" or "label=value"
};

struct LoadBalancer {
  enum class Simple : unsigned char { kUnset, kLeastRequest, kRoundRobin, kRandom, kPassthrough };
  struct Cookie {
    std::string name;
    std::string path;
    std::optional<base::Duration> ttl;  // not given: never made by us; 0: a session's
    std::vector<HeaderValue> attributes;
  };
  struct ConsistentHash {
    enum class Key : unsigned char { kHeader, kCookie, kSourceIp, kQuery };
    Key key = Key::kSourceIp;
    std::string name;  // of the header or the parameter
    Cookie cookie;
    bool maglev = false;                // else a ring
    uint64_t minimum_ring_size = 1024;  // of the ring
    uint64_t table_size = 65537;        // of maglev
  };
  struct Warmup {
    base::Duration duration{};
    double minimum_percent = 10;
    double aggression = 1;
  };
  Simple simple = Simple::kUnset;
  std::optional<ConsistentHash> hash;  // excludes simple
  std::optional<LocalityLb> locality;
  std::optional<Warmup> warmup;
};

// 0 in a number: no limit, or the default that the spec names.
struct ConnectionPool {
  enum class H2Upgrade : unsigned char { kDefault, kDoNotUpgrade, kUpgrade };
  struct Tcp {
    uint32_t max_connections = 0;
    std::optional<base::Duration> connect_timeout;
    std::optional<TcpKeepalive> keepalive;
    std::optional<base::Duration> max_connection_duration;
    std::optional<base::Duration> idle_timeout;  // 0: off
  };
  struct Http2KeepAlive {
    base::Duration interval{};
    base::Duration timeout{};
  };
  struct Http {
    uint32_t http1_max_pending_requests = 0;
    uint32_t http2_max_requests = 0;
    uint32_t max_requests_per_connection = 0;
    uint32_t max_retries = 0;
    std::optional<base::Duration> idle_timeout;
    H2Upgrade h2_upgrade = H2Upgrade::kDefault;
    bool use_client_protocol = false;
    uint32_t max_concurrent_streams = 0;
    std::optional<Http2KeepAlive> http2_keep_alive;
  };
  Tcp tcp;
  Http http;
};

struct OutlierDetection {
  uint32_t consecutive_5xx_errors = 5;      // 0: off
  uint32_t consecutive_gateway_errors = 0;  // 0: off
  bool split_local_origin = false;
  uint32_t consecutive_local_origin_failures = 5;
  std::vector<uint16_t> http_error_codes;  // count in place of 5xx
  base::Duration interval = std::chrono::seconds(10);
  base::Duration base_ejection_time = std::chrono::seconds(30);
  uint32_t max_ejection_percent = 10;
  uint32_t min_health_percent = 0;
  uint32_t min_request_volume = 0;  // our extension
};

struct ClientTls {
  enum class Mode : unsigned char { kDisable, kSimple, kMutual, kIstioMutual };
  Mode mode = Mode::kDisable;
  std::string client_certificate, private_key, ca_certificates, ca_crl;  // paths
  std::string credential_name;                                           // a Secret or a ConfigMap
  std::vector<std::string> subject_alt_names;
  std::string sni;
  bool insecure_skip_verify = false;
};

struct Tunnel {
  bool post = false;  // else CONNECT
  std::string target_host;
  uint16_t target_port = 0;
};

struct RetryBudget {
  double percent = 20;
  uint32_t min_retry_concurrency = 3;
  base::Duration interval{};
};

struct TrafficBlocks {
  std::optional<LoadBalancer> load_balancer;
  std::optional<ConnectionPool> connection_pool;
  std::optional<OutlierDetection> outlier_detection;
  std::optional<ClientTls> tls;
  std::optional<Tunnel> tunnel;
  std::optional<int> proxy_protocol;  // version 1 or 2
  std::optional<RetryBudget> retry_budget;
};

struct TrafficPolicy : TrafficBlocks {
  // An entry replaces every block of its level for that port. Has none of the last three blocks.
  std::map<uint16_t, TrafficBlocks> port_levels;
};

struct DestinationRule {
  struct Subset {
    std::string name;
    Labels labels;
    std::optional<TrafficPolicy> traffic_policy;
    int line = 0;
  };
  Meta meta;
  std::string host;
  std::optional<TrafficPolicy> traffic_policy;
  std::vector<Subset> subsets;  // of different names
  std::vector<std::string> export_to;
  std::optional<Labels> workload_selector;
};

}  // namespace culvert::kube
