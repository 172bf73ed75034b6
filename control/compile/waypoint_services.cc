// SPDX-License-Identifier: Apache-2.0
// What waypoints are told (spec waypoint sections 1.4 and 1.10): for every service bound to one its routes
// and guard, for every service its traffic policy, the labels of pods, the settings of the mesh.
//
// A host belongs to the namespace of its service: VirtualServices count there and in the waypoint's
// namespace, nowhere else, so no namespace takes another's host.
#include <fmt/format.h>

#include <algorithm>

#include "control/compile/authorizers.h"
#include "control/compile/backends.h"
#include "control/compile/context.h"
#include "control/compile/gateway_routes.h"
#include "control/compile/guards.h"
#include "control/compile/http_routes.h"
#include "control/compile/rate_limits.h"
#include "control/compile/telemetry.h"

namespace culvert::control {

namespace {

template <class T>
std::vector<const T*> oldest_first(const kube::Table<T>& table) {
  std::vector<const T*> out;
  for (const auto& [key, object] : table) out.push_back(object.get());
  std::sort(out.begin(), out.end(), [](const T* a, const T* b) { return older(a->meta, b->meta); });
  return out;
}

bool for_mesh(const kube::VirtualService& source) {
  const auto& gateways = source.gateways;
  return gateways.empty() || std::find(gateways.begin(), gateways.end(), "mesh") != gateways.end();
}

class WaypointCompiler {
 public:
  explicit WaypointCompiler(Context& context);
  void run();

 private:
  using Name = model::NamespacedHostname;
  void compile_settings();
  void compile_backends();
  void apply_entry(const kube::ServiceEntry& entry, model::Backend& out);
  void report_refusing(const model::Backend& backend, const std::vector<const kube::DestinationRule*>& rules);
  void compile_service(const std::string& key, const model::Service& service);
  void compile_routes(const model::Service& service, const Waypoint& waypoint, model::WaypointService& out);
  // By targetRefs; `source` null: for pods addressed as such.
  void compile_guard(const ServiceSource* source, const Waypoint& waypoint, model::Guard& out);
  // Whom its policies ask.
  void compile_authorizers(model::Guard& out);
  void compile_pods(const std::string& key, const Waypoint& waypoint);
  // After the routes, which policies may be bound to.
  void compile_rate_limits(const ServiceSource& source, const std::vector<std::string>& waypoints,
                           model::WaypointService& out);
  model::Telemetry compile_service_telemetry(const ServiceSource& source,
                                             const std::vector<std::string>& waypoints);
  uint32_t ready_replicas(const Waypoint& waypoint) const;
  void report_unbound();
  void report_virtual_services();
  base::Result<const kube::VirtualService*> find_delegate(const kube::VirtualService& root,
                                                          const kube::VirtualService::Delegate& delegate);
  std::optional<Name> find_service(const std::string& host, const std::string& ns) const;
  bool targets(const kube::TargetRef& ref, const kube::Meta& policy, const ServiceSource* source,
               const Waypoint& waypoint) const;
  template <class Policy>
  bool bound(const Policy& policy, const ServiceSource* source, const Waypoint& waypoint) const {
    return std::any_of(policy.target_refs.begin(), policy.target_refs.end(), [&](const kube::TargetRef& ref) {
      return targets(ref, policy.meta, source, waypoint);
    });
  }

  Context& context_;
  const kube::MeshConfig* mesh_;  // null: none was given
  GatewayPolicies gateway_policies_;
  std::map<std::string, model::ServiceRoutes> gateway_routes_;  // by service
  RouteScope scope_;
  std::vector<const kube::VirtualService*> virtual_services_;
  std::vector<const kube::DestinationRule*> destination_rules_;
  std::vector<const kube::AuthorizationPolicy*> policies_;
  std::vector<const kube::RequestAuthentication*> authentications_;
  std::map<std::string, Name> by_host_;             // the canonical service of a host
  std::set<const kube::VirtualService*> attached_;  // to some service
  std::vector<const kube::RateLimitPolicy*> rate_limits_;
  std::vector<const kube::Telemetry*> telemetries_;
  std::set<const void*> in_force_;  // of the two, somewhere
  AuthorizerScope authorizer_scope_;
  struct KnownAuthorizer {
    std::optional<model::Authorizer> made;
    std::string why;  // not made
  };
  std::map<std::string, KnownAuthorizer> authorizers_;  // by name
  std::set<std::string> unasked_;                       // policies that have been told about
  TelemetryScope telemetry_scope_;
  // Most services of a namespace have the same.
  std::map<std::vector<TelemetryLayer>, model::Telemetry> telemetry_of_;
};

WaypointCompiler::WaypointCompiler(Context& context)
    : context_(context),
      mesh_(context.mesh),
      gateway_policies_(context),
      gateway_routes_(compile_gateway_routes(context)),
      virtual_services_(oldest_first(context.objects.virtual_services)),
      destination_rules_(oldest_first(context.objects.destination_rules)),
      policies_(oldest_first(context.objects.authorization_policies)),
      authentications_(oldest_first(context.objects.request_authentications)),
      rate_limits_(oldest_first(context.objects.rate_limit_policies)),
      telemetries_(oldest_first(context.objects.telemetries)) {
  for (const auto& [key, service] : context.out.services) {
    if (service->canonical) by_host_.emplace(service->hostname.str(), service->key());
  }
  scope_.cluster_domain = context.options.cluster_domain;
  scope_.service = [this](const std::string& host, const std::string& ns) { return find_service(host, ns); };
  scope_.only_port = [this](const Name& name) -> uint16_t {
    const model::Service& service = *context_.out.services.at(name.to_string());
    return service.ports.size() == 1 ? service.ports.front().service_port : 0;
  };
  scope_.delegate = [this](const kube::VirtualService& root, const kube::VirtualService::Delegate& delegate) {
    return find_delegate(root, delegate);
  };
  scope_.complain = [this](const kube::VirtualService& service, int line, const std::string& what) {
    kube::Meta at = service.meta;
    if (line > 0) at.origin.line = line;
    context_.find("MSH011", Severity::kWarning, at, "VirtualService", what);
  };
  authorizer_scope_.mesh = mesh_;
  authorizer_scope_.root_namespace = context.options.root_namespace;
  authorizer_scope_.cluster_domain = context.options.cluster_domain;
  authorizer_scope_.service = scope_.service;
  authorizer_scope_.has_port = [this](const Name& name, uint16_t port) {
    return context_.out.services.at(name.to_string())->port(port) != nullptr;
  };
  telemetry_scope_.cluster_domain = context.options.cluster_domain;
  telemetry_scope_.root_namespace = context.options.root_namespace;
  telemetry_scope_.collectors = context.options.trace_collectors;
  telemetry_scope_.complain = [this](const kube::Telemetry& object, int line, bool grave,
                                     const std::string& what) {
    kube::Meta at = object.meta;
    if (line > 0) at.origin.line = line;
    context_.find("MSH021", grave ? Severity::kWarning : Severity::kInfo, at, "Telemetry", what);
  };
}

// The service of that host in `ns`, else the one that owns the host.
std::optional<model::NamespacedHostname> WaypointCompiler::find_service(const std::string& host,
                                                                        const std::string& ns) const {
  std::string full = resolve_host(host, ns, context_.options.cluster_domain);
  if (auto own = context_.out.services.find(ns + "/" + full); own != context_.out.services.end())
    return own->second->key();
  auto found = by_host_.find(full);
  return found == by_host_.end() ? std::nullopt : std::optional(found->second);
}

base::Result<const kube::VirtualService*> WaypointCompiler::find_delegate(
    const kube::VirtualService& root, const kube::VirtualService::Delegate& delegate) {
  std::string ns = delegate.ns.empty() ? root.meta.ns : delegate.ns;
  auto found = context_.objects.virtual_services.find(ns + "/" + delegate.name);
  if (found == context_.objects.virtual_services.end()) {
    return base::fail(base::Code::kNotFound,
                      fmt::format("there is no VirtualService {}/{} to delegate to", ns, delegate.name));
  }
  const kube::VirtualService& target = *found->second;
  if (!target.hosts.empty()) {
    return base::fail(
        base::Code::kInvalid,
        fmt::format("VirtualService {}/{} has hosts; only one without hosts can be delegated to", ns,
                    delegate.name));
  }
  const auto& to =
      !target.export_to.empty() || !mesh_ ? target.export_to : mesh_->default_virtual_service_export_to;
  if (!exported_to(to, ns, root.meta.ns)) {
    return base::fail(base::Code::kDenied,
                      fmt::format("VirtualService {}/{} is not for namespace {}; name it in its exportTo", ns,
                                  delegate.name, root.meta.ns));
  }
  attached_.insert(&target);
  return &target;
}

void WaypointCompiler::compile_settings() {
  using From = kube::MeshConfig::PathNormalization;
  using To = model::WaypointSettings::PathNormalization;
  model::WaypointSettings out;
  if (mesh_) {
    out.access_log_file = mesh_->access_log_file;
    out.access_log_format = mesh_->access_log_format;
    out.access_log_json = mesh_->access_log_json;
    switch (mesh_->path_normalization) {
      case From::kDefault:
      case From::kBase: out.paths = To::kBase; break;
      case From::kNone: out.paths = To::kNone; break;
      case From::kMergeSlashes: out.paths = To::kMergeSlashes; break;
      case From::kDecodeAndMerge: out.paths = To::kDecodeAndMergeSlashes; break;
    }
    if (mesh_->default_http_retries) out.default_retries = compile_retries(*mesh_->default_http_retries);
    out.trust_domain_aliases = mesh_->trust_domain_aliases;
    out.trusted_proxies = mesh_->proxy.trusted_proxies;
    out.allow_any_outbound = mesh_->outbound == kube::MeshConfig::Outbound::kAllowAny;
    const auto& headers = mesh_->proxy.headers;
    if (!headers.server_value.empty()) out.server_header = headers.server_value;
    if (headers.server_disabled) out.server_header.clear();
    out.client_retry_hints = mesh_->allow_client_retry_hints;
    if (mesh_->dns_refresh_rate.count() > 0) out.dns_refresh = mesh_->dns_refresh_rate;
  }
  out.session_key = context_.options.session_key;
  context_.out.settings = std::make_shared<const model::WaypointSettings>(std::move(out));
}

// What refuses because it cannot be carried out, at the DestinationRules that ask for it.
void WaypointCompiler::report_refusing(const model::Backend& backend,
                                       const std::vector<const kube::DestinationRule*>& rules) {
  std::set<std::string> reasons;
  auto take = [&](const model::TrafficPolicy& policy) {
    if (policy.tls) reasons.insert(policy.tls->broken);
    if (policy.tunnel) reasons.insert(policy.tunnel->broken);
  };
  auto look = [&](const model::PortedPolicy& policy) {
    take(policy.all);
    for (const auto& [port, one] : policy.by_port) take(one);
  };
  look(backend.policy);
  for (const model::Subset& subset : backend.subsets) look(subset.policy);
  for (const std::string& reason : reasons) {
    if (reason.empty()) continue;
    context_.find("MSH013", Severity::kError, rules.front()->meta, "DestinationRule",
                  fmt::format("{} refuses: {}", backend.service.to_string(), reason));
  }
}

// What a ServiceEntry says about how its hosts are reached (section 2.5).
void WaypointCompiler::apply_entry(const kube::ServiceEntry& entry, model::Backend& out) {
  const std::string* strategy = label(entry.meta.annotations, "istio.io/connect-strategy");
  if (entry.resolution == "DNS_ROUND_ROBIN") out.names = model::Backend::Names::kFirst;
  if (strategy && *strategy == "RACE_FIRST_TCP_CONNECT") {
    out.names = model::Backend::Names::kRace;
  } else if (strategy && *strategy != "DEFAULT") {
    context_.find(
        "MSH010", Severity::kWarning, entry.meta, "ServiceEntry",
        fmt::format("istio.io/connect-strategy \"{}\" is neither RACE_FIRST_TCP_CONNECT nor DEFAULT: "
                    "no effect",
                    *strategy));
  }
  // They stand for the hostname where no TLS settings name others.
  auto stand_in = [&](model::PortedPolicy& policy) {
    auto one = [&](model::TrafficPolicy& to) {
      if (to.tls && to.tls->subject_alt_names.empty()) to.tls->subject_alt_names = entry.subject_alt_names;
    };
    one(policy.all);
    for (auto& [port, policy_of_port] : policy.by_port) one(policy_of_port);
  };
  stand_in(out.policy);
  for (model::Subset& subset : out.subsets) stand_in(subset.policy);
}

void WaypointCompiler::compile_backends() {
  std::set<const kube::DestinationRule*> used;
  for (const auto& [key, service] : context_.out.services) {
    auto bound_to = context_.out.waypoints_of.find(key);
    std::vector<std::string> places;
    if (bound_to != context_.out.waypoints_of.end()) {
      places.push_back(context_.waypoints.at(bound_to->second.front()).ns);
    }
    std::string viewer = places.empty() ? service->ns.str() : places.front();
    places.push_back(service->ns.str());
    places.push_back(context_.options.root_namespace);
    std::vector<const kube::DestinationRule*> chosen;
    for (const std::string& place : places) {
      size_t best = 0;
      for (const kube::DestinationRule* rule : destination_rules_) {
        if (rule->meta.ns != place || rule->workload_selector) continue;
        const auto& to =
            !rule->export_to.empty() || !mesh_ ? rule->export_to : mesh_->default_destination_rule_export_to;
        if (!exported_to(to, place, viewer)) continue;
        size_t rank = host_rank(resolve_host(rule->host, place, context_.options.cluster_domain),
                                service->hostname.str());
        if (rank == 0 || rank < best) continue;
        if (rank > best) chosen.clear();
        best = rank;
        chosen.push_back(rule);
      }
      if (!chosen.empty()) break;
    }
    used.insert(chosen.begin(), chosen.end());
    model::Backend backend =
        compile_backend(service->key(), chosen, mesh_, {&context_.objects, places.front()});
    report_refusing(backend, chosen);
    if (auto source = context_.sources.find(key); source != context_.sources.end()) {
      if (source->second.entry) apply_entry(*source->second.entry, backend);
      gateway_policies_.apply(key, source->second, backend);
    }
    context_.out.backends[key] = std::make_shared<const model::Backend>(std::move(backend));
  }
  for (const kube::DestinationRule* rule : destination_rules_) {
    if (used.contains(rule)) continue;
    context_.find("MSH013", Severity::kWarning, rule->meta, "DestinationRule",
                  rule->workload_selector
                      ? "waypoints take no rules with a workloadSelector: it has no effect"
                      : "it is in force for no service: none is called \"" + rule->host +
                            "\", or it stands in neither the service's nor the waypoint's nor the root "
                            "namespace, or a more specific rule is in force");
  }
}

void WaypointCompiler::compile_routes(const model::Service& service, const Waypoint& waypoint,
                                      model::WaypointService& out) {
  std::vector<const kube::VirtualService*> sources;
  for (const kube::VirtualService* source : virtual_services_) {
    const std::string& ns = source->meta.ns;
    if ((ns != service.ns.str() && ns != waypoint.ns) || !for_mesh(*source)) continue;
    const auto& to =
        !source->export_to.empty() || !mesh_ ? source->export_to : mesh_->default_virtual_service_export_to;
    if (!exported_to(to, ns, waypoint.ns)) continue;
    bool named = std::any_of(source->hosts.begin(), source->hosts.end(), [&](const std::string& host) {
      return host_rank(resolve_host(host, ns, context_.options.cluster_domain), service.hostname.str()) > 0;
    });
    if (!named) continue;
    attached_.insert(source);
    sources.push_back(source);
  }
  bool delegates = std::any_of(sources.begin(), sources.end(), [](const kube::VirtualService* source) {
    return std::any_of(source->http.begin(), source->http.end(),
                       [](const auto& route) { return route.delegate.has_value(); });
  });
  for (const model::PortMapping& port : service.ports) {
    model::PortRoutes table;
    table.port = port.service_port;
    std::vector<model::HttpRoute> http;
    std::vector<model::TcpRoute> tcp;
    for (const kube::VirtualService* source : sources) {
      for (auto& route : compile_http(*source, table.port, scope_)) http.push_back(std::move(route));
      for (auto& route : compile_tcp(*source, table.port, scope_)) tcp.push_back(std::move(route));
    }
    // A delegate that cannot be used leaves no route, which answers 404; the service itself was not asked
    // for.
    if (!http.empty() || delegates) table.http = std::move(http);
    if (!tcp.empty()) table.tcp = std::move(tcp);
    if (table.http || table.tcp) out.routes.ports.push_back(std::move(table));
  }
  std::sort(out.routes.ports.begin(), out.routes.ports.end(),
            [](const auto& a, const auto& b) { return a.port < b.port; });
  auto gateway = gateway_routes_.find(service.key().to_string());
  if (gateway == gateway_routes_.end() || !lay_over(gateway->second, out.routes)) return;
  for (const kube::VirtualService* source : sources) {
    context_.find("MSH011", Severity::kWarning, source->meta, "VirtualService",
                  fmt::format("Gateway API routes are attached to {}: on their ports they count in its place",
                              service.key().to_string()));
  }
}

bool WaypointCompiler::targets(const kube::TargetRef& ref, const kube::Meta& policy,
                               const ServiceSource* source, const Waypoint& waypoint) const {
  if (!ref.ns.empty() && ref.ns != policy.ns) return false;
  if (ref.kind == "Service" || ref.kind == "ServiceEntry") {
    if (!source || (ref.kind == "Service") != (source->service != nullptr)) return false;
    const kube::Meta& service = source->service ? source->service->meta : source->entry->meta;
    return policy.ns == service.ns && ref.name == service.name;
  }
  if (ref.kind == "Gateway") return policy.ns == waypoint.ns && ref.name == waypoint.name;
  if (ref.kind == "GatewayClass") {
    auto gateway = context_.objects.gateways.find(waypoint.ns + "/" + waypoint.name);
    return policy.ns == context_.options.root_namespace && gateway != context_.objects.gateways.end() &&
           gateway->second->class_name == ref.name;
  }
  return false;
}

void WaypointCompiler::compile_guard(const ServiceSource* source, const Waypoint& waypoint,
                                     model::Guard& out) {
  for (const kube::AuthorizationPolicy* policy : policies_) {
    if (!bound(*policy, source, waypoint)) continue;
    out.policies.push_back(compile_http_policy(*policy, [&](const std::string& what) {
      context_.find("IST0106", Severity::kError, policy->meta, "AuthorizationPolicy", what);
    }));
  }
  for (const kube::RequestAuthentication* source_of : authentications_) {
    if (!bound(*source_of, source, waypoint)) continue;
    out.authentications.push_back(compile_authentication(*source_of, context_.options.jwks));
  }
}

void WaypointCompiler::compile_authorizers(model::Guard& out) {
  std::set<std::string> seen;
  for (const model::HttpPolicy& policy : out.policies) {
    if (policy.action != model::HttpPolicy::Action::kCustom) continue;
    if (seen.insert(policy.provider).second) {
      auto [known, fresh] = authorizers_.try_emplace(policy.provider);
      if (fresh) {
        known->second.made = compile_authorizer(policy.provider, authorizer_scope_,
                                                [&](const std::string& what) { known->second.why = what; });
      }
      if (known->second.made) out.authorizers.push_back(*known->second.made);
    }
    const KnownAuthorizer& one = authorizers_.at(policy.provider);
    std::string key = policy.ns + "/" + policy.name;
    auto source = context_.objects.authorization_policies.find(key);
    if (one.made || source == context_.objects.authorization_policies.end() || !unasked_.insert(key).second) {
      continue;
    }
    context_.find("MSH026", Severity::kError, source->second->meta, "AuthorizationPolicy", one.why);
  }
}

uint32_t WaypointCompiler::ready_replicas(const Waypoint& waypoint) const {
  uint32_t count = 0;
  for (const auto& [key, pod] : context_.objects.pods) {
    const std::string* gateway = label(pod->meta.labels, "gateway.networking.k8s.io/gateway-name");
    bool runs = !pod->meta.deleting && pod->phase != "Failed" && pod->phase != "Succeeded" &&
                pod->ready.value_or(true);
    if (runs && gateway && pod->meta.ns == waypoint.ns && *gateway == waypoint.name) count++;
  }
  return std::max<uint32_t>(1, count);
}

// By targetRefs to the service, to one of its waypoints, or to routes of its own: "Kind ns/name" is the
// origin of such a route, sectionName its name.
void WaypointCompiler::compile_rate_limits(const ServiceSource& source,
                                           const std::vector<std::string>& waypoints,
                                           model::WaypointService& out) {
  auto routes_for = [&](const kube::TargetRef& ref, const std::string& ns) {
    std::set<std::string> found;
    std::string origin = fmt::format("{} {}/{}", ref.kind, ref.ns.empty() ? ns : ref.ns, ref.name);
    auto look = [&](const auto& routes) {
      for (const auto& route : routes) {
        if (route.origin != origin) continue;
        if (ref.section_name.empty()) found.insert(origin);
        if (!ref.section_name.empty() && route.name == ref.section_name) found.insert(route.name);
      }
    };
    for (const model::PortRoutes& port : out.routes.ports) {
      if (port.http) look(*port.http);
    }
    for (const auto& [client, ports] : out.routes.by_client_namespace) {
      for (const model::PortRoutes& port : ports) {
        if (port.http) look(*port.http);
      }
    }
    return found;
  };
  for (const kube::RateLimitPolicy* policy : rate_limits_) {
    RateLimitScope scope;
    scope.service = [&](const std::string& name, const std::string& ns) {
      return find_service(name, ns.empty() ? policy->meta.ns : ns);
    };
    scope.has_port = authorizer_scope_.has_port;
    bool whole = std::any_of(waypoints.begin(), waypoints.end(), [&](const std::string& name) {
      return bound(*policy, &source, context_.waypoints.at(name));
    });
    for (const kube::TargetRef& ref : policy->target_refs) {
      if (whole || (!ref.ns.empty() && ref.ns != policy->meta.ns)) continue;
      for (const std::string& route : routes_for(ref, policy->meta.ns)) scope.routes.push_back(route);
    }
    if (!whole && scope.routes.empty()) continue;
    in_force_.insert(policy);
    bool divided = std::any_of(policy->rules.begin(), policy->rules.end(),
                               [](const kube::RateLimitPolicy::Rule& rule) { return rule.divided; });
    if (divided) scope.replicas = ready_replicas(context_.waypoints.at(waypoints.front()));
    out.guard.rate_limits.push_back(compile_rate_limit_policy(*policy, scope, [&](const std::string& what) {
      context_.find("MSH020", Severity::kWarning, policy->meta, "RateLimitPolicy", what);
    }));
  }
}

model::Telemetry WaypointCompiler::compile_service_telemetry(const ServiceSource& source,
                                                             const std::vector<std::string>& waypoints) {
  const Waypoint& primary = context_.waypoints.at(waypoints.front());
  const std::string& service_ns = source.service ? source.service->meta.ns : source.entry->meta.ns;
  std::vector<std::string> places;
  for (const std::string& ns : {context_.options.root_namespace, primary.ns, service_ns}) {
    if (std::find(places.begin(), places.end(), ns) == places.end()) places.push_back(ns);
  }
  std::vector<TelemetryLayer> layers(places.size() + 2);
  TelemetryLayer& of_waypoint = layers[places.size()];
  TelemetryLayer& of_service = layers[places.size() + 1];
  for (const kube::Telemetry* one : telemetries_) {
    if (one->selector) continue;
    TelemetryLayer* layer = nullptr;
    if (one->target_refs.empty()) {
      auto place = std::find(places.begin(), places.end(), one->meta.ns);
      if (place != places.end()) layer = &layers[static_cast<size_t>(place - places.begin())];
    }
    for (const kube::TargetRef& ref : one->target_refs) {
      bool reached = std::any_of(waypoints.begin(), waypoints.end(), [&](const std::string& name) {
        return targets(ref, one->meta, &source, context_.waypoints.at(name));
      });
      if (!reached || layer == &of_service) continue;
      layer = ref.kind == "Service" || ref.kind == "ServiceEntry" ? &of_service : &of_waypoint;
    }
    if (!layer) continue;
    layer->push_back(one);
    in_force_.insert(one);
  }
  auto [known, fresh] = telemetry_of_.try_emplace(std::move(layers));
  if (fresh) known->second = compile_telemetry(known->first, telemetry_scope_);
  return known->second;
}

void WaypointCompiler::compile_service(const std::string& key, const model::Service& service) {
  auto bound_to = context_.out.waypoints_of.find(key);
  if (bound_to == context_.out.waypoints_of.end()) return;
  const Waypoint& waypoint = context_.waypoints.at(bound_to->second.front());
  model::WaypointService out;
  out.service = service.key();
  compile_routes(service, waypoint, out);
  // A policy holds at each of the waypoints, also where it names only the canary's Gateway.
  for (const std::string& name : bound_to->second) {
    model::Guard guard;
    compile_guard(&context_.sources.at(key), context_.waypoints.at(name), guard);
    for (auto& policy : guard.policies) {
      if (std::find(out.guard.policies.begin(), out.guard.policies.end(), policy) == out.guard.policies.end())
        out.guard.policies.push_back(std::move(policy));
    }
    for (auto& one : guard.authentications) {
      auto& all = out.guard.authentications;
      if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(std::move(one));
    }
  }
  WaypointReach reach;
  for (const Name& name : model::reach_of(out)) {
    auto source = context_.sources.find(name.to_string());
    if (source != context_.sources.end()) reach.services.push_back(&source->second);
  }
  compile_selector_guard(context_, reach, out.guard);
  compile_authorizers(out.guard);
  compile_rate_limits(context_.sources.at(key), bound_to->second, out);
  out.telemetry = compile_service_telemetry(context_.sources.at(key), bound_to->second);
  context_.out.waypoint_services[key] = std::make_shared<const model::WaypointService>(std::move(out));
}

// What holds for pods that use the waypoint themselves: routes are for services.
void WaypointCompiler::compile_pods(const std::string& key, const Waypoint& waypoint) {
  if (waypoint.traffic != "workload" && waypoint.traffic != "all") return;
  model::WaypointService out;
  out.service = model::pods_of_waypoint(waypoint.ns, waypoint.name);
  compile_guard(nullptr, waypoint, out.guard);
  compile_selector_guard(context_, {{}, allowed_namespaces(context_, waypoint)}, out.guard);
  compile_authorizers(out.guard);
  std::string name = out.service.to_string();
  context_.out.waypoints_of[name] = {key};
  context_.out.waypoint_services[name] = std::make_shared<const model::WaypointService>(std::move(out));
}

void WaypointCompiler::report_virtual_services() {
  for (const kube::VirtualService* source : virtual_services_) {
    if (attached_.contains(source) || !for_mesh(*source)) continue;
    if (source->hosts.empty()) {
      context_.find("MSH011", Severity::kWarning, source->meta, "VirtualService",
                    "no effect: it has no hosts, and no route that a waypoint uses delegates to it");
    }
    for (const std::string& host : source->hosts) {
      auto service = find_service(host, source->meta.ns);
      std::string why = "no service is called \"" + host + "\"";
      if (service && !context_.out.waypoints_of.contains(service->to_string())) {
        why = fmt::format("{} has no waypoint; label its Service or namespace istio.io/use-waypoint",
                          service->to_string());
      } else if (service) {
        why = fmt::format(
            "host {} belongs to namespace {}: VirtualServices there or in its waypoint's "
            "namespace count",
            service->hostname.view(), service->ns.view());
      }
      context_.find("MSH011", Severity::kWarning, source->meta, "VirtualService", "no effect: " + why);
    }
  }
}

// RateLimitPolicies and Telemetries that no service feels.
void WaypointCompiler::report_unbound() {
  for (const kube::RateLimitPolicy* one : rate_limits_) {
    if (in_force_.contains(one)) continue;
    context_.find(
        "MSH020", Severity::kWarning, one->meta, "RateLimitPolicy",
        "no effect: targetRefs names no Service, ServiceEntry, route or Gateway of its own namespace "
        "with traffic that passes a waypoint; label the Service or its namespace "
        "istio.io/use-waypoint");
  }
  for (const kube::Telemetry* one : telemetries_) {
    if (in_force_.contains(one)) continue;
    std::string why =
        one->selector ? "waypoints take no Telemetry with a selector; name the Service in targetRefs"
        : !one->target_refs.empty()
            ? "targetRefs names no Service, ServiceEntry or Gateway of its own namespace with traffic that "
              "passes a waypoint; label the Service or its namespace istio.io/use-waypoint"
            : fmt::format("no service of namespace {} has a waypoint; label it istio.io/use-waypoint",
                          one->meta.ns);
    context_.find("MSH021", Severity::kWarning, one->meta, "Telemetry", "no effect: " + why);
  }
}

void WaypointCompiler::run() {
  telemetry_scope_.mesh = mesh_;
  compile_settings();
  compile_backends();
  for (const auto& [key, service] : context_.out.services) compile_service(key, *service);
  for (const auto& [key, waypoint] : context_.waypoints) compile_pods(key, waypoint);
  report_virtual_services();
  report_unbound();
  gateway_policies_.report();
}

}  // namespace

const kube::MeshConfig* pick_mesh_config(Context& context) {
  const kube::MeshConfig* mesh = nullptr;
  const kube::Meta* from = nullptr;
  auto take = [&](const auto& object, std::string_view kind) {
    if (!object.mesh) return;
    if (mesh) {
      context.find("MSH012", Severity::kWarning, object.meta, kind,
                   "its meshConfig is ignored: that of " + from->origin.to_string() + " is in force");
      return;
    }
    mesh = &*object.mesh;
    from = &object.meta;
  };
  for (const auto* install : oldest_first(context.objects.istio_operators)) take(*install, "IstioOperator");
  for (const auto* map : oldest_first(context.objects.config_maps)) {
    if (map->meta.ns == context.options.root_namespace) take(*map, "ConfigMap");
  }
  return mesh;
}

void compile_waypoint_resources(Context& context) { WaypointCompiler(context).run(); }

}  // namespace culvert::control
