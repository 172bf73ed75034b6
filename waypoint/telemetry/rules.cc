// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/rules.h"

#include <algorithm>

namespace culvert::waypoint {

TelemetryRules::TelemetryRules(const model::Telemetry& source) {
  auto parse = [this](const std::string& text) -> std::optional<decide::Expression> {
    auto made = decide::Expression::parse(text);
    if (made) return std::move(*made);
    problems_.push_back(made.error().message());
    return std::nullopt;
  };
  for (const model::MetricOverride& in : source.metrics) {
    for (size_t index = 0; index < kMetrics; ++index) {
      if (!in.metric.empty() && in.metric != metric_name(static_cast<Metric>(index))) continue;
      MetricRule& rule = metrics_[index];
      rule.disabled = in.disabled;
      for (const auto& [tag, text] : in.tags) {
        std::erase_if(rule.edits, [&tag](const TagEdit& edit) { return edit.tag == tag; });
        rule.edits.push_back({tag, text.empty(), text.empty() ? std::nullopt : parse(text)});
      }
    }
  }
  for (const model::AccessLogRule& in : source.access_logs) {
    LogRule rule;
    rule.enabled = in.enabled;
    if (!in.filter.empty()) {
      rule.filter = parse(in.filter);
      rule.readable = rule.filter.has_value();
    }
    logs_.push_back(std::move(rule));
  }
  std::sort(problems_.begin(), problems_.end());
  problems_.erase(std::unique(problems_.begin(), problems_.end()), problems_.end());
}

bool TelemetryRules::logs(const decide::Attributes& attributes, bool mesh) const {
  if (logs_.empty()) return mesh;
  return std::any_of(logs_.begin(), logs_.end(), [&](const LogRule& rule) {
    // A filter that cannot be read hides nothing.
    return rule.enabled && (!rule.readable || !rule.filter || rule.filter->holds(attributes));
  });
}

}  // namespace culvert::waypoint
