// SPDX-License-Identifier: Apache-2.0
#include "mesh/xds/from_proto.h"

#include <array>
#include <optional>
#include <string>

#include "proto/authorization.pb.h"
#include "proto/workload.pb.h"

namespace culvert::xds {
namespace {

namespace pbw = ::istio::workload;
namespace pbs = ::istio::security;
using base::Code;
using base::Result;
using model::Name;
using model::NamePool;

std::unexpected<base::Error> invalid(std::string message) {
  return base::fail(Code::kInvalid, std::move(message));
}

// C++ enums of proto3 are open: a number we do not know arrives like any other.
std::unexpected<base::Error> unknown_value(std::string_view field, int value) {
  return invalid("unknown " + std::string(field) + " " + std::to_string(value));
}

base::ByteView bytes_of(const std::string& text) { return base::as_bytes(text); }

Result<uint16_t> port_of(uint32_t value, std::string_view what) {
  if (value > 65535) return invalid(std::string(what) + " " + std::to_string(value) + " is above 65535");
  return static_cast<uint16_t>(value);
}

Result<base::IpAddr> address_of(const std::string& bytes) {
  if (bytes.size() != 4 && bytes.size() != 16) {
    return invalid("an address of " + std::to_string(bytes.size()) + " bytes is neither IPv4 nor IPv6");
  }
  return base::IpAddr::from_bytes(bytes_of(bytes));
}

// An IPv4-mapped IPv6 range is kept as the IPv4 range it stands for.
Result<base::Cidr> range_of(const std::string& bytes, uint32_t length) {
  auto ip = address_of(bytes);
  if (!ip) return base::fail(std::move(ip).error());
  int bits = static_cast<int>(std::min<uint32_t>(length, 1000));
  if (bits > static_cast<int>(bytes.size() * 8)) {
    return invalid("prefix length " + std::to_string(length) + " is longer than the address " +
                   ip->to_string());
  }
  if (bytes.size() == 16 && ip->is_v4()) {
    if (bits < 96) return invalid("prefix length " + std::to_string(length) + " of a mapped IPv4 address");
    bits -= 96;
  }
  return base::Cidr::make(*ip, bits);
}

Result<std::vector<model::PortMapping>> ports_of(const google::protobuf::RepeatedPtrField<pbw::Port>& ports) {
  std::vector<model::PortMapping> result;
  result.reserve(static_cast<size_t>(ports.size()));
  for (const auto& port : ports) {
    auto from = port_of(port.service_port(), "service port");
    if (!from) return base::fail(std::move(from).error());
    auto to = port_of(port.target_port(), "target port");
    if (!to) return base::fail(std::move(to).error());
    // Ignored at this layer; a number we do not know is no reason to refuse.
    auto protocol = pbw::AppProtocol_IsValid(port.app_protocol())
                        ? static_cast<model::AppProtocol>(port.app_protocol())
                        : model::AppProtocol::kUnknown;
    result.push_back({*from, *to, protocol});
  }
  return result;
}

Result<model::GatewayAddress> gateway_of(const pbw::GatewayAddress& gateway, NamePool& names) {
  model::GatewayAddress result;
  switch (gateway.destination_case()) {
    case pbw::GatewayAddress::kHostname:
      result.destination = model::NamespacedHostname{names.intern(gateway.hostname().namespace_()),
                                                     names.intern(gateway.hostname().hostname())};
      break;
    case pbw::GatewayAddress::kAddress: {
      auto ip = address_of(gateway.address().address());
      if (!ip) return base::fail(std::move(ip).error());
      result.destination = model::NetworkAddress{names.intern(gateway.address().network()), *ip};
      break;
    }
    default: return invalid("gateway without a destination");
  }
  auto port = port_of(gateway.hbone_mtls_port(), "gateway port");
  if (!port) return base::fail(std::move(port).error());
  result.hbone_mtls_port = *port;
  return result;
}

Result<std::optional<model::AppTunnel>> tunnel_of(const pbw::Workload& workload) {
  if (!workload.has_application_tunnel()) return std::nullopt;
  const auto& tunnel = workload.application_tunnel();
  model::AppTunnel result;
  switch (tunnel.protocol()) {
    case pbw::ApplicationTunnel::NONE: break;
    case pbw::ApplicationTunnel::PROXY: result.protocol = model::AppTunnel::Protocol::kProxy; break;
    default: return unknown_value("application tunnel protocol", tunnel.protocol());
  }
  auto port = port_of(tunnel.port(), "application tunnel port");
  if (!port) return base::fail(std::move(port).error());
  result.port = *port;
  return result;
}

std::string_view or_default(const std::string& text, std::string_view fallback) {
  return text.empty() ? fallback : std::string_view(text);
}

Result<> set_enums(model::Workload& to, const pbw::Workload& from) {
  switch (from.tunnel_protocol()) {
    case pbw::NONE: to.protocol = model::TunnelProtocol::kNone; break;
    case pbw::HBONE: to.protocol = model::TunnelProtocol::kHbone; break;
    case pbw::LEGACY_ISTIO_MTLS: return invalid("tunnel protocol LEGACY_ISTIO_MTLS is not supported");
    default: return unknown_value("tunnel protocol", from.tunnel_protocol());
  }
  switch (from.network_mode()) {
    case pbw::STANDARD: to.network_mode = model::NetworkMode::kStandard; break;
    case pbw::HOST_NETWORK: to.network_mode = model::NetworkMode::kHostNetwork; break;
    default: return unknown_value("network mode", from.network_mode());
  }
  switch (from.status()) {
    case pbw::HEALTHY: to.status = model::HealthStatus::kHealthy; break;
    case pbw::UNHEALTHY: to.status = model::HealthStatus::kUnhealthy; break;
    default: return unknown_value("status", from.status());
  }
  // Telemetry only: an unknown type counts as the default.
  to.type = pbw::WorkloadType_IsValid(from.workload_type())
                ? static_cast<model::WorkloadType>(from.workload_type())
                : model::WorkloadType::kDeployment;
  return {};
}

Result<> set_memberships(model::Workload& to, const pbw::Workload& from, NamePool& names) {
  std::vector<model::Membership> services;
  for (const auto& [key, list] : from.services()) {
    // The hostname part may hold no slash of its own; the first one separates.
    size_t slash = key.find('/');
    if (slash == std::string::npos) return invalid("service key \"" + key + "\" is not namespace/hostname");
    std::string_view text = key;
    auto ports = ports_of(list.ports());
    if (!ports) return base::fail(std::move(ports).error().wrap("service " + key));
    services.push_back(
        {{names.intern(text.substr(0, slash)), names.intern(text.substr(slash + 1))}, *std::move(ports)});
  }
  to.services = services;
  return {};
}

Result<model::Workload> workload_of(const pbw::Workload& from, NamePool& names) {
  model::Workload to;
  if (from.uid().empty()) return invalid("workload without uid");
  to.uid = from.uid();
  to.name = from.name();
  to.ns = names.intern(from.namespace_());
  for (const auto& bytes : from.addresses()) {
    auto ip = address_of(bytes);
    if (!ip) return base::fail(std::move(ip).error());
    to.addresses.push_back(*ip);
  }
  to.hostname = names.intern(from.hostname());
  to.network = names.intern(from.network());
  CULVERT_TRY(set_enums(to, from));
  to.native_tunnel = from.native_tunnel();
  to.capacity = from.has_capacity() ? from.capacity().value() : 1;
  to.trust_domain = names.intern(or_default(from.trust_domain(), "cluster.local"));
  to.service_account = names.intern(or_default(from.service_account(), "default"));
  to.cluster_id = names.intern(or_default(from.cluster_id(), "Kubernetes"));
  to.node = names.intern(from.node());
  to.canonical_name = names.intern(from.canonical_name());
  to.canonical_revision = names.intern(from.canonical_revision());
  to.workload_name = names.intern(from.workload_name());
  to.locality = {names.intern(from.locality().region()), names.intern(from.locality().zone()),
                 names.intern(from.locality().subzone())};
  if (from.has_waypoint()) {
    auto gateway = gateway_of(from.waypoint(), names);
    if (!gateway) return base::fail(std::move(gateway).error().wrap("waypoint"));
    to.waypoint = *std::move(gateway);
  }
  if (from.has_network_gateway()) {
    auto gateway = gateway_of(from.network_gateway(), names);
    if (!gateway) return base::fail(std::move(gateway).error().wrap("network gateway"));
    to.network_gateway = *std::move(gateway);
  }
  auto tunnel = tunnel_of(from);
  if (!tunnel) return base::fail(std::move(tunnel).error());
  to.app_tunnel = *tunnel;
  for (const auto& key : from.authorization_policies())
    to.authorization_policies.push_back(names.intern(key));
  CULVERT_TRY(set_memberships(to, from, names));
  return to;
}

Result<model::LoadBalancing> balancing_of(const pbw::LoadBalancing& from) {
  using model::BalanceScope;
  model::LoadBalancing to;
  for (int scope : from.routing_preference()) {
    switch (scope) {
      case pbw::LoadBalancing::REGION: to.routing_preference.push_back(BalanceScope::kRegion); break;
      case pbw::LoadBalancing::ZONE: to.routing_preference.push_back(BalanceScope::kZone); break;
      case pbw::LoadBalancing::SUBZONE: to.routing_preference.push_back(BalanceScope::kSubzone); break;
      case pbw::LoadBalancing::NODE: to.routing_preference.push_back(BalanceScope::kNode); break;
      case pbw::LoadBalancing::CLUSTER: to.routing_preference.push_back(BalanceScope::kCluster); break;
      case pbw::LoadBalancing::NETWORK: to.routing_preference.push_back(BalanceScope::kNetwork); break;
      default: return unknown_value("load balancing scope", scope);
    }
  }
  switch (from.mode()) {
    case pbw::LoadBalancing::UNSPECIFIED_MODE: to.mode = model::BalanceMode::kUnspecified; break;
    case pbw::LoadBalancing::STRICT: to.mode = model::BalanceMode::kStrict; break;
    case pbw::LoadBalancing::FAILOVER: to.mode = model::BalanceMode::kFailover; break;
    case pbw::LoadBalancing::PASSTHROUGH: to.mode = model::BalanceMode::kPassthrough; break;
    default: return unknown_value("load balancing mode", from.mode());
  }
  switch (from.health_policy()) {
    case pbw::LoadBalancing::ONLY_HEALTHY: to.health_policy = model::HealthPolicy::kOnlyHealthy; break;
    case pbw::LoadBalancing::ALLOW_ALL: to.health_policy = model::HealthPolicy::kAllowAll; break;
    default: return unknown_value("health policy", from.health_policy());
  }
  return to;
}

Result<> set_vips(model::Service& to, const pbw::Service& from, NamePool& names) {
  for (const auto& address : from.addresses()) {
    Name network = names.intern(address.network());
    uint32_t full = static_cast<uint32_t>(address.address().size() * 8);
    auto range = range_of(address.address(), address.has_length() ? address.length() : full);
    if (!range) return base::fail(std::move(range).error().wrap("service address"));
    if (range->is_host()) {
      to.vips.push_back({network, range->base()});
    } else {
      to.cidr_vips.push_back({network, *range});
    }
  }
  return {};
}

Result<> set_waypoints(model::Service& to, const pbw::Service& from, NamePool& names) {
  if (from.has_waypoint()) {
    auto gateway = gateway_of(from.waypoint(), names);
    if (!gateway) return base::fail(std::move(gateway).error().wrap("waypoint"));
    to.waypoint = *std::move(gateway);
  }
  for (const auto& choice : from.weighted_waypoints()) {
    auto gateway = gateway_of(choice.destination(), names);
    if (!gateway) return base::fail(std::move(gateway).error().wrap("weighted waypoint"));
    to.weighted_waypoints.push_back({*std::move(gateway), choice.weight()});
  }
  return {};
}

Result<model::Service> service_of(const pbw::Service& from, NamePool& names) {
  model::Service to;
  if (from.hostname().empty()) return invalid("service without hostname");
  to.name = names.intern(from.name());
  to.ns = names.intern(from.namespace_());
  to.hostname = names.intern(from.hostname());
  CULVERT_TRY(set_vips(to, from, names));
  auto ports = ports_of(from.ports());
  if (!ports) return base::fail(std::move(ports).error());
  to.ports = *std::move(ports);
  to.subject_alt_names.assign(from.subject_alt_names().begin(), from.subject_alt_names().end());
  CULVERT_TRY(set_waypoints(to, from, names));
  if (from.has_load_balancing()) {
    auto balancing = balancing_of(from.load_balancing());
    if (!balancing) return base::fail(std::move(balancing).error());
    to.load_balancing = *std::move(balancing);
  }
  switch (from.ip_families()) {
    case pbw::AUTOMATIC: to.ip_families = model::IpFamilies::kAutomatic; break;
    case pbw::IPV4_ONLY: to.ip_families = model::IpFamilies::kV4Only; break;
    case pbw::IPV6_ONLY: to.ip_families = model::IpFamilies::kV6Only; break;
    case pbw::DUAL: to.ip_families = model::IpFamilies::kDual; break;
    default: return unknown_value("ip families", from.ip_families());
  }
  // An unknown visibility counts as public, as upstream has it.
  to.visibility = from.visibility() == pbw::Service::NAMESPACE ? model::Visibility::kNamespace
                                                               : model::Visibility::kPublic;
  to.canonical = from.canonical();
  to.ingress_use_waypoint = from.ingress_use_waypoint();
  return to;
}

using StringMatches = google::protobuf::RepeatedPtrField<pbs::StringMatch>;

// An entry without a kind we know is refused with its policy: left out, it would widen what the policy
// matches.
Result<std::vector<model::StringMatch>> strings_of(const StringMatches& from, NamePool& names) {
  using Kind = model::StringMatch::Kind;
  std::vector<model::StringMatch> to;
  for (const auto& match : from) {
    switch (match.match_type_case()) {
      case pbs::StringMatch::kExact: to.push_back({Kind::kExact, names.intern(match.exact())}); break;
      case pbs::StringMatch::kPrefix: to.push_back({Kind::kPrefix, names.intern(match.prefix())}); break;
      case pbs::StringMatch::kSuffix: to.push_back({Kind::kSuffix, names.intern(match.suffix())}); break;
      case pbs::StringMatch::kPresence: to.push_back({Kind::kPresence, Name()}); break;
      default: return invalid("a string match of no known kind");
    }
  }
  return to;
}

Result<std::vector<base::Cidr>> ranges_of(const google::protobuf::RepeatedPtrField<pbs::Address>& from) {
  std::vector<base::Cidr> to;
  for (const auto& address : from) {
    auto range = range_of(address.address(), address.length());
    if (!range) return base::fail(std::move(range).error());
    to.push_back(*range);
  }
  return to;
}

Result<std::vector<uint16_t>> port_list_of(const google::protobuf::RepeatedField<uint32_t>& from) {
  std::vector<uint16_t> to;
  for (uint32_t value : from) {
    auto port = port_of(value, "destination port");
    if (!port) return base::fail(std::move(port).error());
    to.push_back(*port);
  }
  return to;
}

std::vector<model::ServiceAccountMatch> accounts_of(
    const google::protobuf::RepeatedPtrField<pbs::ServiceAccountMatch>& from, NamePool& names) {
  std::vector<model::ServiceAccountMatch> to;
  for (const auto& match : from) {
    to.push_back({names.intern(match.namespace_()), names.intern(match.serviceaccount())});
  }
  return to;
}

// Moves a list that may fail to decode into its place.
template <class T>
Result<> take(T& to, Result<T> from) {
  if (!from) return base::fail(std::move(from).error());
  to = *std::move(from);
  return {};
}

Result<model::PolicyMatch> match_of(const pbs::Match& from, NamePool& names) {
  model::PolicyMatch to;
  CULVERT_TRY(take(to.namespaces, strings_of(from.namespaces(), names)));
  CULVERT_TRY(take(to.not_namespaces, strings_of(from.not_namespaces(), names)));
  CULVERT_TRY(take(to.principals, strings_of(from.principals(), names)));
  CULVERT_TRY(take(to.not_principals, strings_of(from.not_principals(), names)));
  CULVERT_TRY(take(to.source_ips, ranges_of(from.source_ips())));
  CULVERT_TRY(take(to.not_source_ips, ranges_of(from.not_source_ips())));
  CULVERT_TRY(take(to.destination_ips, ranges_of(from.destination_ips())));
  CULVERT_TRY(take(to.not_destination_ips, ranges_of(from.not_destination_ips())));
  CULVERT_TRY(take(to.destination_ports, port_list_of(from.destination_ports())));
  CULVERT_TRY(take(to.not_destination_ports, port_list_of(from.not_destination_ports())));
  to.service_accounts = accounts_of(from.service_accounts(), names);
  to.not_service_accounts = accounts_of(from.not_service_accounts(), names);
  return to;
}

Result<model::Policy> policy_of(const pbs::Authorization& from, NamePool& names) {
  model::Policy to;
  if (from.name().empty()) return invalid("policy without name");
  to.name = names.intern(from.name());
  to.ns = names.intern(from.namespace_());
  switch (from.scope()) {
    case pbs::GLOBAL: to.scope = model::PolicyScope::kGlobal; break;
    case pbs::NAMESPACE: to.scope = model::PolicyScope::kNamespace; break;
    case pbs::WORKLOAD_SELECTOR: to.scope = model::PolicyScope::kWorkloadSelector; break;
    default: return unknown_value("policy scope", from.scope());
  }
  if (to.scope == model::PolicyScope::kNamespace && to.ns.empty()) {
    return invalid("policy of namespace scope without a namespace");
  }
  switch (from.action()) {
    case pbs::ALLOW: to.action = model::PolicyAction::kAllow; break;
    case pbs::DENY: to.action = model::PolicyAction::kDeny; break;
    default: return unknown_value("policy action", from.action());
  }
  to.dry_run = from.dry_run();
  for (const auto& rule : from.rules()) {
    auto& to_rule = to.rules.emplace_back();
    for (const auto& clause : rule.clauses()) {
      auto& to_clause = to_rule.clauses.emplace_back();
      for (const auto& match : clause.matches()) {
        auto decoded = match_of(match, names);
        if (!decoded) return base::fail(std::move(decoded).error());
        to_clause.matches.push_back(*std::move(decoded));
      }
    }
  }
  return to;
}

Result<> check_name(std::string_view xds_name, std::string_view own) {
  if (xds_name.empty() || xds_name == own) return {};
  return invalid("the resource inside is named \"" + std::string(own) + "\"");
}

}  // namespace

Result<AddressResource> decode_address(base::ByteView bytes, std::string_view xds_name, NamePool& names) {
  pbw::Address address;
  if (!address.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return invalid("not a serialized istio.workload.Address");
  }
  switch (address.type_case()) {
    case pbw::Address::kWorkload: {
      auto workload = workload_of(address.workload(), names);
      if (!workload) return base::fail(std::move(workload).error());
      CULVERT_TRY(check_name(xds_name, workload->uid));
      return *std::move(workload);
    }
    case pbw::Address::kService: {
      auto service = service_of(address.service(), names);
      if (!service) return base::fail(std::move(service).error());
      CULVERT_TRY(check_name(xds_name, service->key().to_string()));
      return *std::move(service);
    }
    default: return invalid("an Address with neither workload nor service");
  }
}

Result<model::Policy> decode_authorization(base::ByteView bytes, std::string_view xds_name, NamePool& names) {
  pbs::Authorization authorization;
  if (!authorization.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return invalid("not a serialized istio.security.Authorization");
  }
  auto policy = policy_of(authorization, names);
  if (!policy) return base::fail(std::move(policy).error());
  CULVERT_TRY(check_name(xds_name, policy->key()));
  return policy;
}

}  // namespace culvert::xds
