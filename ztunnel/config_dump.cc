// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/config_dump.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "ztunnel/version.h"

namespace culvert::ztunnel {

namespace {

using Json = nlohmann::json;  // keys come out sorted
using observe::ConnTable;

Json gateway(const model::GatewayAddress& address) {
  Json out;
  if (const auto* at = std::get_if<model::NetworkAddress>(&address.destination)) {
    out["destination"] = at->to_string();
  } else {
    out["destination"] = std::get<model::NamespacedHostname>(address.destination).to_string();
  }
  out["hboneMtlsPort"] = address.hbone_mtls_port;
  return out;
}

void put(Json& out, const char* key, const model::Name& value) {
  if (!value.empty()) out[key] = value.str();
}

const char* capital_type(model::WorkloadType type) {
  switch (type) {
    case model::WorkloadType::kDeployment: return "deployment";
    case model::WorkloadType::kCronjob: return "cronjob";
    case model::WorkloadType::kPod: return "pod";
    case model::WorkloadType::kJob: return "job";
  }
  return "deployment";
}

Json ports(std::span<const model::PortMapping> mappings) {
  Json out = Json::object();
  for (const auto& mapping : mappings) out[std::to_string(mapping.service_port)] = mapping.target_port;
  return out;
}

Json workload_json(const model::Workload& w) {
  Json out;
  Json ips = Json::array();
  for (const auto& ip : w.addresses) ips.push_back(ip.to_string());
  out["workloadIps"] = std::move(ips);
  if (w.waypoint) out["waypoint"] = gateway(*w.waypoint);
  if (w.network_gateway) out["networkGateway"] = gateway(*w.network_gateway);
  out["protocol"] = w.protocol == model::TunnelProtocol::kHbone ? "HBONE" : "TCP";
  if (w.network_mode == model::NetworkMode::kHostNetwork) out["networkMode"] = "HostNetwork";
  out["uid"] = w.uid;
  out["name"] = w.name;
  out["namespace"] = w.ns.str();
  put(out, "trustDomain", w.trust_domain);
  put(out, "serviceAccount", w.service_account);
  put(out, "network", w.network);
  put(out, "workloadName", w.workload_name);
  out["workloadType"] = capital_type(w.type);
  put(out, "canonicalName", w.canonical_name);
  put(out, "canonicalRevision", w.canonical_revision);
  put(out, "hostname", w.hostname);
  put(out, "node", w.node);
  if (w.native_tunnel) out["nativeTunnel"] = true;
  if (w.app_tunnel) {
    out["applicationTunnel"] = {
        {"protocol", w.app_tunnel->protocol == model::AppTunnel::Protocol::kProxy ? "PROXY" : "NONE"},
        {"port", w.app_tunnel->port == 0 ? Json() : Json(w.app_tunnel->port)}};
  }
  if (!w.authorization_policies.empty()) {
    Json names = Json::array();
    for (const auto& name : w.authorization_policies) names.push_back(name.str());
    out["authorizationPolicies"] = std::move(names);
  }
  out["status"] = w.status == model::HealthStatus::kHealthy ? "Healthy" : "Unhealthy";
  put(out, "clusterId", w.cluster_id);
  if (w.locality != model::Locality{}) {
    out["locality"] = {{"region", w.locality.region.str()},
                       {"zone", w.locality.zone.str()},
                       {"subzone", w.locality.subzone.str()}};
  }
  if (!w.services.empty()) {
    Json services = Json::object();
    for (const auto& member : w.services) services[member.service.to_string()] = ports(member.ports);
    out["services"] = std::move(services);
  }
  if (w.capacity != 1) out["capacity"] = w.capacity;
  return out;
}

const char* scope_text(model::BalanceScope scope) {
  switch (scope) {
    case model::BalanceScope::kRegion: return "Region";
    case model::BalanceScope::kZone: return "Zone";
    case model::BalanceScope::kSubzone: return "Subzone";
    case model::BalanceScope::kNode: return "Node";
    case model::BalanceScope::kCluster: return "Cluster";
    case model::BalanceScope::kNetwork: return "Network";
  }
  return "";
}

Json balancer(const model::LoadBalancing& balancing) {
  Json preferences = Json::array();
  for (auto scope : balancing.routing_preference) preferences.push_back(scope_text(scope));
  static constexpr const char* kModes[] = {"Standard", "Strict", "Failover", "Passthrough"};
  return {{"routingPreferences", std::move(preferences)},
          {"mode", kModes[static_cast<int>(balancing.mode)]},
          {"healthPolicy",
           balancing.health_policy == model::HealthPolicy::kAllowAll ? "AllowAll" : "OnlyHealthy"}};
}

Json service_json(const model::MeshView& view, const model::Service& s) {
  Json out;
  out["name"] = s.name.str();
  out["namespace"] = s.ns.str();
  out["hostname"] = s.hostname.str();
  Json vips = Json::array();
  for (const auto& vip : s.vips) vips.push_back(vip.to_string());
  out["vips"] = std::move(vips);
  if (!s.cidr_vips.empty()) {
    Json ranges = Json::array();
    for (const auto& vip : s.cidr_vips) {
      ranges.push_back({{"network", vip.network.str()}, {"cidr", vip.range.to_string()}});
    }
    out["cidrVips"] = std::move(ranges);
  }
  out["ports"] = ports(s.ports);
  Json endpoints = Json::object();
  for (const model::Endpoint& endpoint : view.endpoints(s.key())) {
    const model::Workload& w = *endpoint.workload;
    endpoints[w.uid] = {{"workloadUid", w.uid},
                        {"port", ports(endpoint.ports())},
                        {"status", w.status == model::HealthStatus::kHealthy ? "Healthy" : "Unhealthy"}};
  }
  out["endpoints"] = std::move(endpoints);
  if (!s.subject_alt_names.empty()) out["subjectAltNames"] = s.subject_alt_names;
  if (s.waypoint) out["waypoint"] = gateway(*s.waypoint);
  if (!s.weighted_waypoints.empty()) {
    Json weighted = Json::array();
    for (const auto& one : s.weighted_waypoints) {
      weighted.push_back({{"destination", gateway(one.destination)}, {"weight", one.weight}});
    }
    out["weightedWaypoints"] = std::move(weighted);
  }
  if (s.load_balancing) out["loadBalancer"] = balancer(*s.load_balancing);
  if (s.ip_families != model::IpFamilies::kAutomatic) {
    static constexpr const char* kFamilies[] = {"", "IPv4", "IPv6", "Dual"};
    out["ipFamilies"] = kFamilies[static_cast<int>(s.ip_families)];
  }
  if (s.canonical) out["canonical"] = true;
  if (s.visibility == model::Visibility::kNamespace) out["visibility"] = "Namespace";
  return out;
}

Json string_matches(const std::vector<model::StringMatch>& matches) {
  static constexpr const char* kKinds[] = {"Exact", "Prefix", "Suffix", "Presence"};
  Json out = Json::array();
  for (const auto& match : matches) {
    Json value = match.kind == model::StringMatch::Kind::kPresence ? Json::array() : Json(match.text.str());
    out.push_back({{kKinds[static_cast<int>(match.kind)], std::move(value)}});
  }
  return out;
}

Json ranges(const std::vector<base::Cidr>& list) {
  Json out = Json::array();
  for (const auto& range : list) out.push_back(range.to_string());
  return out;
}

Json accounts(const std::vector<model::ServiceAccountMatch>& list) {
  Json out = Json::array();
  for (const auto& one : list) {
    out.push_back({{"namespace", one.ns.str()}, {"serviceAccount", one.service_account.str()}});
  }
  return out;
}

Json match_json(const model::PolicyMatch& m) {
  Json out = Json::object();
  auto add = [&out](const char* key, const auto& list, auto convert) {
    if (!list.empty()) out[key] = convert(list);
  };
  auto plain = [](const std::vector<uint16_t>& list) { return Json(list); };
  add("namespaces", m.namespaces, string_matches);
  add("notNamespaces", m.not_namespaces, string_matches);
  add("principals", m.principals, string_matches);
  add("notPrincipals", m.not_principals, string_matches);
  add("sourceIps", m.source_ips, ranges);
  add("notSourceIps", m.not_source_ips, ranges);
  add("destinationIps", m.destination_ips, ranges);
  add("notDestinationIps", m.not_destination_ips, ranges);
  add("destinationPorts", m.destination_ports, plain);
  add("notDestinationPorts", m.not_destination_ports, plain);
  add("serviceAccounts", m.service_accounts, accounts);
  add("notServiceAccounts", m.not_service_accounts, accounts);
  return out;
}

Json policy_json(const model::Policy& policy) {
  Json rules = Json::array();
  for (const auto& rule : policy.rules) {
    Json clauses = Json::array();
    for (const auto& clause : rule.clauses) {
      Json matches = Json::array();
      for (const auto& match : clause.matches) matches.push_back(match_json(match));
      clauses.push_back(std::move(matches));
    }
    rules.push_back(std::move(clauses));
  }
  Json out = {{"name", policy.name.str()},
              {"namespace", policy.ns.str()},
              {"scope", std::string(model::to_string(policy.scope))},
              {"action", std::string(model::to_string(policy.action))},
              {"rules", std::move(rules)}};
  if (policy.dry_run) out["dryRun"] = true;
  return out;
}

Json certificate_json(const CertificateRow& row) {
  auto items = [](const std::vector<CertificateRow::Item>& list) {
    Json out = Json::array();
    for (const auto& item : list) {
      out.push_back({{"pem", item.pem},
                     {"serialNumber", item.serial},
                     {"validFrom", item.valid_from},
                     {"expirationTime", item.expires}});
    }
    return out;
  };
  return {{"identity", row.identity},
          {"state", row.state},
          {"certChain", items(row.chain)},
          {"rootCerts", items(row.roots)}};
}

Json config_json(const config::ZtunnelConfig& c) {
  return {{"proxyMode", c.mode == config::ProxyMode::kShared ? "Shared" : "Dedicated"},
          {"localNode", c.node_name},
          {"network", c.network},
          {"clusterId", c.cluster_id},
          {"clusterDomain", c.cluster_domain},
          {"xdsAddress", c.xds_address.empty() ? Json() : Json(c.xds_address)},
          {"caAddress", c.ca_address.empty() ? Json() : Json(c.ca_address)},
          {"secretTtl", base::format_duration(c.secret_ttl)},
          {"adminAddr", "localhost:" + std::to_string(c.admin_port)},
          {"statsAddr", "[::]:" + std::to_string(c.stats_port)},
          {"readinessAddr", "[::]:" + std::to_string(c.readiness_port)},
          {"inboundAddr", "[::]:15008"},
          {"inboundPlaintextAddr", "[::]:15006"},
          {"outboundAddr", "[::]:15001"},
          {"inpodUds", c.zds_path},
          {"inpodPortReuse", c.port_reuse},
          {"packetMark", c.packet_mark},
          {"poolMaxStreamsPerConn", c.pool_streams_max},
          {"poolUnusedReleaseTimeout", base::format_duration(c.pool_idle_release)},
          {"windowSize", c.http2_stream_window},
          {"connectionWindowSize", c.http2_connection_window},
          {"frameSize", c.http2_frame_size},
          {"selfTerminationDeadline", base::format_duration(c.drain_deadline)},
          {"numWorkerThreads", c.worker_threads},
          {"localhostAppTunnel", c.localhost_app_tunnel},
          {"enableEnhancedBaggage", c.response_baggage},
          {"dnsProxy", false},
          {"fakeCa", c.fake_ca},
          {"ipv6Enabled", c.ipv6_enabled},
          {"proxyMetadata", c.proxy_metadata}};
}

Json connections_json(const std::vector<ConnTable::Row>& rows, const std::string& owner) {
  Json inbound = Json::array(), outbound = Json::array();
  for (const auto& row : rows) {
    if (row.owner != owner) continue;
    Json entry = {{"src", row.source},
                  {"originalDst", row.original_destination.empty() ? Json() : Json(row.original_destination)},
                  {"actualDst", row.actual_destination},
                  {"protocol", row.protocol == observe::ConnProtocol::kHbone ? "HBONE" : "TCP"},
                  {"bytesReceived", row.received_bytes},
                  {"bytesSent", row.sent_bytes}};
    (row.inbound ? inbound : outbound).push_back(std::move(entry));
  }
  return {{"inbound", std::move(inbound)}, {"outbound", std::move(outbound)}};
}

Json pods_json(const DumpInput& input) {
  Json out = Json::object();
  for (const PodRow& pod : input.pods) {
    out[pod.info.uid] = {{"state", pod.up ? "Up" : "Pending"},
                         {"info",
                          {{"name", pod.info.name.name},
                           {"namespace", pod.info.name.namespace_},
                           {"serviceAccount", pod.info.name.service_account}}},
                         {"connections", connections_json(input.connections, pod.info.uid)}};
  }
  return out;
}

// Sorted by one of their fields, as upstream shows them.
void sort_by(Json& list, const char* key) {
  std::sort(list.begin(), list.end(), [key](const Json& a, const Json& b) {
    return a[key].get_ref<const std::string&>() < b[key].get_ref<const std::string&>();
  });
}

}  // namespace

std::string config_dump(const DumpInput& input) {
  Json workloads = Json::array(), services = Json::array(), policies = Json::array();
  const model::MeshView& view = input.view;
  view.each_workload([&](const model::WorkloadRef& w) { workloads.push_back(workload_json(*w)); });
  view.each_service([&](const model::ServiceRef& s) { services.push_back(service_json(view, *s)); });
  std::map<std::string, Json> by_key;
  view.each_policy([&](const model::PolicyRef& p) { by_key[p->key()] = policy_json(*p); });
  for (auto& [key, policy] : by_key) policies.push_back(std::move(policy));
  sort_by(workloads, "uid");
  sort_by(services, "hostname");
  Json certificates = Json::array();
  for (const auto& row : input.certificates) certificates.push_back(certificate_json(row));
  sort_by(certificates, "identity");

  Json out;
  out["workloads"] = std::move(workloads);
  out["services"] = std::move(services);
  out["policies"] = std::move(policies);
  out["stagedServices"] = Json::object();
  out["staticConfig"] = {
      {"workloads", Json::array()}, {"policies", Json::array()}, {"services", Json::array()}};
  out["certificates"] = std::move(certificates);
  out["config"] = config_json(input.config);
  out["version"] = {{"version", kVersion},          {"gitRevision", "unknown"},
                    {"rustVersion", "none"},        {"buildProfile", "release"},
                    {"buildStatus", "Clean"},       {"istioVersion", input.config.istio_version},
                    {"cryptoProvider", "boringssl"}};
  if (input.config.mode == config::ProxyMode::kShared) out["workloadState"] = pods_json(input);
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace culvert::ztunnel
