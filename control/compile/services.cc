// SPDX-License-Identifier: Apache-2.0
// Services and ServiceEntries to model::Service (spec control-plane section 1.10).
#include <fmt/format.h>

#include <algorithm>

#include "control/compile/context.h"

namespace culvert::control {

model::AppProtocol app_protocol(std::string_view name, std::string_view protocol, uint16_t port) {
  using P = model::AppProtocol;
  if (protocol == "UDP") return P::kUnknown;
  if (name == "kubernetes.io/h2c") return P::kHttp2;
  if (name == "kubernetes.io/ws") return P::kHttp11;
  if (name == "kubernetes.io/wss") return P::kTls;
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  if (lower.starts_with("grpc-web")) return P::kUnknown;
  std::string prefix = lower.substr(0, lower.find('-'));
  if (prefix == "http") return P::kHttp11;
  if (prefix == "http2") return P::kHttp2;
  if (prefix == "grpc") return P::kGrpc;
  if (prefix == "tls" || prefix == "https") return P::kTls;
  if (prefix == "tcp") return P::kTcp;
  if (port == 25 || port == 53 || port == 3306 || port == 27017) return P::kTcp;
  return P::kUnknown;
}

namespace {

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return text;
}

// The distribution in force: own field, own annotation, the namespace's annotation.
std::string traffic_distribution(const Context& context, const std::string& field, const kube::Meta& meta) {
  constexpr const char* kAnnotation = "networking.istio.io/traffic-distribution";
  if (!field.empty()) return lower_case(field);
  if (const std::string* own = label(meta.annotations, kAnnotation)) return lower_case(*own);
  auto ns = context.objects.namespaces.find(meta.ns);
  if (ns != context.objects.namespaces.end()) {
    if (const std::string* inherited = label(ns->second->meta.annotations, kAnnotation))
      return lower_case(*inherited);
  }
  return {};
}

std::optional<model::LoadBalancing> balance_for(const std::string& distribution, bool internal_local,
                                                bool publish_not_ready) {
  using S = model::BalanceScope;
  model::LoadBalancing out;
  if (internal_local) {
    out = {{S::kNode}, model::BalanceMode::kStrict, model::HealthPolicy::kOnlyHealthy};
  } else if (distribution == "prefersamezone" || distribution == "preferclose") {
    out = {{S::kNetwork, S::kRegion, S::kZone},
           model::BalanceMode::kFailover,
           model::HealthPolicy::kOnlyHealthy};
  } else if (distribution == "prefersamenode") {
    out = {{S::kNetwork, S::kRegion, S::kZone, S::kSubzone, S::kNode},
           model::BalanceMode::kFailover,
           model::HealthPolicy::kOnlyHealthy};
  } else if (!publish_not_ready) {
    return std::nullopt;
  }
  if (publish_not_ready) out.health_policy = model::HealthPolicy::kAllowAll;
  return out;
}

void add_waypoint(Context& context, const kube::Meta& meta, std::string_view kind, model::Service& out) {
  WaypointBinding binding = bind_waypoint(context, meta, kind, false);
  out.waypoint = std::move(binding.primary);
  out.weighted_waypoints = std::move(binding.weighted);
  if (binding.names.empty()) return;
  context.out.waypoints_of[out.key().to_string()] = std::move(binding.names);
  out.ingress_use_waypoint = ingress_use_waypoint(context, meta);
}

void publish(Context& context, ServiceSource source, model::Service service) {
  std::string key = service.key().to_string();
  auto& kept = context.sources[key] = std::move(source);
  if (const kube::Labels* selector = kept.selector())
    context.sources_by_ns[service.ns.str()].add(*selector, &kept);
  context.out.services[key] = std::make_shared<const model::Service>(std::move(service));
}

void add_vips(Context& context, const std::shared_ptr<const kube::Service>& service,
              const std::string& hostname, model::Service& out) {
  if (service->headless()) return;
  for (const std::string& text : service->cluster_ips) {
    if (text.empty()) continue;
    auto ip = base::IpAddr::parse(text);
    if (!ip) {
      context.find("IST0106", Severity::kError, service->meta, "Service",
                   fmt::format("clusterIP \"{}\" is not an IP address", text));
      continue;
    }
    out.vips.push_back({context.network, *ip});
  }
  if (!out.vips.empty() || !service->cluster_ips.empty() || !context.options.allocate_vip) return;
  auto ip = context.options.allocate_vip(service->meta.ns + "/" + hostname);
  if (ip) {
    out.vips.push_back({context.network, *ip});
  } else {
    context.find("MSH010", Severity::kError, service->meta, "Service", "no VIP: " + ip.error().message());
  }
}

void compile_service(Context& context, const std::shared_ptr<const kube::Service>& service) {
  const kube::Meta& meta = service->meta;
  if (service->type == "ExternalName") {
    context.find(
        "MSH010", Severity::kInfo, meta, "Service",
        "ExternalName services are not part of the mesh; traffic to the external name passes through");
    return;
  }
  std::string hostname = fmt::format("{}.{}.svc.{}", meta.name, meta.ns, context.options.cluster_domain);
  model::Service out;
  out.name = meta.name;
  out.ns = meta.ns;
  out.hostname = hostname;
  out.canonical = true;
  add_vips(context, service, hostname, out);
  for (const kube::ServicePort& port : service->ports) {
    if (port.protocol == "UDP") continue;  // node proxies carry TCP
    out.ports.push_back(
        {port.port, port.target_port,
         app_protocol(port.app_protocol.empty() ? port.name : port.app_protocol, port.protocol, port.port)});
  }
  if (service->ip_families.size() >= 2) {
    out.ip_families = model::IpFamilies::kDual;
  } else if (service->ip_families.size() == 1) {
    out.ip_families =
        service->ip_families[0] == "IPv6" ? model::IpFamilies::kV6Only : model::IpFamilies::kV4Only;
  }
  out.load_balancing = balance_for(traffic_distribution(context, service->traffic_distribution, meta),
                                   service->internal_local, service->publish_not_ready);
  add_waypoint(context, meta, "Service", out);
  publish(context, {service, nullptr, hostname}, std::move(out));
}

bool add_addresses(Context& context, const kube::ServiceEntry& entry, const std::string& host,
                   model::Service& out) {
  for (const std::string& text : entry.addresses) {
    auto range = base::Cidr::parse(text);
    if (!range) {
      context.find(
          "IST0106", Severity::kError, entry.meta, "ServiceEntry",
          fmt::format("address \"{}\" is neither an IP address nor a CIDR; the entry is left out", text));
      return false;
    }
    if (range->is_host()) {
      out.vips.push_back({context.network, range->base()});
    } else {
      out.cidr_vips.push_back({context.network, *range});
    }
  }
  if (!entry.addresses.empty() || entry.resolution == "NONE") return true;
  for (const auto& allocated : entry.allocated) {
    auto ip = base::IpAddr::parse(allocated.value);
    if (allocated.host == host && ip) out.vips.push_back({context.network, *ip});
  }
  const std::string* opt_out = label(entry.meta.labels, "networking.istio.io/enable-autoallocate-ip");
  bool wildcard = host.starts_with('*') && entry.resolution != "DYNAMIC_DNS";
  if (out.vips.empty() && !wildcard && !(opt_out && *opt_out == "false") && context.options.allocate_vip) {
    if (auto ip = context.options.allocate_vip(entry.meta.ns + "/" + host))
      out.vips.push_back({context.network, *ip});
  }
  return true;
}

void compile_entry_host(Context& context, const std::shared_ptr<const kube::ServiceEntry>& entry,
                        const std::string& host) {
  std::string key = entry->meta.ns + "/" + host;
  if (context.sources.contains(key)) {
    context.find("IST0177", Severity::kWarning, entry->meta, "ServiceEntry",
                 fmt::format("host {} is already defined in namespace {}; this definition is ignored", host,
                             entry->meta.ns));
    return;
  }
  model::Service out;
  out.name = entry->meta.name;
  out.ns = entry->meta.ns;
  out.hostname = host;
  if (!add_addresses(context, *entry, host, out)) return;
  for (const auto& port : entry->ports) {
    if (port.protocol == "UDP") continue;
    out.ports.push_back({port.number, port.target_port != 0 ? port.target_port : port.number,
                         app_protocol(lower_case(port.protocol), port.protocol, port.number)});
  }
  out.subject_alt_names = entry->subject_alt_names;
  std::sort(out.subject_alt_names.begin(), out.subject_alt_names.end());
  if (entry->resolution == "NONE") {
    out.load_balancing =
        model::LoadBalancing{{}, model::BalanceMode::kPassthrough, model::HealthPolicy::kAllowAll};
  } else {
    out.load_balancing = balance_for(traffic_distribution(context, "", entry->meta), false, false);
  }
  add_waypoint(context, entry->meta, "ServiceEntry", out);
  publish(context, {nullptr, entry, host}, std::move(out));
}

// Exactly one namespace's copy of a host is canonical: a Kubernetes Service, else the oldest entry.
void mark_canonical(Context& context) {
  std::map<std::string, std::vector<std::string>> by_host;
  for (const auto& [key, source] : context.sources) by_host[source.hostname].push_back(key);
  for (const auto& [host, keys] : by_host) {
    bool has_service = std::any_of(keys.begin(), keys.end(), [&](const std::string& key) {
      return context.sources[key].service != nullptr;
    });
    if (has_service) continue;
    auto oldest = std::min_element(keys.begin(), keys.end(), [&](const std::string& a, const std::string& b) {
      return older(context.sources[a].entry->meta, context.sources[b].entry->meta);
    });
    auto marked = std::make_shared<model::Service>(*context.out.services.at(*oldest));
    marked->canonical = true;
    context.out.services[*oldest] = std::move(marked);
  }
}

}  // namespace

void compile_services(Context& context) {
  for (const auto& [key, service] : context.objects.services) compile_service(context, service);
  std::vector<std::shared_ptr<const kube::ServiceEntry>> entries;
  for (const auto& [key, entry] : context.objects.service_entries) entries.push_back(entry);
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return older(a->meta, b->meta); });
  for (const auto& entry : entries) {
    for (const std::string& host : entry->hosts) compile_entry_host(context, entry, host);
  }
  mark_canonical(context);
}

}  // namespace culvert::control
