// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/outbound.h"

#include <utility>

#include "mesh/decide/pick_endpoint.h"
#include "mesh/decide/plan.h"
#include "ztunnel/connection.h"
#include "ztunnel/local_path.h"
#include "ztunnel/pod_proxy.h"

namespace culvert::ztunnel {

namespace {

using observe::Flag;
using observe::Reporter;

observe::ConnFacts facts_of(PodProxy& pod, const io::Accepted& accepted, const model::Workload& source,
                            const decide::Plan& plan) {
  observe::ConnFacts facts;
  facts.owner = pod.info().uid;
  facts.source = accepted.peer;
  facts.destination = plan.next_hop;
  facts.original_destination = plan.original.to_string();
  facts.labels.reporter = Reporter::kSource;
  facts.labels.source = observe::party_of(source);
  if (plan.destination_workload) facts.labels.destination = observe::party_of(*plan.destination_workload);
  if (plan.destination_service) facts.labels.service = observe::service_of(*plan.destination_service);
  if (plan.protocol == decide::Protocol::kHbone) {
    facts.protocol = observe::ConnProtocol::kHbone;
    facts.hbone_target = plan.authority;
    facts.labels.mutual_tls = true;
  } else {
    facts.labels.source.principal.reset();  // only mTLS proves it
  }
  return facts;
}

// Where to, over what; a hostname in the plan is resolved here (section 2.5).
async::Task<base::Result<decide::Plan>> make_plan(PodProxy& pod, model::WorkloadRef source,
                                                  base::SocketAddr target) {
  Worker& worker = pod.worker();
  base::Result<decide::Plan> plan =
      decide::plan_outbound(*worker.view(), worker.config().network, *source, target, worker.rng());
  if (!plan) co_return base::fail(std::move(plan).error());
  for (const std::string& text : plan->skipped_identities) {
    worker.log().warn("outbound", "a subject alternative name of the service is no identity: skipped",
                      {base::Field::text("name", text)});
  }
  if (plan->resolve.empty()) co_return plan;
  std::string labels = observe::render_dns_labels(observe::party_of(*source), plan->resolve);
  worker.metrics().cell(observe::families::on_demand_dns(), labels).add();
  async::Deadline deadline = async::Deadline::in(worker.loop(), worker.config().connect_timeout);
  base::Result<std::vector<base::IpAddr>> addresses =
      co_await worker.network().resolve(plan->resolve, deadline);
  if (!addresses) co_return base::fail(std::move(addresses).error().wrap("resolve " + plan->resolve));
  base::Result<base::IpAddr> chosen = decide::pick_resolved(*addresses, target.ip, worker.rng());
  if (!chosen) co_return base::fail(std::move(chosen).error().wrap("resolve " + plan->resolve));
  plan->use_address(*chosen);
  co_return plan;
}

// What the destination's proxy is told, over a tunnel or in this process.
hbone::ConnectRequest connect_request(PodProxy& pod, const base::SocketAddr& client,
                                      const model::Workload& source, const decide::Plan& plan) {
  hbone::ConnectRequest request;
  request.authority = plan.authority;
  request.baggage = hbone::Baggage::of(source);
  request.source = client;
  if (plan.destination_service) request.service_hostname = plan.destination_service->hostname.str();
  request.traceparent = hbone::make_traceparent(pod.worker().rng());
  return request;
}

async::Task<void> through_tunnel(PodProxy& pod, io::Accepted& accepted, const model::Workload& source,
                                 const decide::Plan& plan, observe::ConnRecord& record,
                                 async::StopSignal& signal) {
  Worker& worker = pod.worker();
  hbone::TunnelKey key{source.identity(), plan.allowed_identities, plan.next_hop, accepted.peer.ip,
                       plan.destination_workload ? plan.destination_workload->uid.str() : std::string()};
  hbone::ConnectRequest request = connect_request(pod, accepted.peer, source, plan);
  const config::ZtunnelConfig& config = worker.config();
  async::Deadline deadline =
      async::Deadline::in(worker.loop(), config.connect_timeout + 2 * config.handshake_timeout);
  std::expected<hbone::TunnelStream, hbone::OpenError> tunnel =
      co_await pod.pool().open(std::move(key), request.to_headers(), deadline);
  if (!tunnel) {
    record.close(tunnel.error().error, flag_of(tunnel.error().stage));
    co_return;
  }
  if (tunnel->status() != 200) {
    record.close(base::Error(base::Code::kRefused, "http status: " + std::to_string(tunnel->status())),
                 Flag::kConnect);
    co_return;
  }
  co_await relay_and_close(worker, record, signal, {*accepted.stream, tunnel->stream()});
}

async::Task<void> directly(PodProxy& pod, io::Accepted& accepted, const decide::Plan& plan,
                           observe::ConnRecord& record, async::StopSignal& signal) {
  Worker& worker = pod.worker();
  async::Deadline deadline = async::Deadline::in(worker.loop(), worker.config().connect_timeout);
  base::Result<std::unique_ptr<io::ByteStream>> upstream =
      co_await worker.network().dial(plan.next_hop, pod.dial_options(), deadline);
  if (!upstream) {
    record.close(std::move(upstream).error().wrap("io error"), Flag::kConnect);
    co_return;
  }
  co_await relay_and_close(worker, record, signal, {*accepted.stream, **upstream});
}

}  // namespace

async::Task<void> serve_outbound(PodProxy& pod, io::Accepted accepted) {
  Worker& worker = pod.worker();
  OpenSocket open(worker, Reporter::kSource);
  base::SocketAddr target = accepted.original_destination;
  auto refuse = [&](const base::Error& why) {
    observe::log_early_deny(worker.log(), accepted.peer, target, Reporter::kSource, why);
  };
  if (target.ip.is_loopback() && config::is_illegal_port(target.port)) {
    refuse(base::Error(base::Code::kInvalid, "attempted recursive call to ourselves"));
    co_return;
  }
  base::Result<model::WorkloadRef> source = co_await pod.workload();
  if (!source) {
    refuse(source.error());
    co_return;
  }
  base::Result<decide::Plan> plan = co_await make_plan(pod, *source, target);
  if (!plan) {
    refuse(plan.error());
    co_return;
  }
  LocalDestination local = co_await find_local_destination(pod, accepted, **source, *plan);
  observe::ConnFacts facts = facts_of(pod, accepted, **source, *plan);
  facts.local = local.pod != nullptr;
  observe::ConnRecord record(worker.observer(), std::move(facts));
  if (local.pod) {
    LocalArrival arrival{accepted.peer, plan->next_hop, std::move(local.client),
                         std::make_shared<LocalLink>(worker.loop(), std::move(accepted.stream)),
                         connect_request(pod, accepted.peer, **source, *plan).to_headers()};
    co_await through_local_path(*local.pod, std::move(arrival), record);
    co_return;
  }
  async::StopSignal signal(worker.loop());
  if (plan->protocol == decide::Protocol::kHbone) {
    co_await through_tunnel(pod, accepted, **source, *plan, record, signal);
  } else {
    co_await directly(pod, accepted, *plan, record, signal);
  }
}

}  // namespace culvert::ztunnel
