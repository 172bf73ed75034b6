// SPDX-License-Identifier: Apache-2.0
// forward: the phases that wait: pick an endpoint, dial, send, retry, and pass the answer on (spec waypoint
// sections 2.1.5, 2.3, 6).
#pragma once

#include <optional>

#include "net/async/task.h"
#include "waypoint/exchange_state.h"
#include "waypoint/upstream/cluster.h"

namespace culvert::waypoint {

// Nothing: the client has its answer, or is beyond one. A reply: there was none to pass on.
async::Task<std::optional<Reply>> forward(Exchange& x);

// The cluster of a route's target; nothing: its service is a wildcard, and what the request names lies
// outside.
std::optional<ClusterKey> cluster_key(const Exchange& x, const model::RouteTarget& target);
// Which version requests are sent in to endpoints of that cluster.
bool wants_http2(const Exchange& x, const ClusterKey& key, const model::PoolLimits& pool);
// The policies bound by selector let the request go to that endpoint. Nothing is recorded.
bool may_reach(Exchange& x, const Host& host);

}  // namespace culvert::waypoint
