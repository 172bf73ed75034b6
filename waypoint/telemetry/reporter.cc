// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/reporter.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "mesh/observe/metrics.h"
#include "waypoint/telemetry/attributes.h"
#include "waypoint/telemetry/span_exporter.h"
#include "waypoint/telemetry/traffic_labels.h"
#include "waypoint/version.h"

namespace culvert::waypoint {

namespace {

using base::Field;

LogFormat default_format(bool json) {
  auto made = json ? LogFormat::json(LogFormat::default_json()) : LogFormat::text(LogFormat::default_text());
  return std::move(*made);
}

double millis(base::Duration span) { return std::chrono::duration<double, std::milli>(span).count(); }

}  // namespace

Reporter::Reporter(base::Log& log, AccessLog access_log)
    : log_(log),
      access_log_(std::move(access_log)),
      settings_(std::make_shared<Settings>(Settings{"", "", false, default_format(false)})) {}

void Reporter::set_settings(const model::WaypointSettings& settings) {
  std::lock_guard lock(mutex_);
  if (settings_->file == settings.access_log_file && settings_->format == settings.access_log_format &&
      settings_->json == settings.access_log_json) {
    return;
  }
  LogFormat compiled = default_format(settings.access_log_json);
  if (!settings.access_log_format.empty()) {
    auto made = settings.access_log_json ? LogFormat::json(settings.access_log_format)
                                         : LogFormat::text(settings.access_log_format);
    if (made) {
      compiled = std::move(*made);
    } else {
      log_.error("access", "accessLogFormat cannot be used; lines have the default form",
                 {Field::text("error", made.error().message())});
    }
  }
  settings_ = std::make_shared<Settings>(Settings{settings.access_log_file, settings.access_log_format,
                                                  settings.access_log_json, std::move(compiled)});
}

void Reporter::count(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state,
                     std::span<const Observation> observations, base::TimePoint now) {
  TrafficLabels labels(record);
  std::vector<Observation> plain;
  for (const Observation& one : observations) {
    const TelemetryRules::MetricRule* rule = rules ? &rules->metric(one.metric) : nullptr;
    if (rule && rule->disabled) continue;
    if (!rule || rule->edits.empty()) {
      plain.push_back(one);
      continue;
    }
    TrafficLabels::List edited = labels.list();
    std::vector<std::string> values;
    values.reserve(rule->edits.size());
    RecordAttributes attributes(record, state);
    for (const TelemetryRules::TagEdit& edit : rule->edits) {
      auto at =
          std::find_if(edited.begin(), edited.end(), [&](const auto& tag) { return tag.first == edit.tag; });
      if (edit.remove) {
        if (at != edited.end()) edited.erase(at);
        continue;
      }
      values.push_back(edit.value ? edit.value->text(attributes) : "unknown");
      if (at != edited.end()) {
        at->second = values.back();
      } else {
        edited.emplace_back(edit.tag, values.back());
      }
    }
    traffic_.record(TrafficLabels::text(edited), {&one, 1}, now);
  }
  if (!plain.empty()) traffic_.record(TrafficLabels::text(labels.list()), plain, now);
}

void Reporter::finished(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state) {
  base::TimePoint now = record.times.end.value_or(record.times.start);
  std::vector<Observation> observations;
  if (record.tcp) {
    observations = {{Metric::kTcpClosed, 1}};
  } else {
    const conn::HttpCounts& counts = record.counts;
    observations = {
        {Metric::kRequests, 1},
        {Metric::kDuration, millis(now - record.times.start)},
        {Metric::kRequestBytes, static_cast<double>(counts.header_bytes_in + counts.body_bytes_in)},
        {Metric::kResponseBytes, static_cast<double>(counts.header_bytes_out + counts.body_bytes_out)}};
    if (record.grpc) {
      observations.push_back({Metric::kRequestMessages, static_cast<double>(record.request_messages)});
      observations.push_back({Metric::kResponseMessages, static_cast<double>(record.response_messages)});
    }
  }
  count(record, rules, state, observations, now);
  write_log(record, rules, state);
  if (spans_) spans_->finished(record);
  if (!record.denied_by.empty()) tell_refusal(record);
}

void Reporter::tcp_opened(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state) {
  Observation opened{Metric::kTcpOpened, 1};
  count(record, rules, state, {&opened, 1}, record.times.start);
}

void Reporter::tcp_bytes(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state,
                         uint64_t received, uint64_t sent) {
  Observation bytes[] = {{Metric::kTcpReceived, static_cast<double>(received)},
                         {Metric::kTcpSent, static_cast<double>(sent)}};
  count(record, rules, state, bytes, record.times.end.value_or(record.times.start));
}

void Reporter::write_log(const RequestRecord& record, const TelemetryRules* rules, const MeshState& state) {
  std::shared_ptr<const Settings> settings;
  {
    std::lock_guard lock(mutex_);
    settings = settings_;
  }
  bool wanted = !settings->file.empty();
  if (rules) wanted = rules->logs(RecordAttributes(record, state), wanted);
  if (!wanted) return;
  bool written =
      access_log_(settings->file.empty() ? "/dev/stdout" : settings->file, settings->compiled.line(record));
  if (!written) bump("mesh_waypoint_access_log_lines_dropped_total", "");
}

void Reporter::tell_refusal(const RequestRecord& record) {
  base::TimePoint now = record.times.end.value_or(record.times.start);
  uint64_t untold = 0;
  {
    std::lock_guard lock(mutex_);
    ++counters_[{"mesh_waypoint_denied_total", fmt::format("code=\"{}\"", record.status)}];
    if (now - refusals_since_ >= std::chrono::seconds(1)) {
      refusals_since_ = now;
      refusals_told_ = 0;
    }
    if (++refusals_told_ > kRefusalsToldMax) {
      ++refusals_untold_;
      return;
    }
    untold = std::exchange(refusals_untold_, 0);
  }
  auto text = [&record](const char* name) {
    const std::string* found = wire::find_header(record.request, name);
    return found ? *found : std::string("-");
  };
  std::vector<Field> fields{
      Field::text("by", record.denied_by), Field::number("status", record.status),
      Field::text("source", record.client->identity.to_string()),
      Field::text("service",
                  record.client->addressed.service ? record.client->addressed.service->hostname.str() : "-")};
  if (!record.tcp) {
    fields.push_back(Field::text("method", text(":method")));
    fields.push_back(Field::text("path", text(":path")));
  }
  if (!record.token_principal.empty()) fields.push_back(Field::text("token", record.token_principal));
  if (untold > 0) fields.push_back(Field::number("refusals_not_told", untold));
  log_.write(base::Level::kInfo, "access",
             record.tcp ? "connection refused by policy" : "request refused by policy", fields);
}

void Reporter::bump(const char* name, std::string labels) {
  std::lock_guard lock(mutex_);
  ++counters_[{name, std::move(labels)}];
}

void Reporter::rate_limited(const decide::RateLimitNote& note, bool admitted) {
  // What another rule's refusal gave back was not used.
  if (note.state.admitted && !admitted && !note.shadow() && !note.failed) return;
  std::string labels;
  observe::append_label(labels, "policy", note.policy->ns + "/" + note.policy->name);
  observe::append_label(labels, "rule", note.rule->name);
  observe::append_label(labels, "scope", note.rule->global ? "global" : "local");
  observe::append_label(labels, "decision",
                        note.failed           ? "error"
                        : note.state.admitted ? "admit"
                        : note.shadow()       ? "shadow_reject"
                                              : "reject");
  bump("mesh_ratelimit_requests_total", std::move(labels));
}

void Reporter::asked(Asked whom, std::string_view name, std::string_view result, base::Duration took) {
  bool authorizer = whom == Asked::kAuthorizer;
  std::string who;
  observe::append_label(who, authorizer ? "provider" : "service", name);
  std::string labels = who;
  observe::append_label(labels, "result", result);
  bump(authorizer ? "mesh_waypoint_ext_authz_requests_total" : "mesh_ratelimit_service_requests_total",
       std::move(labels));
  auto above = std::find_if(kLatencyBounds.begin(), kLatencyBounds.end(),
                            [&](unsigned bound) { return took <= std::chrono::milliseconds(bound); });
  std::lock_guard lock(mutex_);
  Latency& latency = latencies_[{
      authorizer ? "mesh_waypoint_ext_authz_duration_seconds" : "mesh_ratelimit_service_duration_seconds",
      std::move(who)}];
  ++latency.buckets[static_cast<size_t>(above - kLatencyBounds.begin())];
  latency.seconds += std::chrono::duration<double>(took).count();
}

void Reporter::connect_refused(std::string_view code) {
  std::string labels;
  observe::append_label(labels, "reason", code);
  bump("mesh_waypoint_connects_refused_total", std::move(labels));
}

void Reporter::handshake_failed() { bump("mesh_waypoint_tls_handshakes_failed_total", ""); }

std::string Reporter::render_metrics(base::TimePoint now) {
  std::string out = traffic_.render(now);
  auto to = std::back_inserter(out);
  fmt::format_to(to,
                 "# TYPE istio_build gauge\nistio_build{{component=\"proxy\",tag=\"{0}\"}} 1\n"
                 "# TYPE mesh_waypoint_series_overflows_total counter\n"
                 "mesh_waypoint_series_overflows_total {1}\n",
                 kVersion, traffic_.overflows());
  std::lock_guard lock(mutex_);
  std::string_view last;
  for (const auto& [key, value] : counters_) {
    const auto& [name, labels] = key;
    if (name != last) fmt::format_to(to, "# TYPE {} counter\n", name);
    last = name;
    if (labels.empty()) {
      fmt::format_to(to, "{} {}\n", name, value);
    } else {
      fmt::format_to(to, "{}{{{}}} {}\n", name, labels, value);
    }
  }
  last = {};
  for (const auto& [key, latency] : latencies_) {
    const auto& [name, labels] = key;
    if (name != last) fmt::format_to(to, "# TYPE {} histogram\n", name);
    last = name;
    uint64_t count = 0;
    for (size_t i = 0; i < kLatencyBounds.size(); ++i) {
      count += latency.buckets[i];
      fmt::format_to(to, "{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, kLatencyBounds[i] / 1000.0, count);
    }
    count += latency.buckets.back();
    fmt::format_to(to, "{0}_bucket{{{1},le=\"+Inf\"}} {2}\n{0}_sum{{{1}}} {3}\n{0}_count{{{1}}} {2}\n", name,
                   labels, count, latency.seconds);
  }
  return out;
}

}  // namespace culvert::waypoint
