// SPDX-License-Identifier: Apache-2.0
// One HBONE connection to the waypoint: handshake, then every CONNECT resolved before it is answered
// (spec waypoint R1.1 to R1.5, R1.14, R1.15).
#pragma once

#include "net/async/task.h"
#include "net/io/network.h"

namespace culvert::waypoint {

class Worker;

// Ends when the connection has.
async::Task<void> serve_connection(Worker& worker, io::Accepted accepted);

}  // namespace culvert::waypoint
