// SPDX-License-Identifier: Apache-2.0
#include "waypoint/upstream/side_call.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "net/async/scope.h"
#include "net/conn/tls_dial.h"
#include "net/io/stream_wait.h"
#include "net/wire/grpc_frame.h"
#include "waypoint/headers.h"

namespace culvert::waypoint {

using base::Code;
using base::fail;
using base::Result;

async::Task<Result<SideAnswer>> converse(conn::HttpStream& stream, std::string body, size_t answer_bytes_max,
                                         async::Deadline deadline) {
  Result<> written = co_await io::write_all(stream, base::as_bytes(body));
  if (written) stream.shutdown_write();
  // An answer may come before the whole request was taken: it says more than the broken write.
  Result<wire::Headers> headers = co_await stream.response(deadline);
  if (!headers) co_return fail(std::move(headers).error());
  SideAnswer answer;
  answer.headers = std::move(*headers);
  char block[4096];
  for (;;) {
    Result<size_t> got =
        co_await io::read_some(stream, base::ByteSpan(reinterpret_cast<uint8_t*>(block), sizeof block));
    if (!got) co_return fail(std::move(got).error());
    if (*got == 0) break;
    if (answer.body.size() + *got > answer_bytes_max) {
      co_return fail(Code::kUnsupported, "the answer is too long");
    }
    answer.body.append(block, *got);
  }
  answer.trailers = stream.trailers();
  co_return answer;
}

namespace {

// One try; `tried` gets the host.
async::Task<Result<SideAnswer>> try_once(Cluster& cluster, const SideRequest& request, PickRequest& pick,
                                         async::Deadline deadline) {
  using Kind = decide::HostOutcome::Kind;
  HostRef host = cluster.pick(pick);
  if (!host) co_return fail(Code::kUnsupported, "no healthy endpoint");
  pick.tried.push_back(host->key);
  HostUse use(host);
  HttpPool& pool = cluster.pool(host, request.http2, request.own, host->address);
  std::expected<HttpPool::Lease, UpstreamFailure> lease = co_await pool.acquire(cluster.policy(), deadline);
  if (!lease) {
    bool overflow = lease.error().kind == UpstreamFailure::Kind::kOverflow;
    if (overflow) co_return fail(Code::kExhausted, "more calls wait than connectionPool allows");
    cluster.report(*host, {Kind::kConnectFailure, 0});
    co_return fail(Code::kUnavailable, lease.error().reason);
  }
  bool bare = request.body.empty();
  Result<std::unique_ptr<conn::HttpStream>> stream = lease->open(request.headers, bare);
  if (!stream) co_return fail(std::move(stream).error());
  Result<SideAnswer> answer = co_await converse(**stream, request.body, kSideAnswerBytesMax, deadline);
  if (answer) {
    cluster.report(*host, {Kind::kResponse, status_of(answer->headers)});
  } else {
    cluster.report(*host, {answer.error().code() == Code::kTimeout ? Kind::kTimeout : Kind::kReset, 0});
  }
  co_return answer;
}

async::Task<Result<SideAnswer>> try_often(Cluster& cluster, SideRequest request, async::Deadline deadline) {
  Seat seat = cluster.limits().request(cluster.policy().pool);
  if (!seat) co_return fail(Code::kExhausted, "more calls are under way than connectionPool allows");
  PickRequest pick;
  for (int tries = 1;; ++tries) {
    Result<SideAnswer> answer = co_await try_once(cluster, request, pick, deadline);
    if (answer || tries == kSideTriesMax) co_return answer;
    Code code = answer.error().code();
    // A connection that has gone, or nobody behind the address.
    bool again =
        code == Code::kRefused || code == Code::kClosed || code == Code::kReset || code == Code::kUnavailable;
    if (!again) co_return answer;
  }
}

}  // namespace

async::Task<Result<SideAnswer>> side_call(async::Loop& loop, Cluster& cluster, SideRequest request,
                                          async::Deadline deadline) {
  Result<SideAnswer> answer = co_await async::with_deadline(loop, deadline, "side call",
                                                            try_often(cluster, std::move(request), deadline));
  co_return answer;
}

async::Task<Result<std::string>> side_call_grpc(async::Loop& loop, Cluster& cluster, std::string path,
                                                std::string message, base::SocketAddr own,
                                                async::Deadline deadline) {
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline.when() - loop.now()).count();
  SideRequest request;
  request.headers = {
      {":method", "POST"},
      {":scheme", "http"},
      {":authority", conn::authority(cluster.key().service.hostname.str(), cluster.key().port)},
      {":path", std::move(path)},
      {"content-type", "application/grpc"},
      {"te", "trailers"},
      {"grpc-timeout", fmt::format("{}m", std::clamp<int64_t>(left, 1, 99'999'999))},
      {"user-agent", "culvert"}};
  request.body = wire::grpc_frame(message);
  request.http2 = true;
  request.own = own;
  Result<SideAnswer> answer = co_await side_call(loop, cluster, std::move(request), deadline);
  if (!answer) co_return fail(std::move(answer).error());
  const wire::Headers& end = header_of(answer->trailers, "grpc-status") ? answer->trailers : answer->headers;
  std::optional<uint32_t> status = grpc_status_in(end);
  if (!status) {
    co_return fail(Code::kProtocol,
                   fmt::format("HTTP status {} without a grpc-status", status_of(answer->headers)));
  }
  if (*status != 0) {
    const std::string* text = header_of(end, "grpc-message");
    co_return fail(Code::kUnavailable,
                   fmt::format("grpc-status {}: {}", *status, text ? wire::grpc_percent_decode(*text) : ""));
  }
  base::ByteQueue queue;
  queue.append(base::as_bytes(answer->body));
  Result<std::optional<std::string>> got = wire::take_grpc_message(queue, kSideAnswerBytesMax);
  if (!got) co_return fail(std::move(got).error());
  if (!*got) co_return fail(Code::kProtocol, "grpc-status 0 without a message");
  co_return std::move(**got);
}

}  // namespace culvert::waypoint
