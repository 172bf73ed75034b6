// SPDX-License-Identifier: Apache-2.0
// TelemetryRules: what the Telemetry objects of a service ask for, compiled (spec waypoint section 2.9).
// Immutable.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "mesh/decide/expression.h"
#include "mesh/model/waypoint.h"
#include "waypoint/telemetry/traffic_metrics.h"

namespace culvert::waypoint {

class TelemetryRules {
 public:
  explicit TelemetryRules(const model::Telemetry& source);

  struct TagEdit {
    std::string tag;
    bool remove = false;
    std::optional<decide::Expression> value;  // none: it could not be read, and the tag is "unknown"
  };
  struct MetricRule {
    bool disabled = false;
    std::vector<TagEdit> edits;
  };
  const MetricRule& metric(Metric metric) const { return metrics_[static_cast<size_t>(metric)]; }
  // Whether a line is written; `mesh` is the mesh's own word, which holds if no rule was given.
  bool logs(const decide::Attributes& attributes, bool mesh) const;
  // Expressions that could not be read, in words.
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  struct LogRule {
    bool enabled = true;
    bool readable = true;
    std::optional<decide::Expression> filter;
  };
  std::array<MetricRule, kMetrics> metrics_;
  std::vector<LogRule> logs_;
  std::vector<std::string> problems_;
};

}  // namespace culvert::waypoint
