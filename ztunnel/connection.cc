// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/connection.h"

namespace culvert::ztunnel {

OpenSocket::OpenSocket(Worker& worker, observe::Reporter reporter)
    : cell_(worker.metrics().cell(
          observe::families::tcp_sockets_open(),
          reporter == observe::Reporter::kSource ? "reporter=\"source\"" : "reporter=\"destination\"")) {
  cell_.add();
}

namespace {
class Counting {
 public:
  Counting(RelayCounts* counts, const conn::Relay& relay) : counts_(counts) {
    if (counts_) counts_->attach(relay);
  }
  ~Counting() {
    if (counts_) counts_->detach();
  }
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

 private:
  RelayCounts* counts_;
};
}  // namespace

async::Task<void> relay_and_close(Worker& worker, observe::ConnRecord& record, async::StopSignal& signal,
                                  Ends ends) {
  conn::Relay relay(worker.loop(), worker.relay_buffer(), ends.downstream, ends.upstream);
  Counting counting(ends.shared, relay);
  observe::Follow follow(record, [&relay] { return RelayCounts::of(relay); });
  base::Result<> copied = co_await async::until_stopped(signal, relay.run());
  if (copied) {
    record.close();
  } else {
    bool denied = signal.stopped() && signal.why().code() == base::Code::kDenied;
    record.close(copied.error(), denied ? observe::Flag::kDeny : observe::Flag::kConnect);
  }
}

observe::Flag flag_of(hbone::Stage stage) {
  switch (stage) {
    case hbone::Stage::kIdentity: return observe::Flag::kIdentityError;
    case hbone::Stage::kConnectTimeout: return observe::Flag::kNetworkPolicy;
    case hbone::Stage::kHttp2: return observe::Flag::kH2HandshakeFailure;
    case hbone::Stage::kConnect:
    case hbone::Stage::kTls: break;
  }
  return observe::Flag::kConnect;
}

observe::PartyLabels party_of(const hbone::Baggage& baggage) {
  observe::PartyLabels party;
  party.known = !baggage.empty();
  party.workload = baggage.workload_name;
  party.canonical_service = baggage.service_name;
  party.canonical_revision = baggage.revision;
  party.workload_namespace = baggage.ns;
  party.app = baggage.workload_name;
  party.version = baggage.revision;
  party.cluster = baggage.cluster;
  party.region = baggage.region;
  party.zone = baggage.zone;
  return party;
}

void log_verdict(Worker& worker, const decide::Verdict& verdict, const decide::ConnectionFacts& facts) {
  base::Level level = worker.config().authz_info_logging ? base::Level::kInfo : base::Level::kDebug;
  for (const std::string& unknown : verdict.unknown) {
    worker.log().warn(
        "access", "a policy the workload names is not known",
        {base::Field::text("policy", unknown), base::Field::bare("dst.addr", facts.destination.to_string())});
  }
  if (!worker.log().enabled(level, "authz")) return;
  std::string source = facts.source ? facts.source->to_string() : std::string("none");
  for (const decide::DryRunNote& note : verdict.dry_run) {
    worker.log().write(
        level, "authz", "dry run: a policy would have decided",
        {base::Field::text("policy", note.policy),
         base::Field::text("action", std::string(model::to_string(note.action))),
         base::Field::bare("src.ip", facts.source_ip.to_string()), base::Field::text("src.identity", source),
         base::Field::bare("dst.addr", facts.destination.to_string())});
  }
  worker.log().write(
      level, "authz", verdict.allowed() ? "allowed" : "denied",
      {base::Field::text("reason", verdict.reason()), base::Field::text("policy", verdict.policy),
       base::Field::bare("src.ip", facts.source_ip.to_string()), base::Field::text("src.identity", source),
       base::Field::bare("dst.addr", facts.destination.to_string())});
}

}  // namespace culvert::ztunnel
