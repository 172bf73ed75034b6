// SPDX-License-Identifier: Apache-2.0
// An exchange: one HTTP request through its fixed phases (spec waypoint section 1.9). A phase that never
// waits is a plain function (phases/); one that has answered ends the exchange.
//
//   receive -> authenticate -> authorize -> route -> limit -> shape -> forward (pick, dial, retry, mirror)
//           -> respond -> record
#pragma once

#include <memory>

#include "net/async/task.h"
#include "net/conn/http_stream.h"
#include "waypoint/client.h"

namespace culvert::waypoint {

class Worker;

// Ends when the client has its answer, or is beyond one.
async::Task<void> serve_exchange(Worker& worker, ClientRef client, std::unique_ptr<conn::HttpStream> stream);

}  // namespace culvert::waypoint
