// SPDX-License-Identifier: Apache-2.0
#include "control/compile/telemetry.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

#include "control/compile/route_match.h"
#include "control/compile/trace_provider.h"
#include "mesh/decide/expression.h"

namespace culvert::control {

namespace {

using Source = kube::Telemetry;

struct KnownMetric {
  std::string_view api, name;
};
constexpr std::array<KnownMetric, 10> kMetrics{{
    {"REQUEST_COUNT", "istio_requests_total"},
    {"REQUEST_DURATION", "istio_request_duration_milliseconds"},
    {"REQUEST_SIZE", "istio_request_bytes"},
    {"RESPONSE_SIZE", "istio_response_bytes"},
    {"GRPC_REQUEST_MESSAGES", "istio_request_messages_total"},
    {"GRPC_RESPONSE_MESSAGES", "istio_response_messages_total"},
    {"TCP_OPENED_CONNECTIONS", "istio_tcp_connections_opened_total"},
    {"TCP_CLOSED_CONNECTIONS", "istio_tcp_connections_closed_total"},
    {"TCP_SENT_BYTES", "istio_tcp_sent_bytes_total"},
    {"TCP_RECEIVED_BYTES", "istio_tcp_received_bytes_total"},
}};

constexpr base::Duration kReportingInterval = std::chrono::seconds(5);  // section 5.1; fixed
constexpr char kBuiltInMetrics[] = "prometheus", kBuiltInLog[] = "envoy";

// A waypoint reports as the server.
bool concerns_us(Source::Mode mode) { return mode != Source::Mode::kClient; }

// Notes what an expression asks for, to see whether anybody can answer.
class Asked final : public decide::Attributes {
 public:
  decide::ExpressionValue attribute(std::span<const std::string> path) const override {
    if (path.empty()) return {};
    static constexpr std::string_view kRoots[] = {"request",    "response", "source",      "destination",
                                                  "connection", "upstream", "filter_state"};
    if (std::find(std::begin(kRoots), std::end(kRoots), path.front()) == std::end(kRoots)) {
      stranger = fmt::format("{}", fmt::join(path, "."));
    }
    static constexpr std::string_view kMany[] = {"path", "url_path", "query", "id", "referer", "useragent"};
    if (path.size() == 2 && path[0] == "request" &&
        std::find(std::begin(kMany), std::end(kMany), path[1]) != std::end(kMany)) {
      endless = "request." + path[1];
    }
    return {};
  }
  mutable std::string stranger;  // an attribute that is never known
  mutable std::string endless;   // an attribute with as many values as clients like
};

class Compiler {
 public:
  Compiler(const std::vector<TelemetryLayer>& layers, const TelemetryScope& scope)
      : layers_(layers), scope_(scope) {}
  model::Telemetry run();

 private:
  void say(const Source& source, int line, const std::string& what) const {
    scope_.complain(source, line, true, what);
  }
  void hint(const Source& source, int line, const std::string& what) const {
    scope_.complain(source, line, false, what);
  }
  template <class Part>
  const Source* owner(const TelemetryLayer& layer, Part part, std::string_view name) const;
  bool readable(const Source& source, int line, const std::string& expression, std::string_view where) const;

  void metrics_of(const Source& source);
  bool for_prometheus(const Source& source, const Source::Metrics& metrics) const;
  void apply(const Source& source, int line, const Source::Override& edit);
  void logs_of(const Source& source);
  bool served_log(const Source& source, int line, const std::string& provider) const;
  const kube::ExtensionProvider* provider(const std::string& name) const;
  std::vector<model::MetricOverride> metrics() const;
  std::vector<model::AccessLogRule> access_logs() const;

  struct Metric {
    bool disabled = false;
    std::map<std::string, std::string> tags;
    bool operator==(const Metric&) const = default;
  };
  const std::vector<TelemetryLayer>& layers_;
  const TelemetryScope& scope_;
  std::array<Metric, kMetrics.size()> metrics_;
  std::map<std::string, model::AccessLogRule> logs_;  // by provider
};

// The object that gives a part of the layer.
template <class Part>
const Source* Compiler::owner(const TelemetryLayer& layer, Part part, std::string_view name) const {
  const Source* owner = nullptr;
  for (const Source* source : layer) {
    if ((source->*part).empty()) continue;
    if (!owner) {
      owner = source;
      continue;
    }
    say(*source, (source->*part).front().line,
        fmt::format("{}: no effect: that of {} at the same place is older", name, owner->meta.key()));
  }
  return owner;
}

bool Compiler::readable(const Source& source, int line, const std::string& expression,
                        std::string_view where) const {
  auto made = decide::Expression::parse(expression);
  if (!made) {
    say(source, line, fmt::format("{}: no effect: {}", where, made.error().message()));
    return false;
  }
  Asked asked;
  (void)made->evaluate(asked);
  if (!asked.stranger.empty()) {
    say(source, line,
        fmt::format("{}: nothing is called {}; its value is always unknown", where, asked.stranger));
  }
  return true;
}

const kube::ExtensionProvider* Compiler::provider(const std::string& name) const {
  return find_provider(scope_.mesh, name);
}

bool Compiler::for_prometheus(const Source& source, const Source::Metrics& metrics) const {
  std::vector<std::string> names = metrics.providers;
  if (names.empty() && scope_.mesh) names = scope_.mesh->default_providers.metrics;
  if (names.empty()) return true;
  for (const std::string& name : names) {
    const kube::ExtensionProvider* defined = provider(name);
    bool ours =
        defined ? std::holds_alternative<kube::PrometheusProvider>(defined->config) : name == kBuiltInMetrics;
    if (ours) return true;
  }
  say(source, metrics.line,
      fmt::format("metrics: no effect: {} is no provider of type prometheus, and no other takes metrics",
                  fmt::join(names, ", ")));
  return false;
}

void Compiler::apply(const Source& source, int line, const Source::Override& edit) {
  if (!concerns_us(edit.mode)) return;
  bool all = edit.metric == "ALL_METRICS", known = false;
  for (size_t i = 0; i < kMetrics.size(); ++i) {
    std::string_view name = kMetrics[i].name;
    // Their names as Prometheus has them, and without what all have in common.
    bool named = edit.metric.empty() ? edit.custom_metric == name || "istio_" + edit.custom_metric == name
                                     : edit.metric == kMetrics[i].api;
    if (!all && !named) continue;
    known = true;
    Metric& metric = metrics_[i];
    metric.disabled = edit.disabled.value_or(metric.disabled);
    for (const auto& [tag, change] : edit.tags) {
      if (change.remove) {
        metric.tags[tag].clear();
      } else if (decide::Expression::parse(change.value)) {
        metric.tags[tag] = change.value;
      }
    }
  }
  if (!known) {
    say(source, line, fmt::format("metrics: no effect: there is no metric {}", edit.custom_metric));
    return;
  }
  for (const auto& [tag, change] : edit.tags) {
    if (change.remove) continue;
    if (!readable(source, line, change.value, "tag " + tag)) continue;
    Asked asked;
    (void)decide::Expression::parse(change.value)->evaluate(asked);
    if (asked.endless.empty()) continue;
    hint(source, line,
         fmt::format(
             "tag {}: {} has as many values as clients send; beyond 50,000 label sets a waypoint counts "
             "the rest together, with overflow=\"true\"",
             tag, asked.endless));
  }
}

void Compiler::metrics_of(const Source& source) {
  for (const Source::Metrics& metrics : source.metrics) {
    if (!for_prometheus(source, metrics)) continue;
    if (metrics.reporting_interval && *metrics.reporting_interval != kReportingInterval) {
      hint(source, metrics.line, "reportingInterval: no effect: bytes of connections are counted every 5s");
    }
    Source::Override labels;
    for (const auto& dimension : metrics.dimensions) labels.tags[dimension.tag] = {false, dimension.value};
    if (!labels.tags.empty()) apply(source, metrics.line, labels);
    for (const Source::Override& edit : metrics.overrides) apply(source, metrics.line, edit);
  }
}

bool Compiler::served_log(const Source& source, int line, const std::string& name) const {
  const kube::ExtensionProvider* defined = provider(name);
  if (!defined && name == kBuiltInLog) return true;
  if (!defined) {
    say(source, line, fmt::format("accessLogging: no effect: meshConfig.extensionProviders has no {}", name));
    return false;
  }
  const auto* file = std::get_if<kube::FileLogProvider>(&defined->config);
  if (!file) {
    say(source, line,
        fmt::format("accessLogging: no effect: {} is not of type envoyFileAccessLog, which alone is served",
                    name));
    return false;
  }
  std::string in_force = scope_.mesh->access_log_file.empty() ? "/dev/stdout" : scope_.mesh->access_log_file;
  bool formatted = !file->format.text.empty() || !file->format.labels.empty();
  if (file->path != in_force || (formatted && file->format.text != scope_.mesh->access_log_format)) {
    say(source, line,
        fmt::format("accessLogging: lines go to {} in the form of meshConfig.accessLogFormat; path and "
                    "logFormat of {} have no effect",
                    in_force, name));
  }
  return true;
}

// Providers that an object names replace those of the layers before.
void Compiler::logs_of(const Source& source) {
  std::set<std::string> named;
  for (const Source::AccessLogging& logging : source.access_logging) {
    if (concerns_us(logging.mode)) named.insert(logging.providers.begin(), logging.providers.end());
  }
  if (!named.empty()) {
    std::erase_if(logs_, [&](const auto& entry) { return !named.contains(entry.first); });
  }
  for (const Source::AccessLogging& logging : source.access_logging) {
    if (!concerns_us(logging.mode)) continue;
    std::vector<std::string> names = logging.providers;
    if (names.empty()) {
      for (const auto& [name, rule] : logs_) names.push_back(name);
    }
    if (names.empty() && scope_.mesh) names = scope_.mesh->default_providers.access_logging;
    if (names.empty()) names.emplace_back(kBuiltInLog);
    for (const std::string& name : names) {
      if (!served_log(source, logging.line, name)) continue;
      model::AccessLogRule& rule = logs_[name];
      rule.enabled = !logging.disabled.value_or(!rule.enabled);
      if (logging.filter.empty()) continue;
      // One that cannot be read hides nothing.
      bool good = readable(source, logging.line, logging.filter, "accessLogging filter");
      rule.filter = good ? logging.filter : "";
    }
  }
}

std::vector<model::MetricOverride> Compiler::metrics() const {
  std::vector<model::MetricOverride> out;
  auto same = [this](const Metric& metric) { return metric == metrics_.front(); };
  if (std::all_of(metrics_.begin(), metrics_.end(), same)) {
    if (metrics_.front() != Metric{}) out.push_back({"", metrics_.front().disabled, metrics_.front().tags});
    return out;
  }
  for (size_t i = 0; i < kMetrics.size(); ++i) {
    if (metrics_[i] == Metric{}) continue;
    out.push_back({std::string(kMetrics[i].name), metrics_[i].disabled, metrics_[i].tags});
  }
  return out;
}

// Those in force; if all are off, one that says so, since none would mean the mesh's own.
std::vector<model::AccessLogRule> Compiler::access_logs() const {
  std::vector<model::AccessLogRule> out;
  for (const auto& [name, rule] : logs_) {
    if (rule.enabled && std::find(out.begin(), out.end(), rule) == out.end()) out.push_back(rule);
  }
  if (out.empty() && !logs_.empty()) out.push_back({false, ""});
  return out;
}

model::Telemetry Compiler::run() {
  TraceCompiler traces(scope_);
  for (const TelemetryLayer& layer : layers_) {
    if (const Source* source = owner(layer, &Source::metrics, "metrics")) metrics_of(*source);
    if (const Source* source = owner(layer, &Source::access_logging, "accessLogging")) logs_of(*source);
    if (const Source* source = owner(layer, &Source::tracing, "tracing")) traces.add(*source);
  }
  return {metrics(), access_logs(), traces.finish()};
}

}  // namespace

model::Telemetry compile_telemetry(const std::vector<TelemetryLayer>& layers, const TelemetryScope& scope) {
  return Compiler(layers, scope).run();
}

}  // namespace culvert::control
