// SPDX-License-Identifier: Apache-2.0
#include "control/status/pages.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace culvert::control {

using nlohmann::json;

namespace {

template <class List, class Text>
json texts(const List& list, Text text) {
  json out = json::array();
  for (const auto& one : list) out.push_back(text(one));
  return out;
}

json to_json(const model::GatewayAddress& address) {
  return {{"destination", std::visit([](const auto& to) { return to.to_string(); }, address.destination)},
          {"hboneMtlsPort", address.hbone_mtls_port}};
}

json to_json(const model::Workload& w) {
  json services = json::object();
  for (const auto& member : w.services) {
    json ports = json::object();
    for (const auto& port : member.ports) ports[fmt::to_string(port.service_port)] = port.target_port;
    services[member.service.to_string()] = std::move(ports);
  }
  json out = {{"uid", w.uid},
              {"name", w.name},
              {"namespace", w.ns.str()},
              {"workloadIps", texts(w.addresses, [](const base::IpAddr& ip) { return ip.to_string(); })},
              {"protocol", w.protocol == model::TunnelProtocol::kHbone ? "HBONE" : "TCP"},
              {"status", w.status == model::HealthStatus::kHealthy ? "Healthy" : "Unhealthy"},
              {"serviceAccount", w.service_account.str()},
              {"trustDomain", w.trust_domain.str()},
              {"node", w.node.str()},
              {"workloadName", w.workload_name.str()},
              {"canonicalName", w.canonical_name.str()},
              {"canonicalRevision", w.canonical_revision.str()},
              {"authorizationPolicies",
               texts(w.authorization_policies, [](const model::Name& n) { return n.str(); })},
              {"services", std::move(services)}};
  if (!w.hostname.empty()) out["hostname"] = w.hostname.str();
  if (w.network_mode == model::NetworkMode::kHostNetwork) out["networkMode"] = "HostNetwork";
  if (w.waypoint) out["waypoint"] = to_json(*w.waypoint);
  return out;
}

json to_json(const model::Service& s) {
  json ports = json::object();
  for (const auto& port : s.ports) ports[fmt::to_string(port.service_port)] = port.target_port;
  json out = {{"name", s.name.str()},
              {"namespace", s.ns.str()},
              {"hostname", s.hostname.str()},
              {"vips", texts(s.vips, [](const model::NetworkAddress& vip) { return vip.to_string(); })},
              {"ports", std::move(ports)},
              {"canonical", s.canonical}};
  if (!s.subject_alt_names.empty()) out["subjectAltNames"] = s.subject_alt_names;
  if (s.waypoint) out["waypoint"] = to_json(*s.waypoint);
  return out;
}

json to_json(const model::Policy& p) {
  return {{"name", p.name.str()},
          {"namespace", p.ns.str()},
          {"scope", model::to_string(p.scope)},
          {"action", model::to_string(p.action)},
          {"dryRun", p.dry_run},
          {"rules", p.rules.size()}};
}

conn::HttpResponse as_json(std::string body) { return {200, std::move(body), "application/json", {}}; }

}  // namespace

std::string Pages::ambient() const {
  const Compiled& compiled = ads_.snapshot()->compiled;
  json out = {{"workloads", json::array()},
              {"services", json::array()},
              {"policies", json::array()},
              {"snapshot", ads_.snapshot()->number}};
  for (const auto& [name, workload] : compiled.workloads) out["workloads"].push_back(to_json(*workload));
  for (const auto& [name, service] : compiled.services) out["services"].push_back(to_json(*service));
  for (const auto& [name, policy] : compiled.policies) out["policies"].push_back(to_json(*policy));
  return out.dump(2) + "\n";
}

std::string Pages::syncz() const {
  json out = json::array();
  for (const AdsServer::Client& client : ads_.clients()) {
    json types = json::array();
    for (const auto& type : client.types) {
      bool synced = type.nonce_sent == type.nonce_acked && type.waiting == 0;
      types.push_back({{"type", type.type},
                       {"wildcard", type.wildcard},
                       {"nonceSent", type.nonce_sent},
                       {"nonceAcked", type.nonce_acked},
                       {"snapshotSent", type.snapshot_sent},
                       {"snapshotAcked", type.snapshot_acked},
                       {"rejects", type.rejects},
                       {"lastError", type.last_error},
                       {"waiting", type.waiting},
                       {"status", synced ? "SYNCED" : "STALE"}});
    }
    out.push_back({{"node", client.node_id},
                   {"caller", client.caller},
                   {"address", client.address},
                   {"connectedAt", client.connected_at},
                   {"types", std::move(types)}});
  }
  return json({{"snapshot", ads_.snapshot()->number}, {"proxies", std::move(out)}}).dump(2) + "\n";
}

std::string Pages::status() const {
  auto conditions = [](const std::vector<Condition>& from) {
    json out = json::array();
    for (const Condition& one : from) {
      out.push_back({{"type", one.type},
                     {"status", one.holds ? "True" : "False"},
                     {"reason", one.reason},
                     {"message", one.message}});
    }
    return out;
  };
  auto parts = [&](const std::vector<PartStatus>& from) {
    json out = json::array();
    for (const PartStatus& one : from) {
      out.push_back({{"name", one.name}, {"conditions", conditions(one.conditions)}});
    }
    return out;
  };
  json objects = json::array();
  for (const auto& [name, status] : ads_.snapshot()->compiled.status) {
    json object = {{"object", name}, {"conditions", conditions(status.conditions)}};
    if (status.observed_generation > 0) object["observedGeneration"] = status.observed_generation;
    if (!status.parents.empty()) object["parents"] = parts(status.parents);
    if (!status.listeners.empty()) object["listeners"] = parts(status.listeners);
    objects.push_back(std::move(object));
  }
  return json({{"objects", std::move(objects)}}).dump(2) + "\n";
}

std::string Pages::problems() const {
  json errors = json::array();
  for (const kube::Problem& problem : source_.problems()) {
    errors.push_back({{"at", problem.origin.to_string()},
                      {"object", problem.object},
                      {"message", problem.message},
                      {"keptLastGood", problem.kept_last_good}});
  }
  json findings = json::array();
  for (const Finding& finding : ads_.snapshot()->compiled.findings) {
    findings.push_back({{"code", finding.code},
                        {"severity", to_string(finding.severity)},
                        {"at", finding.origin.to_string()},
                        {"object", finding.object},
                        {"message", finding.message}});
  }
  return json({{"errors", std::move(errors)}, {"findings", std::move(findings)}}).dump(2) + "\n";
}

conn::HttpResponse Pages::metrics() const {
  std::string out;
  auto gauge = [&](std::string_view name, std::string_view help, auto value) {
    out += fmt::format("# HELP {0} {1}\n# TYPE {0} gauge\n{0} {2}\n", name, help, value);
  };
  auto counter = [&](std::string_view name, std::string_view help, uint64_t value) {
    out += fmt::format("# HELP {0} {1}\n# TYPE {0} counter\n{0} {2}\n", name, help, value);
  };
  const Compiled& compiled = ads_.snapshot()->compiled;
  gauge("pilot_xds", "Connected proxies.", ads_.clients().size());
  gauge("pilot_services", "Services known.", compiled.services.size());
  gauge("culvert_workloads", "Workloads known.", compiled.workloads.size());
  gauge("culvert_policies", "Policies known.", compiled.policies.size());
  gauge("culvert_source_errors", "Manifests or objects that cannot be used as written.",
        source_.problems().size());
  const AdsServer::Counters& ads = ads_.counters();
  out += "# HELP pilot_xds_pushes Responses sent, by type.\n# TYPE pilot_xds_pushes counter\n";
  out += fmt::format(
      "pilot_xds_pushes{{type=\"address\"}} {}\npilot_xds_pushes{{type=\"authorization\"}} {}\n"
      "pilot_xds_pushes{{type=\"waypoint\"}} {}\n",
      ads.pushes_address, ads.pushes_authorization, ads.pushes_waypoint);
  counter("pilot_total_xds_rejects", "Responses a proxy refused in part or whole.", ads.rejects);
  counter("pilot_xds_expired_nonce", "Acknowledgements of an earlier response.", ads.stale_nonces);
  const CaService::Counters& ca = ca_.counters();
  counter("citadel_server_csr_count", "Certificate requests.", ca.requests);
  counter("citadel_server_success_cert_issuance_count", "Certificates issued.", ca.issued);
  counter("citadel_server_authentication_failure_count", "Callers refused.",
          ca.unauthenticated + ca.impersonation_refused);
  counter("citadel_server_csr_parsing_err_count", "Unusable certificate requests.", ca.csr_invalid);
  counter("citadel_server_csr_sign_err_count", "Signing failures.", ca.sign_errors);
  if (jwks_) {
    const JwksFetcher::Counters& jwks = jwks_->counters();
    counter("pilot_jwks_resolver_network_fetch_success_total", "Key sets fetched.", jwks.fetched);
    counter("pilot_jwks_resolver_network_fetch_fail_total", "Key sets that could not be fetched or used.",
            jwks.failed);
    counter("culvert_jwks_refused_total", "Key sets asked for beyond their number.", jwks.refused);
    gauge("culvert_jwks_uris", "Key sets in use.", jwks_->uris());
    gauge("culvert_jwks_without_keys", "Key sets in use that were never had: their tokens are refused.",
          jwks_->without_keys());
  }
  if (waypoints_) {
    gauge("culvert_waypoint_processes", "Waypoints that run on this machine.", waypoints_->running());
    counter("culvert_waypoint_restarts_total", "Waypoints started again after they had ended.",
            waypoints_->restarts());
  }
  out += "# HELP pilot_info Version.\n# TYPE pilot_info gauge\n";
  out += fmt::format("pilot_info{{version=\"{}\"}} 1\n", version_);
  return {200, std::move(out), "text/plain; version=0.0.4; charset=utf-8", {}};
}

async::Task<conn::HttpResponse> Pages::serve(conn::HttpRequest request) {
  if (request.method != "GET" && request.method != "HEAD") co_return conn::HttpResponse{405, "GET only\n"};
  if (request.path == "/ready") {
    bool ready = source_.synced();
    co_return conn::HttpResponse{ready ? 200 : 503,
                                 ready ? "ready\n" : "not ready: the manifests are not read yet\n"};
  }
  if (request.path == "/metrics") co_return metrics();
  if (request.path == "/version") co_return conn::HttpResponse{200, version_ + "\n"};
  if (request.path == "/debug/ambientz") co_return as_json(ambient());
  if (request.path == "/debug/syncz") co_return as_json(syncz());
  if (request.path == "/debug/status") co_return as_json(status());
  if (request.path == "/debug/config_errors") co_return as_json(problems());
  if (request.path == "/debug/waypoints") {
    co_return as_json(describe_waypoints(*source_.objects(), waypoints_));
  }
  if (request.path == "/debug/jwks") co_return as_json(jwks_ ? jwks_->describe() : "[]\n");
  if (request.path == "/" || request.path == "/debug") {
    co_return conn::HttpResponse{200,
                                 "/ready\n/metrics\n/version\n/debug/ambientz\n/debug/syncz\n"
                                 "/debug/config_errors\n/debug/waypoints\n/debug/jwks\n"};
  }
  co_return conn::HttpResponse{404, "no such page\n"};
}

}  // namespace culvert::control
