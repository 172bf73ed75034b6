// SPDX-License-Identifier: Apache-2.0
#include "control/compile/gateway_routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/compile/backends.h"

namespace culvert::control {

namespace {

constexpr std::string_view kGatewayGroup = "gateway.networking.k8s.io";
constexpr std::string_view kIstioGroup = "networking.istio.io";

std::string joined(const std::vector<std::string>& items) {
  return fmt::format("{}", fmt::join(items, "; "));
}

model::PortRoutes& at_port(std::vector<model::PortRoutes>& ports, uint16_t port) {
  auto at = std::lower_bound(ports.begin(), ports.end(), port,
                             [](const model::PortRoutes& one, uint16_t value) { return one.port < value; });
  if (at == ports.end() || at->port != port) {
    at = ports.insert(at, model::PortRoutes{});
    at->port = port;
  }
  return *at;
}

// What a parentRef comes to.
struct Parent {
  std::string name;               // for people
  std::vector<std::string> keys;  // of its services that have a waypoint; unbound: of all
  std::vector<uint16_t> ports;
  std::string refused, why;  // not empty: the reason of Accepted=False
  bool ours = true;          // else another controller's
  bool unbound = false;      // none has a waypoint
};

struct PortTables {
  std::vector<RankedRoute> http;
  std::vector<model::TcpRoute> tcp;
  bool has_http = false;
};
// By service, by the namespace of the clients ("": all), by port.
using Tables = std::map<std::string, std::map<std::string, std::map<uint16_t, PortTables>>>;

class Attacher {
 public:
  explicit Attacher(Context& context) : context_(context), refs_(context) {}

  template <class Route>
  void attach_all(const kube::Table<Route>& table, std::string_view kind) {
    std::vector<const Route*> routes;
    for (const auto& [key, route] : table) routes.push_back(route.get());
    std::sort(routes.begin(), routes.end(), [](auto* a, auto* b) { return older(a->meta, b->meta); });
    for (const Route* route : routes) attach(*route, kind);
  }

  std::map<std::string, model::ServiceRoutes> finish();

 private:
  template <class Route>
  void attach(const Route& route, std::string_view kind);
  Parent parent_of(const kube::ParentRef& ref, const std::string& route_ns) const;
  void add(std::vector<RankedRoute> routes, PortTables& to) const {
    to.has_http = true;
    for (RankedRoute& one : routes) to.http.push_back(std::move(one));
  }
  void add(std::vector<model::TcpRoute> routes, PortTables& to) const {
    for (model::TcpRoute& one : routes) to.tcp.push_back(std::move(one));
  }
  void report(const kube::Meta& meta, std::string_view kind, const Parent& parent, const RouteFlaws& flaws);
  model::PortRoutes port_routes(uint16_t port, PortTables tables) const;

  Context& context_;
  BackendRefs refs_;
  Tables tables_;
};

Parent Attacher::parent_of(const kube::ParentRef& ref, const std::string& route_ns) const {
  Parent out;
  const std::string& ns = ref.ns.empty() ? route_ns : ref.ns;
  std::string object = fmt::format("{} {}/{}", ref.kind, ns, ref.name);
  out.name = object;
  if (ref.port != 0) out.name += fmt::format(":{}", ref.port);
  if (!ref.section_name.empty()) out.name += " section " + ref.section_name;
  bool service = ref.kind == "Service" && (ref.group.empty() || ref.group == "core");
  bool entry = ref.kind == "ServiceEntry" && ref.group == kIstioGroup;
  if (ref.kind == "Gateway" && ref.group == kGatewayGroup &&
      context_.waypoints.contains(ns + "/" + ref.name)) {
    out.refused = "NotAllowedByListeners";
    out.why = "a waypoint's listener takes HBONE, not routes; name the Services as parents";
    return out;
  }
  out.ours = service || entry;
  if (!out.ours) return out;
  const std::vector<std::string>* keys = refs_.keys(object);
  if (!keys) {
    out.refused = "NoMatchingParent";
    out.why = fmt::format("there is no {}", object);
    return out;
  }
  const ServiceSource& source = context_.sources.at(keys->front());
  auto take = [&](const std::string& name, uint16_t port) {
    if ((ref.port == 0 || ref.port == port) && (ref.section_name.empty() || ref.section_name == name))
      out.ports.push_back(port);
  };
  if (source.service) {
    for (const kube::ServicePort& port : source.service->ports) take(port.name, port.port);
  } else {
    for (const kube::ServiceEntry::Port& port : source.entry->ports) take(port.name, port.number);
  }
  if (out.ports.empty()) {
    out.refused = "NoMatchingParent";
    out.why = fmt::format("{} has no such port", object);
    return out;
  }
  for (const std::string& key : *keys) {
    if (context_.out.waypoints_of.contains(key)) out.keys.push_back(key);
  }
  out.unbound = out.keys.empty();
  // Compiled all the same, for what is to be said about the route.
  if (out.unbound) out.keys = *keys;
  return out;
}

template <class Route>
void Attacher::attach(const Route& route, std::string_view kind) {
  for (const kube::ParentRef& ref : route.parents) {
    Parent parent = parent_of(ref, route.meta.ns);
    RouteFlaws flaws;
    for (const std::string& key : parent.keys) {
      // Each service of a ServiceEntry comes to the same flaws.
      flaws = {};
      auto rules = compile_gateway_rules(route, key, refs_, flaws);
      if (parent.unbound) continue;
      // A route of another namespace is its clients' alone (gap G2).
      std::string owner = context_.out.services.at(key)->ns.str();
      auto& by_port = tables_[key][route.meta.ns == owner ? "" : route.meta.ns];
      for (uint16_t port : parent.ports) add(rules, by_port[port]);
    }
    report(route.meta, kind, parent, flaws);
  }
}

// Findings say what stands in the way; the status says it in the words of the Gateway API.
void Attacher::report(const kube::Meta& meta, std::string_view kind, const Parent& parent,
                      const RouteFlaws& flaws) {
  auto warn = [&](const std::string& what) {
    context_.find("MSH024", Severity::kWarning, meta, kind, fmt::format("parent {}: {}", parent.name, what));
  };
  if (!parent.ours) {
    context_.find("MSH024", Severity::kInfo, meta, kind,
                  fmt::format("parent {}: not of the mesh, which takes Services and ServiceEntries; what it "
                              "says there is not carried out here",
                              parent.name));
    return;
  }
  PartStatus status{parent.name, {}};
  bool accepted = parent.refused.empty();
  status.conditions.push_back({"Accepted", accepted, accepted ? "Accepted" : parent.refused, parent.why});
  if (!accepted) warn("no effect: " + parent.why);
  if (accepted) {
    bool resolved = flaws.unresolved.empty();
    status.conditions.push_back({"ResolvedRefs", resolved,
                                 resolved ? "ResolvedRefs" : flaws.unresolved_reason,
                                 joined(flaws.unresolved)});
    for (const std::string& what : flaws.unresolved) warn(what);
    if (!flaws.unsupported.empty()) {
      status.conditions.push_back({"PartiallyInvalid", true, "UnsupportedValue", joined(flaws.unsupported)});
    }
    for (const std::string& what : flaws.unsupported) warn(what);
    std::string unbound = "it has no waypoint; label it or its namespace istio.io/use-waypoint";
    status.conditions.push_back({"ResolvedWaypoints", !parent.unbound,
                                 parent.unbound ? "MissingUseWaypointLabel" : "ResolvedWaypoints",
                                 parent.unbound ? unbound : ""});
    if (parent.unbound) warn("no effect: " + unbound);
  }
  context_.status(kind, meta).parents.push_back(std::move(status));
}

model::PortRoutes Attacher::port_routes(uint16_t port, PortTables tables) const {
  model::PortRoutes out;
  out.port = port;
  std::stable_sort(tables.http.begin(), tables.http.end(),
                   [](const RankedRoute& a, const RankedRoute& b) { return a.rank > b.rank; });
  if (tables.has_http) out.http.emplace();
  for (RankedRoute& one : tables.http) out.http->push_back(std::move(one.route));
  if (!tables.tcp.empty()) out.tcp = std::move(tables.tcp);
  return out;
}

std::map<std::string, model::ServiceRoutes> Attacher::finish() {
  std::map<std::string, model::ServiceRoutes> out;
  for (auto& [key, by_client] : tables_) {
    model::ServiceRoutes& routes = out[key];
    for (auto& [client, by_port] : by_client) {
      auto& ports = client.empty() ? routes.ports : routes.by_client_namespace[client];
      for (auto& [port, tables] : by_port) ports.push_back(port_routes(port, std::move(tables)));
    }
  }
  return out;
}

}  // namespace

void RouteFlaws::refer(std::string reason, std::string message) {
  if (unresolved_reason.empty()) unresolved_reason = std::move(reason);
  if (std::find(unresolved.begin(), unresolved.end(), message) == unresolved.end())
    unresolved.push_back(std::move(message));
}

BackendRefs::BackendRefs(const Context& context) : context_(context) {
  for (const auto& [key, source] : context.sources) {
    const kube::Meta& meta = source.service ? source.service->meta : source.entry->meta;
    keys_[fmt::format("{} {}", source.service ? "Service" : "ServiceEntry", meta.key())].push_back(key);
  }
  for (const auto& [key, service] : context.out.services) {
    if (service->canonical) by_host_.emplace(service->hostname.str(), key);
  }
}

const std::vector<std::string>* BackendRefs::keys(const std::string& object) const {
  auto found = keys_.find(object);
  return found == keys_.end() ? nullptr : &found->second;
}

bool BackendRefs::granted(std::string_view kind, const std::string& ns, const std::string& to_ns,
                          const std::string& to) const {
  for (const auto& [key, grant] : context_.objects.reference_grants) {
    if (grant->meta.ns != to_ns) continue;
    bool from = std::any_of(grant->from.begin(), grant->from.end(), [&](const auto& one) {
      return one.group == kGatewayGroup && one.kind == kind && one.ns == ns;
    });
    bool reaches = std::any_of(grant->to.begin(), grant->to.end(), [&](const auto& one) {
      return one.group.empty() && one.kind == "Service" && (one.name.empty() || one.name == to);
    });
    if (from && reaches) return true;
  }
  return false;
}

// Of a Service, or of a host: the service of that host in `ns`, else the one that owns it.
std::optional<std::string> BackendRefs::resolve(const kube::BackendObject& ref, const std::string& ns) const {
  if (ref.kind == "Service") {
    const auto* found = keys(fmt::format("Service {}/{}", ref.ns.empty() ? ns : ref.ns, ref.name));
    return found ? std::optional(found->front()) : std::nullopt;
  }
  std::string own = ns + "/" + ref.name;
  if (context_.out.services.contains(own)) return own;
  auto found = by_host_.find(ref.name);
  return found == by_host_.end() ? std::nullopt : std::optional(found->second);
}

model::RouteTarget BackendRefs::target(const kube::BackendObject& ref, std::string_view kind,
                                       const std::string& ns, const std::string& parent,
                                       RouteFlaws& flaws) const {
  model::RouteTarget out;
  std::string shown = fmt::format("{} {}/{}", ref.kind, ref.ns.empty() ? ns : ref.ns, ref.name);
  auto refuse = [&](std::string reason, const std::string& why) {
    out.invalid = fmt::format("backend {} {}", shown, why);
    flaws.refer(std::move(reason), out.invalid + ": its share is refused (HTTP 500)");
    // Nobody's key: what may not be named is not told to the waypoint either.
    out.service = {"", ref.name};
    return out;
  };
  bool service = ref.kind == "Service" && (ref.group.empty() || ref.group == "core");
  bool host = ref.kind == "Hostname" && ref.group == kIstioGroup;
  if (!service && !host) return refuse("InvalidKind", "is of a kind that is not carried out");
  std::optional<std::string> key = resolve(ref, ns);
  // Without leave the answer is the same whether it is there or not.
  std::string to_ns = service ? (ref.ns.empty() ? ns : ref.ns) : ns;
  std::string to_name = ref.name;
  if (host && key) {
    if (const ServiceSource& source = context_.sources.at(*key); source.service) {
      to_ns = source.service->meta.ns;
      to_name = source.service->meta.name;
    }
  }
  bool allowed = to_ns == ns || (key && *key == parent) || granted(kind, ns, to_ns, to_name);
  if (!allowed) return refuse("RefNotPermitted", "needs a ReferenceGrant in namespace " + to_ns);
  if (!key) return refuse("BackendNotFound", "is not there");
  const model::Service& found = *context_.out.services.at(*key);
  bool has_port = ref.port == 0 || std::any_of(found.ports.begin(), found.ports.end(), [&](const auto& port) {
                    return port.service_port == ref.port;
                  });
  if (!has_port) return refuse("BackendNotFound", fmt::format("has no port {}", ref.port));
  out.service = found.key();
  out.port = ref.port;
  if (out.port == 0 && found.ports.size() == 1) out.port = found.ports.front().service_port;
  return out;
}

std::map<std::string, model::ServiceRoutes> compile_gateway_routes(Context& context) {
  Attacher attacher(context);
  attacher.attach_all(context.objects.http_routes, "HTTPRoute");
  attacher.attach_all(context.objects.grpc_routes, "GRPCRoute");
  attacher.attach_all(context.objects.tls_routes, "TLSRoute");
  attacher.attach_all(context.objects.tcp_routes, "TCPRoute");
  return attacher.finish();
}

bool lay_over(const model::ServiceRoutes& gateway, model::ServiceRoutes& out) {
  bool replaced = false;
  for (const model::PortRoutes& port : gateway.ports) {
    model::PortRoutes& to = at_port(out.ports, port.port);
    replaced = replaced || (port.http && to.http) || (port.tcp && to.tcp);
    if (port.http) to.http = port.http;
    if (port.tcp) to.tcp = port.tcp;
  }
  for (const auto& [client, ports] : gateway.by_client_namespace) {
    auto& own = out.by_client_namespace[client];
    for (model::PortRoutes port : ports) {
      // What the client's namespace says nothing about stays the producer's.
      for (const model::PortRoutes& all : out.ports) {
        if (all.port != port.port) continue;
        if (!port.http) port.http = all.http;
        if (!port.tcp) port.tcp = all.tcp;
      }
      own.push_back(std::move(port));
    }
  }
  return replaced;
}

}  // namespace culvert::control
