// SPDX-License-Identifier: Apache-2.0
#include "control/compile/compile.h"

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
