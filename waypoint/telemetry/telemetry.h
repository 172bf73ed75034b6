// SPDX-License-Identifier: Apache-2.0
// Telemetry: what is told about requests and connections: metrics, access log, spans (spec waypoint section
// 5). One per process, called from every data loop; never blocks one.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "mesh/decide/rate_limit.h"
#include "net/base/log.h"
#include "waypoint/record.h"
#include "waypoint/state.h"
#include "waypoint/telemetry/rules.h"

namespace culvert::waypoint {

class Telemetry {
 public:
  virtual ~Telemetry() = default;

  // A request, or with `record.tcp` a connection, is over. `rules` are those of the addressed service; null
  // for a pod.
  virtual void finished(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state) = 0;
  // A TCP stream was opened; more of its bytes have passed since the last call.
  virtual void tcp_opened(const RequestRecord& record, const TelemetryRules* rules,
                          const MeshState& state) = 0;
  virtual void tcp_bytes(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state,
                         uint64_t received, uint64_t sent) = 0;

  // A rule was charged; `admitted` is the decision over all.
  virtual void rate_limited(const decide::RateLimitNote& note, bool admitted) = 0;

  // Somebody was asked about a request beside its way: `result` for people and dashboards.
  enum class Asked : unsigned char { kAuthorizer, kRateLimitService };
  virtual void asked(Asked whom, std::string_view name, std::string_view result, base::Duration took) = 0;

  // --- of the process ---
  virtual void connect_refused(std::string_view code) = 0;
  virtual void handshake_failed() = 0;
};

}  // namespace culvert::waypoint
