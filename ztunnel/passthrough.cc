// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/passthrough.h"

#include <utility>

#include "mesh/decide/admit_inbound.h"
#include "mesh/decide/authorize.h"
#include "ztunnel/connection.h"
#include "ztunnel/pod_proxy.h"

namespace culvert::ztunnel {

namespace {

using observe::Flag;
using observe::Reporter;

observe::ConnFacts facts_of(PodProxy& pod, const io::Accepted& accepted, const model::Workload& local) {
  const model::MeshView& view = *pod.worker().view();
  const base::SocketAddr& target = accepted.original_destination;
  observe::ConnFacts facts;
  facts.owner = pod.info().uid;
  facts.source = accepted.peer;
  facts.destination = target;
  facts.labels.reporter = Reporter::kDestination;
  if (auto source = view.workload_at(pod.worker().config().network, accepted.peer.ip)) {
    facts.labels.source = observe::party_of(*source);
    facts.labels.source.principal.reset();  // an address proves nothing
  }
  facts.labels.destination = observe::party_of(local);
  if (auto service = decide::service_of_port(view, local, target.port, {})) {
    facts.labels.service = observe::service_of(*service);
  }
  return facts;
}

}  // namespace

async::Task<void> serve_passthrough(PodProxy& pod, io::Accepted accepted) {
  Worker& worker = pod.worker();
  OpenSocket open(worker, Reporter::kDestination);
  base::SocketAddr target = accepted.original_destination;
  if (config::is_illegal_port(target.port)) {
    observe::log_early_deny(worker.log(), accepted.peer, target, Reporter::kDestination,
                            base::Error(base::Code::kInvalid, "attempted recursive call to ourselves"));
    co_return;
  }
  base::Result<model::WorkloadRef> local = co_await pod.workload();
  if (!local) {
    observe::log_early_deny(worker.log(), accepted.peer, target, Reporter::kDestination, local.error());
    co_return;
  }
  observe::ConnRecord record(worker.observer(), facts_of(pod, accepted, **local));
  async::StopSignal signal(worker.loop());
  decide::ConnectionFacts facts{accepted.peer.ip, std::nullopt, target};
  // Registered before the check: a policy that comes in between closes it.
  LiveConnections::Entry live(pod.live(), signal, facts, *local);
  decide::Verdict verdict = decide::authorize(*worker.view(), **local, facts);
  log_verdict(worker, verdict, facts);
  if (!verdict.allowed()) {
    record.close(
        base::Error(base::Code::kDenied, "connection closed due to policy rejection: " + verdict.reason()),
        Flag::kDeny);
    co_return;
  }
  io::DialOptions options = pod.dial_options();
  if (pod.spoofs_source() && accepted.peer.ip != target.ip) options.spoof_source = accepted.peer.ip;
  async::Deadline deadline = async::Deadline::in(worker.loop(), worker.config().connect_timeout);
  base::Result<std::unique_ptr<io::ByteStream>> app =
      co_await async::until_stopped(signal, worker.network().dial(target, std::move(options), deadline));
  if (!app) {
    Flag flag = signal.stopped() ? Flag::kDeny : Flag::kConnect;
    record.close(signal.stopped() ? app.error() : app.error().wrap("connect to the application"), flag);
    co_return;
  }
  co_await relay_and_close(worker, record, signal, {*accepted.stream, **app});
}

}  // namespace culvert::ztunnel
