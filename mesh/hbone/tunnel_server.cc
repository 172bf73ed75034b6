// SPDX-License-Identifier: Apache-2.0
#include "mesh/hbone/tunnel_server.h"

#include <string>
#include <utility>

#include "net/async/scope.h"
#include "net/conn/http2_conn.h"

namespace culvert::hbone {

namespace {

conn::Http2Options http2_options(const ServerSettings& settings) {
  conn::Http2Options options;
  options.set_windows(settings.stream_window, settings.connection_window);
  options.settings.frame_bytes_max = settings.frame_bytes_max;
  options.settings.header_bytes_max = settings.header_bytes_max;
  options.settings.streams_max = settings.streams_max;
  options.ping_every = settings.ping_every;
  options.ping_timeout = settings.ping_timeout;
  options.settings_timeout = settings.preface_timeout;
  return options;
}

class H2ServerStream final : public ServerStream {
 public:
  explicit H2ServerStream(std::unique_ptr<conn::Http2Stream> stream) : stream_(std::move(stream)) {}
  const HeaderList& headers() const override { return stream_->headers(); }
  void reject(uint16_t status, HeaderList extra) override {
    extra.insert(extra.begin(), {":status", std::to_string(status)});
    // When the stream is let go after this, the client is told that nobody listens, behind the answer: a
    // reset now would overtake it.
    stream_->respond(std::move(extra), true);
  }
  io::ByteStream& accept(HeaderList extra) override {
    extra.insert(extra.begin(), {":status", "200"});
    stream_->respond(std::move(extra), false);
    return *stream_;
  }

 private:
  std::unique_ptr<conn::Http2Stream> stream_;
};

}  // namespace

class TunnelServer::Impl {
 public:
  Impl(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, ServerSettings settings,
       TunnelHandler& handler)
      : handler_(handler),
        connection_(loop, std::move(lower), wire::H2Engine::Role::kServer, http2_options(settings)),
        streams_(loop) {}

  async::Task<base::Result<>> run() {
    for (;;) {
      std::unique_ptr<conn::Http2Stream> stream = co_await connection_.accept();
      if (!stream) break;
      streams_.spawn(handler_.serve(std::make_unique<H2ServerStream>(std::move(stream))));
    }
    // No more will come; what runs is finished, unless the connection breaks under it.
    co_await streams_.idle().wait();
    if (!connection_.closed().is_set()) {
      connection_.drain();
      co_await connection_.closed().wait();
    }
    if (connection_.error()) co_return base::fail(*connection_.error());
    co_return base::Result<>{};
  }
  void drain() { connection_.drain(); }

 private:
  TunnelHandler& handler_;
  conn::Http2Conn connection_;
  async::Scope streams_;  // ends before the connection
};

TunnelServer::TunnelServer(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, ServerSettings settings,
                           TunnelHandler& handler)
    : impl_(std::make_unique<Impl>(loop, std::move(lower), settings, handler)) {}
TunnelServer::~TunnelServer() = default;

async::Task<base::Result<>> TunnelServer::run() { return impl_->run(); }
void TunnelServer::drain() { impl_->drain(); }

}  // namespace culvert::hbone
