// SPDX-License-Identifier: Apache-2.0
// gRPC over Http2Conn (spec apis section 7): unary and bidirectional, no compression.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "net/async/scope.h"
#include "net/conn/http2_conn.h"
#include "net/wire/tls.h"

namespace culvert::conn {

// The codes of the protocol's own list.
enum class GrpcCode : unsigned char {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};
std::string_view to_string(GrpcCode code);

struct GrpcStatus {
  GrpcCode code = GrpcCode::kOk;
  std::string message;
  bool ok() const { return code == GrpcCode::kOk; }
};
// kOk does not become an Error; everything else does, "NAME: message".
base::Error to_error(const GrpcStatus& status);

using Metadata = std::vector<std::pair<std::string, std::string>>;  // names in lower case

// One bidirectional call of a client.
class GrpcStream {
 public:
  GrpcStream(std::unique_ptr<Http2Stream> stream, size_t message_bytes_max);
  async::Task<base::Result<>> send(std::string message);
  // The next message; nullopt at the end, then status() says how it ended.
  async::Task<base::Result<std::optional<std::string>>> receive();
  // Final once receive() gave nullopt or an error.
  const GrpcStatus& status() const { return status_; }
  // The peer answered with its status alone: the stream never opened (spec apis section 7, trailers-only).
  bool trailers_only() const { return trailers_only_; }
  void finish_sending() { stream_->shutdown_write(); }
  void cancel() { stream_->reset(wire::kH2Cancel); }

 private:
  bool take_message(std::string& out);
  void conclude(const wire::Headers& fields);
  void conclude_broken();
  std::unique_ptr<Http2Stream> stream_;
  size_t message_bytes_max_;
  base::ByteQueue received_;
  GrpcStatus status_;
  bool answered_ = false;
  bool ended_ = false;
  bool trailers_only_ = false;
};

class GrpcClient {
 public:
  // `authority` is host:port. The connection outlives the client's calls.
  GrpcClient(async::Loop& loop, Http2Conn& connection, std::string authority,
             size_t message_bytes_max = 4 * 1024 * 1024)
      : loop_(loop),
        connection_(connection),
        authority_(std::move(authority)),
        message_bytes_max_(message_bytes_max) {}

  // The answer's bytes, or the status.
  async::Task<std::expected<std::string, GrpcStatus>> unary(std::string path, std::string message,
                                                            Metadata metadata, async::Deadline deadline);
  base::Result<std::unique_ptr<GrpcStream>> stream(std::string path, Metadata metadata);

 private:
  wire::Headers request_headers(const std::string& path, const Metadata& metadata) const;
  async::Loop& loop_;
  Http2Conn& connection_;
  std::string authority_;
  size_t message_bytes_max_;
};

// One call as a handler sees it.
class GrpcCall {
 public:
  GrpcCall(Http2Stream& stream, const wire::PeerInfo& tls_peer, size_t message_bytes_max)
      : stream_(stream), tls_peer_(tls_peer), message_bytes_max_(message_bytes_max) {}
  // First value of a metadata key, or null.
  const std::string* metadata(std::string_view name) const {
    return wire::find_header(stream_.headers(), name);
  }
  const wire::PeerInfo& tls_peer() const { return tls_peer_; }
  base::SocketAddr peer_addr() const { return stream_.peer_addr(); }
  // nullopt: the client has finished sending.
  async::Task<base::Result<std::optional<std::string>>> receive();
  async::Task<base::Result<>> send(std::string message);

 private:
  friend class GrpcServer;
  Http2Stream& stream_;
  const wire::PeerInfo& tls_peer_;
  size_t message_bytes_max_;
  base::ByteQueue received_;
  bool answered_ = false;
};

// Serves calls on connections given to it. The handler's status goes out as trailers; a handler is
// destroyed (cancelled) with its connection.
class GrpcServer {
 public:
  using Handler = std::function<async::Task<GrpcStatus>(GrpcCall& call)>;
  struct Options {
    Http2Options http2;
    size_t message_bytes_max = 64 * 1024 * 1024;
  };
  GrpcServer(async::Loop& loop, Options options) : loop_(loop), options_(std::move(options)) {}
  void handle(std::string path, Handler handler) { handlers_[std::move(path)] = std::move(handler); }
  // Ends when the connection has.
  async::Task<void> serve(std::unique_ptr<io::ByteStream> lower, wire::PeerInfo peer);

 private:
  async::Task<void> serve_call(std::unique_ptr<Http2Stream> stream, const wire::PeerInfo& peer);
  async::Loop& loop_;
  Options options_;
  std::map<std::string, Handler, std::less<>> handlers_;
};

}  // namespace culvert::conn
