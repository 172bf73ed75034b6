// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/trace_context.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "waypoint/headers.h"

namespace culvert::waypoint {

namespace {

constexpr size_t kUuidLength = 36;
constexpr size_t kReasonAt = 14;

bool is_hex(std::string_view text, bool upper_too) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (upper_too && c >= 'A' && c <= 'F');
  });
}
bool all_zero(std::string_view text) { return text.find_first_not_of('0') == text.npos; }

// Null for a header that comes twice: such a context is malformed.
const std::string* only_header(const wire::Headers& headers, std::string_view name) {
  const std::string* found = nullptr;
  for (const auto& [key, value] : headers) {
    if (key != name) continue;
    if (found) return nullptr;
    found = &value;
  }
  return found;
}

// --- W3C ---

std::optional<IncomingTrace> extract_w3c(const wire::Headers& request) {
  const std::string* text = only_header(request, "traceparent");
  // version "-" trace "-" parent "-" flags; later versions may add to it.
  constexpr size_t kLength = 55;
  if (!text || text->size() < kLength) return std::nullopt;
  std::string_view all(*text);
  std::string_view version = all.substr(0, 2), trace = all.substr(3, 32), span = all.substr(36, 16),
                   flags = all.substr(53, 2);
  bool longer = all.size() > kLength;
  if (all[2] != '-' || all[35] != '-' || all[52] != '-' || (longer && all[kLength] != '-')) {
    return std::nullopt;
  }
  bool hex = is_hex(version, false) && is_hex(trace, false) && is_hex(span, false) && is_hex(flags, false);
  if (!hex || version == "ff" || (version == "00" && longer) || all_zero(trace) || all_zero(span)) {
    return std::nullopt;
  }
  IncomingTrace out;
  out.trace_id = trace;
  out.span_id = span;
  unsigned bits = 0;
  std::from_chars(flags.data(), flags.data() + flags.size(), bits, 16);
  out.sampled = (bits & 1) != 0;
  for (const auto& [name, value] : request) {
    if (name != "tracestate" || value.empty()) continue;
    if (!out.state.empty()) out.state += ',';
    out.state += value;
  }
  if (out.state.size() > kTraceStateMax) out.state.clear();
  return out;
}

// --- B3 ---

// 64 or 128 bits, as 32 digits; "" if malformed.
std::string b3_trace_id(std::string_view text) {
  if ((text.size() != 16 && text.size() != 32) || !is_hex(text, true) || all_zero(text)) return "";
  std::string out(32 - text.size(), '0');
  for (char c : text) out += c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}
std::string b3_span_id(std::string_view text) {
  return text.size() == 16 ? b3_trace_id(text).substr(0, 32).erase(0, 16) : "";
}

// "0", "1", and "d" for debug; libraries of old wrote words.
bool take_b3_decision(std::string_view text, IncomingTrace& into) {
  if (text == "0" || text == "false") {
    into.sampled = false;
  } else if (text == "1" || text == "true") {
    into.sampled = true;
  } else if (text == "d") {
    into.sampled = into.debug = true;
  } else {
    return false;
  }
  return true;
}

// trace "-" span ["-" decision ["-" parent]], or a decision alone.
std::optional<IncomingTrace> extract_b3_single(const wire::Headers& request) {
  const std::string* text = only_header(request, "b3");
  if (!text) return std::nullopt;
  IncomingTrace out;
  if (take_b3_decision(*text, out)) return out;
  std::string_view rest(*text);
  auto part = [&rest] {
    size_t end = rest.find('-');
    std::string_view found = rest.substr(0, end);
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
    return found;
  };
  out.trace_id = b3_trace_id(part());
  out.span_id = b3_span_id(part());
  if (out.trace_id.empty() || out.span_id.empty()) return std::nullopt;
  if (rest.empty()) return out;
  if (!take_b3_decision(part(), out)) return std::nullopt;
  if (!rest.empty() && b3_span_id(rest).empty()) return std::nullopt;
  return out;
}

std::optional<IncomingTrace> extract_b3_multi(const wire::Headers& request) {
  const std::string *trace = only_header(request, "x-b3-traceid"),
                    *span = only_header(request, "x-b3-spanid"),
                    *sampled = only_header(request, "x-b3-sampled"),
                    *flags = only_header(request, "x-b3-flags");
  IncomingTrace out;
  if (trace && span) {
    out.trace_id = b3_trace_id(*trace);
    out.span_id = b3_span_id(*span);
    if (out.trace_id.empty() || out.span_id.empty()) return std::nullopt;
  }
  if (sampled) take_b3_decision(*sampled, out);
  if (flags && *flags == "1") out.sampled = out.debug = true;
  if (out.trace_id.empty() && !out.sampled) return std::nullopt;
  return out;
}

std::optional<IncomingTrace> extract_b3(const wire::Headers& request) {
  if (auto single = extract_b3_single(request)) return single;
  return extract_b3_multi(request);
}

std::string hex_id(base::Rng& rng) {
  uint64_t id = 0;
  while (id == 0) id = rng.next();
  return fmt::format("{:016x}", id);
}

// Every proxy that sees the same id and goes by the same percentage decides alike: the first 32 bits of it
// are the draw, as upstream has it.
bool drawn(const model::TraceRule& rule, std::string_view request_id, base::Rng& rng) {
  constexpr uint32_t kParts = 10000;
  auto wanted = static_cast<uint32_t>(rule.sampling_percent * (kParts / 100.0) + 0.5);
  if (rule.request_id_decides && request_id.size() == kUuidLength) {
    uint32_t value = 0;
    auto [end, error] = std::from_chars(request_id.data(), request_id.data() + 8, value, 16);
    if (error == std::errc{} && end == request_id.data() + 8) return value % kParts < wanted;
  }
  return rng.below(kParts) < wanted;
}

// The decision where the incoming context has none.
TraceReason decide_trace(const model::TraceRule& rule, const wire::Headers& request, base::Rng& rng) {
  const std::string* id = header_of(request, "x-request-id");
  std::string_view request_id = id ? std::string_view(*id) : std::string_view();
  if (rule.request_id_decides) {
    TraceReason marked = trace_reason(request_id).value_or(TraceReason::kNone);
    if (marked != TraceReason::kNone) return marked;
  }
  if (header_of(request, "x-client-trace-id")) return TraceReason::kClient;
  if (header_of(request, "x-envoy-force-trace")) return TraceReason::kService;
  return drawn(rule, request_id, rng) ? TraceReason::kSampled : TraceReason::kNone;
}

}  // namespace

std::optional<IncomingTrace> extract_trace(const wire::Headers& request, TraceFormat preferred) {
  std::optional<IncomingTrace> first =
      preferred == TraceFormat::kW3c ? extract_w3c(request) : extract_b3(request);
  if (first && !first->trace_id.empty()) return first;
  std::optional<IncomingTrace> second =
      preferred == TraceFormat::kW3c ? extract_b3(request) : extract_w3c(request);
  // A decision without a trace holds where no other context has one.
  return second && (!first || !second->trace_id.empty()) ? second : first;
}

void inject_trace(const TraceContext& context, const model::TraceRule& rule, wire::Headers& request) {
  bool zipkin = rule.protocol == model::TraceRule::Protocol::kZipkin;
  bool w3c = !zipkin || rule.with_w3c || header_of(request, "traceparent");
  bool single = header_of(request, "b3");
  bool many = zipkin || header_of(request, "x-b3-traceid") || header_of(request, "x-b3-sampled") ||
              header_of(request, "x-b3-flags");
  for (std::string_view name : {"traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid",
                                "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"}) {
    drop_header(request, name);
  }
  if (w3c) {
    request.emplace_back("traceparent", fmt::format("00-{}-{}-{}", context.trace_id, context.span_id,
                                                    context.sampled ? "01" : "00"));
    if (!context.state.empty()) request.emplace_back("tracestate", context.state);
  }
  if (single) {
    std::string parent = context.parent_span_id.empty() ? "" : "-" + context.parent_span_id;
    char decision = context.debug ? 'd' : context.sampled ? '1' : '0';
    request.emplace_back("b3",
                         fmt::format("{}-{}-{}{}", context.trace_id, context.span_id, decision, parent));
  }
  if (!many) return;
  request.emplace_back("x-b3-traceid", context.trace_id);
  request.emplace_back("x-b3-spanid", context.span_id);
  if (!context.parent_span_id.empty()) request.emplace_back("x-b3-parentspanid", context.parent_span_id);
  // Debug implies the decision, which is then not said again.
  if (context.debug) {
    request.emplace_back("x-b3-flags", "1");
  } else {
    request.emplace_back("x-b3-sampled", context.sampled ? "1" : "0");
  }
}

std::string make_request_id(base::Rng& rng) {
  uint64_t high = rng.next(), low = rng.next();
  high = (high & ~0xf000ULL) | 0x4000;
  low = (low & ~(3ULL << 62)) | (1ULL << 63);
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff, high & 0xffff,
                     low >> 48, low & 0xffffffffffffULL);
}

std::optional<TraceReason> trace_reason(std::string_view request_id) {
  if (request_id.size() != kUuidLength) return std::nullopt;
  switch (char mark = request_id[kReasonAt]) {
    case '4':
    case '9':
    case 'a':
    case 'b': return static_cast<TraceReason>(mark);
    default: return std::nullopt;
  }
}

void set_trace_reason(TraceReason reason, std::string& request_id) {
  request_id[kReasonAt] = static_cast<char>(reason);
}

TraceContext begin_trace(const model::TraceRule& rule, wire::Headers& request, base::Rng& rng) {
  bool zipkin = rule.protocol == model::TraceRule::Protocol::kZipkin;
  std::optional<IncomingTrace> incoming =
      extract_trace(request, zipkin ? TraceFormat::kB3 : TraceFormat::kW3c);
  TraceContext out;
  if (incoming) {
    out.trace_id = std::move(incoming->trace_id);
    out.parent_span_id = std::move(incoming->span_id);
    out.state = std::move(incoming->state);
    out.debug = incoming->debug;
  }
  if (out.trace_id.empty()) out.trace_id = hex_id(rng) + hex_id(rng);
  out.span_id = hex_id(rng);
  TraceReason reason = incoming && incoming->sampled
                           ? (*incoming->sampled ? TraceReason::kSampled : TraceReason::kNone)
                           : decide_trace(rule, request, rng);
  out.sampled = reason != TraceReason::kNone;
  if (!rule.request_id_decides || !out.sampled) return out;
  for (auto& [name, value] : request) {
    // A mark that is there stays: it says more than we know.
    if (name == "x-request-id" && trace_reason(value) == TraceReason::kNone) set_trace_reason(reason, value);
  }
  return out;
}

}  // namespace culvert::waypoint
