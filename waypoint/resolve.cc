// SPDX-License-Identifier: Apache-2.0
#include "waypoint/resolve.h"

#include "mesh/decide/gateway.h"

namespace culvert::waypoint {

namespace {

std::unexpected<Refusal> refuse(uint16_t status, std::string code, std::string reason) {
  return std::unexpected(Refusal{status, std::move(code), std::move(reason)});
}

std::expected<Addressed, Refusal> of_service(const MeshState& state, const model::ServiceRef& service,
                                             uint16_t port, base::SocketAddr dialled) {
  Addressed out;
  out.l7 = state.l7->service(service->key());
  if (!out.l7) {
    return refuse(404, "not-bound", service->key().to_string() + " is not bound to this waypoint");
  }
  const model::PortMapping* mapping = service->port(port);
  if (!mapping) {
    return refuse(404, "no-such-port",
                  service->key().to_string() + " declares no port " + std::to_string(port));
  }
  out.service = service;
  out.port = port;
  out.dialled = dialled;
  out.protocol = mapping->app_protocol;
  return out;
}

std::expected<Addressed, Refusal> of_address(const MeshState& state, const Self& self,
                                             std::string_view client_ns, const base::SocketAddr& address) {
  const model::MeshView& mesh = *state.mesh;
  if (model::ServiceRef service = mesh.service_at(self.network, address.ip, client_ns)) {
    return of_service(state, service, address.port, address);
  }
  model::WorkloadRef pod = mesh.workload_at(self.network, address.ip);
  if (!pod) {
    return refuse(404, "unknown-address", address.to_string() + " is no service or pod of the mesh");
  }
  model::WorkloadRef own = mesh.workload_at(self.network, self.ip);
  bool ours = own && own != pod && pod->waypoint && decide::stands_behind(mesh, *pod->waypoint, *own);
  if (!ours) return refuse(404, "not-bound", "pod " + pod->uid + " does not use this waypoint");
  Addressed out;
  out.l7 = state.l7->service(model::pods_of_waypoint(self.identity.ns, self.gateway));
  if (!out.l7) return refuse(404, "not-bound", "we were told of no rules for pods that use this waypoint");
  out.pod = std::move(pod);
  out.port = address.port;
  out.dialled = address;
  return out;
}

std::expected<Addressed, Refusal> of_name(const MeshState& state, const Self& self,
                                          std::string_view client_ns, const hbone::HostPort& name) {
  model::ServiceRef service = state.mesh->service_by_host(name.host, client_ns);
  if (!service) return refuse(404, "unknown-host", "no service is called " + name.host);
  base::SocketAddr dialled{base::IpAddr(), name.port};
  for (const model::NetworkAddress& vip : service->vips) {
    if (vip.network != self.network) continue;
    dialled.ip = vip.ip;
    break;
  }
  return of_service(state, service, name.port, dialled);
}

}  // namespace

std::expected<Addressed, Refusal> resolve(const MeshState& state, const Self& self,
                                          const model::Identity& client, const hbone::Authority& authority) {
  if (client == self.identity) {
    return refuse(508, "loop", "the client has our own identity: two waypoints may not share one");
  }
  if (const auto* name = std::get_if<hbone::HostPort>(&authority)) {
    return of_name(state, self, client.ns.view(), *name);
  }
  return of_address(state, self, client.ns.view(), std::get<base::SocketAddr>(authority));
}

}  // namespace culvert::waypoint
