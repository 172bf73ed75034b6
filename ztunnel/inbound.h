// SPDX-License-Identifier: Apache-2.0
// Inbound: one HBONE tunnel to a pod, accepted on 15008, and its CONNECT streams (spec ztunnel section 4.1
// to 4.4).
#pragma once

#include "net/async/task.h"
#include "net/io/network.h"

namespace culvert::ztunnel {

class PodProxy;

// Handshake as the pod, then a coroutine per stream; ends when the tunnel has.
async::Task<void> serve_tunnel(PodProxy& pod, io::Accepted accepted);

}  // namespace culvert::ztunnel
