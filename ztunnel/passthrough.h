// SPDX-License-Identifier: Apache-2.0
// Passthrough: one plaintext connection to a pod, captured on 15006 (spec ztunnel section 4.5).
#pragma once

#include "net/async/task.h"
#include "net/io/network.h"

namespace culvert::ztunnel {

class PodProxy;

// Authorized without an identity, then carried to its original destination.
async::Task<void> serve_passthrough(PodProxy& pod, io::Accepted accepted);

}  // namespace culvert::ztunnel
