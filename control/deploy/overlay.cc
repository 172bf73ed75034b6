// SPDX-License-Identifier: Apache-2.0
#include "control/deploy/overlay.h"

namespace culvert::control {

namespace {

std::shared_ptr<const kube::Pod> pod_of(const WaypointDeployment& deployment,
                                        const RunningWaypoint& running) {
  auto pod = std::make_shared<kube::Pod>();
  pod->meta.ns = deployment.ns;
  pod->meta.name = deployment.pod_name();
  pod->meta.uid = deployment.key() + "/" + running.address.to_string();
  pod->meta.labels = deployment.labels;
  for (const auto& [key, value] : deployment.pod_labels) pod->meta.labels[key] = value;
  pod->meta.annotations = deployment.annotations;
  pod->meta.generate_name = deployment.name + "-";
  pod->meta.owner_kind = "StatefulSet";
  pod->meta.owner_name = deployment.name;
  pod->meta.origin = deployment.origin;
  pod->service_account = deployment.service_account;
  pod->node = running.node;
  pod->phase = "Running";
  pod->ready = running.ready;
  pod->ips = {running.address.to_string()};
  for (const WaypointDeployment::Port& port : deployment.ports)
    pod->ports.push_back({port.name, port.port, "TCP"});
  return pod;
}

}  // namespace

kube::ObjectsRef with_waypoints(const kube::ObjectsRef& objects,
                                const std::map<std::string, WaypointDeployment>& deployments,
                                const std::map<std::string, RunningWaypoint>& running) {
  if (running.empty()) return objects;
  auto out = std::make_shared<kube::Objects>(*objects);
  for (const auto& [key, deployment] : deployments) {
    auto found = running.find(key);
    if (found == running.end()) continue;
    out->pods[deployment.ns + "/" + deployment.pod_name()] = pod_of(deployment, found->second);
    if (!found->second.programmed) continue;
    auto gateway = std::make_shared<kube::Gateway>(*out->gateways.at(key));
    gateway->status_addresses = {{"IPAddress", found->second.address.to_string()}};
    out->gateways[key] = std::move(gateway);
  }
  return out;
}

}  // namespace culvert::control
