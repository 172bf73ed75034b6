// SPDX-License-Identifier: Apache-2.0
// Telemetry (spec waypoint section 2.9). What is not given is inherited, so it is optional here.
#pragma once

#include "mesh/kube/meta.h"

namespace culvert::kube {

struct CustomTag {
  enum class Kind : unsigned char { kLiteral, kEnvironment, kHeader, kFormatter };
  Kind kind = Kind::kLiteral;
  std::string value;  // the literal, or the name, or the format
  std::string fallback;
};

struct Telemetry {
  enum class Mode : unsigned char { kClientAndServer, kClient, kServer };
  struct TagOverride {
    bool remove = false;
    std::string value;  // an expression
  };
  struct Override {
    std::string metric = "ALL_METRICS";  // one of the names of the spec; empty: custom_metric
    std::string custom_metric;
    Mode mode = Mode::kClientAndServer;
    std::optional<bool> disabled;
    std::map<std::string, TagOverride> tags;
  };
  // Our extension, as the Istio of old wrote it: a label of all metrics.
  struct Dimension {
    std::string tag;    // of a list: the attribute's name with "_" for "."
    std::string value;  // an attribute; of the map form an expression
  };
  struct Metrics {
    std::vector<std::string> providers;
    std::vector<Override> overrides;
    std::optional<base::Duration> reporting_interval;
    std::vector<Dimension> dimensions;
    int line = 0;
  };
  struct AccessLogging {
    Mode mode = Mode::kClientAndServer;
    std::vector<std::string> providers;
    std::optional<bool> disabled;
    std::string filter;  // an expression; empty: all
    int line = 0;
  };
  struct Tracing {
    Mode mode = Mode::kClientAndServer;
    std::vector<std::string> providers;
    std::optional<double> random_sampling_percent;
    std::optional<bool> disable_span_reporting;
    std::map<std::string, CustomTag> custom_tags;
    std::optional<bool> use_request_id_for_sampling;
    std::optional<bool> enable_istio_tags;
    std::optional<bool> disable_context_propagation;
    int line = 0;
  };
  Meta meta;
  std::optional<Labels> selector;
  std::vector<TargetRef> target_refs;
  std::vector<Metrics> metrics;
  std::vector<AccessLogging> access_logging;
  std::vector<Tracing> tracing;
};

}  // namespace culvert::kube
