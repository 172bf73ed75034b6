// SPDX-License-Identifier: Apache-2.0
// H2Engine: HTTP/2 (RFC 9113) without I/O, on nghttp2. Bytes in by feed, bytes out by produce; what happened
// is told to a visitor, synchronously, in this grammar per stream:
//
//   informational* headers (data | trailers)* end? closed
//
// `headers` is the request on a server and the final response on a client (`informational` the 1xx before
// it); `end` is the peer's END_STREAM; `closed` comes exactly once, with the error code, and is the last. It
// comes alone for a stream whose headers were refused.
//
// No WINDOW_UPDATE is sent by itself: a window opens again when `consume_connection` and `consume_stream` say
// so. The visitor may call any method but feed and produce.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/base/bytes.h"
#include "net/base/result.h"

namespace culvert::wire {

// Names in lower case; pseudo-headers first.
using Headers = std::vector<std::pair<std::string, std::string>>;
// First value of `name`, or null.
const std::string* find_header(const Headers& headers, std::string_view name);

enum H2Code : uint32_t {
  kH2NoError = 0,
  kH2ProtocolError = 1,
  kH2InternalError = 2,
  kH2FlowControlError = 3,
  kH2StreamClosed = 5,
  kH2RefusedStream = 7,
  kH2Cancel = 8,
  kH2EnhanceYourCalm = 11,
  kH2InadequateSecurity = 12,
};
std::string_view h2_code_name(uint32_t code);

struct H2Settings {
  uint32_t stream_window_bytes = 4 * 1024 * 1024;
  uint32_t connection_window_bytes = 16 * 1024 * 1024;  // must differ from the stream's: equal ones deadlock
  uint32_t frame_bytes_max = 1024 * 1024;               // advertised; what we send stays at one TLS record
  uint32_t header_bytes_max = 16384;                    // MAX_HEADER_LIST_SIZE, enforced
  uint32_t header_fields_max = 200;                     // per block; more cost the stream
  uint32_t streams_max = 0;                             // MAX_CONCURRENT_STREAMS; 0: not sent
  uint32_t informational_max = 10;                      // client: 1xx per response; more cost the stream
  // Users' traffic (waypoint spec sections 7.2 and 7.5): authorities and paths are held to what HTTP/1 could
  // carry, `host` gives way to :authority, cookie crumbs are joined, and floods end the connection.
  bool users_traffic = false;
  // Server: offers extended CONNECT (RFC 8441). A client uses it where the peer offers it.
  bool connect_protocol = false;
};

class H2Visitor {
 public:
  virtual void on_headers(int32_t stream, Headers headers) = 0;
  virtual void on_data(int32_t stream, base::ByteView bytes) = 0;
  virtual void on_trailers(int32_t stream, Headers trailers) = 0;
  virtual void on_end(int32_t stream) = 0;
  virtual void on_closed(int32_t stream, uint32_t code) = 0;
  virtual void on_goaway(int32_t last_stream, uint32_t code) = 0;
  virtual void on_ping_ack() = 0;
  // Bytes of this stream have gone into `produce`: there is room for more.
  virtual void on_sent(int32_t stream, size_t bytes) = 0;
  // Our END_STREAM has gone into `produce`.
  virtual void on_end_sent(int32_t stream) = 0;
  // The peer's first SETTINGS have arrived.
  virtual void on_settings() = 0;
  // The peer has taken note of ours.
  virtual void on_settings_ack() {}
  virtual void on_informational(int32_t, Headers) {}
  // A header block of this stream, with its frame heads, came in or went out.
  virtual void on_header_bytes(int32_t, bool /*incoming*/, size_t) {}
  // A request named one host in :authority and another in `host`; the former won (for the log).
  virtual void on_host_ignored(int32_t) {}

 protected:
  ~H2Visitor() = default;
};

class H2Engine {
 public:
  enum class Role : unsigned char { kClient, kServer };
  // One DATA frame with its 9-byte header fills one TLS record.
  static constexpr size_t kDataBytesMax = 16384 - 9;
  // Frames waiting to be sent to a peer that provokes more than it takes.
  static constexpr size_t kQueuedFramesMax = 10'000;

  H2Engine(Role role, H2Settings settings, H2Visitor& visitor);
  ~H2Engine();
  H2Engine(const H2Engine&) = delete;

  // The whole of `bytes` is taken. An error ends the connection; produce() may still hold a GOAWAY.
  base::Result<> feed(base::ByteView bytes);
  // Appends frames until nothing is left or `out` is above its high mark.
  base::Result<> produce(base::ByteQueue& out);
  bool wants_write() const;
  // False once the session is over: it was ended for a peer's fault, or GOAWAY has passed and no stream is
  // left.
  bool wants_read() const;

  // Client: a new request; the stream id, or kExhausted when the peer takes no more, or kUnsupported for a
  // :protocol that it does not offer. Fields that belong to one hop are not sent, here and in what follows.
  base::Result<int32_t> open(const Headers& headers, bool end_stream);
  // Server: a 1xx, before respond.
  void inform(int32_t stream, const Headers& headers);
  // Server: the response.
  void respond(int32_t stream, const Headers& headers, bool end_stream);
  // Queues body bytes; bounded by the caller through queued().
  void write(int32_t stream, base::ByteView bytes);
  size_t queued(int32_t stream) const;
  // END_STREAM after what is queued, or trailers (which end it) after what is queued.
  void finish(int32_t stream);
  void finish_with_trailers(int32_t stream, Headers trailers);
  void reset(int32_t stream, uint32_t code);
  // For bytes given by on_data, each once: what they took of the window is free again.
  void consume_connection(size_t bytes);
  void consume_stream(int32_t stream, size_t bytes);
  // The stream's window becomes this large; never smaller than it was.
  void widen(int32_t stream, uint32_t window_bytes);

  void ping();
  // First GOAWAY of a graceful end: last id 2^31-1.
  void announce_drain();
  // The final GOAWAY with the real last id.
  void goaway(uint32_t code);

  uint32_t peer_streams_max() const;
  // The peer offers extended CONNECT.
  bool peer_takes_protocol() const;
  size_t open_streams() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace culvert::wire
