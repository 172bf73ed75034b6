// SPDX-License-Identifier: Apache-2.0
// Backend: how a service's endpoints are reached: balancing, pools and their limits, outlier detection, TLS
// (spec waypoint section 2.3, 2.5). Plain values; inheritance is resolved by the control plane.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mesh/model/route.h"
#include "mesh/model/workload.h"
#include "net/base/duration.h"

namespace culvert::model {

inline constexpr uint32_t kNoLimit = std::numeric_limits<uint32_t>::max();

struct HashPolicy {
  enum class Kind : uint8_t { kHeader, kQuery, kSourceIp, kCookie };
  Kind kind = Kind::kSourceIp;
  std::string name;  // header (lower case), parameter or cookie
  // Cookies only. No ttl: never made by us; 0: for the session.
  std::optional<base::Duration> ttl;
  std::string path;
  std::vector<std::pair<std::string, std::string>> attributes;
  bool operator==(const HashPolicy&) const = default;
};

struct LocalityPreference {
  // Where traffic of a locality ("region/zone/subzone", "*" at the end) goes, in percent.
  struct Distribute {
    std::string from;
    std::map<std::string, uint32_t> to;
    bool operator==(const Distribute&) const = default;
  };
  bool enabled = true;
  std::vector<Distribute> distribute;
  std::vector<std::pair<std::string, std::string>> failover;  // region to region
  std::vector<std::string> failover_priority;                 // labels, "key" or "key=value"
  // Priorities count only with outlier detection or a traffic distribution.
  bool effective = false;
  bool operator==(const LocalityPreference&) const = default;
};

struct Balancer {
  enum class Kind : uint8_t { kLeastRequest, kRoundRobin, kRandom, kPassthrough, kRingHash, kMaglev };
  Kind kind = Kind::kLeastRequest;
  std::optional<HashPolicy> hash;  // of kRingHash and kMaglev
  uint64_t table_size = 0;         // ring: at least (1024); maglev: exactly (65537). 0: that default
  LocalityPreference locality;
  base::Duration warmup{0};  // 0: none
  double warmup_percent_min = 10;
  double warmup_aggression = 1.0;
  bool operator==(const Balancer&) const = default;
};

// Limits are per waypoint process and per (service, port, subset).
struct PoolLimits {
  enum class Upgrade : uint8_t { kDefault, kUpgrade, kDoNotUpgrade };
  uint32_t connections_max = kNoLimit;
  uint32_t pending_max = kNoLimit;
  uint32_t requests_max = kNoLimit;
  uint32_t requests_per_connection_max = 0;  // 0: no limit
  uint32_t retries_max = kNoLimit;
  uint32_t streams_max = kNoLimit;  // per HTTP/2 connection
  base::Duration connect_timeout = std::chrono::seconds(10);
  base::Duration tcp_idle_timeout = std::chrono::hours(1);   // 0: off
  base::Duration http_idle_timeout = std::chrono::hours(1);  // 0: off
  base::Duration connection_duration_max{0};                 // 0: none
  uint32_t keepalive_probes = 0;                             // 0: the system's
  base::Duration keepalive_time{0}, keepalive_interval{0};
  base::Duration ping_interval{0}, ping_timeout{0};  // HTTP/2; 0: off
  Upgrade upgrade = Upgrade::kDefault;
  bool use_client_protocol = false;
  bool operator==(const PoolLimits&) const = default;
};

struct OutlierDetection {
  uint32_t consecutive_5xx = 5;  // 0: off
  uint32_t consecutive_gateway_errors = 0;
  bool split_local_errors = false;
  uint32_t consecutive_local_errors = 5;
  std::vector<std::pair<uint16_t, uint16_t>> error_codes;  // ranges that count instead of 5xx; empty: 5xx
  base::Duration interval = std::chrono::seconds(10);
  base::Duration base_ejection_time = std::chrono::seconds(30);
  uint32_t ejection_percent_max = 10;
  uint32_t health_percent_min = 0;
  uint32_t request_volume_min = 0;  // of the current interval; our extension
  bool operator==(const OutlierDetection&) const = default;
};

// TLS towards endpoints, inside the tunnel if there is one.
struct BackendTls {
  bool verify = true;
  std::string server_name;                     // "" the service's hostname
  std::vector<std::string> subject_alt_names;  // empty: server_name
  std::string roots;                           // PEM; "" the system's
  std::string certificate, key;                // PEM of our own; "" none
  std::string key_owner;                       // the namespace whose waypoints alone may be told `key`
  // Not empty: the policy cannot be carried out, and the backend refuses with this reason.
  std::string broken;
  bool operator==(const BackendTls&) const = default;
};

// Connections without HTTP go on inside a CONNECT to `authority`, which the endpoint is asked for.
struct HttpTunnel {
  std::string authority;
  std::string broken;  // not empty: cannot be carried out, as in BackendTls
  bool operator==(const HttpTunnel&) const = default;
};

struct RetryBudget {
  double percent = 20;
  uint32_t concurrency_min = 3;
  bool operator==(const RetryBudget&) const = default;
};

struct TrafficPolicy {
  Balancer balancer;
  PoolLimits pool;
  std::optional<OutlierDetection> outliers;
  std::optional<BackendTls> tls;
  std::optional<RetryBudget> retry_budget;
  uint8_t proxy_protocol = 0;  // 0 none, 1, 2
  std::optional<HttpTunnel> tunnel;
  std::optional<SessionPersistence> session;  // of requests whose route says nothing about it
  bool operator==(const TrafficPolicy&) const = default;
};

// A policy for all ports and what differs by port.
struct PortedPolicy {
  TrafficPolicy all;
  std::map<uint16_t, TrafficPolicy> by_port;
  const TrafficPolicy& of(uint16_t port) const {
    auto found = by_port.find(port);
    return found == by_port.end() ? all : found->second;
  }
  bool operator==(const PortedPolicy&) const = default;
};

struct Subset {
  std::string name;
  LabelMap labels;  // endpoints whose pod has all of them
  PortedPolicy policy;
  bool operator==(const Subset&) const = default;
};

// One for every service a waypoint may send to.
struct Backend {
  NamespacedHostname service;
  PortedPolicy policy;
  std::vector<Subset> subsets;
  // Endpoints that are names (section 2.5): each connection goes to the first address alone, or to whichever
  // of them answers first. Neither: all addresses are endpoints.
  enum class Names : uint8_t { kAll, kFirst, kRace };
  Names names = Names::kAll;
  const Subset* subset(std::string_view name) const;
  bool operator==(const Backend&) const = default;
};

}  // namespace culvert::model
