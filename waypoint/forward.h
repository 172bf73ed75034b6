// SPDX-License-Identifier: Apache-2.0
// forward: the phases that wait: pick an endpoint, dial, send, retry, and pass the answer on (spec waypoint
// sections 2.1.5, 2.3, 6).
#pragma once

#include <optional>

#include "net/async/task.h"
#include "waypoint/exchange_state.h"

namespace culvert::waypoint {

// Nothing: the client has its answer, or is beyond one. A reply: there was none to pass on.
async::Task<std::optional<Reply>> forward(Exchange& x);

}  // namespace culvert::waypoint
