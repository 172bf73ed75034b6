// SPDX-License-Identifier: Apache-2.0
// Http2Conn: the driver of an H2Engine over a ByteStream: windows, pings, drain, fairness
// (design section 3.11, spec ztunnel sections 3.2 to 3.6). Http2Stream: one request and its answer;
// a CONNECT stream is a ByteStream.
//
// Both live on one loop. A stream may outlive its connection and the other way round. Frames of
// one loop turn leave together at its end.
#pragma once

#include <memory>
#include <optional>

#include "net/async/deadline.h"
#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/async/wait.h"
#include "net/io/stream.h"
#include "net/wire/h2.h"

namespace culvert::conn {

struct Http2Options {
  wire::H2Settings settings;
  base::Duration ping_every{0};  // 0: no keepalive
  base::Duration ping_timeout = std::chrono::seconds(20);
  base::Duration settings_timeout = std::chrono::seconds(10);  // until the peer's preface
  size_t stream_send_bytes_max = 256 * 1024;                   // queued per stream before writes would block
};

class Http2Core;

class Http2Stream final : public io::ByteStream {
 public:
  // An unfinished stream is reset with CANCEL.
  ~Http2Stream() override;

  int32_t id() const;
  // Server: the request. Client: the response, once response() has given it.
  const wire::Headers& headers() const;
  // Client: waits for the response headers. Errors: kTimeout, kReset (RST_STREAM), kRefused (REFUSED_STREAM
  // or GOAWAY below our id: safe to try again elsewhere), kClosed (connection gone).
  async::Task<base::Result<wire::Headers>> response(async::Deadline deadline);
  // Server: once.
  void respond(wire::Headers headers, bool end_stream);
  // Ends our side with trailers, after what was written.
  void send_trailers(wire::Headers trailers);
  // The peer's trailers, once try_read has said eof; empty if none.
  const wire::Headers& trailers() const;
  void reset(uint32_t code);
  // The code of an RST_STREAM from the peer, or of the connection's end.
  std::optional<uint32_t> reset_code() const;

  io::IoResult try_read(base::ByteSpan into) override;
  using io::ByteStream::try_write;
  io::IoResult try_write(std::span<const iovec> from) override;
  void arm_read(io::Waiter* waiter) override;
  void arm_write(io::Waiter* waiter) override;
  void shutdown_write() override;
  bool flushed() const override;
  void abort() override;
  base::SocketAddr local_addr() const override;
  base::SocketAddr peer_addr() const override;

 private:
  friend class Http2Core;
  struct State;
  Http2Stream(std::shared_ptr<Http2Core> core, std::shared_ptr<State> state);
  std::shared_ptr<Http2Core> core_;
  std::shared_ptr<State> state_;
};

class Http2Conn {
 public:
  Http2Conn(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, wire::H2Engine::Role role,
            Http2Options options);
  // Ends all streams at once.
  ~Http2Conn();
  Http2Conn(const Http2Conn&) = delete;

  // Client.
  base::Result<std::unique_ptr<Http2Stream>> open(wire::Headers headers, bool end_stream = false);
  // Server: the next request, or null once no more will come.
  async::Task<std::unique_ptr<Http2Stream>> accept();

  // Neither ended, nor draining, nor told to go away.
  bool usable() const;
  bool goaway_received() const;
  size_t active_streams() const;
  // As far as known; 100 until the peer's SETTINGS.
  size_t peer_streams_max() const;
  // Graceful: GOAWAY, a PING, the real GOAWAY; ends when the last stream has.
  void drain();
  // GOAWAY with `code`, then an end without waiting for streams.
  void abort(uint32_t code = wire::kH2NoError);
  // Set once the connection has ended; `error()` is empty for a clean end.
  async::Event& closed();
  const std::optional<base::Error>& error() const;

 private:
  std::shared_ptr<Http2Core> core_;
};

}  // namespace culvert::conn
