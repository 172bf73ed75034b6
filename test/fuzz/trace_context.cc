// SPDX-License-Identifier: Apache-2.0
// Trace contexts of strangers. Input: a byte (bits 0-1 the protocol, 2 with_w3c, 3 request_id_decides), then
// header lines "name value".
#include "waypoint/telemetry/trace_context.h"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "waypoint/headers.h"

using namespace culvert;
using namespace culvert::waypoint;
using Protocol = model::TraceRule::Protocol;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

void check_id(std::string_view id, size_t length) {
  check(id.size() == length && id.find_first_not_of("0123456789abcdef") == id.npos &&
        id.find_first_not_of('0') != id.npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  model::TraceRule rule;
  rule.protocol = static_cast<Protocol>(data[0] & 3);
  rule.with_w3c = (data[0] & 4) != 0;
  rule.request_id_decides = (data[0] & 8) != 0;
  wire::Headers headers;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    size_t space = line.find(' ');
    if (space != line.npos) headers.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  headers.emplace_back("last one", "kept");

  std::optional<IncomingTrace> came[2];
  for (TraceFormat format : {TraceFormat::kW3c, TraceFormat::kB3}) {
    std::optional<IncomingTrace>& incoming = came[format == TraceFormat::kB3];
    incoming = extract_trace(headers, format);
    if (!incoming) continue;
    check(!incoming->trace_id.empty() || incoming->sampled);
    check(incoming->trace_id.empty() == incoming->span_id.empty());
    check(incoming->state.size() <= kTraceStateMax);
    if (incoming->trace_id.empty()) continue;
    check_id(incoming->trace_id, 32);
    check_id(incoming->span_id, 16);
  }
  check(came[0].has_value() == came[1].has_value());

  base::Rng rng(size);
  std::string request_id = make_request_id(rng);
  check(trace_reason(request_id) == TraceReason::kNone);
  if (!header_of(headers, "x-request-id")) headers.emplace_back("x-request-id", request_id);
  TraceContext context = begin_trace(rule, headers, rng);
  check_id(context.trace_id, 32);
  check_id(context.span_id, 16);
  check(context.parent_span_id.empty() || context.parent_span_id.size() == 16);
  check(context.sampled || !context.debug);

  // What we pass on is read by the next of us as what we meant, in every format that goes out.
  inject_trace(context, rule, headers);
  check(header_of(headers, "last one") && *header_of(headers, "last one") == "kept");
  for (TraceFormat format : {TraceFormat::kW3c, TraceFormat::kB3}) {
    auto next = extract_trace(headers, format);
    check(next && next->trace_id == context.trace_id && next->span_id == context.span_id &&
          next->sampled.value_or(context.sampled) == context.sampled);
  }
  wire::Headers again = headers;
  inject_trace(context, rule, again);
  check(again == headers);
  return 0;
}
