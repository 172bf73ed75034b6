// SPDX-License-Identifier: Apache-2.0
#include "control/compile/compile.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "control/compile/context.h"

namespace culvert::control {

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::kInfo: return "Info";
    case Severity::kWarning: return "Warning";
    case Severity::kError: return "Error";
  }
  return "Error";
}

bool older(const kube::Meta& a, const kube::Meta& b) {
  return std::tie(a.created, a.ns, a.name) < std::tie(b.created, b.ns, b.name);
}

namespace {

// What was taken although the API writes it otherwise, and what nobody here acts on.
void report_notes(Context& context) {
  auto all = [&](const auto& table, std::string_view kind) {
    for (const auto& [key, object] : table) {
      for (const kube::Note& note : object->meta.notes) {
        kube::Meta at = object->meta;
        if (note.line > 0) at.origin.line = note.line;
        context.find("MSH022", Severity::kInfo, at, kind, note.text);
      }
    }
  };
  const kube::Objects& objects = context.objects;
  all(objects.gateways, "Gateway");
  all(objects.service_entries, "ServiceEntry");
  all(objects.authorization_policies, "AuthorizationPolicy");
  all(objects.peer_authentications, "PeerAuthentication");
  all(objects.virtual_services, "VirtualService");
  all(objects.destination_rules, "DestinationRule");
  all(objects.http_routes, "HTTPRoute");
  all(objects.grpc_routes, "GRPCRoute");
  all(objects.tcp_routes, "TCPRoute");
  all(objects.tls_routes, "TLSRoute");
  all(objects.backend_tls_policies, "BackendTLSPolicy");
  all(objects.backend_traffic_policies, "XBackendTrafficPolicy");
  all(objects.request_authentications, "RequestAuthentication");
  all(objects.telemetries, "Telemetry");
  all(objects.rate_limit_policies, "RateLimitPolicy");
  all(objects.istio_operators, "IstioOperator");
  all(objects.proxy_configs, "ProxyConfig");
  all(objects.config_maps, "ConfigMap");
}

// Of an install file only meshConfig is ours; and the label that asks for sidecars has another here.
void report_installation(Context& context) {
  for (const auto& [key, install] : context.objects.istio_operators) {
    if (install->installer_only.empty()) continue;
    context.find("MSH023", Severity::kInfo, install->meta, "IstioOperator",
                 fmt::format("only an installer acts on {}; of this file the mesh acts on spec.meshConfig",
                             fmt::join(install->installer_only, ", ")));
  }
  auto mesh_says = [&](const auto& object, std::string_view kind) {
    if (!object.mesh) return;
    auto say = [&](const std::string& what) {
      context.find("MSH023", Severity::kWarning, object.meta, kind, "meshConfig." + what);
    };
    const kube::MeshConfig defaults;
    const kube::MeshConfig& mesh = *object.mesh;
    if (!mesh.enable_auto_mtls)
      say("enableAutoMtls: no effect: between workloads of the mesh there is always mTLS");
    if (mesh.trust_domain != defaults.trust_domain && mesh.trust_domain != context.options.trust_domain) {
      say(fmt::format("trustDomain: no effect: culvertd was started with --trust-domain {}",
                      context.options.trust_domain));
    }
    if (mesh.root_namespace != defaults.root_namespace &&
        mesh.root_namespace != context.options.root_namespace) {
      say(fmt::format("rootNamespace: no effect: that of culvertd is {}", context.options.root_namespace));
    }
    if (mesh.hbone_idle_timeout != defaults.hbone_idle_timeout) say("hboneIdleTimeout: no effect");
    if (!mesh.default_service_export_to.empty()) say("defaultServiceExportTo: no effect");
  };
  for (const auto& [key, install] : context.objects.istio_operators) mesh_says(*install, "IstioOperator");
  for (const auto& [key, map] : context.objects.config_maps) mesh_says(*map, "ConfigMap");
  for (const auto& [key, ns] : context.objects.namespaces) {
    const std::string* injection = label(ns->meta.labels, "istio-injection");
    if (!injection || *injection != "enabled") continue;
    const std::string* mode = label(ns->meta.labels, "istio.io/dataplane-mode");
    bool captured = mode && *mode == "ambient";
    // The control plane's own namespace is no part of the mesh.
    bool fine = captured || ns->meta.name == context.options.system_namespace;
    context.find("MSH006", fine ? Severity::kInfo : Severity::kWarning, ns->meta, "Namespace",
                 fine ? "istio-injection: no effect: this mesh has no sidecars; take the label away"
                      : "istio-injection: no effect: this mesh has no sidecars, and the pods of the "
                        "namespace are not in it; label it istio.io/dataplane-mode: ambient");
  }
}

}  // namespace

Compiled compile(const kube::Objects& objects, const CompileOptions& options, const Compiled* previous) {
  Compiled out;
  Context context{objects, options, previous, out, {}, {}, {}, {}, {}};
  if (const std::string* network =
          label(objects.namespace_labels(options.system_namespace), "topology.istio.io/network")) {
    context.network = *network;
  }
  context.mesh = pick_mesh_config(context);
  compile_waypoints(context);
  compile_services(context);
  plan_selector_policies(context);
  compile_authorization_policies(context);
  compile_peer_authentications(context);
  compile_workloads(context);
  report_selector_policies(context);
  compile_waypoint_resources(context);
  report_notes(context);
  report_installation(context);
  report_pitfalls(context);
  compile_status(context);
  std::stable_sort(out.findings.begin(), out.findings.end(), [](const Finding& a, const Finding& b) {
    return std::tie(a.origin.file, a.origin.line, a.code, a.message) <
           std::tie(b.origin.file, b.origin.line, b.code, b.message);
  });
  out.findings.erase(std::unique(out.findings.begin(), out.findings.end(),
                                 [](const Finding& a, const Finding& b) {
                                   return a.code == b.code && a.object == b.object && a.message == b.message;
                                 }),
                     out.findings.end());
  return out;
}

}  // namespace culvert::control
