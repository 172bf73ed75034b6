// SPDX-License-Identifier: Apache-2.0
#include "waypoint/accept.h"

#include <algorithm>
#include <utility>

#include "mesh/hbone/tunnel_server.h"
#include "net/conn/tls_stream.h"
#include "waypoint/carry.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

namespace {

// One identity, and one of the mesh (R1.14, R1.15).
base::Result<model::Identity> identify(const wire::PeerInfo& peer, const MeshState& state, const Self& self) {
  if (peer.uri_sans().size() != 1) {
    return base::fail(base::Code::kUnauthenticated,
                      "the client's certificate must name exactly one URI, it names " +
                          std::to_string(peer.uri_sans().size()));
  }
  base::Result<model::Identity> identity = model::Identity::parse(peer.uri_sans().front());
  if (!identity) return identity;
  const std::vector<std::string>& aliases = state.l7->settings().trust_domain_aliases;
  bool known = identity->trust_domain == self.identity.trust_domain ||
               std::find(aliases.begin(), aliases.end(), identity->trust_domain.view()) != aliases.end();
  if (known) return identity;
  return base::fail(base::Code::kUnauthenticated,
                    "the client's trust domain " + identity->trust_domain.str() + " is not of this mesh");
}

class Tunnel final : public hbone::TunnelHandler {
 public:
  Tunnel(Worker& worker, base::SocketAddr peer, base::SocketAddr local, model::Identity identity)
      : worker_(worker), peer_(peer), local_(local), identity_(std::move(identity)) {}

  async::Task<void> serve(std::unique_ptr<hbone::ServerStream> stream) override;

 private:
  void refuse(hbone::ServerStream& stream, const Refusal& refusal);

  Worker& worker_;
  base::SocketAddr peer_;
  base::SocketAddr local_;
  model::Identity identity_;
  std::shared_ptr<Overload::Counter> requests_ = std::make_shared<Overload::Counter>(0);
};

void Tunnel::refuse(hbone::ServerStream& stream, const Refusal& refusal) {
  worker_.telemetry().connect_refused(refusal.code);
  worker_.log().warn(
      "hbone", "CONNECT refused",
      {base::Field::bare("src.addr", peer_.to_string()),
       base::Field::text("src.identity", identity_.to_string()),
       base::Field::number("status", refusal.status), base::Field::text("error", refusal.reason)});
  stream.reject(refusal.status, {{"x-mesh-error", refusal.code}});
}

async::Task<void> Tunnel::serve(std::unique_ptr<hbone::ServerStream> stream) {
  const std::string* method = wire::find_header(stream->headers(), ":method");
  if (!method || *method != "CONNECT") {
    refuse(*stream, {405, "method", "only CONNECT is served on the HBONE port"});
    co_return;
  }
  base::Result<hbone::ParsedConnect> request = hbone::parse_connect(stream->headers());
  if (!request) {
    refuse(*stream, {400, "bad-authority", request.error().message()});
    co_return;
  }
  const std::string* marked = wire::find_header(stream->headers(), "x-istio-source");
  if (marked && *marked == "waypoint") {
    refuse(*stream, {508, "loop", "the request has been through a waypoint already"});
    co_return;
  }
  if (worker_.overloaded()) {
    worker_.say_overloaded();
    refuse(*stream, {503, "overloaded", "this waypoint has more than it can do"});
    co_return;
  }
  MeshStateRef state = worker_.state();
  std::expected<Addressed, Refusal> addressed =
      resolve(*state, worker_.self(), identity_, request->authority);
  if (!addressed) {
    refuse(*stream, addressed.error());
    co_return;
  }
  auto client = std::make_shared<Client>();
  client->identity = identity_;
  client->address = peer_;
  client->local = local_;
  client->baggage = std::move(request->baggage);
  client->traceparent = std::move(request->traceparent);
  client->addressed = std::move(*addressed);
  client->requests = requests_;
  client->connection_id = worker_.shared().next_connection_id.fetch_add(1);
  // An address may have passed to another pod; then it says nothing about this client.
  model::WorkloadRef workload = state->mesh->workload_at(worker_.self().network, peer_.ip);
  if (workload && workload->identity() == identity_) client->workload = std::move(workload);
  state.reset();
  io::ByteStream& bytes = stream->accept({});
  co_await carry(worker_, std::move(client),
                 std::make_unique<ClientStream>(worker_.loop(), std::move(stream), bytes));
}

conn::TlsServerOptions tls_options(Worker& worker, wire::TlsIdentityRef certificate) {
  conn::TlsServerOptions options;
  options.identity = std::move(certificate);
  options.tls.verify = [&worker](const wire::PeerInfo& peer) -> base::Result<> {
    base::Result<model::Identity> identity = identify(peer, *worker.state(), worker.self());
    if (!identity) return base::fail(std::move(identity).error());
    return {};
  };
  return options;
}

}  // namespace

async::Task<void> serve_connection(Worker& worker, io::Accepted accepted) {
  base::SocketAddr peer = accepted.peer, local = accepted.local;
  auto refuse = [&](std::string_view doing, const base::Error& why) {
    worker.telemetry().handshake_failed();
    worker.log().warn("hbone", "connection refused",
                      {base::Field::bare("src.addr", peer.to_string()),
                       base::Field::text("error", why.wrap(doing).message())});
  };
  async::Deadline deadline = async::Deadline::in(worker.loop(), worker.config().handshake_timeout);
  base::Result<wire::TlsIdentityRef> certificate =
      co_await worker.certificates().get(worker.self().identity, deadline);
  if (!certificate) {
    refuse("our own certificate", certificate.error());
    co_return;
  }
  base::Result<std::unique_ptr<conn::TlsStream>> tls = co_await conn::tls_accept(
      worker.loop(), std::move(accepted.stream), tls_options(worker, std::move(*certificate)), deadline);
  if (!tls) {
    refuse("TLS handshake", tls.error());
    co_return;
  }
  base::Result<model::Identity> identity = identify((*tls)->peer(), *worker.state(), worker.self());
  if (!identity) {
    refuse("identify", identity.error());
    co_return;
  }
  Tunnel handler(worker, peer, local, std::move(*identity));
  hbone::ServerSettings settings;
  settings.streams_max = 100;
  hbone::TunnelServer server(worker.loop(), std::move(*tls), settings, handler);
  Worker::OnDrain drain(worker, [&server] { server.drain(); });
  base::Result<> ended = co_await server.run();
  if (!ended) {
    worker.log().debug("hbone", "tunnel ended",
                       {base::Field::bare("src.addr", peer.to_string()),
                        base::Field::text("reason", ended.error().message())});
  }
}

}  // namespace culvert::waypoint
