// SPDX-License-Identifier: Apache-2.0
// Span: what a collector is told about one request, with upstream's names for its tags (spec waypoint section
// 5.5). One of kind SERVER for each sampled request. Plain values; made where the request ended, sent by
// SpanExporter.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mesh/config/waypoint_config.h"
#include "waypoint/record.h"

namespace culvert::waypoint {

struct Span {
  TraceContext context;
  std::string name;
  base::WallTime start{};
  base::Duration duration{0};
  bool error = false;
  std::vector<std::pair<std::string, std::string>> tags;  // in UTF-8, no name twice

  // "" if it has none.
  std::string_view tag(std::string_view wanted) const;
};

// Who reports: the same for every span.
struct SpanSource {
  std::string service_name;  // "waypoint.shop"
  base::IpAddr ip;
  std::string instance_name;
  std::string node_id;
  std::string mesh_id, ns, cluster_id, canonical_service;

  static SpanSource of(const config::WaypointConfig& config);
};

// Longer values and names are cut: what peers send must not fill our queues.
inline constexpr size_t kTagBytesMax = 1024;
inline constexpr size_t kSpanNameBytesMax = 256;

// `record.trace` is set.
Span make_span(const RequestRecord& record, const SpanSource& source);

// "host:port/*": where no route was chosen.
std::string span_operation(const Addressed& addressed);
// "host:port/path*" of a route with one destination, "route:port/path*" of one with several.
std::string span_operation(const model::HttpRoute& route, const model::RouteMatch* match, uint16_t port);

// At most `bytes_max` of `text`, in valid UTF-8: what is not becomes '?'.
std::string clean_text(std::string_view text, size_t bytes_max);

}  // namespace culvert::waypoint
