// SPDX-License-Identifier: Apache-2.0
// TLS, HTTP/2 and gRPC together over a MemoryPipe, at every fragment size of design section 6.12.
#include "net/conn/grpc.h"

#include <catch2/catch.hpp>

#include "net/conn/tls_stream.h"
#include "net/io/memory_pipe.h"
#include "net/wire/x509.h"
#include "test/support/sim_loop.h"

namespace culvert::conn {
namespace {

using test::SimLoop;

constexpr base::Duration kDay = std::chrono::hours(24);

struct Authority {
  wire::PrivateKey key = *wire::PrivateKey::generate_p256();
  wire::CertSigner signer;
  base::WallTime now;
  explicit Authority(SimLoop& loop)
      : signer(*wire::CertSigner::self_signed(key, "cluster.local", loop.wall_now() - kDay,
                                              loop.wall_now() + kDay)),
        now(loop.wall_now()) {}
  wire::TlsIdentityRef issue(std::string uri) const {
    auto leaf_key = *wire::PrivateKey::generate_p256();
    auto csr = *wire::parse_csr(*wire::make_csr(leaf_key, uri));
    auto leaf = signer.sign({csr.public_key_der, "", {uri}, {}, {}, now - kDay, now + kDay});
    REQUIRE(leaf);
    auto identity = wire::TlsIdentity::from_pem(*leaf, leaf_key.to_pem(), signer.certificate().pem);
    REQUIRE(identity);
    return *identity;
  }
};

async::Task<void> serve_echo(SimLoop& loop, GrpcServer& server, std::unique_ptr<io::ByteStream> lower,
                             wire::TlsIdentityRef identity) {
  auto tls = co_await tls_accept(loop, std::move(lower), {identity, {}}, async::Deadline::never());
  if (!tls) co_return;
  wire::PeerInfo peer = (*tls)->peer();
  co_await server.serve(std::move(*tls), peer);
}

async::Task<GrpcStatus> echo(GrpcCall& call) {
  for (;;) {
    auto message = co_await call.receive();
    if (!message) co_return GrpcStatus{GrpcCode::kInternal, message.error().message()};
    if (!message->has_value()) co_return GrpcStatus{};
    if (**message == "fail") co_return GrpcStatus{GrpcCode::kPermissionDenied, "no, 100% no"};
    auto sent = co_await call.send(call.tls_peer().uri_sans().at(0) + "|" + **message);
    if (!sent) co_return GrpcStatus{GrpcCode::kInternal, ""};
  }
}

async::Task<std::unique_ptr<TlsStream>> connect(SimLoop& loop, std::unique_ptr<io::ByteStream> lower,
                                                wire::TlsIdentityRef identity) {
  auto tls = co_await tls_connect(loop, std::move(lower), {identity, {}}, async::Deadline::never());
  if (!tls) co_return nullptr;
  co_return std::move(*tls);
}

}  // namespace

TEST_CASE("unary and streaming calls over mutual TLS", "[apis-30]") {
  size_t fragment = GENERATE(1, 2, 3, 7, 16, 31, 1 << 20);
  SimLoop loop;
  Authority ca(loop);
  auto [a, b] = io::make_memory_pipe(loop, {.fragment_bytes = fragment});
  GrpcServer server(loop, {});
  server.handle("/echo", echo);
  async::Scope scope(loop);
  scope.spawn(serve_echo(loop, server, std::move(b), ca.issue("spiffe://cluster.local/ns/a/sa/server")));
  auto tls = loop.run(connect(loop, std::move(a), ca.issue("spiffe://cluster.local/ns/a/sa/client")));
  REQUIRE(tls);
  CHECK(tls->peer().uri_sans().at(0) == "spiffe://cluster.local/ns/a/sa/server");
  CHECK(tls->alpn() == "h2");
  Http2Conn connection(loop, std::move(tls), wire::H2Engine::Role::kClient, {});
  GrpcClient client(loop, connection, "server:1");
  auto in = [&](int seconds) { return async::Deadline::in(loop, std::chrono::seconds(seconds)); };

  auto answer = loop.run(client.unary("/echo", std::string(100'000, 'x'), {}, in(10)));
  REQUIRE(answer);
  CHECK(*answer == "spiffe://cluster.local/ns/a/sa/client|" + std::string(100'000, 'x'));

  auto refused = loop.run(client.unary("/echo", "fail", {}, in(10)));
  REQUIRE(!refused);
  CHECK(refused.error().code == GrpcCode::kPermissionDenied);
  CHECK(refused.error().message == "no, 100% no");

  auto unknown = loop.run(client.unary("/nope", "", {}, in(10)));
  REQUIRE(!unknown);
  CHECK(unknown.error().code == GrpcCode::kUnimplemented);

  auto stream = client.stream("/echo", {});
  REQUIRE(stream);
  for (int i = 0; i < 5; ++i) {
    REQUIRE(loop.run((*stream)->send(std::to_string(i))));
    auto back = loop.run((*stream)->receive());
    REQUIRE(back);
    REQUIRE(back->has_value());
    CHECK(**back == "spiffe://cluster.local/ns/a/sa/client|" + std::to_string(i));
  }
  (*stream)->finish_sending();
  auto end = loop.run((*stream)->receive());
  REQUIRE(end);
  CHECK(!end->has_value());
  CHECK((*stream)->status().ok());
  stream->reset();
  loop.run_ready();
  CHECK(connection.active_streams() == 0);
}

TEST_CASE("a large message crosses small windows", "[apis-30]") {
  SimLoop loop;
  auto [a, b] = io::make_memory_pipe(loop, {});
  Http2Options small;
  small.settings.stream_window_bytes = 65535;
  small.settings.connection_window_bytes = 70000;
  GrpcServer server(loop, {.http2 = small});
  server.handle("/size", [](GrpcCall& call) -> async::Task<GrpcStatus> {
    auto message = co_await call.receive();
    (void)co_await call.send(message && message->has_value() ? std::to_string((*message)->size()) : "?");
    co_return GrpcStatus{};
  });
  async::Scope scope(loop);
  scope.spawn(server.serve(std::move(b), {}));
  Http2Conn connection(loop, std::move(a), wire::H2Engine::Role::kClient, {});
  GrpcClient client(loop, connection, "x");
  auto answer = loop.run(client.unary("/size", std::string(64 << 20, 'y'), {},
                                      async::Deadline::in(loop, std::chrono::seconds(60))));
  REQUIRE(answer);
  CHECK(*answer == "67108864");
}

TEST_CASE("a handshake with a stranger fails on both sides", "[I7]") {
  SimLoop loop;
  Authority ours(loop);
  Authority theirs(loop);
  auto [a, b] = io::make_memory_pipe(loop, {});
  auto server = tls_accept(loop, std::move(b), {ours.issue("spiffe://cluster.local/ns/a/sa/s"), {}},
                           async::Deadline::in(loop, std::chrono::seconds(10)));
  auto client = tls_connect(loop, std::move(a), {theirs.issue("spiffe://cluster.local/ns/a/sa/c"), {}},
                            async::Deadline::in(loop, std::chrono::seconds(10)));
  server.start(std::noop_coroutine());
  client.start(std::noop_coroutine());
  REQUIRE(loop.run_until([&] { return server.done() && client.done(); }));
  CHECK(!client.take_result());
  CHECK(!server.take_result());
}

}  // namespace culvert::conn
