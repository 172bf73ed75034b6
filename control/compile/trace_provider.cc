// SPDX-License-Identifier: Apache-2.0
#include "control/compile/trace_provider.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/compile/route_match.h"
#include "net/base/ip.h"

namespace culvert::control {

namespace {

using base::Code;
using base::fail;
using Protocol = model::TraceRule::Protocol;

constexpr uint16_t kZipkinPort = 9411, kOtlpGrpcPort = 4317, kOtlpHttpPort = 4318;
constexpr char kZipkinPath[] = "/api/v2/spans", kOtlpPath[] = "/v1/traces";

struct Convention {
  std::string_view prefix, service;
  Protocol protocol;
  uint16_t port;
};
constexpr Convention kConventions[] = {
    {"jaeger", "jaeger-collector", Protocol::kZipkin, kZipkinPort},
    {"zipkin", "zipkin", Protocol::kZipkin, kZipkinPort},
    {"otel", "opentelemetry-collector", Protocol::kOtlpGrpc, kOtlpGrpcPort},
    {"opentelemetry", "opentelemetry-collector", Protocol::kOtlpGrpc, kOtlpGrpcPort},
};

std::string_view path_for(Protocol protocol) {
  if (protocol == Protocol::kZipkin) return kZipkinPath;
  return protocol == Protocol::kOtlpHttp ? kOtlpPath : "";
}

std::string_view spoken(Protocol protocol) {
  switch (protocol) {
    case Protocol::kZipkin: return "Zipkin";
    case Protocol::kOtlpGrpc: return "OTLP (gRPC)";
    case Protocol::kOtlpHttp: return "OTLP (HTTP)";
    case Protocol::kNone: break;
  }
  return "nothing";
}

model::TraceTag compile_tag(const kube::CustomTag& in) {
  using From = kube::CustomTag::Kind;
  using To = model::TraceTag::Kind;
  if (in.kind == From::kEnvironment) return {To::kEnvironment, in.value, in.fallback};
  if (in.kind == From::kHeader) return {To::kHeader, lower_case(in.value), in.fallback};
  return {To::kLiteral, in.value, in.fallback};
}

}  // namespace

base::Result<TraceCollector> parse_trace_collector(std::string_view url) {
  struct Scheme {
    std::string_view name;
    Protocol protocol;
    uint16_t port;
  };
  static constexpr Scheme kSchemes[] = {{"zipkin://", Protocol::kZipkin, kZipkinPort},
                                        {"otlp://", Protocol::kOtlpGrpc, kOtlpGrpcPort},
                                        {"otlp-http://", Protocol::kOtlpHttp, kOtlpHttpPort}};
  const auto* scheme = std::find_if(std::begin(kSchemes), std::end(kSchemes),
                                    [&](const Scheme& one) { return url.starts_with(one.name); });
  auto bad = [&](std::string_view why) {
    return fail(Code::kInvalid, fmt::format("collector \"{}\": {}", url, why));
  };
  if (scheme == std::end(kSchemes)) return bad("must begin with zipkin://, otlp:// or otlp-http://");
  std::string_view rest = url.substr(scheme->name.size());
  TraceCollector out;
  out.protocol = scheme->protocol;
  out.port = scheme->port;
  size_t slash = rest.find('/');
  out.path = slash == rest.npos ? std::string(path_for(out.protocol)) : std::string(rest.substr(slash));
  if (slash != rest.npos && out.protocol == Protocol::kOtlpGrpc) return bad("otlp:// has no path");
  rest = rest.substr(0, slash);
  if (rest.starts_with('[')) {
    size_t end = rest.find(']');
    if (end == rest.npos) return bad("the bracket is not closed");
    out.host = rest.substr(1, end - 1);
    if (!base::IpAddr::parse(out.host)) return bad("between brackets stands no address");
    rest.remove_prefix(end + 1);
  } else {
    out.host = rest.substr(0, rest.find(':'));
    rest.remove_prefix(out.host.size());
  }
  if (out.host.empty()) return bad("no host");
  if (rest.empty()) return out;
  auto port = base::parse_port(rest.substr(1));
  if (rest.front() != ':' || !port || *port == 0) return bad("expected :port after the host");
  out.port = *port;
  return out;
}

const kube::ExtensionProvider* find_provider(const kube::MeshConfig* mesh, const std::string& name) {
  if (!mesh) return nullptr;
  for (const kube::ExtensionProvider& one : mesh->extension_providers) {
    if (one.name == name) return &one;
  }
  return nullptr;
}

TraceCompiler::TraceCompiler(const TelemetryScope& scope) : scope_(scope) {
  if (!scope.mesh) return;
  if (const auto& defaults = scope.mesh->default_providers.tracing; !defaults.empty()) {
    provider_ = defaults.front();
  }
  const auto& settings = scope.mesh->proxy.tracing;
  if (!settings) return;
  rule_.sampling_percent = settings->sampling.value_or(rule_.sampling_percent);
  rule_.istio_tags = settings->enable_istio_tags.value_or(rule_.istio_tags);
  rule_.path_bytes_max = settings->max_path_tag_length;
  set_tags(settings->custom_tags, nullptr, 0);
}

void TraceCompiler::complain(bool grave, const std::string& what) const {
  if (last_) scope_.complain(*last_, line_, grave, "tracing: " + what);
}

void TraceCompiler::set_tags(const std::map<std::string, kube::CustomTag>& tags,
                             const kube::Telemetry* source, int line) {
  for (const auto& [name, tag] : tags) {
    if (tag.kind != kube::CustomTag::Kind::kFormatter) {
      rule_.tags[name] = compile_tag(tag);
    } else if (source) {
      scope_.complain(*source, line, true,
                      fmt::format("tracing: customTags.{}: no effect: a formatter is not served; literal, "
                                  "environment and header are",
                                  name));
    }
  }
}

void TraceCompiler::add(const kube::Telemetry& source) {
  for (const kube::Telemetry::Tracing& in : source.tracing) {
    if (in.mode == kube::Telemetry::Mode::kClient) continue;
    last_ = &source;
    line_ = in.line;
    if (!in.providers.empty()) provider_ = in.providers.front();
    rule_.sampling_percent = in.random_sampling_percent.value_or(rule_.sampling_percent);
    rule_.disabled = in.disable_span_reporting.value_or(rule_.disabled);
    rule_.request_id_decides = in.use_request_id_for_sampling.value_or(rule_.request_id_decides);
    rule_.istio_tags = in.enable_istio_tags.value_or(rule_.istio_tags);
    if (in.disable_context_propagation) rule_.propagate = !*in.disable_context_propagation;
    // They replace what was inherited.
    if (in.custom_tags.empty()) continue;
    rule_.tags.clear();
    set_tags(in.custom_tags, &source, in.line);
  }
}

// "namespace/host" and short forms of services in full.
std::string TraceCompiler::host_of(const std::string& service) const {
  size_t slash = service.find('/');
  std::string ns = slash == service.npos ? "" : service.substr(0, slash);
  std::string host = slash == service.npos ? service : service.substr(slash + 1);
  if (!ns.empty() && host.find('.') == host.npos) {
    return fmt::format("{}.{}.svc.{}", host, ns, scope_.cluster_domain);
  }
  return host.ends_with(".svc") ? host + "." + scope_.cluster_domain : host;
}

bool TraceCompiler::point_at(const kube::ExtensionProvider& provider) {
  const std::vector<kube::ProviderHeader>* headers = nullptr;
  if (const auto* zipkin = std::get_if<kube::ZipkinProvider>(&provider.config)) {
    rule_.protocol = Protocol::kZipkin;
    rule_.host = host_of(zipkin->service.service);
    rule_.port = zipkin->service.port;
    rule_.path = zipkin->path;
    rule_.with_w3c = zipkin->with_w3c;
    rule_.timeout = zipkin->timeout;
    rule_.path_bytes_max = zipkin->max_tag_length;
    if (zipkin->trace_id_64_bit) complain(false, "enable64bitTraceId: no effect: ids have 128 bits");
    headers = &zipkin->headers;
  } else if (const auto* otel = std::get_if<kube::OpenTelemetryProvider>(&provider.config)) {
    rule_.protocol = otel->http ? Protocol::kOtlpHttp : Protocol::kOtlpGrpc;
    rule_.host = host_of(otel->service.service);
    rule_.port = otel->service.port;
    rule_.path = otel->http ? otel->path : "";
    rule_.timeout = otel->timeout;
    rule_.path_bytes_max = otel->max_tag_length;
    headers = &otel->headers;
  } else {
    complain(true, fmt::format("no effect: provider {} takes no spans; zipkin and opentelemetry do",
                               provider.name));
    return false;
  }
  using Kind = model::TraceTag::Kind;
  for (const kube::ProviderHeader& header : *headers) {
    rule_.headers[lower_case(header.name)] = header.env.empty()
                                                 ? model::TraceTag{Kind::kLiteral, header.value, ""}
                                                 : model::TraceTag{Kind::kEnvironment, header.env, ""};
  }
  return true;
}

bool TraceCompiler::point_by_convention() {
  if (auto told = scope_.collectors.find(provider_); told != scope_.collectors.end()) {
    const TraceCollector& to = told->second;
    rule_.protocol = to.protocol;
    rule_.host = host_of(to.host);
    rule_.port = to.port;
    rule_.path = to.path;
    return true;
  }
  const auto* known =
      std::find_if(std::begin(kConventions), std::end(kConventions),
                   [this](const Convention& one) { return lower_case(provider_).starts_with(one.prefix); });
  if (known == std::end(kConventions)) {
    complain(true, fmt::format("no effect: meshConfig.extensionProviders has no provider {}", provider_));
    return false;
  }
  rule_.protocol = known->protocol;
  rule_.host = fmt::format("{}.{}.svc.{}", known->service, scope_.root_namespace, scope_.cluster_domain);
  rule_.port = known->port;
  rule_.path = path_for(known->protocol);
  complain(false,
           fmt::format("provider {} is not among meshConfig.extensionProviders: spans go to {}:{} by {}; "
                       "define it there, or start culvertd with --trace-collector {}=...",
                       provider_, rule_.host, rule_.port, spoken(rule_.protocol), provider_));
  return true;
}

std::optional<model::TraceRule> TraceCompiler::finish() {
  const kube::MeshConfig* mesh = scope_.mesh;
  if (!provider_.empty()) {
    const kube::ExtensionProvider* defined = find_provider(mesh, provider_);
    bool reached = defined ? point_at(*defined) : point_by_convention();
    return reached ? std::optional(std::move(rule_)) : std::nullopt;
  }
  // The form before there were providers: enableTracing and an address.
  if (mesh && mesh->enable_tracing && mesh->proxy.tracing && !mesh->proxy.tracing->zipkin_address.empty()) {
    auto to = parse_trace_collector("zipkin://" + mesh->proxy.tracing->zipkin_address);
    if (to) {
      rule_.protocol = to->protocol;
      rule_.host = host_of(to->host);
      rule_.port = to->port;
      rule_.path = to->path;
      return std::move(rule_);
    }
    complain(true, "no effect: " + to.error().message());
    return std::nullopt;
  }
  complain(true, "no effect: it names no provider, and the mesh has no default one");
  return std::nullopt;
}

}  // namespace culvert::control
