// SPDX-License-Identifier: Apache-2.0
#include "waypoint/carry.h"

#include <optional>
#include <utility>

#include "net/conn/http1_conn.h"
#include "net/conn/http2_conn.h"
#include "net/wire/client_hello.h"
#include "net/wire/sniff.h"
#include "waypoint/exchange.h"
#include "waypoint/tcp.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

namespace {

using model::AppProtocol;

// Requests of one HTTP/2 client under way at once.
constexpr uint32_t kStreamsMax = 1000;

conn::Http1Options http1_options(const config::WaypointConfig& config) {
  conn::Http1Options options;
  options.head_timeout = config.headers_timeout;
  return options;
}

conn::Http2Options http2_options() {
  conn::Http2Options options = conn::Http2Options::for_users_traffic();
  options.settings.streams_max = kStreamsMax;
  return options;
}

async::Task<void> serve_http1(Worker& worker, ClientRef client, std::unique_ptr<ClientStream> stream) {
  conn::Http1ServerConn connection(worker.loop(), std::move(stream), http1_options(worker.config()));
  Worker::OnDrain drain(worker, [&connection] { connection.drain(); });
  for (;;) {
    std::unique_ptr<conn::HttpStream> request = co_await connection.accept();
    if (!request) co_return;
    co_await serve_exchange(worker, client, std::move(request));
  }
}

async::Task<void> serve_http2(Worker& worker, ClientRef client, std::unique_ptr<ClientStream> stream) {
  conn::Http2Conn connection(worker.loop(), std::move(stream), wire::H2Engine::Role::kServer,
                             http2_options());
  Worker::OnDrain drain(worker, [&connection] { connection.drain(); });
  async::Scope exchanges(worker.loop());
  for (;;) {
    std::unique_ptr<conn::Http2Stream> request = co_await connection.accept();
    if (!request) break;
    exchanges.spawn(serve_exchange(worker, client, std::move(request)));
  }
  co_await exchanges.idle().wait();
  if (!connection.closed().is_set()) {
    connection.drain();
    co_await connection.closed().wait();
  }
}

// What the first bytes say, waiting for as many as it takes. kUnknown: not HTTP, or silent for too long.
async::Task<wire::Sniffed> sniff_client(Worker& worker, ClientStream& stream) {
  base::Duration patience = worker.config().detection_timeout;
  async::Deadline deadline =
      patience.count() > 0 ? async::Deadline::in(worker.loop(), patience) : async::Deadline::never();
  for (;;) {
    wire::Sniffed found = wire::sniff(stream.peeked());
    if (found != wire::Sniffed::kNeedMore) co_return found;
    base::Result<bool> more =
        co_await async::with_deadline(worker.loop(), deadline, "wait for the first bytes", stream.peek());
    if (!more || !*more) co_return wire::Sniffed::kUnknown;
  }
}

// The server name of a TLS client; "" if it names none or speaks no TLS.
async::Task<std::string> read_server_name(Worker& worker, ClientStream& stream) {
  async::Deadline deadline = async::Deadline::in(worker.loop(), worker.config().handshake_timeout);
  for (;;) {
    wire::ClientHello hello = wire::peek_client_hello(stream.peeked());
    if (hello.kind != wire::ClientHello::Kind::kNeedMore) co_return std::move(hello.server_name);
    base::Result<bool> more =
        co_await async::with_deadline(worker.loop(), deadline, "wait for the ClientHello", stream.peek());
    if (!more || !*more) co_return std::string();
  }
}

}  // namespace

async::Task<void> carry(Worker& worker, ClientRef client, std::unique_ptr<ClientStream> stream) {
  AppProtocol protocol = client->addressed.protocol;
  if (protocol == AppProtocol::kTcp) {
    co_await serve_tcp(worker, std::move(client), std::move(stream), std::nullopt);
    co_return;
  }
  if (protocol == AppProtocol::kTls) {
    std::string server_name = co_await read_server_name(worker, *stream);
    co_await serve_tcp(worker, std::move(client), std::move(stream), std::move(server_name));
    co_return;
  }
  wire::Sniffed speaks = co_await sniff_client(worker, *stream);
  if (speaks == wire::Sniffed::kHttp2) {
    co_await serve_http2(worker, std::move(client), std::move(stream));
  } else if (speaks == wire::Sniffed::kHttp1 || protocol != AppProtocol::kUnknown) {
    // On a port declared as HTTP what is malformed is answered as malformed HTTP.
    co_await serve_http1(worker, std::move(client), std::move(stream));
  } else {
    co_await serve_tcp(worker, std::move(client), std::move(stream), std::nullopt);
  }
}

}  // namespace culvert::waypoint
