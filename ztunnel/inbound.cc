// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/inbound.h"

#include <cctype>
#include <utility>

#include "mesh/decide/admit_inbound.h"
#include "mesh/decide/authorize.h"
#include "mesh/hbone/tunnel_server.h"
#include "net/conn/tls_stream.h"
#include "net/wire/proxy_header.h"
#include "ztunnel/connection.h"
#include "ztunnel/local_path.h"
#include "ztunnel/pod_proxy.h"

namespace culvert::ztunnel {

namespace {

using observe::Flag;
using observe::Reporter;

// Serves the streams of one tunnel.
class InboundTunnel final : public hbone::TunnelHandler {
 public:
  InboundTunnel(PodProxy& pod, base::SocketAddr peer, base::SocketAddr local, model::Identity identity)
      : pod_(pod), peer_(peer), local_(local), identity_(std::move(identity)) {}
  // For the one stream of a local path: the other half's record follows the same relay.
  void share_counts(RelayCounts& counts) { shared_ = &counts; }

  async::Task<void> serve(std::unique_ptr<hbone::ServerStream> stream) override;

 private:
  struct Accepted {
    hbone::ParsedConnect request;
    model::WorkloadRef workload;
    decide::Admission admission;
  };
  std::optional<Accepted> admit(hbone::ServerStream& stream, hbone::ParsedConnect request,
                                model::WorkloadRef workload);
  observe::ConnFacts facts_of(const Accepted& accepted) const;
  async::Task<base::Result<std::unique_ptr<io::ByteStream>>> dial_app(decide::Admission admission);
  async::Task<void> carry(hbone::ServerStream& stream, Accepted accepted);
  void refuse(hbone::ServerStream& stream, uint16_t status, const std::string& why);

  PodProxy& pod_;
  base::SocketAddr peer_;
  base::SocketAddr local_;
  model::Identity identity_;
  RelayCounts* shared_ = nullptr;  // of the local path
};

bool same_text(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

void InboundTunnel::refuse(hbone::ServerStream& stream, uint16_t status, const std::string& why) {
  observe::log_early_deny(pod_.worker().log(), peer_, local_, Reporter::kDestination,
                          base::Error(base::Code::kRefused, why));
  stream.reject(status);
}

async::Task<void> InboundTunnel::serve(std::unique_ptr<hbone::ServerStream> stream) {
  base::Result<hbone::ParsedConnect> request = hbone::parse_connect(stream->headers());
  if (!request) {
    refuse(*stream, 400, request.error().message());
    co_return;
  }
  base::Result<model::WorkloadRef> workload = co_await pod_.workload();
  if (!workload) {
    refuse(*stream, 503, workload.error().message());
    co_return;
  }
  std::optional<Accepted> accepted = admit(*stream, std::move(*request), std::move(*workload));
  if (!accepted) co_return;
  co_await carry(*stream, std::move(*accepted));
}

std::optional<InboundTunnel::Accepted> InboundTunnel::admit(hbone::ServerStream& stream,
                                                            hbone::ParsedConnect request,
                                                            model::WorkloadRef workload) {
  decide::InboundRequest asked;
  asked.authority = request.authority_text;
  asked.connection_dst = local_;
  asked.network = pod_.worker().config().network;
  asked.illegal_ports = config::kIllegalPorts;
  if (request.forwarded_host) asked.forwarded_host = *request.forwarded_host;
  auto admission = decide::admit_inbound(*pod_.worker().view(), *workload, asked);
  if (!admission) {
    refuse(stream, admission.error().status, admission.error().reason);
    return std::nullopt;
  }
  return Accepted{std::move(request), std::move(workload), std::move(*admission)};
}

observe::ConnFacts InboundTunnel::facts_of(const Accepted& accepted) const {
  Worker& worker = pod_.worker();
  const std::string& network = worker.config().network;
  observe::ConnFacts facts;
  facts.owner = pod_.info().uid;
  facts.source = peer_;
  facts.destination = local_;
  facts.hbone_target = accepted.request.authority_text;
  facts.original_destination = accepted.request.forwarded_host.value_or("");
  facts.protocol = observe::ConnProtocol::kHbone;
  facts.local = shared_ != nullptr;
  facts.labels.reporter = Reporter::kDestination;
  facts.labels.mutual_tls = true;
  // A peer behind a gateway of another network has an address that means nothing here.
  const std::string& came_from = accepted.request.forwarded_network;
  bool behind_gateway = !came_from.empty() && !same_text(came_from, network);
  model::WorkloadRef source = behind_gateway ? nullptr : worker.view()->workload_at(network, peer_.ip);
  if (source) {
    facts.labels.source = observe::party_of(*source);
  } else if (worker.config().response_baggage) {
    facts.labels.source = party_of(accepted.request.baggage);
  }
  facts.labels.source.principal = identity_;
  facts.labels.destination = observe::party_of(*accepted.workload);
  if (accepted.admission.service) facts.labels.service = observe::service_of(*accepted.admission.service);
  return facts;
}

// Section 4.3.
async::Task<base::Result<std::unique_ptr<io::ByteStream>>> InboundTunnel::dial_app(
    decide::Admission admission) {
  Worker& worker = pod_.worker();
  io::DialOptions options = pod_.dial_options();
  base::SocketAddr target = admission.app;
  bool proxied = admission.tunnel && admission.tunnel->protocol == model::AppTunnel::Protocol::kProxy;
  if (proxied && worker.config().localhost_app_tunnel) {
    target.ip = target.ip.is_v6() ? base::IpAddr::loopback_v6() : base::IpAddr::loopback_v4();
  } else if (pod_.spoofs_source() && peer_.ip != target.ip) {
    options.spoof_source = peer_.ip;
  }
  async::Deadline deadline = async::Deadline::in(worker.loop(), worker.config().connect_timeout);
  base::Result<std::unique_ptr<io::ByteStream>> app =
      co_await worker.network().dial(target, std::move(options), deadline);
  if (!app) co_return base::fail(std::move(app).error().wrap("connect to the application"));
  if (proxied) {
    std::string header = wire::proxy_v2_header(peer_, admission.tunnel_target, identity_.to_string());
    base::Result<> written = co_await io::write_all(**app, base::as_bytes(header));
    if (!written) co_return base::fail(std::move(written).error().wrap("write the PROXY header"));
  }
  co_return std::move(*app);
}

async::Task<void> InboundTunnel::carry(hbone::ServerStream& stream, Accepted accepted) {
  Worker& worker = pod_.worker();
  observe::ConnRecord record(worker.observer(), facts_of(accepted));
  async::StopSignal signal(worker.loop());
  decide::ConnectionFacts facts{peer_.ip, identity_, accepted.admission.app};
  // Registered before the check: a policy that comes in between closes it.
  LiveConnections::Entry live(pod_.live(), signal, facts, accepted.workload);
  decide::Verdict verdict = decide::authorize(*worker.view(), *accepted.workload, facts);
  log_verdict(worker, verdict, facts);
  if (!verdict.allowed()) {
    stream.reject(401);
    record.close(
        base::Error(base::Code::kDenied, "connection closed due to policy rejection: " + verdict.reason()),
        Flag::kDeny);
    co_return;
  }
  base::Result<std::unique_ptr<io::ByteStream>> app =
      co_await async::until_stopped(signal, dial_app(accepted.admission));
  if (!app) {
    stream.reject(signal.stopped() ? 401 : 503);
    record.close(app.error(), signal.stopped() ? Flag::kDeny : Flag::kConnect);
    co_return;
  }
  hbone::HeaderList answer;
  if (worker.config().response_baggage) {
    std::string baggage = hbone::format_baggage(hbone::Baggage::of(*accepted.workload));
    if (!baggage.empty()) answer.emplace_back("baggage", std::move(baggage));
  }
  io::ByteStream& client = stream.accept(std::move(answer));
  co_await relay_and_close(worker, record, signal, {client, **app, shared_});
}

conn::TlsServerOptions server_options(PodProxy& pod, wire::TlsIdentityRef certificate,
                                      const std::string& trust_domain) {
  conn::TlsServerOptions options;
  options.identity = std::move(certificate);
  options.tls.tls12 = pod.worker().config().tls12_enabled;
  options.tls.verify = [trust_domain](const wire::PeerInfo& peer) {
    return check_client(peer.uri_sans(), trust_domain);
  };
  return options;
}

}  // namespace

base::Result<model::Identity> identify(const std::vector<std::string>& uri_sans) {
  for (const std::string& uri : uri_sans) {
    if (base::Result<model::Identity> identity = model::Identity::parse(uri)) return identity;
  }
  return base::fail(base::Code::kUnauthenticated, "the client's certificate names no SPIFFE identity");
}

base::Result<> check_client(const std::vector<std::string>& uri_sans, const std::string& trust_domain) {
  for (const std::string& uri : uri_sans) {
    auto identity = model::Identity::parse(uri);
    if (identity && identity->trust_domain == trust_domain) return {};
  }
  return base::fail(base::Code::kUnauthenticated,
                    "the client's certificate names no identity of trust domain " + trust_domain);
}

async::Task<void> serve_local_stream(PodProxy& pod, LocalArrival arrival) {
  InboundTunnel handler(pod, arrival.peer, arrival.local, arrival.identity);
  handler.share_counts(arrival.link->counts);
  co_await handler.serve(local_stream(arrival));
}

async::Task<void> serve_tunnel(PodProxy& pod, io::Accepted accepted) {
  Worker& worker = pod.worker();
  OpenSocket open(worker, Reporter::kDestination);
  base::SocketAddr peer = accepted.peer, local = accepted.local;
  auto refuse = [&](const base::Error& why) {
    observe::log_early_deny(worker.log(), peer, local, Reporter::kDestination, why);
  };
  base::Result<model::WorkloadRef> workload = co_await pod.workload();
  if (!workload) {
    refuse(workload.error());
    co_return;
  }
  async::Deadline deadline = async::Deadline::in(worker.loop(), worker.config().handshake_timeout);
  base::Result<wire::TlsIdentityRef> certificate = co_await pod.certificate(deadline);
  if (!certificate) {
    refuse(certificate.error().wrap("identity error"));
    co_return;
  }
  conn::TlsServerOptions options =
      server_options(pod, std::move(*certificate), (*workload)->trust_domain.str());
  base::Result<std::unique_ptr<conn::TlsStream>> tls =
      co_await conn::tls_accept(worker.loop(), std::move(accepted.stream), std::move(options), deadline);
  if (!tls) {
    refuse(tls.error().wrap("tls handshake error"));
    co_return;
  }
  base::Result<model::Identity> identity = identify((*tls)->peer().uri_sans());
  if (!identity) {
    refuse(identity.error());
    co_return;
  }
  InboundTunnel handler(pod, peer, local, std::move(*identity));
  hbone::ServerSettings settings;
  settings.stream_window = worker.config().http2_stream_window;
  settings.connection_window = worker.config().http2_connection_window;
  settings.frame_bytes_max = worker.config().http2_frame_size;
  settings.preface_timeout = worker.config().handshake_timeout;
  hbone::TunnelServer server(worker.loop(), std::move(*tls), settings, handler);
  PodProxy::Serving serving(pod, server);
  base::Result<> ended = co_await server.run();
  if (!ended) {
    worker.log().debug("inbound", "tunnel ended",
                       {base::Field::bare("src.addr", peer.to_string()),
                        base::Field::text("reason", ended.error().message())});
  }
}

}  // namespace culvert::ztunnel
