// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "waypoint/telemetry/span_encoding.h"

namespace culvert::waypoint {

std::string zipkin_json(std::span<const Span> spans, const SpanSource& source) {
  using std::chrono::duration_cast;
  using std::chrono::microseconds;
  nlohmann::ordered_json endpoint{{"serviceName", source.service_name}};
  endpoint[source.ip.is_v4() ? "ipv4" : "ipv6"] = source.ip.to_string();
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const Span& span : spans) {
    nlohmann::ordered_json& one = out.emplace_back();
    one["traceId"] = span.context.trace_id;
    if (!span.context.parent_span_id.empty()) one["parentId"] = span.context.parent_span_id;
    one["id"] = span.context.span_id;
    one["kind"] = "SERVER";
    one["name"] = span.name;
    one["timestamp"] = duration_cast<microseconds>(span.start.time_since_epoch()).count();
    // 0 stands for unknown.
    one["duration"] = std::max<int64_t>(1, duration_cast<microseconds>(span.duration).count());
    if (span.context.debug) one["debug"] = true;
    one["localEndpoint"] = endpoint;
    nlohmann::ordered_json& tags = one["tags"] = nlohmann::ordered_json::object();
    for (const auto& [name, value] : span.tags) tags[name] = value;
  }
  return out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace culvert::waypoint
