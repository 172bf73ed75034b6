// SPDX-License-Identifier: Apache-2.0
// meshConfig.extensionProviders, strictly (spec waypoint sections 2.6.6, 2.9, 5.5).
#include <fmt/format.h>

#include <algorithm>

#include "mesh/kube/decode_fields.h"
#include "mesh/kube/decode_kinds.h"

namespace culvert::kube {

namespace {

ProviderService decode_service_address(const Cursor& at) {
  ProviderService out{decode_needed(at, "service"), decode_port(at.at("port"))};
  std::string_view host = out.service;
  if (size_t slash = host.find('/'); slash != std::string_view::npos) host.remove_prefix(slash + 1);
  bool good = std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == ':';  // or an address
  });
  if (!good || (host.empty() && !out.service.empty())) {
    at.at("service").fail(fmt::format("\"{}\" must be a host, or namespace/host", out.service));
  }
  if (out.port == 0) at.at("port").fail("is missing");
  return out;
}

std::string decode_path(const Cursor& at, const std::string& fallback) {
  std::string path = at.text(fallback);
  check_header_value(at, path);
  if (!path.empty() && !path.starts_with("/")) at.fail(fmt::format("\"{}\" must begin with a slash", path));
  return path;
}

std::vector<ProviderHeader> decode_headers(const Cursor& at) {
  std::vector<ProviderHeader> out;
  for (const Cursor& item : at.items()) {
    item.only({"name", "value", "envName"});
    ProviderHeader header{decode_needed(item, "name"), item.at("value").text(), item.at("envName").text()};
    check_header_name(item.at("name"), header.name);
    check_header_value(item.at("value"), header.value);
    if (item.at("value").absent() == item.at("envName").absent()) {
      item.fail("must have one of value and envName");
    }
    out.push_back(std::move(header));
  }
  return out;
}

// Keys of nested maps are joined by a dot.
void decode_log_labels(const Cursor& at, const std::string& prefix, std::map<std::string, std::string>& out) {
  for (const auto& [key, value] : at.fields()) {
    if (value.is_map()) {
      decode_log_labels(value, prefix + key + ".", out);
    } else {
      out[prefix + key] = value.text();
    }
  }
}

LogFormat decode_log_format(const Cursor& at, bool both) {
  at.only({"text", "labels"});
  LogFormat format;
  format.text = at.at("text").text();
  decode_log_labels(at.at("labels"), "", format.labels);
  if (!both && !format.text.empty() && !format.labels.empty()) at.fail("must have text or labels, not both");
  return format;
}

ZipkinProvider decode_zipkin(const Cursor& at) {
  at.only({"service", "port", "maxTagLength", "enable64bitTraceId", "path", "timeout", "headers",
           "traceContextOption"});
  ZipkinProvider out;
  out.service = decode_service_address(at);
  out.path = decode_path(at.at("path"), out.path);
  out.max_tag_length = decode_count(at.at("maxTagLength"), out.max_tag_length, 1 << 16);
  out.trace_id_64_bit = at.at("enable64bitTraceId").flag();
  out.with_w3c = decode_choice<bool>(at.at("traceContextOption"), false,
                                     {{"USE_B3", false}, {"USE_B3_WITH_W3C_PROPAGATION", true}});
  out.timeout = decode_duration(at.at("timeout"), out.timeout);
  out.headers = decode_headers(at.at("headers"));
  return out;
}

OpenTelemetryProvider decode_opentelemetry(const Cursor& at) {
  at.only(
      {"service", "port", "maxTagLength", "http", "grpc", "resourceDetectors", "serviceAttributeEnrichment"},
      {"dynatraceSampler"});
  OpenTelemetryProvider out;
  out.service = decode_service_address(at);
  out.max_tag_length = decode_count(at.at("maxTagLength"), out.max_tag_length, 1 << 16);
  Cursor http = at.at("http"), grpc = at.at("grpc");
  if (!http.absent() && !grpc.absent()) http.fail("excludes grpc; keep one of the two");
  http.only({"path", "timeout", "headers"});
  grpc.only({"timeout", "initialMetadata"});
  out.http = !http.absent();
  out.path = decode_path(http.at("path"), out.path);
  out.timeout = decode_duration((out.http ? http : grpc).at("timeout"), out.timeout);
  out.headers = decode_headers(out.http ? http.at("headers") : grpc.at("initialMetadata"));
  Cursor detectors = at.at("resourceDetectors");
  detectors.only({"environment"}, {"dynatrace"});
  // Written as an empty map: there or not there.
  for (const auto& [key, value] : detectors.fields()) {
    if (key == "environment") out.environment_resource = true;
    if (key == "dynatrace") value.note("is not acted on");
  }
  if (!at.at("dynatraceSampler").absent()) at.at("dynatraceSampler").note("is not acted on");
  out.semantic_service_name =
      decode_choice<bool>(at.at("serviceAttributeEnrichment"), false,
                          {{"ISTIO_CANONICAL", false}, {"OTEL_SEMANTIC_CONVENTIONS", true}});
  return out;
}

FileLogProvider decode_file_log(const Cursor& at) {
  at.only({"path", "logFormat", "omitEmptyValues"}, {"filterStateObjectsToLog", "customTags"});
  for (const char* key : {"filterStateObjectsToLog", "customTags"}) {
    if (!at.at(key).absent()) at.at(key).note("is not acted on");
  }
  return {at.at("path").text("/dev/stdout"), decode_log_format(at.at("logFormat"), false),
          at.at("omitEmptyValues").flag()};
}

OtelLogProvider decode_otel_log(const Cursor& at) {
  at.only({"service", "port", "logName", "logFormat"}, {"filterStateObjectsToLog", "customTags"});
  for (const char* key : {"filterStateObjectsToLog", "customTags"}) {
    if (!at.at(key).absent()) at.at(key).note("is not acted on");
  }
  return {decode_service_address(at), at.at("logName").text("otel_envoy_accesslog"),
          decode_log_format(at.at("logFormat"), true)};
}

std::vector<std::string> decode_names(const Cursor& at) {
  std::vector<std::string> out;
  for (const Cursor& item : at.items()) {
    // Of headers, and with upstream's "*" at an end.
    std::string name = item.text();
    out.push_back(name);
    if (name.ends_with("*")) name.pop_back();
    if (!name.empty()) check_header_name(item, name);
  }
  return out;
}

void decode_authz_http(const Cursor& at, ExtAuthzProvider& out) {
  at.only({"service", "port", "timeout", "failOpen", "clearRouteCache", "statusOnError",
           "includeRequestBodyInCheck", "pathPrefix", "includeRequestHeadersInCheck",
           "includeAdditionalHeadersInCheck", "headersToUpstreamOnAllow", "headersToDownstreamOnAllow",
           "headersToDownstreamOnDeny"},
          {"includeHeadersInCheck"});
  out.path_prefix = decode_path(at.at("pathPrefix"), "");
  out.request_headers = decode_names(at.at("includeRequestHeadersInCheck"));
  if (Cursor old = at.at("includeHeadersInCheck"); !old.absent()) {
    if (!out.request_headers.empty()) old.fail("excludes includeRequestHeadersInCheck; write all there");
    old.note("is deprecated; write includeRequestHeadersInCheck");
    out.request_headers = decode_names(old);
  }
  for (const auto& [name, value] : at.at("includeAdditionalHeadersInCheck").fields()) {
    check_header_name(value, name);
    out.additional_headers.push_back({name, value.text()});
    check_header_value(value, out.additional_headers.back().value);
  }
  out.headers_to_upstream_on_allow = decode_names(at.at("headersToUpstreamOnAllow"));
  out.headers_to_downstream_on_allow = decode_names(at.at("headersToDownstreamOnAllow"));
  out.headers_to_downstream_on_deny = decode_names(at.at("headersToDownstreamOnDeny"));
}

ExtAuthzProvider decode_authz(const Cursor& at, bool http) {
  ExtAuthzProvider out;
  out.http = http;
  if (http) {
    decode_authz_http(at, out);
  } else {
    at.only({"service", "port", "timeout", "failOpen", "clearRouteCache", "statusOnError",
             "includeRequestBodyInCheck"});
  }
  constexpr base::Duration kSlow = std::chrono::seconds(5);
  out.service = decode_service_address(at);
  out.timeout = decode_duration(at.at("timeout"), out.timeout);
  if (out.timeout > kSlow) at.at("timeout").note("requests may wait longer than 5s for their decision");
  out.fail_open = at.at("failOpen").flag();
  out.clear_route_cache = at.at("clearRouteCache").flag();
  out.status_on_error = static_cast<uint16_t>(at.at("statusOnError").integer(200, 599, 403));
  if (Cursor body = at.at("includeRequestBodyInCheck"); !body.absent()) {
    body.only({"maxRequestBytes", "allowPartialMessage", "packAsBytes"});
    out.body =
        ExtAuthzProvider::Body{static_cast<uint32_t>(body.at("maxRequestBytes").integer(1, 16 << 20, 1)),
                               body.at("allowPartialMessage").flag(), body.at("packAsBytes").flag()};
    if (body.at("maxRequestBytes").absent()) body.at("maxRequestBytes").fail("is missing");
  }
  return out;
}

}  // namespace

ExtensionProvider decode_extension_provider(const Cursor& at) {
  static constexpr std::string_view kUnsupported[] = {"lightstep",   "datadog",    "stackdriver",
                                                      "opencensus",  "skywalking", "envoyHttpAls",
                                                      "envoyTcpAls", "sds"};
  at.only({"name", "zipkin", "opentelemetry", "prometheus", "envoyFileAccessLog", "envoyOtelAls",
           "envoyExtAuthzGrpc", "envoyExtAuthzHttp"},
          {"lightstep", "datadog", "stackdriver", "opencensus", "skywalking", "envoyHttpAls", "envoyTcpAls",
           "sds"});
  ExtensionProvider out;
  out.line = at.line();
  out.name = decode_needed(at, "name");
  size_t types = 0;
  for (const auto& [key, value] : at.fields()) {
    if (key == "name") continue;
    types++;
    if (key == "zipkin") out.config = decode_zipkin(value);
    if (key == "opentelemetry") out.config = decode_opentelemetry(value);
    if (key == "envoyFileAccessLog") out.config = decode_file_log(value);
    if (key == "envoyOtelAls") out.config = decode_otel_log(value);
    if (key == "envoyExtAuthzGrpc") out.config = decode_authz(value, false);
    if (key == "envoyExtAuthzHttp") out.config = decode_authz(value, true);
    if (key == "prometheus") {
      value.only({});
      out.config = PrometheusProvider{};
    }
    if (std::find(std::begin(kUnsupported), std::end(kUnsupported), key) != std::end(kUnsupported)) {
      value.note("is a type of provider that is not supported");
      out.config = UnsupportedProvider{key};
    }
  }
  if (types != 1) at.fail("must have exactly one type beside its name, for example zipkin or opentelemetry");
  return out;
}

}  // namespace culvert::kube
