// SPDX-License-Identifier: Apache-2.0
// Side calls: one request of the waypoint itself to a service beside the path of its exchanges: an
// authorizer, a rate limit service (spec waypoint sections 2.6.6 and 4.3). To an endpoint of the service
// directly, by HBONE where it speaks that: never through a waypoint. Data loop.
#pragma once

#include <string>

#include "net/async/task.h"
#include "net/conn/http_stream.h"
#include "waypoint/upstream/cluster.h"

namespace culvert::waypoint {

struct SideRequest {
  wire::Headers headers;  // pseudo-headers first
  std::string body;
  bool http2 = false;
  base::SocketAddr own;  // who a PROXY header names
};

struct SideAnswer {
  wire::Headers headers, trailers;
  std::string body;
};

// More of an answer is an error.
inline constexpr size_t kSideAnswerBytesMax = 1024 * 1024;
// Answers to the same question are the same: a connection that broke is replaced this often.
inline constexpr int kSideTriesMax = 3;

// The whole answer, whatever its status; ends by the deadline (kTimeout). The body goes out and the answer
// comes in on `stream`.
async::Task<base::Result<SideAnswer>> converse(conn::HttpStream& stream, std::string body,
                                               size_t answer_bytes_max, async::Deadline deadline);
// The cluster outlives the call. kUnavailable: nobody healthy, or none could be reached; kExhausted: a bound
// of the cluster.
async::Task<base::Result<SideAnswer>> side_call(async::Loop& loop, Cluster& cluster, SideRequest request,
                                                async::Deadline deadline);

// A unary gRPC call: `message` to `path` ("/package.Service/Method"), and the message of the answer. Anything
// but grpc-status 0 is an error.
async::Task<base::Result<std::string>> side_call_grpc(async::Loop& loop, Cluster& cluster, std::string path,
                                                      std::string message, base::SocketAddr own,
                                                      async::Deadline deadline);

}  // namespace culvert::waypoint
