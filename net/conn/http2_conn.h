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
#include "net/conn/http_stream.h"
#include "net/wire/h2.h"

namespace culvert::conn {

struct Http2Options {
  wire::H2Settings settings;
  // The connection's window opens again as soon as bytes are here, so that streams nobody reads do not hold
  // up their neighbours; what is held for such streams is bounded by their own windows, and by this: above it
  // the connection's window waits for the readers.
  size_t held_bytes_max = 64 * 1024 * 1024;
  // A window is worth 200 ms of its reader's pace, up to this: who reads half of it within 100 ms gets twice
  // as much, so that no path up to that long waits for WINDOW_UPDATEs. 0: windows stay as they are.
  uint32_t stream_window_bytes_max = 0;
  size_t widened_bytes_max = 16 * 1024 * 1024;  // of all streams of the connection together
  base::Duration ping_every{0};                 // 0: no keepalive
  base::Duration ping_timeout = std::chrono::seconds(20);
  base::Duration settings_timeout = std::chrono::seconds(10);  // until the peer's preface
  size_t stream_send_bytes_max = 256 * 1024;                   // queued per stream before writes would block
  // For users' traffic; 0 switches each off.
  base::Duration idle_timeout{0};   // without streams; then a drain
  base::Duration stall_timeout{0};  // the peer takes nothing of a full send buffer: the connection ends
  base::Duration stream_stall_timeout{0};  // of one stream's bytes: it is reset
  size_t new_streams_per_turn_max = 0;     // server: accept() hands out no more in one turn of the loop
  uint64_t requests_max = 0;               // then a drain (server), or no longer usable() (client)
  size_t own_streams_max = 0;              // client: open() gives kExhausted above this or the peer's limit
  // Server: from so many closed streams on, more than half of them broken off by the peer end the connection
  // (CVE-2023-44487, CVE-2025-8671).
  uint64_t rapid_resets_min = 0;

  // Streams begin with 256 KiB and grow as they need to.
  void set_windows(uint32_t stream_bytes_max, uint32_t connection_bytes);
  // Waypoint spec sections 7.4 and 7.5.
  static Http2Options for_users_traffic();
};

class Http2Core;

// A stream of users' traffic and, as a CONNECT, a tunnel's bytes. try_read takes a reset with NO_ERROR or
// CANCEL for an eof, as tunnels want it; an exchange asks reset_code() before it calls a message complete.
class Http2Stream final : public HttpStream {
 public:
  // An unfinished stream is reset with CANCEL.
  ~Http2Stream() override;

  int32_t id() const;
  HttpVersion version() const override { return HttpVersion::k2; }
  const wire::Headers& headers() const override;
  const wire::Headers& trailers() const override;
  // kReset is RST_STREAM; kRefused is REFUSED_STREAM or a GOAWAY below our id.
  async::Task<base::Result<wire::Headers>> response(async::Deadline deadline) override;
  void set_inform(std::function<void(const wire::Headers&)> inform) override;
  bool request_started() const override;
  bool host_ignored() const override;
  wire::Http1Fault fault() const override { return wire::Http1Fault::kNone; }
  void inform(wire::Headers headers) override;
  void respond(wire::Headers headers, bool end_stream) override;
  void send_trailers(wire::Headers trailers) override;
  void reset(uint32_t code) override;
  std::optional<uint32_t> reset_code() const override;
  async::Event& gone() override;
  HttpCounts counts() const override;

  io::IoResult try_read(base::ByteSpan into) override;
  int peek(iovec* into, int count) override;
  void consume(size_t bytes) override;
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
  // Client: streams that open() would take now.
  size_t room() const;
  // Client: the peer offers extended CONNECT. Known once settings() is set.
  bool takes_upgrades() const;
  // Set once the peer's SETTINGS have arrived, or the connection has ended.
  async::Event& settings();
  // Opened or accepted so far.
  uint64_t requests() const;
  // Server: streams that ended before they were a request: malformed, too large, or broken off.
  uint64_t refused() const;
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
