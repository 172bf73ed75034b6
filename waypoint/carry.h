// SPDX-License-Identifier: Apache-2.0
// carry: one accepted CONNECT stream, by what the client speaks (spec waypoint section 1.8).
//
// | protocol of the port          | what is done                                                            |
// |-------------------------------|-------------------------------------------------------------------------|
// | HTTP/1.1, HTTP/2, gRPC        | HTTP; the version by the client's first bytes                           |
// | TLS                           | the server name is read, the bytes are passed                           |
// | TCP                           | passed at once, nothing is read first                                   |
// | unknown, or a pod's port      | HTTP if the first bytes are, else passed                                |
#pragma once

#include <memory>

#include "net/async/task.h"
#include "waypoint/client.h"
#include "waypoint/client_stream.h"

namespace culvert::waypoint {

class Worker;

async::Task<void> carry(Worker& worker, ClientRef client, std::unique_ptr<ClientStream> stream);

}  // namespace culvert::waypoint
