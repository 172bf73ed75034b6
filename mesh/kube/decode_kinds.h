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
// Gateway API (decode_core.cc).
Gateway decode_gateway(const Cursor& root, Meta meta);
GatewayClass decode_gateway_class(const Cursor& root, Meta meta);
// Istio (decode_istio.cc). Unknown fields of policies are errors.
WorkloadEntry decode_workload_entry(const Cursor& root, Meta meta);
ServiceEntry decode_service_entry(const Cursor& root, Meta meta);
AuthorizationPolicy decode_authorization_policy(const Cursor& root, Meta meta);
PeerAuthentication decode_peer_authentication(const Cursor& root, Meta meta);

LabelSelector decode_selector(const Cursor& selector);

}  // namespace culvert::kube
