// SPDX-License-Identifier: Apache-2.0
#include "mesh/xds/to_proto.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "net/base/bytes.h"
#include "proto/authorization.pb.h"
#include "proto/workload.pb.h"

namespace culvert::xds {
namespace {

namespace pbw = ::istio::workload;
namespace pbs = ::istio::security;

template <class Message>
std::string serialize(const Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return bytes;
}

std::string bytes_of(const base::IpAddr& ip) { return std::string(base::as_text(ip.bytes())); }

void set_gateway(pbw::GatewayAddress& to, const model::GatewayAddress& from) {
  if (const auto* address = std::get_if<model::NetworkAddress>(&from.destination)) {
    to.mutable_address()->set_network(address->network.str());
    to.mutable_address()->set_address(bytes_of(address->ip));
  } else {
    const auto& host = std::get<model::NamespacedHostname>(from.destination);
    to.mutable_hostname()->set_namespace_(host.ns.str());
    to.mutable_hostname()->set_hostname(host.hostname.str());
  }
  to.set_hbone_mtls_port(from.hbone_mtls_port);
}

void set_port(pbw::Port& to, const model::PortMapping& from) {
  to.set_service_port(from.service_port);
  to.set_target_port(from.target_port);
  to.set_app_protocol(static_cast<pbw::AppProtocol>(from.app_protocol));
}

// What the receiver fills in by itself is left out.
std::string elide(const model::Name& value, std::string_view fallback) {
  return value == fallback ? std::string() : value.str();
}

void set_optional_parts(pbw::Workload& to, const model::Workload& from) {
  if (from.waypoint) set_gateway(*to.mutable_waypoint(), *from.waypoint);
  if (from.network_gateway) set_gateway(*to.mutable_network_gateway(), *from.network_gateway);
  if (from.app_tunnel) {
    to.mutable_application_tunnel()->set_protocol(
        from.app_tunnel->protocol == model::AppTunnel::Protocol::kProxy ? pbw::ApplicationTunnel::PROXY
                                                                        : pbw::ApplicationTunnel::NONE);
    to.mutable_application_tunnel()->set_port(from.app_tunnel->port);
  }
  if (from.locality != model::Locality()) {
    to.mutable_locality()->set_region(from.locality.region.str());
    to.mutable_locality()->set_zone(from.locality.zone.str());
    to.mutable_locality()->set_subzone(from.locality.subzone.str());
  }
  if (from.capacity != 1) to.mutable_capacity()->set_value(from.capacity);
}

void set_workload(pbw::Workload& to, const model::Workload& from) {
  to.set_uid(from.uid.str());
  to.set_name(from.name.str());
  to.set_namespace_(from.ns.str());
  for (const auto& ip : from.addresses) to.add_addresses(bytes_of(ip));
  to.set_hostname(from.hostname.str());
  to.set_network(from.network.str());
  to.set_tunnel_protocol(from.protocol == model::TunnelProtocol::kHbone ? pbw::HBONE : pbw::NONE);
  to.set_trust_domain(elide(from.trust_domain, "cluster.local"));
  to.set_service_account(elide(from.service_account, "default"));
  to.set_node(from.node.str());
  to.set_canonical_name(from.canonical_name.str());
  to.set_canonical_revision(from.canonical_revision.str());
  to.set_workload_type(static_cast<pbw::WorkloadType>(from.type));
  to.set_workload_name(from.workload_name.str());
  to.set_native_tunnel(from.native_tunnel);
  for (const auto& key : from.authorization_policies) to.add_authorization_policies(key.str());
  to.set_status(from.status == model::HealthStatus::kHealthy ? pbw::HEALTHY : pbw::UNHEALTHY);
  to.set_cluster_id(elide(from.cluster_id, "Kubernetes"));
  for (const auto& member : from.services) {
    auto& list = (*to.mutable_services())[member.service.to_string()];
    for (const auto& port : member.ports) set_port(*list.add_ports(), port);
  }
  to.set_network_mode(from.network_mode == model::NetworkMode::kHostNetwork ? pbw::HOST_NETWORK
                                                                            : pbw::STANDARD);
  set_optional_parts(to, from);
}

void set_balancing(pbw::LoadBalancing& to, const model::LoadBalancing& from) {
  for (auto scope : from.routing_preference) {
    // The wire counts from one: zero is "unspecified".
    to.add_routing_preference(static_cast<pbw::LoadBalancing::Scope>(static_cast<int>(scope) + 1));
  }
  to.set_mode(static_cast<pbw::LoadBalancing::Mode>(from.mode));
  to.set_health_policy(static_cast<pbw::LoadBalancing::HealthPolicy>(from.health_policy));
}

void set_service(pbw::Service& to, const model::Service& from) {
  to.set_name(from.name.str());
  to.set_namespace_(from.ns.str());
  to.set_hostname(from.hostname.str());
  for (const auto& vip : from.vips) {
    auto& address = *to.add_addresses();
    address.set_network(vip.network.str());
    address.set_address(bytes_of(vip.ip));
  }
  for (const auto& vip : from.cidr_vips) {
    auto& address = *to.add_addresses();
    address.set_network(vip.network.str());
    address.set_address(bytes_of(vip.range.base()));
    address.set_length(static_cast<uint32_t>(vip.range.prefix_bits()));
  }
  for (const auto& port : from.ports) set_port(*to.add_ports(), port);
  for (const auto& name : from.subject_alt_names) to.add_subject_alt_names(name);
  if (from.waypoint) set_gateway(*to.mutable_waypoint(), *from.waypoint);
  for (const auto& choice : from.weighted_waypoints) {
    auto& weighted = *to.add_weighted_waypoints();
    set_gateway(*weighted.mutable_destination(), choice.destination);
    weighted.set_weight(choice.weight);
  }
  if (from.load_balancing) set_balancing(*to.mutable_load_balancing(), *from.load_balancing);
  to.set_ip_families(static_cast<pbw::IPFamilies>(from.ip_families));
  to.set_canonical(from.canonical);
  to.set_ingress_use_waypoint(from.ingress_use_waypoint);
  to.set_visibility(from.visibility == model::Visibility::kNamespace ? pbw::Service::NAMESPACE
                                                                     : pbw::Service::PUBLIC);
}

template <class Repeated>
void set_strings(Repeated* to, const std::vector<model::StringMatch>& from) {
  using Kind = model::StringMatch::Kind;
  for (const auto& match : from) {
    auto& entry = *to->Add();
    switch (match.kind) {
      case Kind::kExact: entry.set_exact(match.text.str()); break;
      case Kind::kPrefix: entry.set_prefix(match.text.str()); break;
      case Kind::kSuffix: entry.set_suffix(match.text.str()); break;
      case Kind::kPresence: entry.mutable_presence(); break;
    }
  }
}

template <class Repeated>
void set_ranges(Repeated* to, const std::vector<base::Cidr>& from) {
  for (const auto& range : from) {
    auto& entry = *to->Add();
    entry.set_address(bytes_of(range.base()));
    entry.set_length(static_cast<uint32_t>(range.prefix_bits()));
  }
}

template <class Repeated>
void set_accounts(Repeated* to, const std::vector<model::ServiceAccountMatch>& from) {
  for (const auto& match : from) {
    auto& entry = *to->Add();
    entry.set_namespace_(match.ns.str());
    entry.set_serviceaccount(match.service_account.str());
  }
}

void set_match(pbs::Match& to, const model::PolicyMatch& from) {
  set_strings(to.mutable_namespaces(), from.namespaces);
  set_strings(to.mutable_not_namespaces(), from.not_namespaces);
  set_strings(to.mutable_principals(), from.principals);
  set_strings(to.mutable_not_principals(), from.not_principals);
  set_ranges(to.mutable_source_ips(), from.source_ips);
  set_ranges(to.mutable_not_source_ips(), from.not_source_ips);
  set_ranges(to.mutable_destination_ips(), from.destination_ips);
  set_ranges(to.mutable_not_destination_ips(), from.not_destination_ips);
  for (uint16_t port : from.destination_ports) to.add_destination_ports(port);
  for (uint16_t port : from.not_destination_ports) to.add_not_destination_ports(port);
  set_accounts(to.mutable_service_accounts(), from.service_accounts);
  set_accounts(to.mutable_not_service_accounts(), from.not_service_accounts);
}

}  // namespace

std::string encode_address(const model::Workload& workload) {
  pbw::Address address;
  set_workload(*address.mutable_workload(), workload);
  return serialize(address);
}

std::string encode_address(const model::Service& service) {
  pbw::Address address;
  set_service(*address.mutable_service(), service);
  return serialize(address);
}

std::string encode_authorization(const model::Policy& policy) {
  pbs::Authorization to;
  to.set_name(policy.name.str());
  to.set_namespace_(policy.ns.str());
  to.set_scope(static_cast<pbs::Scope>(policy.scope));
  to.set_action(policy.action == model::PolicyAction::kDeny ? pbs::DENY : pbs::ALLOW);
  to.set_dry_run(policy.dry_run);
  for (const auto& rule : policy.rules) {
    auto& to_rule = *to.add_rules();
    for (const auto& clause : rule.clauses) {
      auto& to_clause = *to_rule.add_clauses();
      for (const auto& match : clause.matches) set_match(*to_clause.add_matches(), match);
    }
  }
  return serialize(to);
}

}  // namespace culvert::xds
