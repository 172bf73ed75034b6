// SPDX-License-Identifier: Apache-2.0
#include "mesh/model/waypoint.h"

namespace culvert::model {

namespace {

const PortRoutes* find_port(const std::vector<PortRoutes>& ports, uint16_t port) {
  for (const PortRoutes& routes : ports) {
    if (routes.port == port) return &routes;
  }
  return nullptr;
}

template <class Map, class Value, class Key>
void put(Map& map, Value value, const Key& key) {
  auto found = map.find(key);
  if (found != map.end() && *found->second == value) return;
  map.insert_or_assign(key, std::make_shared<const Value>(std::move(value)));
}

}  // namespace

const Subset* Backend::subset(std::string_view name) const {
  for (const Subset& subset : subsets) {
    if (subset.name == name) return &subset;
  }
  return nullptr;
}

const PortRoutes* WaypointService::port(uint16_t service_port, std::string_view client_ns) const {
  if (!routes.by_client_namespace.empty() && !client_ns.empty()) {
    auto own = routes.by_client_namespace.find(std::string(client_ns));
    if (own != routes.by_client_namespace.end()) {
      if (const PortRoutes* found = find_port(own->second, service_port)) return found;
    }
  }
  return find_port(routes.ports, service_port);
}

WaypointServiceRef WaypointView::service(const NamespacedHostname& name) const {
  auto found = services_.find(name);
  return found == services_.end() ? nullptr : found->second;
}

BackendRef WaypointView::backend(const NamespacedHostname& name) const {
  auto found = backends_.find(name);
  return found == backends_.end() ? nullptr : found->second;
}

std::set<NamespacedHostname> reach_of(const WaypointService& service) {
  std::set<NamespacedHostname> out = {service.service};
  auto take = [&](const RouteTarget& target) { out.insert(target.service); };
  auto from = [&](const std::vector<PortRoutes>& ports) {
    static const std::vector<HttpRoute> no_http;
    static const std::vector<TcpRoute> no_tcp;
    for (const PortRoutes& port : ports) {
      for (const HttpRoute& route : port.http ? *port.http : no_http) {
        for (const RouteTarget& target : route.targets) take(target);
        for (const Mirror& mirror : route.mirrors) take(mirror.target);
      }
      for (const TcpRoute& route : port.tcp ? *port.tcp : no_tcp) {
        for (const RouteTarget& target : route.targets) take(target);
      }
    }
  };
  from(service.routes.ports);
  for (const auto& [ns, ports] : service.routes.by_client_namespace) from(ports);
  return out;
}

const LabelMap& WaypointView::labels(std::string_view uid) const {
  static const LabelMap kNone;
  const LabelMap* known = known_labels(uid);
  return known ? *known : kNone;
}

const LabelMap* WaypointView::known_labels(std::string_view uid) const {
  auto found = labels_.find(uid);
  return found == labels_.end() ? nullptr : &found->second->labels;
}

std::shared_ptr<const WaypointView> WaypointView::empty() { return std::make_shared<WaypointView>(); }

std::shared_ptr<const WaypointView> WaypointView::with(WaypointUpdate update) const {
  auto next = std::make_shared<WaypointView>(*this);
  next->generation_ = generation_ + 1;
  for (WaypointService& service : update.services) {
    NamespacedHostname key = service.service;
    put(next->services_, std::move(service), key);
  }
  for (Backend& backend : update.backends) {
    NamespacedHostname key = backend.service;
    put(next->backends_, std::move(backend), key);
  }
  for (WorkloadLabels& labels : update.labels) {
    std::string key = labels.uid;
    put(next->labels_, std::move(labels), key);
  }
  if (update.settings)
    next->settings_ = std::make_shared<const WaypointSettings>(std::move(*update.settings));
  for (const std::string& name : update.removed_services) {
    if (auto key = NamespacedHostname::parse(name)) next->services_.erase(*key);
  }
  for (const std::string& name : update.removed_backends) {
    if (auto key = NamespacedHostname::parse(name)) next->backends_.erase(*key);
  }
  for (const std::string& name : update.removed_labels) next->labels_.erase(name);
  return next;
}

}  // namespace culvert::model
