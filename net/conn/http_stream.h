// SPDX-License-Identifier: Apache-2.0
// HttpStream: one request and its answer, whatever version carries them (waypoint spec section 7). A
// ByteStream: try_read gives the peer's body, try_write takes ours, both with back-pressure; shutdown_write
// ends our message, eof is the end of the peer's.
//
// Headers are in HTTP/2 form: lower-case names, pseudo-headers first, nothing that belongs to one hop.
// An upgrade is an extended CONNECT (RFC 8441) in every version: `:method: CONNECT` with `:protocol`, granted
// by
// `:status: 200`; from then on the body is raw bytes both ways. HTTP/1's `Upgrade` and 101, and WebSocket's
// key and accept, are translated at the edge. A policy that speaks of methods means GET there
// (`shown_method`).
//
// Http1ServerConn, Http1ClientConn and Http2Conn make them. One loop; a stream may outlive its connection.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "net/async/deadline.h"
#include "net/async/task.h"
#include "net/async/wait.h"
#include "net/io/stream.h"
#include "net/wire/http1.h"

namespace culvert::conn {

enum class HttpVersion : unsigned char { k10, k11, k2 };

// For logs and metrics; final once both directions have ended.
struct HttpCounts {
  uint64_t header_bytes_in = 0;  // header blocks as on the wire: HTTP/2's are compressed
  uint64_t header_bytes_out = 0;
  uint64_t body_bytes_in = 0;  // without framing
  uint64_t body_bytes_out = 0;
  uint64_t wire_bytes_in = 0;  // headers, bodies and their framing
  uint64_t wire_bytes_out = 0;
};

class HttpStream : public io::ByteStream {
 public:
  // An unfinished stream is reset: RST_STREAM, or the end of an HTTP/1 connection.
  ~HttpStream() override = default;

  virtual HttpVersion version() const = 0;
  // Server: the request. Client: the response, once response() has given it.
  virtual const wire::Headers& headers() const = 0;
  // The peer's trailers, once try_read has said eof; empty if none.
  virtual const wire::Headers& trailers() const = 0;

  // --- client ---
  // Waits for the response headers. Errors: kTimeout; kReset (reset by the peer); kRefused (not looked at:
  // safe to try again elsewhere); kClosed (connection gone); kProtocol (no proper answer, see fault()).
  virtual async::Task<base::Result<wire::Headers>> response(async::Deadline deadline) = 0;
  // Called from the loop for every 1xx that comes before the response; 101 is not one of them.
  virtual void set_inform(std::function<void(const wire::Headers&)> inform) = 0;
  // Some byte of the request has left this process. While false a failure is safe to try again whatever the
  // method.
  virtual bool request_started() const = 0;

  // --- server ---
  // What made the request unacceptable; kNone for a good one, and always in HTTP/2, which resets such streams
  // by itself. Answer with wire::status_for(fault()); the connection closes behind the answer.
  virtual wire::Http1Fault fault() const = 0;
  // The request named one host in its target and another in `Host`; the former won (for the log).
  virtual bool host_ignored() const { return false; }
  // A 1xx other than 101, any number before respond(). Dropped where the client speaks HTTP/1.0.
  virtual void inform(wire::Headers headers) = 0;
  // Once. `connection: close` among the headers lets an HTTP/1 connection end behind this answer and is never
  // sent by HTTP/2.
  virtual void respond(wire::Headers headers, bool end_stream) = 0;

  // --- both ---
  // Ends our side with trailers, after what was written.
  virtual void send_trailers(wire::Headers trailers) = 0;
  // Ends both directions with an HTTP/2 code; HTTP/1 breaks its connection.
  virtual void reset(uint32_t code) = 0;
  // The code of a reset by the peer, or of the connection's end; HTTP/1 gives kH2Cancel for a peer that went.
  virtual std::optional<uint32_t> reset_code() const = 0;
  // Set once the peer can no longer be talked to about this exchange: reset, connection lost, or all done.
  virtual async::Event& gone() = 0;
  virtual HttpCounts counts() const = 0;
};

// The method that people mean: GET for an upgrade, else :method.
std::string_view shown_method(const wire::Headers& request);
// An upgrade or extended CONNECT; its :protocol.
const std::string* upgrade_of(const wire::Headers& request);

}  // namespace culvert::conn
