// SPDX-License-Identifier: Apache-2.0
// Spans in the forms that collectors take: Zipkin's JSON of version 2, and OTLP's protobuf (spec waypoint
// section 5.5). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "waypoint/telemetry/span.h"

namespace culvert::waypoint {

// The body of POST /api/v2/spans.
std::string zipkin_json(std::span<const Span> spans, const SpanSource& source);

// An ExportTraceServiceRequest.
std::string otlp_request(std::span<const Span> spans, const SpanSource& source);

// What a collector refused of the spans it was sent.
struct OtlpAnswer {
  uint64_t rejected = 0;
  std::string reason;  // may come without a rejection: a warning
};
// Nothing: no ExportTraceServiceResponse.
std::optional<OtlpAnswer> read_otlp_answer(std::string_view bytes);

}  // namespace culvert::waypoint
