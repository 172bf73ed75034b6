// SPDX-License-Identifier: Apache-2.0
// Waypoints and who is bound to which (spec control-plane section 1.12).
#include <fmt/format.h>

#include <charconv>

#include "control/compile/context.h"

namespace culvert::control {

namespace {

constexpr const char* kUse = "istio.io/use-waypoint";
constexpr const char* kUseNamespace = "istio.io/use-waypoint-namespace";
constexpr const char* kCanary = "istio.io/use-waypoint-canary";
constexpr const char* kCanaryNamespace = "istio.io/use-waypoint-canary-namespace";
constexpr const char* kCanaryWeight = "istio.io/use-waypoint-canary-weight";
constexpr const char* kGatewayName = "gateway.networking.k8s.io/gateway-name";
constexpr const char* kManaged = "gateway.istio.io/managed";

std::optional<model::AppTunnel> parse_binding(const std::string& text) {
  std::string_view rest(text);
  size_t slash = rest.find('/');
  std::string_view protocol = rest.substr(0, slash);
  model::AppTunnel tunnel;
  if (protocol == "PROXY") {
    tunnel.protocol = model::AppTunnel::Protocol::kProxy;
  } else if (protocol != "NONE") {
    return std::nullopt;
  }
  if (slash != std::string_view::npos) {
    auto port = base::parse_port(rest.substr(slash + 1));
    if (!port) return std::nullopt;
    tunnel.port = *port;
  }
  return tunnel;
}

void read_allowed_namespaces(const kube::Gateway& gateway, Waypoint& waypoint) {
  for (const kube::Gateway::Listener& listener : gateway.listeners) {
    bool chosen = waypoint.binding && waypoint.binding->port != 0 ? listener.port == waypoint.binding->port
                  : waypoint.binding && waypoint.binding->protocol == model::AppTunnel::Protocol::kProxy
                      ? listener.protocol == "istio.io/PROXY"
                      : listener.protocol == "HBONE" && listener.port == model::kHbonePort;
    if (!chosen) continue;
    if (listener.has_allowed_routes) {
      waypoint.from = listener.from;
      waypoint.from_selector = listener.selector;
    }
    return;
  }
}

std::optional<model::GatewayAddress> address_of(const Context& context, const kube::Gateway& gateway) {
  for (const auto& address : gateway.status_addresses) {
    if (address.type == "Hostname") {
      return model::GatewayAddress{model::NamespacedHostname{gateway.meta.ns, address.value},
                                   model::kHbonePort};
    }
  }
  for (const auto& address : gateway.status_addresses) {
    if (auto ip = base::IpAddr::parse(address.value)) {
      return model::GatewayAddress{model::NetworkAddress{context.network, *ip}, model::kHbonePort};
    }
  }
  return std::nullopt;
}

bool admits(const Context& context, const Waypoint& waypoint, const std::string& consumer_ns) {
  if (waypoint.from == "All") return true;
  if (waypoint.from == "Selector")
    return waypoint.from_selector.matches(context.objects.namespace_labels(consumer_ns));
  return consumer_ns == waypoint.ns;
}

// What is wrong with using `key` from there; empty if nothing.
std::string refusal(const Context& context, const std::string& key, const kube::Meta& meta, bool workload) {
  auto found = context.waypoints.find(key);
  if (found == context.waypoints.end()) return "WaypointIsNotReady: there is no waypoint Gateway " + key;
  const Waypoint& waypoint = found->second;
  if (!admits(context, waypoint, meta.ns)) {
    return fmt::format(
        "AttachmentDenied: Gateway {} does not allow namespace {}; set allowedRoutes.namespaces.from", key,
        meta.ns);
  }
  bool fits = waypoint.traffic == "all" || waypoint.traffic == (workload ? "workload" : "service");
  if (!fits) {
    return fmt::format(
        "UnsupportedTrafficType: Gateway {} serves {} traffic; label it istio.io/waypoint-for: all", key,
        waypoint.traffic);
  }
  return {};
}

// Of one that is not refused.
std::string not_ready(const Context& context, const std::string& key) {
  if (context.waypoints.at(key).address) return {};
  return "WaypointIsNotReady: Gateway " + key + " has no address yet";
}

std::string waypoint_key(const kube::Labels& labels, const char* name, const char* ns,
                         const std::string& fallback_ns) {
  const std::string* wanted = label(labels, name);
  const std::string* where = label(labels, ns);
  return (where ? *where : fallback_ns) + "/" + *wanted;
}

// What keeps the canary from being used; empty: it is used, or none is asked for.
std::string add_canary(Context& context, const kube::Meta& meta, std::string_view kind,
                       const kube::Labels& labels, const kube::Labels& annotations, bool workload,
                       const std::string& primary, WaypointBinding& binding) {
  if (!label(labels, kCanary)) return {};
  std::string key = waypoint_key(labels, kCanary, kCanaryNamespace, meta.ns);
  uint32_t weight = 0;
  if (const std::string* text = label(annotations, kCanaryWeight)) {
    auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), weight);
    if (error != std::errc() || end != text->data() + text->size() || weight > 100) {
      std::string problem =
          fmt::format("CanaryInvalidWeight: {} \"{}\" must be from 0 to 100", kCanaryWeight, *text);
      context.find("IST0171", Severity::kWarning, meta, kind, problem);
      return problem;
    }
  }
  std::string problem = key == primary ? "CanarySameAsPrimary: the canary is the primary waypoint itself"
                                       : refusal(context, key, meta, workload);
  if (problem.empty()) problem = not_ready(context, key);
  if (!problem.empty()) {
    context.find("IST0171", Severity::kWarning, meta, kind, "canary waypoint: " + problem);
    return problem;
  }
  binding.names.push_back(key);
  binding.weighted = {{*binding.primary, 100 - weight}, {*context.waypoints.at(key).address, weight}};
  return {};
}

// A problem is "Reason: what it means". Pods have no such condition.
void tell_binding(Context& context, const kube::Meta& meta, std::string_view kind, bool bound,
                  const std::string& text) {
  if (kind == "Pod") return;
  size_t colon = text.find(": ");
  Condition condition{"istio.io/WaypointBound", bound, "WaypointAccepted", text};
  if (!bound) condition = {condition.type, false, text.substr(0, colon), text.substr(colon + 2)};
  context.status(kind, meta).conditions.push_back(std::move(condition));
}

}  // namespace

bool is_waypoint_class(const kube::Objects& objects, const std::string& class_name) {
  if (class_name == "istio-waypoint" || class_name == "culvert-waypoint") return true;
  auto found = objects.gateway_classes.find(class_name);
  return found != objects.gateway_classes.end() && found->second->controller == "istio.io/mesh-controller";
}

void compile_waypoints(Context& context) {
  for (const auto& [key, gateway] : context.objects.gateways) {
    if (!is_waypoint_class(context.objects, gateway->class_name)) continue;
    Waypoint waypoint{
        gateway->meta.ns, gateway->meta.name, address_of(context, *gateway), "service", {}, "Same", {}};
    auto gateway_class = context.objects.gateway_classes.find(gateway->class_name);
    const kube::Meta* class_meta =
        gateway_class == context.objects.gateway_classes.end() ? nullptr : &gateway_class->second->meta;
    constexpr const char* kFor = "istio.io/waypoint-for";
    constexpr const char* kBinding = "ambient.istio.io/waypoint-inbound-binding";
    if (const std::string* own = label(gateway->meta.labels, kFor)) {
      waypoint.traffic = *own;
    } else if (const std::string* inherited = class_meta ? label(class_meta->labels, kFor) : nullptr) {
      waypoint.traffic = *inherited;
    }
    if (const std::string* own = label(gateway->meta.annotations, kBinding)) {
      waypoint.binding = parse_binding(*own);
    } else if (const std::string* inherited =
                   class_meta ? label(class_meta->annotations, kBinding) : nullptr) {
      waypoint.binding = parse_binding(*inherited);
    }
    read_allowed_namespaces(*gateway, waypoint);
    context.waypoints.emplace(key, std::move(waypoint));
  }
}

std::set<std::string> allowed_namespaces(const Context& context, const Waypoint& waypoint) {
  std::set<std::string> out = {waypoint.ns};
  for (const auto& [name, ns] : context.objects.namespaces) {
    if (admits(context, waypoint, name)) out.insert(name);
  }
  return out;
}

const Waypoint* waypoint_instance(const Context& context, const kube::Meta& meta) {
  const std::string* gateway = label(meta.labels, kGatewayName);
  if (!gateway) return nullptr;
  auto found = context.waypoints.find(meta.ns + "/" + *gateway);
  return found == context.waypoints.end() ? nullptr : &found->second;
}

bool ingress_use_waypoint(const Context& context, const kube::Meta& meta) {
  constexpr const char* kIngress = "istio.io/ingress-use-waypoint";
  const std::string* own = label(meta.labels, kIngress);
  const std::string* inherited = label(context.objects.namespace_labels(meta.ns), kIngress);
  const std::string* flag = own ? own : inherited;
  return flag && (*flag == "true" || *flag == "1" || *flag == "t" || *flag == "True" || *flag == "TRUE");
}

WaypointBinding bind_waypoint(Context& context, const kube::Meta& meta, std::string_view kind,
                              bool workload) {
  if (waypoint_instance(context, meta)) return {};
  if (const std::string* managed = label(meta.labels, kManaged);
      managed && (*managed == "istio.io-mesh-controller" || *managed == "istio.io-eastwest-controller")) {
    return {};
  }
  const kube::Labels* labels = &meta.labels;
  const kube::Labels* annotations = &meta.annotations;
  static const kube::Labels none;
  bool inherited = false;
  if (!label(*labels, kUse)) {
    inherited = true;
    auto ns = context.objects.namespaces.find(meta.ns);
    labels = ns == context.objects.namespaces.end() ? &none : &ns->second->meta.labels;
    annotations = ns == context.objects.namespaces.end() ? &none : &ns->second->meta.annotations;
  }
  const std::string* wanted = label(*labels, kUse);
  if (!wanted || *wanted == "none") return {};
  std::string key = waypoint_key(*labels, kUse, kUseNamespace, meta.ns);
  std::string problem = refusal(context, key, meta, workload);
  bool fits = problem.empty();
  if (fits) problem = not_ready(context, key);
  if (!problem.empty()) {
    // A workload that merely inherited a service waypoint has asked for nothing.
    if (inherited && workload && problem.starts_with("UnsupportedTrafficType")) return {};
    context.find("MSH003", Severity::kError, meta, kind,
                 problem + ". Until it is ready, traffic goes direct and L7 policy is not applied");
    tell_binding(context, meta, kind, false, problem);
    // One that only lacks its address is told already, so that it knows the service before any client does.
    WaypointBinding starting;
    if (fits) starting.names = {key};
    return starting;
  }
  WaypointBinding binding;
  binding.primary = *context.waypoints.at(key).address;
  binding.names = {key};
  std::string canary = add_canary(context, meta, kind, *labels, *annotations, workload, key, binding);
  std::string text = "bound to waypoint " + key;
  if (!canary.empty()) text += "; its canary is not used: " + canary;
  if (!workload && ingress_use_waypoint(context, meta)) text += "; ingress gateways send to it too";
  tell_binding(context, meta, kind, true, text);
  return binding;
}

}  // namespace culvert::control
