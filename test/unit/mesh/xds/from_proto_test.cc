// SPDX-License-Identifier: Apache-2.0
#include "mesh/xds/from_proto.h"

#include <catch2/catch.hpp>
#include <functional>

#include "mesh/xds/to_proto.h"
#include "proto/authorization.pb.h"
#include "proto/workload.pb.h"
#include "test/unit/mesh/model/build_mesh.h"

namespace culvert::test {
namespace {

namespace pbw = ::istio::workload;
namespace pbs = ::istio::security;
using xds::decode_address;
using xds::decode_authorization;

// Empty: accepted; else the reason.
std::string refusal(const pbw::Address& address, std::string_view name = {}) {
  model::NamePool names;
  std::string bytes = address.SerializeAsString();
  auto result = decode_address(base::as_bytes(bytes), name, names);
  return result ? "" : result.error().message();
}
std::string refusal(const pbs::Authorization& policy, std::string_view name = {}) {
  model::NamePool names;
  std::string bytes = policy.SerializeAsString();
  auto result = decode_authorization(base::as_bytes(bytes), name, names);
  return result ? "" : result.error().message();
}

pbw::Address workload(const std::function<void(pbw::Workload&)>& edit) {
  pbw::Address address;
  address.mutable_workload()->set_uid("c//Pod/ns/a");
  edit(*address.mutable_workload());
  return address;
}
pbw::Address service(const std::function<void(pbw::Service&)>& edit) {
  pbw::Address address;
  address.mutable_service()->set_namespace_("ns");
  address.mutable_service()->set_hostname("svc");
  edit(*address.mutable_service());
  return address;
}
pbs::Authorization policy(const std::function<void(pbs::Match&)>& edit) {
  pbs::Authorization result;
  result.set_name("p");
  result.set_namespace_("ns");
  edit(*result.add_rules()->add_clauses()->add_matches());
  return result;
}

}  // namespace

TEST_CASE("what is left out has its default") {
  model::NamePool names;
  std::string bytes = workload([](auto&) {}).SerializeAsString();
  auto decoded = decode_address(base::as_bytes(bytes), "c//Pod/ns/a", names);
  REQUIRE(decoded);
  const auto& w = std::get<model::Workload>(*decoded);
  CHECK(w.trust_domain == "cluster.local");
  CHECK(w.service_account == "default");
  CHECK(w.cluster_id == "Kubernetes");
  CHECK(w.capacity == 1);
  bytes = workload([](auto& m) { m.mutable_capacity()->set_value(0); }).SerializeAsString();
  CHECK(std::get<model::Workload>(*decode_address(base::as_bytes(bytes), "", names)).capacity == 0);
}

TEST_CASE("bad workloads are refused as a whole", "[apis8][R21]") {
  CHECK(refusal(pbw::Address()) == "an Address with neither workload nor service");
  for (size_t length : {0u, 1u, 3u, 5u, 9u, 15u, 17u}) {
    CHECK(refusal(workload([&](auto& m) { m.add_addresses(std::string(length, 'x')); })) != "");
  }
  CHECK(refusal(workload([](auto& m) { m.add_addresses(std::string(4, 'x')); })) == "");
  CHECK(refusal(workload([](auto& m) { m.add_addresses(std::string(16, 'x')); })) == "");
  CHECK(refusal(workload([](auto& m) { m.set_uid(""); })) != "");
  CHECK(refusal(workload([](auto& m) { m.set_tunnel_protocol(pbw::LEGACY_ISTIO_MTLS); })) != "");
  CHECK(refusal(workload([](auto& m) { m.set_tunnel_protocol(static_cast<pbw::TunnelProtocol>(9)); })) ==
        "unknown tunnel protocol 9");
  CHECK(refusal(workload([](auto& m) { m.set_network_mode(static_cast<pbw::NetworkMode>(9)); })) != "");
  CHECK(refusal(workload([](auto& m) { m.set_status(static_cast<pbw::WorkloadStatus>(9)); })) != "");
  CHECK(refusal(workload([](auto& m) { m.set_workload_type(static_cast<pbw::WorkloadType>(9)); })) == "");
  CHECK(refusal(workload([](auto& m) { m.mutable_waypoint()->set_hbone_mtls_port(1); })) ==
        "waypoint: gateway without a destination");
  CHECK(refusal(workload([](auto& m) { m.mutable_network_gateway(); })) != "");
  CHECK(refusal(workload([](auto& m) {
          m.mutable_waypoint()->mutable_address()->set_address(std::string(9, 'x'));
        })) != "");
  CHECK(refusal(workload([](auto& m) {
          m.mutable_application_tunnel()->set_protocol(static_cast<pbw::ApplicationTunnel::Protocol>(7));
        })) != "");
  CHECK(refusal(workload([](auto& m) { m.mutable_application_tunnel()->set_port(70000); })) != "");
  CHECK(refusal(workload([](auto& m) { (*m.mutable_services())["no-slash"]; })) != "");
  CHECK(refusal(workload(
            [](auto& m) { (*m.mutable_services())["ns/svc"].add_ports()->set_target_port(70000); })) != "");
  CHECK(refusal(workload([](auto&) {}), "another-name") == "the resource inside is named \"c//Pod/ns/a\"");
}

TEST_CASE("bad services are refused as a whole", "[apis8][apis12]") {
  CHECK(refusal(service([](auto&) {}), "ns/svc") == "");
  CHECK(refusal(service([](auto&) {}), "ns/other") != "");
  CHECK(refusal(service([](auto& m) { m.add_addresses()->set_address(std::string(9, 'x')); })) != "");
  auto with_length = [](size_t bytes, uint32_t length) {
    return service([&](auto& m) {
      m.add_addresses()->set_address(std::string(bytes, 'x'));
      m.mutable_addresses(0)->set_length(length);
    });
  };
  CHECK(refusal(with_length(4, 32)) == "");
  CHECK(refusal(with_length(4, 8)) == "");
  CHECK(refusal(with_length(4, 0)) == "");
  CHECK(refusal(with_length(4, 33)) != "");
  CHECK(refusal(with_length(16, 128)) == "");
  CHECK(refusal(with_length(16, 129)) != "");
  CHECK(refusal(with_length(16, 4294967295u)) != "");
  CHECK(refusal(service([](auto& m) { m.add_ports()->set_service_port(65536); })) != "");
  CHECK(refusal(service([](auto& m) { m.add_weighted_waypoints()->set_weight(5); })) != "");
  CHECK(refusal(service([](auto& m) { m.mutable_waypoint(); })) != "");
  CHECK(refusal(service([](auto& m) { m.set_ip_families(static_cast<pbw::IPFamilies>(9)); })) != "");
  CHECK(refusal(service([](auto& m) { m.set_visibility(static_cast<pbw::Service::Visibility>(9)); })) == "");
  CHECK(refusal(service([](auto& m) {
          m.mutable_load_balancing()->add_routing_preference(pbw::LoadBalancing::UNSPECIFIED_SCOPE);
        })) != "");
  CHECK(refusal(service([](auto& m) {
          m.mutable_load_balancing()->set_mode(static_cast<pbw::LoadBalancing::Mode>(9));
        })) != "");
  CHECK(refusal(service([](auto& m) {
          m.mutable_load_balancing()->set_health_policy(static_cast<pbw::LoadBalancing::HealthPolicy>(9));
        })) != "");
}

TEST_CASE("a full width length is a host, a shorter one a range") {
  model::NamePool names;
  auto decoded = [&](uint32_t length) {
    std::string bytes = service([&](auto& m) {
                          m.add_addresses()->set_address(std::string("\x0a\x01\x02\x03", 4));
                          if (length != 99) m.mutable_addresses(0)->set_length(length);
                        }).SerializeAsString();
    return std::get<model::Service>(*decode_address(base::as_bytes(bytes), "", names));
  };
  CHECK(decoded(99).vips == std::vector{model::NetworkAddress{"", ip("10.1.2.3")}});
  CHECK(decoded(32).vips.size() == 1);
  CHECK(decoded(8).cidr_vips == std::vector{model::NetworkCidr{"", cidr("10.0.0.0/8")}});
}

TEST_CASE("bad policies are refused as a whole", "[apis13][R21]") {
  CHECK(refusal(policy([](auto&) {}), "ns/p") == "");
  CHECK(refusal(policy([](auto&) {}), "ns/q") != "");
  auto range = [](size_t bytes, uint32_t length) {
    return policy([&](auto& m) {
      m.add_not_source_ips()->set_address(std::string(bytes, 'x'));
      m.mutable_not_source_ips(0)->set_length(length);
    });
  };
  CHECK(refusal(range(4, 0)) == "");
  CHECK(refusal(range(4, 33)) != "");
  CHECK(refusal(range(5, 8)) != "");
  CHECK(refusal(policy([](auto& m) { m.add_destination_ports(65536); })) != "");
  CHECK(refusal(policy([](auto& m) { m.add_not_destination_ports(65535); })) == "");
  // A kind of match newer than this build: without the entry the policy would match more.
  CHECK(refusal(policy([](auto& m) { m.add_principals(); })) != "");
  auto bad_scope = policy([](auto&) {});
  bad_scope.set_scope(static_cast<pbs::Scope>(9));
  CHECK(refusal(bad_scope) == "unknown policy scope 9");
  auto bad_action = policy([](auto&) {});
  bad_action.set_action(static_cast<pbs::Action>(9));
  CHECK(refusal(bad_action) != "");
  auto no_namespace = policy([](auto&) {});
  no_namespace.set_namespace_("");
  no_namespace.set_scope(pbs::NAMESPACE);
  CHECK(refusal(no_namespace) != "");
}

TEST_CASE("a range of length zero is everything", "[apis13]") {
  model::NamePool names;
  std::string bytes =
      policy([](auto& m) { m.add_source_ips()->set_address(std::string(4, 'x')); }).SerializeAsString();
  auto decoded = decode_authorization(base::as_bytes(bytes), "", names);
  REQUIRE(decoded);
  CHECK(decoded->rules[0].clauses[0].matches[0].source_ips[0].contains(ip("1.2.3.4")));
}

TEST_CASE("values survive the wire") {
  model::NamePool names;
  auto w = pod("ns", "a", {"10.0.0.1", "2001:db8::1"});
  member(w, "ns/svc", {{80, 8080}, {443, 8443}});
  w.hostname = "h";
  w.network = "net";
  w.node = "node";
  w.capacity = 0;
  w.native_tunnel = true;
  w.locality = {"r", "z", "s"};
  w.waypoint = gateway("ns/wp");
  w.network_gateway = gateway("net/10.9.9.9", 15009);
  w.app_tunnel = model::AppTunnel{model::AppTunnel::Protocol::kProxy, 15088};
  w.authorization_policies = {"ns/p"};
  w.status = model::HealthStatus::kUnhealthy;
  w.network_mode = model::NetworkMode::kHostNetwork;
  w.type = model::WorkloadType::kJob;
  w.workload_name = "wn";
  w.canonical_name = "cn";
  w.canonical_revision = "cr";
  std::string bytes = xds::encode_address(w);
  CHECK(bytes == xds::encode_address(w));
  auto back = decode_address(base::as_bytes(bytes), w.uid, names);
  REQUIRE(back);
  CHECK(std::get<model::Workload>(*back) == w);

  auto s = test::service("ns", "svc", {"10.1.0.1", "net/2001:db8::5"}, {{80, 0}, {443, 8443}});
  s.cidr_vips.push_back({"", cidr("10.2.0.0/16")});
  s.subject_alt_names = {"spiffe://td/ns/a/sa/b", "junk"};
  s.waypoint = gateway("ns/wp");
  s.weighted_waypoints = {{gateway("ns/wp"), 90}, {gateway("ns/wp2"), 10}};
  s.load_balancing = model::LoadBalancing{{model::BalanceScope::kNetwork, model::BalanceScope::kRegion},
                                          model::BalanceMode::kFailover,
                                          model::HealthPolicy::kAllowAll};
  s.ip_families = model::IpFamilies::kDual;
  s.visibility = model::Visibility::kNamespace;
  s.canonical = s.ingress_use_waypoint = true;
  bytes = xds::encode_address(s);
  auto back_service = decode_address(base::as_bytes(bytes), "ns/svc", names);
  REQUIRE(back_service);
  CHECK(std::get<model::Service>(*back_service) == s);

  using Kind = model::StringMatch::Kind;
  model::PolicyMatch match;
  match.namespaces = {{Kind::kExact, "a"}};
  match.not_namespaces = {{Kind::kPrefix, "b"}};
  match.principals = {{Kind::kSuffix, "c"}};
  match.not_principals = {{Kind::kPresence, ""}};
  match.source_ips = {cidr("10.0.0.0/8")};
  match.not_source_ips = {cidr("2001:db8::/32")};
  match.destination_ips = {cidr("0.0.0.0/0")};
  match.not_destination_ips = {cidr("10.0.0.1")};
  match.destination_ports = {80};
  match.not_destination_ports = {9999};
  match.service_accounts = {{"ns", "sa"}};
  match.not_service_accounts = {{"ns", "sb"}};
  model::Policy p{"ns",
                  "p",
                  model::PolicyScope::kWorkloadSelector,
                  model::PolicyAction::kDeny,
                  true,
                  {{{{{match, model::PolicyMatch()}}, {}}}, {}}};
  bytes = xds::encode_authorization(p);
  auto back_policy = decode_authorization(base::as_bytes(bytes), "ns/p", names);
  REQUIRE(back_policy);
  CHECK(*back_policy == p);
}

TEST_CASE("bytes that are no message are refused") {
  model::NamePool names;
  for (std::string bytes : {std::string("\xff\xff\xff"), std::string(1, '\x0a'), std::string("\x0a\x7f")}) {
    CHECK_FALSE(decode_address(base::as_bytes(bytes), "", names));
    CHECK_FALSE(decode_authorization(base::as_bytes(bytes), "", names));
  }
}

}  // namespace culvert::test
