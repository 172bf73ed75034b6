// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/local_path.h"

#include <algorithm>
#include <utility>

#include "mesh/hbone/h2_tunnel.h"
#include "ztunnel/inbound.h"

namespace culvert::ztunnel {

namespace {

using observe::Flag;

// The destination's half; its end is the end of the connection.
class LocalStream final : public hbone::ServerStream {
 public:
  LocalStream(std::shared_ptr<LocalLink> link, hbone::HeaderList headers)
      : link_(std::move(link)), headers_(std::move(headers)) {}
  ~LocalStream() override {
    link_->client.reset();
    link_->answered.set();
    link_->ended.set();
  }
  const hbone::HeaderList& headers() const override { return headers_; }
  void reject(uint16_t status, hbone::HeaderList) override { answer(status); }
  io::ByteStream& accept(hbone::HeaderList) override {
    answer(200);
    return *link_->client;
  }

 private:
  void answer(uint16_t status) {
    if (link_->status == 0) link_->status = status;
    link_->answered.set();
  }
  std::shared_ptr<LocalLink> link_;
  hbone::HeaderList headers_;
};

// If the source's half goes first, its client's connection is over too: the destination's relay reads that.
class Hangup {
 public:
  explicit Hangup(LocalLink& link) : link_(link) {}
  ~Hangup() {
    if (link_.client) link_.client->abort();
  }
  Hangup(const Hangup&) = delete;
  Hangup& operator=(const Hangup&) = delete;

 private:
  LocalLink& link_;
};

// Chains of one certificate authority under the same roots: a handshake would accept them both ways.
bool same_roots(const wire::TlsIdentity& a, const wire::TlsIdentity& b) {
  return std::ranges::equal(a.roots(), b.roots(), [](const wire::CertInfo& one, const wire::CertInfo& two) {
    return one.pem == two.pem;
  });
}

bool plain_enough(const PodProxy& source_pod, const io::Accepted& accepted, const model::Workload& source,
                  const decide::Plan& plan) {
  bool own_address = std::ranges::find(source.addresses, accepted.peer.ip) != source.addresses.end();
  bool same_family = accepted.peer.ip.is_v6() == plan.next_hop.ip.is_v6();
  return plan.protocol == decide::Protocol::kHbone && !plan.to_waypoint && plan.destination_workload &&
         plan.next_hop.port == config::kHbonePort && source_pod.info().kind != PodKind::kSelf &&
         own_address && same_family;
}

}  // namespace

async::Task<LocalDestination> find_local_destination(PodProxy& source_pod, const io::Accepted& accepted,
                                                     const model::Workload& source,
                                                     const decide::Plan& plan) {
  Worker& worker = source_pod.worker();
  if (!worker.config().local_path || !plain_enough(source_pod, accepted, source, plan))
    co_return LocalDestination{};
  const model::Workload& destination = *plan.destination_workload;
  if (!worker.pod_of(destination)) co_return LocalDestination{};
  async::Deadline deadline = async::Deadline::in(worker.loop(), worker.config().handshake_timeout);
  base::Result<wire::TlsIdentityRef> client = co_await worker.certificates().get(source.identity(), deadline);
  if (!client) co_return LocalDestination{};
  base::Result<wire::TlsIdentityRef> server =
      co_await worker.certificates().get(destination.identity(), deadline);
  if (!server || !same_roots(**client, **server)) co_return LocalDestination{};
  // What both ends of a handshake would ask, by the functions they ask with.
  bool good = hbone::check_server((*server)->leaf().uri_sans, plan.allowed_identities).has_value() &&
              check_client((*client)->leaf().uri_sans, destination.trust_domain.str()).has_value();
  base::Result<model::Identity> identity = identify((*client)->leaf().uri_sans);
  if (!good || !identity) co_return LocalDestination{};
  // Asked last: while we waited the pod may have gone.
  PodProxy* pod = worker.pod_of(destination);
  if (!pod || !pod->owns(plan.next_hop.ip)) co_return LocalDestination{};
  co_return LocalDestination{pod, std::move(*identity)};
}

async::Task<void> through_local_path(PodProxy& destination, LocalArrival arrival,
                                     observe::ConnRecord& record) {
  Worker& worker = destination.worker();
  const config::ZtunnelConfig& config = worker.config();
  // As long as a tunnel would get to be dialled and to answer.
  async::Deadline deadline =
      async::Deadline::in(worker.loop(), config.connect_timeout + 2 * config.handshake_timeout);
  std::shared_ptr<LocalLink> link = arrival.link;
  Hangup hangup(*link);
  worker.metrics().cell(observe::families::local_connections(), "").add();
  destination.serve_local(std::move(arrival));
  bool answered = co_await link->answered.wait(deadline);
  if (!answered || link->status == 0) {
    record.close(answered ? base::Error(base::Code::kReset, "the destination's proxy dropped the connection")
                          : base::Error(base::Code::kTimeout, "the destination did not answer in time"),
                 Flag::kH2HandshakeFailure);
    co_return;
  }
  if (link->status != 200) {
    record.close(base::Error(base::Code::kRefused, "http status: " + std::to_string(link->status)),
                 Flag::kConnect);
    co_return;
  }
  observe::Follow follow(record, [link] { return link->counts.now(); });
  co_await link->ended.wait();
  // However the other half ended it is an end here, as a reset stream is; the reason is in its record.
  record.close();
}

std::unique_ptr<hbone::ServerStream> local_stream(LocalArrival& arrival) {
  return std::make_unique<LocalStream>(arrival.link, std::move(arrival.headers));
}

}  // namespace culvert::ztunnel
