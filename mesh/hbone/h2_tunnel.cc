// SPDX-License-Identifier: Apache-2.0
#include "mesh/hbone/h2_tunnel.h"

#include <charconv>
#include <utility>

#include "net/conn/http2_conn.h"
#include "net/conn/tls_stream.h"

namespace culvert::hbone {

namespace {

using base::Code;

uint16_t status_of(const wire::Headers& headers) {
  const std::string* text = wire::find_header(headers, ":status");
  uint16_t status = 0;
  if (text) std::from_chars(text->data(), text->data() + text->size(), status);
  return status;
}

class H2Tunnel final : public Tunnel {
 public:
  H2Tunnel(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, conn::Http2Options options,
           model::Identity peer)
      : connection_(loop, std::move(lower), wire::H2Engine::Role::kClient, std::move(options)),
        peer_(std::move(peer)) {}

  async::Task<base::Result<ConnectReply>> connect(HeaderList headers, async::Deadline deadline) override {
    base::Result<std::unique_ptr<conn::Http2Stream>> stream = connection_.open(std::move(headers));
    if (!stream) co_return base::fail(std::move(stream).error().wrap("send CONNECT"));
    base::Result<wire::Headers> answer = co_await (*stream)->response(deadline);
    if (!answer) co_return base::fail(std::move(answer).error().wrap("await the answer to CONNECT"));
    ConnectReply reply;
    reply.status = status_of(*answer);
    reply.headers = std::move(*answer);
    if (reply.status == 200) reply.stream = std::move(*stream);
    co_return reply;
  }
  bool usable() const override { return connection_.usable(); }
  size_t peer_streams_max() const override { return connection_.peer_streams_max(); }
  void drain() override { connection_.drain(); }
  void abort() override { connection_.abort(); }
  async::Event& closed() override { return connection_.closed(); }
  const model::Identity& peer_identity() const override { return peer_; }

 private:
  conn::Http2Conn connection_;
  model::Identity peer_;
};

model::Identity first_identity(const wire::PeerInfo& peer) {
  for (const std::string& uri : peer.uri_sans()) {
    if (base::Result<model::Identity> identity = model::Identity::parse(uri)) return *identity;
  }
  return {};
}

conn::Http2Options http2_options(const ClientSettings& settings) {
  conn::Http2Options options;
  options.set_windows(settings.stream_window, settings.connection_window);
  options.settings.frame_bytes_max = settings.frame_bytes_max;
  options.settings.header_bytes_max = settings.header_bytes_max;
  options.ping_every = settings.ping_every;
  options.ping_timeout = settings.ping_timeout;
  options.settings_timeout = settings.handshake_timeout;
  return options;
}

OpenError connect_error(base::Error error, const base::SocketAddr& hop) {
  if (error.code() == Code::kTimeout) {
    std::string hint = "connect to " + hop.to_string() +
                       " timed out; maybe a NetworkPolicy blocks the HBONE port " + std::to_string(hop.port);
    return {base::Error(Code::kTimeout, std::move(hint)), Stage::kConnectTimeout};
  }
  return {std::move(error).wrap("io error"), Stage::kConnect};
}

}  // namespace

base::Result<> check_server(const std::vector<std::string>& uri_sans,
                            const std::vector<model::Identity>& allowed) {
  std::string shown;
  for (const std::string& uri : uri_sans) {
    base::Result<model::Identity> identity = model::Identity::parse(uri);
    if (!identity) continue;
    for (const model::Identity& wanted : allowed) {
      if (*identity == wanted) return {};
    }
    shown += shown.empty() ? uri : ", " + uri;
  }
  std::string expected;
  for (const model::Identity& wanted : allowed) {
    if (!expected.empty()) expected += ", ";
    expected += wanted.to_string();
  }
  return base::fail(Code::kUnauthenticated,
                    "the peer proved to be [" + shown + "], expected one of [" + expected + "]");
}

H2TunnelDialer::H2TunnelDialer(async::Loop& loop, io::Network& network,
                               std::function<io::DialOptions()> socket, IdentitySource identities,
                               ClientSettings settings)
    : loop_(loop),
      network_(network),
      socket_(std::move(socket)),
      identities_(std::move(identities)),
      settings_(settings) {}

async::Task<std::expected<std::unique_ptr<Tunnel>, OpenError>> H2TunnelDialer::dial(TunnelKey key) {
  async::Deadline certificate_by = async::Deadline::in(loop_, settings_.handshake_timeout);
  base::Result<wire::TlsIdentityRef> own = co_await identities_(key.source, certificate_by);
  if (!own) {
    co_return std::unexpected(OpenError{std::move(own).error().wrap("identity error"), Stage::kIdentity});
  }
  async::Deadline connect_by = async::Deadline::in(loop_, settings_.connect_timeout);
  base::Result<std::unique_ptr<io::ByteStream>> tcp = co_await network_.dial(key.hop, socket_(), connect_by);
  if (!tcp) co_return std::unexpected(connect_error(std::move(tcp).error(), key.hop));

  conn::TlsClientOptions options;
  options.identity = std::move(*own);
  options.tls.tls12 = settings_.tls12;
  options.tls.verify = [allowed = key.allowed](const wire::PeerInfo& peer) {
    return check_server(peer.uri_sans(), allowed);
  };
  async::Deadline handshake_by = async::Deadline::in(loop_, settings_.handshake_timeout);
  base::Result<std::unique_ptr<conn::TlsStream>> tls =
      co_await conn::tls_connect(loop_, std::move(*tcp), std::move(options), handshake_by);
  if (!tls) {
    // Upstream shows a failed handshake as an I/O error of the connection; so do we (section 2.7).
    co_return std::unexpected(
        OpenError{std::move(tls).error().wrap("io error: tls handshake error"), Stage::kTls});
  }
  model::Identity peer = first_identity((*tls)->peer());
  co_return std::make_unique<H2Tunnel>(loop_, std::move(*tls), http2_options(settings_), std::move(peer));
}

}  // namespace culvert::hbone
