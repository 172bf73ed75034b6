// SPDX-License-Identifier: Apache-2.0
#include "mesh/config/local_file.h"

#include <catch2/catch.hpp>

#include "mesh/decide/authorize.h"
#include "mesh/decide/pick_endpoint.h"
#include "test/unit/mesh/model/build_mesh.h"

namespace culvert::test {
namespace {

// The shape of upstream's example: two workloads behind two services, one policy, one VIP on another network.
constexpr std::string_view kLocalhost = R"(
workloads:
- uid: cluster1//v1/Pod/default/local
  name: local
  namespace: default
  serviceAccount: default
  workloadIps: ["127.0.0.1"]
  protocol: HBONE
  node: local
  network: ""
  services:
    "default/example.com":
      80: 8080
    "default/example2.com":
      80: 8080
- uid: cluster1//v1/Pod/default/local2
  name: local2
  namespace: default
  serviceAccount: default
  workloadIps: ["127.0.0.2"]
  protocol: TCP
  node: local
  services:
    "default/example.com":
      80: 8080
    "default/example2.com":
      80: 8080
policies:
- name: not-9999
  namespace: default
  scope: Namespace
  action: Allow
  dryRun: false
  rules:
  - - - notDestinationPorts: [9999]
services:
- name: local
  namespace: default
  hostname: example.com
  vips: [/127.10.0.1]
  ports:
    80: 8080
  subjectAltNames: [spiffe://cluster.local/ns/default/sa/local]
- name: remote
  namespace: default
  hostname: example2.com
  vips: [remote/127.10.0.2]
  ports:
    80: 8080
)";

base::Result<model::MeshUpdate> parse(std::string_view yaml) {
  model::NamePool names;
  return config::parse_local_mesh(yaml, "mesh.yaml", names);
}
std::string complaint(std::string_view yaml) {
  auto result = parse(yaml);
  return result ? "" : result.error().message();
}
std::string workload_with(std::string_view line) {
  return "workloads:\n- namespace: ns\n  workloadIps: []\n  services: {}\n  " + std::string(line) + "\n";
}
std::string policy_with(std::string_view match) {
  return "policies:\n- {name: p, namespace: ns, scope: Namespace, action: Allow, dryRun: false}\n  rules:\n  "
         "- - - " +
         std::string(match) + "\n";
}

}  // namespace

TEST_CASE("the localhost example", "[apis16]") {
  auto update = parse(kLocalhost);
  INFO((update ? "" : update.error().message()));
  REQUIRE(update);
  model::MeshStore store("local");
  store.apply(*std::move(update));
  const auto& view = *store.view();
  CHECK(view.workload_count() == 2);
  auto source = view.workload_at("", ip("127.0.0.1"));
  REQUIRE(source);
  CHECK(source->trust_domain.empty());
  CHECK(source->cluster_id.empty());
  CHECK(source->service_account == "default");
  base::Rng rng(1);

  auto local = view.service_at("", ip("127.10.0.1"), "default");
  REQUIRE(local);
  CHECK(local->subject_alt_names == std::vector<std::string>{"spiffe://cluster.local/ns/default/sa/local"});
  auto picked = decide::pick_endpoint(view, *source, *local, 80, decide::Resolution::kStandard, rng);
  REQUIRE(picked);
  CHECK(picked->port == 8080);

  // The VIP is on another network than the endpoints behind it.
  auto remote = view.service_at("remote", ip("127.10.0.2"), "default");
  REQUIRE(remote);
  CHECK(decide::pick_endpoint(view, *source, *remote, 80, decide::Resolution::kStandard, rng)->port == 8080);
  CHECK_FALSE(view.service_at("", ip("127.10.0.2"), "default"));

  auto allowed = [&](std::string_view to) {
    return decide::authorize(view, *source, {ip("127.0.0.2"), std::nullopt, at(to)}).allowed();
  };
  CHECK(allowed("127.0.0.1:8080"));
  CHECK_FALSE(allowed("127.0.0.1:9999"));
}

TEST_CASE("every field") {
  auto update = parse(R"(
workloads:
- uid: u
  namespace: ns
  workloadIps: [10.0.0.1, "2001:db8::1"]
  hostname: h
  trustDomain: td
  clusterId: c
  workloadName: wn
  workloadType: Job
  canonicalName: cn
  canonicalRevision: cr
  networkMode: HostNetwork
  status: Unhealthy
  nativeTunnel: true
  capacity: 3
  authorizationPolicies: [ns/p]
  locality: {region: r, zone: z, subzone: s}
  applicationTunnel: {protocol: PROXY, port: null}
  waypoint: {destination: net/10.0.0.9, hboneMtlsPort: 15008}
  networkGateway: {destination: ns/gw.example, hboneMtlsPort: 15009}
  services: {}
policies:
- name: p
  namespace: ns
  scope: WorkloadSelector
  action: Deny
  dryRun: true
  rules:
  - - - namespaces: [!Exact a]
        notNamespaces: [!Prefix b]
        principals: [!Suffix c]
        notPrincipals: [!Presence []]
        sourceIps: [10.0.0.0/8]
        notSourceIps: ["::/0"]
        destinationIps: [10.0.0.1]
        notDestinationIps: [10.0.0.2/32]
        destinationPorts: [80]
        notDestinationPorts: [81]
        serviceAccounts: [{namespace: a, serviceAccount: b}]
        notServiceAccounts: [{namespace: c, serviceAccount: d}]
  - []
services:
- name: s
  namespace: ns
  hostname: s.example
  vips: []
  cidrVips: [{network: "", cidr: 10.2.0.0/16}]
  ports: {80: 0}
  canonical: true
  visibility: Namespace
  ipFamilies: Dual
  waypoint: {destination: ns/wp, hboneMtlsPort: 15008}
  weightedWaypoints: [{destination: {destination: ns/wp, hboneMtlsPort: 15008}, weight: 4}]
  loadBalancer: {routingPreferences: [Network, Zone], mode: Failover, healthPolicy: AllowAll}
  endpoints: {}
)");
  INFO((update ? "" : update.error().message()));
  REQUIRE(update);
  const auto& w = update->workloads.at(0);
  CHECK(w.addresses.size() == 2);
  CHECK(w.identity().to_string() == "spiffe://td/ns/ns/sa/");
  CHECK(w.type == model::WorkloadType::kJob);
  CHECK(w.network_mode == model::NetworkMode::kHostNetwork);
  CHECK(w.status == model::HealthStatus::kUnhealthy);
  CHECK(w.capacity == 3);
  CHECK(w.app_tunnel == model::AppTunnel{model::AppTunnel::Protocol::kProxy, 0});
  CHECK(w.waypoint == gateway("net/10.0.0.9"));
  CHECK(w.network_gateway == gateway("ns/gw.example", 15009));
  const auto& p = update->policies.at(0);
  CHECK(p.dry_run);
  CHECK(p.rules.size() == 2);
  CHECK(p.rules[1].clauses.empty());
  const auto& match = p.rules[0].clauses[0].matches[0];
  CHECK(match.not_principals[0].kind == model::StringMatch::Kind::kPresence);
  CHECK(match.principals[0] == model::StringMatch{model::StringMatch::Kind::kSuffix, "c"});
  CHECK(match.not_source_ips[0] == cidr("::/0"));
  CHECK(match.not_service_accounts[0].service_account == "d");
  const auto& s = update->services.at(0);
  CHECK(s.cidr_vips.size() == 1);
  CHECK(s.visibility == model::Visibility::kNamespace);
  CHECK(s.weighted_waypoints.at(0).weight == 4);
  CHECK(s.load_balancing->mode == model::BalanceMode::kFailover);
}

TEST_CASE("mistakes are named with their line", "[apis16]") {
  CHECK(complaint("") == "");
  CHECK(complaint("workloads: []\n") == "");
  CHECK(complaint("surprise: 1\n") == "mesh.yaml:1: the file has no field \"surprise\"");
  CHECK(complaint(workload_with("surprise: 1")) == "mesh.yaml:5: a workload has no field \"surprise\"");
  CHECK(complaint(workload_with("namespace: again")) == "mesh.yaml:5: a workload has \"namespace\" twice");
  CHECK(complaint("workloads:\n- workloadIps: []\n  services: {}\n") ==
        "mesh.yaml:2: a workload needs \"namespace\"");
  CHECK(complaint(workload_with("protocol: HTTP")) == "mesh.yaml:5: protocol must be one of TCP, HBONE");
  CHECK(complaint(workload_with("capacity: -1")).find("mesh.yaml:5: capacity must be") == 0);
  CHECK(complaint(workload_with("capacity: 4294967296")) != "");
  CHECK(complaint(workload_with("nativeTunnel: perhaps")) != "");
  CHECK(complaint(workload_with("waypoint: {destination: nowhere, hboneMtlsPort: 1}")) != "");
  CHECK(complaint(workload_with("waypoint: {destination: ns/wp, hboneMtlsPort: 70000}")) != "");
  CHECK(complaint(workload_with("locality: {region: r}")) != "");
  CHECK(complaint("workloads: 7\n") == "mesh.yaml:1: workloads must be a list");
  CHECK(complaint("workloads:\n- 7\n").find("mesh.yaml:2: a workload must be a map") == 0);
  CHECK(complaint("workloads: [\n").find("mesh.yaml:") == 0);
  CHECK(complaint("- a\n") != "");
  CHECK(complaint(policy_with("surprise: 1")) != "");
  CHECK(complaint("policies:\n- name: p\n  namespace: ns\n  scope: Namespace\n  action: Allow\n  rules:\n"
                  "  - - - sorceIps: []\n") == "mesh.yaml:7: a match has no field \"sorceIps\"");
  CHECK(complaint("policies:\n- name: p\n  namespace: ns\n  scope: Namespace\n  action: Allow\n  rules:\n"
                  "  - - - principals: [plain]\n")
            .find("must be tagged") != std::string::npos);
  CHECK(complaint("services:\n- {name: s, namespace: ns, hostname: h, vips: [10.0.0.1], ports: {}}\n") != "");
  CHECK(
      complaint(
          "services:\n- {name: s, namespace: ns, hostname: h, vips: [], ports: {}, endpoints: {u: {}}}\n") !=
      "");
}

}  // namespace culvert::test
