// SPDX-License-Identifier: Apache-2.0
// Workload and Service: what the mesh is made of, as plain values (spec apis section 1.1). Decoded from the
// wire in mesh/xds, derived from manifests in control/compile; immutable once shared.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "mesh/model/identity.h"
#include "mesh/model/list.h"
#include "mesh/model/name.h"
#include "net/base/ip.h"

namespace culvert::model {

// The port of every HBONE listener.
inline constexpr uint16_t kHbonePort = 15008;

enum class TunnelProtocol : uint8_t { kNone, kHbone };
enum class HealthStatus : uint8_t { kHealthy, kUnhealthy };
enum class NetworkMode : uint8_t { kStandard, kHostNetwork };
enum class WorkloadType : uint8_t { kDeployment, kCronjob, kPod, kJob };
enum class AppProtocol : uint8_t { kUnknown, kHttp11, kHttp2, kGrpc, kTcp, kTls };
enum class IpFamilies : uint8_t { kAutomatic, kV4Only, kV6Only, kDual };
enum class Visibility : uint8_t { kPublic, kNamespace };
enum class BalanceMode : uint8_t { kUnspecified, kStrict, kFailover, kPassthrough };
enum class BalanceScope : uint8_t { kRegion, kZone, kSubzone, kNode, kCluster, kNetwork };
enum class HealthPolicy : uint8_t { kOnlyHealthy, kAllowAll };

// Lower case, as in baggage: "deployment", "cronjob", "pod", "job".
std::string_view to_string(WorkloadType type);
std::string_view to_string(TunnelProtocol protocol);  // "NONE", "HBONE"

struct Locality {
  Name region;
  Name zone;
  Name subzone;
  bool operator==(const Locality&) const = default;
};

struct NetworkAddress {
  Name network;
  base::IpAddr ip;
  std::string to_string() const;  // "network/ip"
  auto operator<=>(const NetworkAddress&) const = default;
  bool operator==(const NetworkAddress&) const = default;
};

struct NetworkCidr {
  Name network;
  base::Cidr range;
  auto operator<=>(const NetworkCidr&) const = default;
  bool operator==(const NetworkCidr&) const = default;
};

struct NamespacedHostname {
  Name ns;
  Name hostname;
  // Exactly one slash; either part may be empty.
  static base::Result<NamespacedHostname> parse(std::string_view text);
  std::string to_string() const;  // "ns/hostname"
  auto operator<=>(const NamespacedHostname&) const = default;
  bool operator==(const NamespacedHostname&) const = default;
};

struct PortMapping {
  uint16_t service_port = 0;
  uint16_t target_port = 0;  // 0 in a Service: a named port, which only endpoints map
  AppProtocol app_protocol = AppProtocol::kUnknown;
  bool operator==(const PortMapping&) const = default;
};

// A waypoint or a network gateway.
struct GatewayAddress {
  std::variant<NetworkAddress, NamespacedHostname> destination;
  uint16_t hbone_mtls_port = 0;
  std::string to_string() const;  // "network/ip:port" or "ns/hostname:port"
  bool operator==(const GatewayAddress&) const = default;
};

struct WeightedWaypoint {
  GatewayAddress destination;
  uint32_t weight = 0;
  bool operator==(const WeightedWaypoint&) const = default;
};

// How inbound traffic is handed to a proxy that sits in the workload.
struct AppTunnel {
  enum class Protocol : uint8_t { kNone, kProxy };
  Protocol protocol = Protocol::kNone;
  uint16_t port = 0;  // 0: keep the target port
  bool operator==(const AppTunnel&) const = default;
};

// The workload is an endpoint of `service`; `ports` override the service's own mapping.
struct Membership {
  NamespacedHostname service;
  List<PortMapping> ports;
  bool operator==(const Membership&) const = default;
};

// A mesh may have a million of them: every field counts (bench_ingest).
struct Workload {
  Name uid;  // primary key and xDS name; opaque
  Name name;
  Name ns;
  List<base::IpAddr> addresses;
  Name hostname;  // resolved at connect time if there is no usable address
  Name network;   // "" is the default network
  TunnelProtocol protocol = TunnelProtocol::kNone;
  NetworkMode network_mode = NetworkMode::kStandard;
  HealthStatus status = HealthStatus::kHealthy;
  WorkloadType type = WorkloadType::kDeployment;
  uint32_t capacity = 1;  // weight in the random choice; 0: never chosen
  Name trust_domain;
  Name service_account;
  Name node;
  Name cluster_id;
  Name canonical_name;
  Name canonical_revision;
  Name workload_name;
  Locality locality;
  Boxed<GatewayAddress> waypoint;         // for traffic addressed to the workload itself
  Boxed<GatewayAddress> network_gateway;  // for callers of other networks
  std::optional<AppTunnel> app_tunnel;
  bool native_tunnel = false;
  List<Name> authorization_policies;  // "ns/name" of selector policies
  List<Membership> services;          // sorted by service, no duplicates

  Identity identity() const { return {trust_domain, ns, service_account}; }
  // Its uid says that it is a pod ("//Pod/").
  bool is_pod() const { return uid.view().find("//Pod/") != std::string_view::npos; }
  // Null if it is no endpoint of that service.
  const Membership* membership(const NamespacedHostname& service) const;
  bool operator==(const Workload&) const = default;
};

struct LoadBalancing {
  std::vector<BalanceScope> routing_preference;
  BalanceMode mode = BalanceMode::kUnspecified;
  HealthPolicy health_policy = HealthPolicy::kOnlyHealthy;
  bool operator==(const LoadBalancing&) const = default;
};

struct Service {
  Name name;
  Name ns;  // with the hostname the primary key
  Name hostname;
  std::vector<NetworkAddress> vips;
  std::vector<NetworkCidr> cidr_vips;
  std::vector<PortMapping> ports;
  std::vector<std::string> subject_alt_names;  // as sent; unparsable ones count for nothing
  std::optional<GatewayAddress> waypoint;
  std::vector<WeightedWaypoint> weighted_waypoints;
  std::optional<LoadBalancing> load_balancing;
  IpFamilies ip_families = IpFamilies::kAutomatic;
  Visibility visibility = Visibility::kPublic;
  bool canonical = false;
  bool ingress_use_waypoint = false;

  NamespacedHostname key() const { return {ns, hostname}; }
  // Null if the service does not list the port.
  const PortMapping* port(uint16_t service_port) const;
  bool has_waypoint() const { return waypoint.has_value() || !weighted_waypoints.empty(); }
  bool passthrough() const { return load_balancing && load_balancing->mode == BalanceMode::kPassthrough; }
  bool admits_unhealthy() const {
    return load_balancing && load_balancing->health_policy == HealthPolicy::kAllowAll;
  }
  bool operator==(const Service&) const = default;
};

using WorkloadRef = std::shared_ptr<const Workload>;
using ServiceRef = std::shared_ptr<const Service>;

}  // namespace culvert::model

template <>
struct std::hash<culvert::model::NetworkAddress> {
  size_t operator()(const culvert::model::NetworkAddress& address) const noexcept;
};
template <>
struct std::hash<culvert::model::NamespacedHostname> {
  size_t operator()(const culvert::model::NamespacedHostname& name) const noexcept;
};
