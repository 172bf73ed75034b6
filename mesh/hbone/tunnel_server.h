// SPDX-License-Identifier: Apache-2.0
// TunnelServer: the server side of one HBONE connection, on an accepted TLS stream: HTTP/2, and one
// coroutine of the handler per stream (spec ztunnel section 3.2, 3.3, 3.6). Lives on one data loop.
#pragma once

#include <memory>

#include "mesh/hbone/connect_headers.h"
#include "net/async/drain.h"
#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/base/result.h"
#include "net/io/stream.h"

namespace culvert::hbone {

struct ServerSettings {
  uint32_t stream_window = 4 * 1024 * 1024;       // what a fast stream's window grows to
  uint32_t connection_window = 16 * 1024 * 1024;  // also bounds the growth of all streams together
  uint32_t frame_bytes_max = 1024 * 1024;
  uint32_t streams_max = 200;         // MAX_CONCURRENT_STREAMS
  uint32_t header_bytes_max = 65536;  // MAX_HEADER_LIST_SIZE
  base::Duration ping_every = std::chrono::seconds(10);
  base::Duration ping_timeout = std::chrono::seconds(20);
  base::Duration preface_timeout = std::chrono::seconds(10);
};

// One request. Dropping it without an answer resets the stream.
class ServerStream {
 public:
  virtual ~ServerStream() = default;
  virtual const HeaderList& headers() const = 0;
  // HEADERS with END_STREAM, no body; the request side is reset once the stream is dropped.
  virtual void reject(uint16_t status, HeaderList extra = {}) = 0;
  // HEADERS 200 without END_STREAM; bytes may follow.
  virtual io::ByteStream& accept(HeaderList extra) = 0;
};

class TunnelHandler {
 public:
  virtual ~TunnelHandler() = default;
  // Ends when the stream has been dealt with. Runs in the server's scope.
  virtual async::Task<void> serve(std::unique_ptr<ServerStream> stream) = 0;
};

class TunnelServer {
 public:
  // `lower` is an accepted TLS stream with ALPN h2 (or none).
  TunnelServer(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, ServerSettings settings,
               TunnelHandler& handler);
  ~TunnelServer();
  TunnelServer(const TunnelServer&) = delete;
  TunnelServer& operator=(const TunnelServer&) = delete;

  // Ends when the connection has, with why if that was no clean end.
  async::Task<base::Result<>> run();
  // GOAWAY; run() ends with the last stream. Streams opened before the final GOAWAY are served.
  void drain();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace culvert::hbone
