// SPDX-License-Identifier: Apache-2.0
// RequestRecord: everything that is told about one request (or one TCP stream) once it is over: metrics,
// access log, span (spec waypoint sections 5 and 6). Filled by the phases of an Exchange, read by Telemetry.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "mesh/model/workload.h"
#include "net/base/duration.h"
#include "net/base/ip.h"
#include "net/conn/http_stream.h"
#include "waypoint/client.h"
#include "waypoint/telemetry/trace_context.h"

namespace culvert::waypoint {

// Response flags (section 5.3), a set.
enum class Flag : uint32_t {
  kNoHealthyUpstream = 1u << 0,    // UH
  kUpstreamFailure = 1u << 1,      // UF
  kUpstreamOverflow = 1u << 2,     // UO
  kNoRoute = 1u << 3,              // NR
  kRetryLimit = 1u << 4,           // URX
  kNoCluster = 1u << 5,            // NC
  kDurationTimeout = 1u << 6,      // DT
  kDownstreamClosed = 1u << 7,     // DC
  kUpstreamTimeout = 1u << 8,      // UT
  kLocalReset = 1u << 9,           // LR
  kUpstreamReset = 1u << 10,       // UR
  kUpstreamClosed = 1u << 11,      // UC
  kDelayInjected = 1u << 12,       // DI
  kFaultInjected = 1u << 13,       // FI
  kRateLimited = 1u << 14,         // RL
  kRateLimitService = 1u << 15,    // RLSE
  kExternalDenied = 1u << 16,      // UAEX
  kStreamIdle = 1u << 17,          // SI
  kDownstreamProtocol = 1u << 18,  // DPE
  kUpstreamProtocol = 1u << 19,    // UPE
  kUpstreamDuration = 1u << 20,    // UMSDR
  kOverload = 1u << 21,            // OM
  kDnsFailure = 1u << 22,          // DF
  kDownstreamReset = 1u << 23,     // DR
};

class Flags {
 public:
  void add(Flag flag) { bits_ |= static_cast<uint32_t>(flag); }
  bool has(Flag flag) const { return (bits_ & static_cast<uint32_t>(flag)) != 0; }
  bool empty() const { return bits_ == 0; }
  // "-", or "UF,URX".
  std::string short_text() const;
  // "-", or "UpstreamConnectionFailure,UpstreamRetryLimitExceeded".
  std::string long_text() const;
  bool operator==(const Flags&) const = default;

 private:
  uint32_t bits_ = 0;
};

// Moments of a request; unset ones have not come.
struct RequestTimes {
  base::TimePoint start{};
  base::WallTime start_wall{};
  std::optional<base::TimePoint> request_in;    // its last byte came in
  std::optional<base::TimePoint> request_out;   // its first byte left for the upstream (last attempt)
  std::optional<base::TimePoint> request_sent;  // its last byte left
  std::optional<base::TimePoint> response_in;   // response headers came (last attempt)
  std::optional<base::TimePoint> end;
};

// How a request is traced (section 5.5).
struct RequestTrace {
  std::shared_ptr<const model::TraceRule> rule;
  TraceContext context;
  std::string operation;  // names the span
};

struct RequestRecord {
  ClientRef client;
  RequestTimes times;
  bool tcp = false;  // no HTTP: most of the rest is empty

  // --- the request ---
  conn::HttpVersion version = conn::HttpVersion::k11;
  wire::Headers request;      // as we took it, after normalising
  std::string original_path;  // before a rewrite; "" if there was none
  bool grpc = false;
  std::string sni;
  uint64_t request_messages = 0, response_messages = 0;  // of gRPC

  // --- what was decided ---
  std::string route_name;
  std::string route_origin;  // the object it was written in
  Flags flags;
  std::string details;          // response_code_details
  std::string denied_by;        // policy and rule, for people
  std::string token_principal;  // iss/sub

  // --- the answer ---
  uint16_t status = 0;  // as the client saw it; 0: none was sent
  wire::Headers response, response_trailers;
  conn::HttpCounts counts;  // towards the client
  std::string termination;  // why the connection ended

  // --- the upstream of the last attempt ---
  uint32_t attempts = 0;
  std::string cluster;          // "inbound-vip|9080|http/v1|host" or "outbound|9080|v1|host"
  model::WorkloadRef upstream;  // null: none was chosen
  std::optional<base::SocketAddr> upstream_address;
  std::optional<base::SocketAddr> upstream_local;
  bool upstream_tls = false;     // through HBONE
  std::string upstream_failure;  // transport failure reason
  conn::HttpVersion upstream_version = conn::HttpVersion::k11;
  uint64_t upstream_bytes_sent = 0, upstream_bytes_received = 0;

  // --- tracing ---
  std::optional<RequestTrace> trace;  // none: requests of this service are not traced
};

}  // namespace culvert::waypoint
