// SPDX-License-Identifier: Apache-2.0
// meshConfig.extensionProviders: the services that telemetry and CUSTOM policies name (spec waypoint sections
// 2.6.6, 2.9, 5.5).
#pragma once

#include <variant>

#include "mesh/kube/meta.h"

namespace culvert::kube {

// "[namespace/]host" as written, and its port.
struct ProviderService {
  std::string service;
  uint16_t port = 0;
};

// A header sent along; `env` names an environment variable of the proxy that holds the value.
struct ProviderHeader {
  std::string name;
  std::string value;
  std::string env;
};

struct LogFormat {
  std::string text;                           // empty: the default
  std::map<std::string, std::string> labels;  // not empty: JSON; nested keys are joined by "."
};

struct ZipkinProvider {
  ProviderService service;
  std::string path = "/api/v2/spans";
  uint32_t max_tag_length = 256;
  bool trace_id_64_bit = false;
  bool with_w3c = false;  // traceContextOption: USE_B3_WITH_W3C_PROPAGATION
  base::Duration timeout = std::chrono::seconds(5);
  std::vector<ProviderHeader> headers;
};

struct OpenTelemetryProvider {
  ProviderService service;
  uint32_t max_tag_length = 256;
  bool http = false;                // else gRPC
  std::string path = "/v1/traces";  // of http
  base::Duration timeout = std::chrono::seconds(5);
  std::vector<ProviderHeader> headers;  // of http, or gRPC's initial metadata
  bool environment_resource = false;    // resourceDetectors.environment
  bool semantic_service_name = false;   // serviceAttributeEnrichment: OTEL_SEMANTIC_CONVENTIONS
};

struct PrometheusProvider {};

struct FileLogProvider {
  std::string path;
  LogFormat format;
  bool omit_empty_values = false;
};

struct OtelLogProvider {
  ProviderService service;
  std::string log_name;
  LogFormat format;
};

// Both kinds of external authorization.
struct ExtAuthzProvider {
  struct Body {
    uint32_t max_bytes = 0;
    bool allow_partial = false;
    bool as_bytes = false;
  };
  bool http = false;  // else gRPC
  ProviderService service;
  base::Duration timeout = std::chrono::seconds(600);
  bool fail_open = false;
  bool clear_route_cache = false;
  uint16_t status_on_error = 403;
  std::optional<Body> body;
  // The rest is of HTTP.
  std::string path_prefix;
  std::vector<std::string> request_headers;
  std::vector<HeaderValue> additional_headers;
  std::vector<std::string> headers_to_upstream_on_allow, headers_to_downstream_on_allow,
      headers_to_downstream_on_deny;
};

// Of a type that upstream knows and we do not serve.
struct UnsupportedProvider {
  std::string type;
};

struct ExtensionProvider {
  std::string name;
  std::variant<UnsupportedProvider, ZipkinProvider, OpenTelemetryProvider, PrometheusProvider,
               FileLogProvider, OtelLogProvider, ExtAuthzProvider>
      config;
  int line = 0;
};

}  // namespace culvert::kube
