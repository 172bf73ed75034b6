// SPDX-License-Identifier: Apache-2.0
// The local path: both pods are served by this very process, so their sockets are joined by one relay,
// without TLS, HTTP/2 and two copies through the kernel (CULVERT_LOCAL_PATH, default on).
//
// It is the tunnel without its bytes: the destination's half is the handler of inbound.cc, which gets the
// same CONNECT headers as a `ServerStream` and admits, authorizes, records, dials and watches for policies as
// it does for any peer. Everything that is not plainly equal goes through the tunnel: waypoints, a client
// address that is not the pod's, certificates that are missing, of other roots or of another identity, a
// destination whose address is not in the namespace we know it by. What differs: nothing is seen on port
// 15008, so a NetworkPolicy between two pods of one node does not apply to it.
//
// | half        | runs in the scope of | when the other half goes      |
// |-------------|----------------------|-------------------------------|
// | source      | the client's pod     | its record is closed          |
// | destination | the server's pod     | the client's socket is reset  |
#pragma once

#include <memory>

#include "mesh/decide/plan.h"
#include "mesh/hbone/tunnel_server.h"
#include "mesh/observe/conn_record.h"
#include "net/async/wait.h"
#include "net/io/network.h"
#include "ztunnel/connection.h"
#include "ztunnel/pod_proxy.h"

namespace culvert::ztunnel {

// What the two halves share; the last one drops it. On one loop.
struct LocalLink {
  LocalLink(async::Loop& loop, std::unique_ptr<io::ByteStream> accepted)
      : client(std::move(accepted)), answered(loop), ended(loop) {}
  std::unique_ptr<io::ByteStream> client;  // gone with the destination's half
  uint16_t status = 0;                     // of the answer; 0: dropped without one
  async::Event answered;
  async::Event ended;
  RelayCounts counts;
};

// The destination's half as the handler sees it.
struct LocalArrival {
  base::SocketAddr peer;  // the client, as a tunnel would have come from it
  base::SocketAddr local;
  model::Identity identity;  // what the client's certificate proves
  std::shared_ptr<LocalLink> link;
  hbone::HeaderList headers;
};

// The pod on this loop that the plan leads to, with the identity the client has proven, if the local path may
// serve the connection; else a null pod. Valid until the caller next waits.
struct LocalDestination {
  PodProxy* pod = nullptr;
  model::Identity client;
};
async::Task<LocalDestination> find_local_destination(PodProxy& source_pod, const io::Accepted& accepted,
                                                     const model::Workload& source, const decide::Plan& plan);

// Joins the accepted socket with the destination and closes the record when it is over.
async::Task<void> through_local_path(PodProxy& destination, LocalArrival arrival,
                                     observe::ConnRecord& record);

// The stream that the inbound handler serves.
std::unique_ptr<hbone::ServerStream> local_stream(LocalArrival& arrival);

}  // namespace culvert::ztunnel
