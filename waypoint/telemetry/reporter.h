// SPDX-License-Identifier: Apache-2.0
// Reporter: the process's Telemetry: counts, writes the access log, says in words what was refused (spec
// waypoint sections 5.1, 5.2, 5.4). Called from every data loop; `set_settings` and `render_metrics` are the
// control loop's.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "waypoint/telemetry/log_format.h"
#include "waypoint/telemetry/rules.h"
#include "waypoint/telemetry/telemetry.h"
#include "waypoint/telemetry/traffic_metrics.h"

namespace culvert::waypoint {

class SpanExporter;

class Reporter final : public Telemetry {
 public:
  // A whole line for the file of that path ("/dev/stdout" too); false if it was dropped. Any thread, does not
  // block.
  using AccessLog = std::function<bool(const std::string& path, std::string line)>;
  // Refusals told in words, a second; the rest is counted, and the count told.
  static constexpr unsigned kRefusalsToldMax = 10;

  Reporter(base::Log& log, AccessLog access_log);

  // Where spans go; before the first request.
  void export_spans(SpanExporter& spans) { spans_ = &spans; }
  // What the mesh says about access logs. A format that cannot be read is an error in the log, and lines have
  // upstream's default form.
  void set_settings(const model::WaypointSettings& settings);
  // Prometheus text.
  std::string render_metrics(base::TimePoint now);

  void finished(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state) override;
  void tcp_opened(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state) override;
  void tcp_bytes(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state,
                 uint64_t received, uint64_t sent) override;
  void rate_limited(const decide::RateLimitNote& note, bool admitted) override;
  void asked(Asked whom, std::string_view name, std::string_view result, base::Duration took) override;
  void connect_refused(std::string_view code) override;
  void handshake_failed() override;

 private:
  struct Settings {
    std::string file, format;  // as they were given
    bool json = false;
    LogFormat compiled;
  };
  // How long those asked took. Upper bounds in milliseconds; the last bucket has none.
  static constexpr std::array<unsigned, 12> kLatencyBounds = {1,   2,   5,    10,   25,   50,
                                                              100, 250, 1000, 2500, 5000, 10000};
  struct Latency {
    std::array<uint64_t, kLatencyBounds.size() + 1> buckets{};
    double seconds = 0;
  };
  using Observation = TrafficMetrics::Observation;
  void count(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state,
             std::span<const Observation> observations, base::TimePoint now);
  void write_log(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state);
  void tell_refusal(const RequestRecord& record);
  void bump(const char* name, std::string labels);

  base::Log& log_;
  SpanExporter* spans_ = nullptr;  // null: they go nowhere
  AccessLog access_log_;
  TrafficMetrics traffic_;
  std::mutex mutex_;  // of what follows
  std::shared_ptr<const Settings> settings_;
  std::map<std::pair<std::string, std::string>, uint64_t> counters_;  // by name and labels
  std::map<std::pair<std::string, std::string>, Latency> latencies_;  // the same
  base::TimePoint refusals_since_{};
  unsigned refusals_told_ = 0;
  uint64_t refusals_untold_ = 0;
};

}  // namespace culvert::waypoint
