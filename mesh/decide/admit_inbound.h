// SPDX-License-Identifier: Apache-2.0
// admit_inbound: may this CONNECT enter this pod, and where does it go (spec ztunnel section 4.2, steps 1 to
// 5)? Pure. Authorization (step 6) follows with decide::authorize on `app`.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "mesh/model/view.h"
#include "mesh/model/workload.h"
#include "net/base/ip.h"

namespace culvert::decide {

struct InboundRequest {
  std::string_view authority;               // of the CONNECT
  base::SocketAddr connection_dst;          // local address of the tunnel: the pod's ip
  std::string_view network;                 // our own (NETWORK)
  std::span<const uint16_t> illegal_ports;  // our own listeners: 15001, 15006, 15008, ...
  std::string_view forwarded_host;          // `host` of the forwarded header, or empty; telemetry only
};

struct Admission {
  base::SocketAddr app;  // pod ip and final port: what policies see and what is dialled
  // The workload's application tunnel, with what its PROXY header names as the destination.
  std::optional<model::AppTunnel> tunnel;
  base::SocketAddr tunnel_target;  // only with a tunnel
  model::ServiceRef service;       // for telemetry; may be null
};

struct Rejection {
  uint16_t status = 503;  // 400: the request is wrong; 503: we cannot serve it
  std::string reason;
};

std::expected<Admission, Rejection> admit_inbound(const model::MeshView& view, const model::Workload& local,
                                                  const InboundRequest& request);

// The service a plaintext connection to this workload port belongs to, for telemetry (spec ztunnel 4.4).
model::ServiceRef service_of_port(const model::MeshView& view, const model::Workload& local, uint16_t port,
                                  std::string_view forwarded_host);

}  // namespace culvert::decide
