// SPDX-License-Identifier: Apache-2.0
#include "waypoint/config_dump.h"

#include <nlohmann/json.hpp>

#include "waypoint/version.h"

namespace culvert::waypoint {

namespace {

using Json = nlohmann::ordered_json;

Json target_json(const model::RouteTarget& target) {
  Json out = {{"service", target.service.to_string()}, {"weight", target.weight}};
  if (!target.subset.empty()) out["subset"] = target.subset;
  if (target.port != 0) out["port"] = target.port;
  if (!target.invalid.empty()) out["invalid"] = target.invalid;
  return out;
}

Json routes_json(const model::PortRoutes& routes) {
  Json out = {{"port", routes.port}};
  if (routes.http) {
    Json list = Json::array();
    for (const model::HttpRoute& route : *routes.http) {
      Json one = {{"name", route.name}, {"origin", route.origin}, {"matches", route.matches.size()}};
      Json targets = Json::array();
      for (const model::RouteTarget& target : route.targets) targets.push_back(target_json(target));
      one["targets"] = std::move(targets);
      if (route.timeout.count() > 0) one["timeout"] = base::format_duration(route.timeout);
      if (!route.broken.empty()) one["broken"] = route.broken;
      list.push_back(std::move(one));
    }
    out["http"] = std::move(list);
  }
  if (routes.tcp) {
    Json list = Json::array();
    for (const model::TcpRoute& route : *routes.tcp) {
      list.push_back({{"name", route.name}, {"origin", route.origin}, {"targets", route.targets.size()}});
    }
    out["tcp"] = std::move(list);
  }
  return out;
}

}  // namespace

std::string config_dump(const config::WaypointConfig& config, const model::MeshView& mesh,
                        const model::WaypointView& l7) {
  Json services = Json::array();
  for (const auto& [name, service] : l7.services()) {
    Json one = {{"service", name.to_string()}, {"ports", Json::array()}, {"policies", Json::array()}};
    for (const model::PortRoutes& routes : service->routes.ports) one["ports"].push_back(routes_json(routes));
    for (const model::HttpPolicy& policy : service->guard.policies) {
      one["policies"].push_back({{"name", policy.ns + "/" + policy.name},
                                 {"bound", policy.selector ? "selector" : "target"},
                                 {"dryRun", policy.dry_run},
                                 {"provider", policy.provider},
                                 {"rules", policy.rules.size()}});
    }
    one["authorizers"] = Json::array();
    for (const model::Authorizer& authorizer : service->guard.authorizers) {
      one["authorizers"].push_back({{"name", authorizer.name},
                                    {"service", authorizer.service.to_string()},
                                    {"port", authorizer.port},
                                    {"failOpen", authorizer.fail_open}});
    }
    one["requestAuthentications"] = service->guard.authentications.size();
    one["rateLimits"] = service->guard.rate_limits.size();
    services.push_back(std::move(one));
  }
  Json out = {{"version", kVersion},
              {"waypoint", config.namespace_ + "/" + config.name},
              {"workloads", mesh.workload_count()},
              {"knownServices", mesh.service_count()},
              {"generation", l7.generation()},
              {"services", std::move(services)}};
  return out.dump(2) + "\n";
}

}  // namespace culvert::waypoint
