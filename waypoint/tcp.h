// SPDX-License-Identifier: Apache-2.0
// serve_tcp: a stream that is not HTTP, or TLS that is not opened: authorized, routed, dialled, copied (spec
// waypoint sections 1.8, 2.2, 2.6.4).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/async/task.h"
#include "waypoint/client.h"
#include "waypoint/client_stream.h"

namespace culvert::waypoint {

class Worker;

// `server_name`: of a TLS client, "" if it named none; none on other ports.
async::Task<void> serve_tcp(Worker& worker, ClientRef client, std::unique_ptr<ClientStream> stream,
                            std::optional<std::string> server_name);

}  // namespace culvert::waypoint
