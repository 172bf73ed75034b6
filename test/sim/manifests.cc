// SPDX-License-Identifier: Apache-2.0
#include "test/sim/manifests.h"

#include "test/unit/control/compile/objects.h"

namespace culvert::test {

const char kWaypointManifest[] = R"(---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status: {addresses: [{type: IPAddress, value: 10.0.9.9}]}
---
)";

control::Compiled learn(WaypointWorld& world, const std::string& manifests) {
  control::CompileOptions options;
  options.session_key = std::string(32, 'k');
  control::Compiled compiled = compile_yaml(kWaypointManifest + manifests, nullptr, options);
  std::vector<model::Service> services;
  for (const auto& [name, service] : compiled.services) services.push_back(*service);
  std::vector<model::Workload> workloads;
  for (const auto& [uid, workload] : compiled.workloads) workloads.push_back(*workload);
  model::WaypointUpdate update;
  for (const auto& [name, service] : compiled.waypoint_services) update.services.push_back(*service);
  for (const auto& [name, backend] : compiled.backends) update.backends.push_back(*backend);
  for (const auto& [uid, labels] : compiled.workload_labels) update.labels.push_back(*labels);
  update.settings = *compiled.settings;
  world.set_mesh(std::move(services), std::move(workloads));
  world.tell(std::move(update));
  return compiled;
}

}  // namespace culvert::test
