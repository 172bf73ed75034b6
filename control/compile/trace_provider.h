// SPDX-License-Identifier: Apache-2.0
// The tracing part of Telemetry: layers to one rule, and where its spans go (spec waypoint sections 2.9
// and 5.5). Pure; private to control/compile.
//
// A provider is looked up in meshConfig.extensionProviders, then among the collectors culvertd was told, then
// by convention, in the root namespace:
//
// | name begins with     | collector                                  |
// |----------------------|--------------------------------------------|
// | jaeger               | jaeger-collector:9411, Zipkin              |
// | zipkin               | zipkin:9411, Zipkin                        |
// | otel, opentelemetry  | opentelemetry-collector:4317, OTLP by gRPC |
#pragma once

#include <optional>
#include <string>

#include "control/compile/telemetry.h"

namespace culvert::control {

// Null: meshConfig has none of that name, or is null itself.
const kube::ExtensionProvider* find_provider(const kube::MeshConfig* mesh, const std::string& name);

class TraceCompiler {
 public:
  explicit TraceCompiler(const TelemetryScope& scope);
  // The next, more specific object.
  void add(const kube::Telemetry& source);
  // No value: no spans, and contexts are left to the application.
  std::optional<model::TraceRule> finish();

 private:
  void set_tags(const std::map<std::string, kube::CustomTag>& tags, const kube::Telemetry* source, int line);
  bool point_at(const kube::ExtensionProvider& provider);
  bool point_by_convention();
  std::string host_of(const std::string& service) const;
  void complain(bool grave, const std::string& what) const;

  const TelemetryScope& scope_;
  model::TraceRule rule_;
  std::string provider_;
  const kube::Telemetry* last_ = nullptr;  // that asked for tracing
  int line_ = 0;
};

}  // namespace culvert::control
