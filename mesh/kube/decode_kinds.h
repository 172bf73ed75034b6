// SPDX-License-Identifier: Apache-2.0
// One function per kind, from a Cursor. Private to mesh/kube. Problems go to the cursor's log.
#pragma once

#include "mesh/kube/cursor.h"
#include "mesh/kube/objects.h"

namespace culvert::kube {

// Core and discovery (decode_core.cc).
Pod decode_pod(const Cursor& root, Meta meta);
Service decode_service(const Cursor& root, Meta meta);
EndpointSlice decode_endpoint_slice(const Cursor& root, Meta meta);
PodBinding decode_pod_binding(const Cursor& root, Meta meta);
NetworkPolicy decode_network_policy(const Cursor& root, Meta meta);
// Gateway API (decode_core.cc).
Gateway decode_gateway(const Cursor& root, Meta meta);
GatewayClass decode_gateway_class(const Cursor& root, Meta meta);
// Istio (decode_istio.cc). Unknown fields of policies are errors.
WorkloadEntry decode_workload_entry(const Cursor& root, Meta meta);
ServiceEntry decode_service_entry(const Cursor& root, Meta meta);
AuthorizationPolicy decode_authorization_policy(const Cursor& root, Meta meta);
PeerAuthentication decode_peer_authentication(const Cursor& root, Meta meta);
// One file each.
VirtualService decode_virtual_service(const Cursor& root, Meta meta);
DestinationRule decode_destination_rule(const Cursor& root, Meta meta);
Telemetry decode_telemetry(const Cursor& root, Meta meta);
// decode_gateway_api.cc
HttpRoute decode_http_route_object(const Cursor& root, Meta meta);
GrpcRoute decode_grpc_route(const Cursor& root, Meta meta);
TcpRoute decode_tcp_route(const Cursor& root, Meta meta);
TlsRoute decode_tls_route(const Cursor& root, Meta meta);
ReferenceGrant decode_reference_grant(const Cursor& root, Meta meta);
// decode_l7_policies.cc
BackendTlsPolicy decode_backend_tls_policy(const Cursor& root, Meta meta);
BackendTrafficPolicy decode_backend_traffic_policy(const Cursor& root, Meta meta);
RequestAuthentication decode_request_authentication(const Cursor& root, Meta meta);
RateLimitPolicy decode_rate_limit_policy(const Cursor& root, Meta meta);
ConfigMap decode_config_map(const Cursor& root, Meta meta);
Secret decode_secret(const Cursor& root, Meta meta);
// decode_extension_provider.cc
ExtensionProvider decode_extension_provider(const Cursor& at);
// decode_mesh_config.cc
MeshConfig decode_mesh_config(const Cursor& at);
IstioOperator decode_istio_operator(const Cursor& root, Meta meta);
ProxyConfig decode_proxy_config(const Cursor& root, Meta meta);

AuthorizationPolicy::Source decode_source(const Cursor& source);
LabelSelector decode_selector(const Cursor& selector);

}  // namespace culvert::kube
