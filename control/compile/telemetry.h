// SPDX-License-Identifier: Apache-2.0
// Telemetry objects to what a waypoint measures, logs and traces (spec waypoint sections 2.9 and 5). Pure.
//
// Layers, each overriding the ones before field by field: root namespace, waypoint's namespace, service's
// namespace, targetRefs to the waypoint, targetRefs to the service. Within a layer metrics, accessLogging and
// tracing are looked for apart: the oldest object that has the part gives it, so that one object may hold
// the metrics of a namespace and another its tracing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/kube/mesh_config.h"
#include "mesh/model/waypoint.h"

namespace culvert::control {

// Where spans of a provider go that no extensionProviders entry defines.
struct TraceCollector {
  model::TraceRule::Protocol protocol = model::TraceRule::Protocol::kZipkin;
  std::string host;
  uint16_t port = 0;
  std::string path;
};
using TraceCollectors = std::map<std::string, TraceCollector>;  // by the provider's name

// "zipkin://host[:9411][/path]", "otlp://host[:4317]" (gRPC), "otlp-http://host[:4318][/path]".
base::Result<TraceCollector> parse_trace_collector(std::string_view url);

struct TelemetryScope {
  const kube::MeshConfig* mesh = nullptr;  // may be null
  std::string cluster_domain = "cluster.local";
  std::string root_namespace = "istio-system";
  TraceCollectors collectors;  // beside the conventional ones
  // Something is not as it was meant; `grave`: a part of the object has no effect.
  std::function<void(const kube::Telemetry& source, int line, bool grave, const std::string& what)> complain;
};

// The objects of one layer, oldest first.
using TelemetryLayer = std::vector<const kube::Telemetry*>;

// Layers from the least to the most specific.
model::Telemetry compile_telemetry(const std::vector<TelemetryLayer>& layers, const TelemetryScope& scope);

}  // namespace culvert::control
