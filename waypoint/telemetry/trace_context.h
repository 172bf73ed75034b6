// SPDX-License-Identifier: Apache-2.0
// TraceContext: the trace that a request belongs to; read from and written to its headers (spec waypoint
// section 5.5, W3C Trace Context, B3). Pure.
//
// | order | what decides whether a request is sampled                                          |
// |-------|------------------------------------------------------------------------------------|
// | 1     | the decision that the incoming context carries                                     |
// | 2     | x-client-trace-id, x-envoy-force-trace; with `request_id_decides` the request id's mark |
// | 3     | the rule's percentage: of the request id with `request_id_decides`, else a draw    |
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "mesh/model/waypoint.h"
#include "net/base/rng.h"
#include "net/wire/h2.h"

namespace culvert::waypoint {

// Ids in lower-case hex.
struct TraceContext {
  std::string trace_id;        // 32
  std::string span_id;         // 16: our own span
  std::string parent_span_id;  // 16, or ""
  std::string state;           // tracestate, passed on; "" above kTraceStateMax
  bool sampled = false;
  bool debug = false;  // B3: sampled whatever collectors think
};

// What must be passed on at least, and all that we pass on (W3C Trace Context section 3.3.1.1).
inline constexpr size_t kTraceStateMax = 512;

// What came with a request. `trace_id` "": a decision without a trace.
struct IncomingTrace {
  std::string trace_id;
  std::string span_id;
  std::string state;
  std::optional<bool> sampled;
  bool debug = false;
  bool operator==(const IncomingTrace&) const = default;
};

enum class TraceFormat : unsigned char { kW3c, kB3 };

// The first well-formed context: in `preferred`, else in the other format; B3's single header before its
// many.
std::optional<IncomingTrace> extract_trace(const wire::Headers& request, TraceFormat preferred);

// Replaces what the request carried. Written are the formats of the rule, and those that came: what is behind
// us may know no other, and must not see one that is out of date.
void inject_trace(const TraceContext& context, const model::TraceRule& rule, wire::Headers& request);

// A UUID of version 4.
std::string make_request_id(base::Rng& rng);

// Why a request is traced, as the character at index 14 of its id says.
enum class TraceReason : char { kNone = '4', kSampled = '9', kClient = 'a', kService = 'b' };
// Nothing: the id is no UUID, or has another version.
std::optional<TraceReason> trace_reason(std::string_view request_id);
void set_trace_reason(TraceReason reason, std::string& request_id);

// The context of our span, for a request that has its x-request-id; that is marked if the rule says so.
TraceContext begin_trace(const model::TraceRule& rule, wire::Headers& request, base::Rng& rng);

}  // namespace culvert::waypoint
