// SPDX-License-Identifier: Apache-2.0
// Outbound: one connection a pod has opened, captured on 15001 (spec ztunnel section 2).
#pragma once

#include "net/async/task.h"
#include "net/io/network.h"

namespace culvert::ztunnel {

class PodProxy;

// Ends when the connection has; a failure closes it with a line that says why.
async::Task<void> serve_outbound(PodProxy& pod, io::Accepted accepted);

}  // namespace culvert::ztunnel
