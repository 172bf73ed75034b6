// SPDX-License-Identifier: Apache-2.0
// What the control plane tells a waypoint beside workloads and services (spec waypoint section 1.10), and the
// immutable view a waypoint works from. Wire form: proto/waypoint.proto.
//
// | resource         | name         | one for                                                            |
// |------------------|--------------|--------------------------------------------------------------------|
// | WaypointService  | "ns/host"    | every service bound to the waypoint: routes, guard, telemetry      |
// |                  | "ns/pods@gw" | the pods that use waypoint gw themselves: guard, telemetry         |
// | Backend          | "ns/host"    | every service it may send to: traffic policy, subsets              |
// | WorkloadLabels   | workload uid | every pod whose labels matter: endpoints, clients of source matches |
// | WaypointSettings | "mesh"       | the mesh: logs, paths, defaults                                    |
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/model/backend.h"
#include "mesh/model/guard.h"
#include "mesh/model/route.h"

namespace culvert::model {

struct MetricOverride {
  std::string metric;  // "istio_requests_total"; "" all
  bool disabled = false;
  // Tag to expression (section 2.9); an empty expression removes the tag.
  std::map<std::string, std::string> tags;
  bool operator==(const MetricOverride&) const = default;
};

struct AccessLogRule {
  bool enabled = true;
  std::string filter;  // expression; "" all
  bool operator==(const AccessLogRule&) const = default;
};

struct TraceTag {
  enum class Kind : uint8_t { kLiteral, kEnvironment, kHeader };
  Kind kind = Kind::kLiteral;
  std::string value, fallback;
  bool operator==(const TraceTag&) const = default;
};

struct TraceRule {
  enum class Protocol : uint8_t { kNone, kZipkin, kOtlpGrpc, kOtlpHttp };
  Protocol protocol = Protocol::kNone;
  std::string host;  // of the collector: a service's hostname, a name or an address
  uint16_t port = 0;
  std::string path;
  double sampling_percent = 1;
  bool disabled = false;  // spans are not reported; contexts still are passed on
  bool request_id_decides = true;
  bool istio_tags = true;
  std::map<std::string, TraceTag> tags;
  bool with_w3c = false;  // Zipkin: traceparent beside B3
  bool propagate = true;  // contexts are passed on
  // Of each export; header names in lower case, values never from requests.
  std::map<std::string, TraceTag> headers;
  base::Duration timeout = std::chrono::seconds(5);
  uint32_t path_bytes_max = 256;  // of the path in a span's URL
  bool operator==(const TraceRule&) const = default;
};

struct Telemetry {
  std::vector<MetricOverride> metrics;     // in order
  std::vector<AccessLogRule> access_logs;  // empty: the mesh's
  std::optional<TraceRule> trace;          // none: no tracing
  bool operator==(const Telemetry&) const = default;
};

struct WaypointService {
  NamespacedHostname service;
  ServiceRoutes routes;
  Guard guard;
  Telemetry telemetry;
  const PortRoutes* port(uint16_t service_port, std::string_view client_ns) const;
  bool operator==(const WaypointService&) const = default;
};

// The name of what holds for pods that use a waypoint themselves: a WaypointService without routes. No
// service can be called so.
inline NamespacedHostname pods_of_waypoint(std::string_view ns, std::string_view gateway) {
  return {ns, "pods@" + std::string(gateway)};
}

// The services whose endpoints may answer what is addressed to it: itself, and where its routes go.
std::set<NamespacedHostname> reach_of(const WaypointService& service);

struct WorkloadLabels {
  std::string uid;
  LabelMap labels;
  bool operator==(const WorkloadLabels&) const = default;
};

struct WaypointSettings {
  enum class PathNormalization : uint8_t { kNone, kBase, kMergeSlashes, kDecodeAndMergeSlashes };
  std::string access_log_file;    // "" off
  std::string access_log_format;  // "" the default
  bool access_log_json = false;
  PathNormalization paths = PathNormalization::kBase;
  RetryPolicy default_retries;
  std::vector<std::string> trust_domain_aliases;
  uint32_t trusted_proxies = 0;
  bool allow_any_outbound = true;
  std::string server_header = "istio-envoy";  // "" leaves the application's
  bool client_retry_hints = false;
  base::Duration dns_refresh = std::chrono::seconds(60);  // names of endpoints are looked up again
  std::string session_key;  // 32 bytes that seal tokens of sessions; secret. Empty: no session is kept
  bool operator==(const WaypointSettings&) const = default;
};

using WaypointServiceRef = std::shared_ptr<const WaypointService>;
using BackendRef = std::shared_ptr<const Backend>;
using LabelsRef = std::shared_ptr<const WorkloadLabels>;

struct WaypointUpdate {
  std::vector<WaypointService> services;
  std::vector<Backend> backends;
  std::vector<WorkloadLabels> labels;
  std::optional<WaypointSettings> settings;
  std::vector<std::string> removed_services, removed_backends, removed_labels;
  bool empty() const {
    return services.empty() && backends.empty() && labels.empty() && !settings && removed_services.empty() &&
           removed_backends.empty() && removed_labels.empty();
  }
};

// Immutable; read on every loop. Values that an update did not touch keep their address, so that what was
// compiled from them can be kept too.
class WaypointView {
 public:
  WaypointServiceRef service(const NamespacedHostname& name) const;
  BackendRef backend(const NamespacedHostname& name) const;
  // Empty if unknown.
  const LabelMap& labels(std::string_view uid) const;
  // Null: they have not come yet.
  const LabelMap* known_labels(std::string_view uid) const;
  const WaypointSettings& settings() const { return *settings_; }
  const std::map<NamespacedHostname, WaypointServiceRef>& services() const { return services_; }
  uint64_t generation() const { return generation_; }

  // The next view.
  std::shared_ptr<const WaypointView> with(WaypointUpdate update) const;
  static std::shared_ptr<const WaypointView> empty();

 private:
  std::map<NamespacedHostname, WaypointServiceRef> services_;
  std::map<NamespacedHostname, BackendRef> backends_;
  std::map<std::string, LabelsRef, std::less<>> labels_;
  std::shared_ptr<const WaypointSettings> settings_ = std::make_shared<WaypointSettings>();
  uint64_t generation_ = 0;
};
using WaypointViewRef = std::shared_ptr<const WaypointView>;

}  // namespace culvert::model
