// SPDX-License-Identifier: Apache-2.0
// The phases that charge rate limits (spec waypoint section 4): what this replica counts, then what services
// count for all.
//
// | the service                                      | the request                                      |
// |--------------------------------------------------|--------------------------------------------------|
// | says OK                                          | goes on                                          |
// | says OVER_LIMIT of a rule that is not in shadow  | is refused; what was charged here is given back  |
// | fails, is late, or its circuit is open           | goes on, or with onFailure: Deny gets 503 RLSE   |
#include <algorithm>
#include <utility>

#include "waypoint/exchange_state.h"
#include "waypoint/headers.h"
#include "waypoint/phases/rate_limit_service.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

namespace {

using base::Code;
using base::fail;
using base::Field;
using base::Result;
using GlobalCharge = decide::RateLimitDecision::GlobalCharge;

// Nothing more is learned about it.
void settle(Exchange& x) {
  const decide::RateLimitDecision& decision = x.limits;
  x.response_headers.insert(x.response_headers.end(), decision.headers.begin(), decision.headers.end());
  for (const decide::RateLimitNote& note : decision.notes) {
    x.worker.telemetry().rate_limited(note, decision.admitted);
  }
}

Reply refusal(const Exchange& x, Reply reply) {
  reply.status = x.limits.refused_by->status;
  reply.grpc_status = x.limits.refused_by->grpc_status;
  return reply;
}

async::Task<Result<RateLimitAnswer>> call(Exchange& x, const model::RateLimitService& service,
                                          const std::vector<GlobalCharge>& due) {
  Worker& worker = x.worker;
  ClusterKey key{service.service, service.port, "", ""};
  std::shared_ptr<Cluster> cluster = worker.upstreams().find(*x.state, key);
  if (!cluster) co_return fail(Code::kNotFound, "its service has no such port");
  Circuit& circuit = worker.shared().circuits.get(key);
  if (!circuit.closed(worker.loop().now())) {
    co_return fail(Code::kUnavailable, "it has failed too often just now");
  }
  async::Deadline deadline = async::Deadline::in(worker.loop(), service.timeout);
  if (cluster->unresolved()) co_await cluster->resolve(x.state, deadline);
  Result<std::string> message =
      co_await side_call_grpc(worker.loop(), *cluster, std::string(kShouldRateLimitPath),
                              rate_limit_question(service.domain, due), {worker.self().ip, 0}, deadline);
  Result<RateLimitAnswer> answer = message ? judge_rate_limit_answer(*message, due)
                                           : Result<RateLimitAnswer>(fail(std::move(message).error()));
  if (answer) {
    circuit.succeeded();
  } else {
    circuit.failed(worker.loop().now());
  }
  co_return answer;
}

// Asks one service about its rules. A reply: it failed, and that refuses.
async::Task<std::optional<Reply>> ask(Exchange& x, model::RateLimitService service,
                                      std::vector<GlobalCharge> due, std::string& refused_body) {
  base::TimePoint begun = x.worker.loop().now();
  Result<RateLimitAnswer> answer = co_await call(x, service, due);
  std::string name = service.service.to_string();
  bool over = answer && std::any_of(answer->notes.begin(), answer->notes.end(),
                                    [](const auto& note) { return !note.state.admitted; });
  x.worker.telemetry().asked(Telemetry::Asked::kRateLimitService, name,
                             !answer ? "error"
                             : over  ? "over_limit"
                                     : "ok",
                             x.worker.loop().now() - begun);
  if (answer) {
    apply_changes(answer->request, x.record.request);
    gather_facts(x);
    x.response_changes.insert(x.response_changes.end(), answer->response.begin(), answer->response.end());
    decide::conclude(x.limits, std::move(answer->notes));
    if (!x.limits.admitted) refused_body = std::move(answer->body);
    co_return std::nullopt;
  }
  std::vector<decide::RateLimitNote> failed;
  bool enforced = false;
  for (const GlobalCharge& one : due) {
    decide::RateLimitNote& note = failed.emplace_back(decide::RateLimitNote{one.policy, one.rule, {}});
    note.failed = true;
    enforced = enforced || !one.policy->shadow;
  }
  decide::conclude(x.limits, std::move(failed));
  bool refuses = service.deny_on_failure && enforced;
  x.worker.log().debug("ratelimit", refuses ? "refused: the service failed" : "passed: the service failed",
                       {Field::text("service", name), Field::text("reason", answer.error().message())});
  if (!refuses) co_return std::nullopt;
  decide::give_back(x.limits);
  co_return replies::rate_limit_service_failed();
}

}  // namespace

std::optional<Reply> limit(Exchange& x) {
  if (!x.l7 || x.preflight || x.l7->guard.rate_limits.empty()) return std::nullopt;
  decide::RateLimitOptions options;
  options.now = x.worker.loop().now();
  options.route_name = x.record.route_name;
  options.route_origin = x.record.route_origin;
  std::vector<std::string> domains = x.trust_domains();
  options.trust_domains = domains;
  x.limits = x.worker.compiled(x.l7).limits->decide(x.facts, options);
  if (!x.limits.global.empty()) return std::nullopt;
  settle(x);
  if (x.limits.admitted) return std::nullopt;
  return refusal(x, replies::rate_limited());
}

async::Task<Result<std::optional<Reply>>> limit_globally(Exchange& x) {
  std::vector<GlobalCharge> left = std::move(x.limits.global);
  x.limits.global.clear();
  std::string refused_body;
  std::optional<Reply> reply;
  while (!left.empty() && !reply && x.limits.admitted) {
    // Policies that name the same service in the same way share one call.
    model::RateLimitService service = *left.front().policy->service;
    auto others = std::stable_partition(
        left.begin(), left.end(), [&](const GlobalCharge& one) { return one.policy->service == service; });
    std::vector<GlobalCharge> due(left.begin(), others);
    left.erase(left.begin(), others);
    reply = co_await ask(x, std::move(service), std::move(due), refused_body);
  }
  settle(x);
  if (reply || x.limits.admitted) co_return std::move(reply);
  reply = refusal(x, replies::rate_limited_globally());
  reply->body = std::move(refused_body);
  co_return std::move(reply);
}

}  // namespace culvert::waypoint
