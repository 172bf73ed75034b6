// SPDX-License-Identifier: Apache-2.0
// The phase that charges rate limits (spec waypoint section 4).
#include "waypoint/exchange_state.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

std::optional<Reply> limit(Exchange& x) {
  if (!x.l7 || x.preflight || x.l7->guard.rate_limits.empty()) return std::nullopt;
  decide::RateLimitOptions options;
  options.now = x.worker.loop().now();
  options.route_name = x.record.route_name;
  options.route_origin = x.record.route_origin;
  std::vector<std::string> domains = x.trust_domains();
  options.trust_domains = domains;
  decide::RateLimitDecision decision = x.worker.compiled(x.l7).limits->decide(x.facts, options);
  x.charges = std::move(decision.later);
  x.response_headers.insert(x.response_headers.end(), decision.headers.begin(), decision.headers.end());
  for (const decide::RateLimitNote& note : decision.notes) {
    x.worker.telemetry().rate_limited(note, decision.admitted);
  }
  if (decision.admitted) return std::nullopt;
  Reply reply = replies::rate_limited();
  reply.status = decision.refused_by->status;
  reply.grpc_status = decision.refused_by->grpc_status;
  return reply;
}

}  // namespace culvert::waypoint
