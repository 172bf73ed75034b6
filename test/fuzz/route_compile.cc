// SPDX-License-Identifier: Apache-2.0
// Routes, policies and telemetry of a service behind a waypoint, from a user's text to what the waypoint
// reads. Input: manifests; the service `api` with its pods, and the waypoint, are there already.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mesh/jwt/authenticate.h"
#include "test/fuzz/compiled.h"

using namespace culvert;

namespace {

constexpr std::string_view kMesh = R"(
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: wp}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status: {addresses: [{type: IPAddress, value: 10.96.7.7}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80}, {name: grpc, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: api-v1
  namespace: shop
  labels: {app: api, version: v1}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: a, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.244.3.3}], conditions: [{type: Ready, status: "True"}]}
---
)";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(kMesh);
  text.append(reinterpret_cast<const char*>(data), size);
  kube::ObjectsRef objects = fuzz::read_manifests(text);
  control::Compiled compiled = control::compile(*objects, {});
  fuzz::check_accepted(compiled);
  // Equal objects give equal resources.
  control::Compiled again = control::compile(*objects, {}, &compiled);
  for (const auto& [name, service] : compiled.waypoint_services) {
    auto twin = again.waypoint_services.find(name);
    if (twin == again.waypoint_services.end() || *twin->second != *service) abort();
    if (xds::encode(*twin->second) != xds::encode(*service)) abort();
    // What a waypoint makes of it when it comes.
    (void)jwt::TokenRules::compile(service->guard.authentications);
  }
  return 0;
}
