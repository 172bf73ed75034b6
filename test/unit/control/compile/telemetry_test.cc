// SPDX-License-Identifier: Apache-2.0
// What a waypoint measures, logs and traces, from Telemetry and meshConfig: layers, providers, expressions.
#include <algorithm>
#include <catch2/catch.hpp>

#include "test/unit/control/compile/objects.h"

namespace culvert::test {
namespace {

const std::string kMesh = R"(
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: way}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: way, namespace: shop}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status: {addresses: [{type: IPAddress, value: 10.0.0.5}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
)";

std::string telemetry(const std::string& spec, const std::string& ns = "shop",
                      const std::string& name = "t") {
  return "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: " + name +
         ", namespace: " + ns + "}\nspec: " + spec + "\n";
}

std::string mesh_config(const std::string& text) {
  return "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: mesh, namespace: "
         "istio-system}\nspec: {meshConfig: " +
         text + "}\n";
}

const std::string kOnService = "targetRefs: [{kind: Service, group: \"\", name: api}], ";
const std::string kOnGateway = "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: way}], ";

const model::Telemetry& of(const control::Compiled& mesh) {
  return mesh.waypoint_services.at("shop/api.shop.svc.cluster.local")->telemetry;
}
model::Telemetry compiled(const std::string& more) { return of(compile_yaml(kMesh + more)); }

std::string found(const control::Compiled& mesh, control::Severity severity) {
  std::string out;
  for (const auto& one : mesh.findings) {
    if (one.code == "MSH021" && one.severity == severity) out += one.message + "\n";
  }
  return out;
}
std::string warned(const std::string& more) {
  return found(compile_yaml(kMesh + more), control::Severity::kWarning);
}
using Catch::Contains;

}  // namespace

TEST_CASE("without Telemetry a waypoint has the mesh's defaults", "[waypoint-2.9]") {
  CHECK(compiled("") == model::Telemetry{});
}

TEST_CASE("tags are put, replaced and removed, for one metric or all", "[waypoint-2.9]") {
  auto out = compiled(telemetry(R"({metrics: [{providers: [{name: prometheus}], overrides: [
    {tagOverrides: {team: {value: "request.headers['x-team']"}, source_app: {operation: REMOVE}}},
    {match: {metric: REQUEST_COUNT}, tagOverrides: {team: {value: "'all'"}}},
    {match: {metric: TCP_SENT_BYTES, mode: SERVER}, disabled: true},
    {match: {metric: ALL_METRICS, mode: CLIENT}, disabled: true}]}]})"));
  REQUIRE(out.metrics.size() == 10);
  using Tags = std::map<std::string, std::string>;
  auto of_metric = [&](const std::string& name) {
    return *std::find_if(out.metrics.begin(), out.metrics.end(),
                         [&](const auto& one) { return one.metric == name; });
  };
  CHECK(of_metric("istio_requests_total").tags == Tags{{"team", "'all'"}, {"source_app", ""}});
  CHECK(of_metric("istio_request_bytes").tags ==
        Tags{{"team", "request.headers['x-team']"}, {"source_app", ""}});
  CHECK(of_metric("istio_tcp_sent_bytes_total").disabled);
  CHECK_FALSE(of_metric("istio_requests_total").disabled);
}

TEST_CASE("what all metrics share is told once", "[waypoint-2.9]") {
  auto out = compiled(telemetry("{metrics: [{overrides: [{tagOverrides: {zone: {value: \"'a'\"}}}]}]}"));
  CHECK(out.metrics == std::vector<model::MetricOverride>{{"", false, {{"zone", "'a'"}}}});
}

TEST_CASE("the dimensions of old are labels of all metrics", "[waypoint-2.9]") {
  auto mesh = compile_yaml(kMesh + telemetry("{metrics: [{providers: [{name: prometheus}], dimensions: "
                                             "[request.path, response.code, destination.service.name]}]}"));
  CHECK(of(mesh).metrics ==
        std::vector<model::MetricOverride>{{"",
                                            false,
                                            {{"destination_service_name", "destination.service.name"},
                                             {"request_path", "request.path"},
                                             {"response_code", "response.code"}}}});
  CHECK(found(mesh, control::Severity::kWarning).empty());
  CHECK_THAT(found(mesh, control::Severity::kInfo), Contains("as many values as clients send"));
}

TEST_CASE("more specific layers override field by field", "[waypoint-2.9]") {
  auto tag = [](const std::string& value) {
    return "metrics: [{overrides: [{tagOverrides: {who: {value: \"'" + value + "'\"}, " + value +
           ": {value: \"'x'\"}}}]}]}";
  };
  std::string root = telemetry("{" + tag("root"), "istio-system");
  std::string ns = telemetry("{" + tag("ns"));
  std::string gateway = telemetry("{" + kOnGateway + tag("gateway"), "shop", "g");
  std::string service = telemetry("{" + kOnService + tag("service"), "shop", "s");
  auto who = [](const model::Telemetry& out) { return out.metrics.at(0).tags.at("who"); };
  CHECK(who(compiled(root)) == "'root'");
  CHECK(who(compiled(root + ns)) == "'ns'");
  CHECK(who(compiled(root + ns + gateway)) == "'gateway'");
  auto all = compiled(root + ns + service + gateway);
  CHECK(who(all) == "'service'");
  CHECK(all.metrics.at(0).tags.size() == 5);  // who, and one of each layer
  CHECK(compiled(telemetry("{" + tag("x"), "other")) == model::Telemetry{});
}

TEST_CASE("in one place the oldest counts, for each part by itself", "[waypoint-2.9]") {
  auto metrics = telemetry("{metrics: [{overrides: [{disabled: true}]}]}", "shop", "b");
  auto more = telemetry("{metrics: [{overrides: [{tagOverrides: {z: {value: \"'z'\"}}}]}]}", "shop", "c");
  auto logs = telemetry("{accessLogging: [{providers: [{name: envoy}]}]}", "shop", "d");
  auto mesh = compile_yaml(kMesh + metrics + more + logs);
  CHECK(of(mesh).metrics == std::vector<model::MetricOverride>{{"", true, {}}});
  CHECK(of(mesh).access_logs.size() == 1);
  CHECK_THAT(found(mesh, control::Severity::kWarning), Contains("that of shop/b at the same place is older"));
}

TEST_CASE("expressions are checked before they are sent", "[waypoint-2.9]") {
  auto tag = [](const std::string& text) {
    return telemetry("{metrics: [{overrides: [{tagOverrides: {t: {value: \"" + text + "\"}}}]}]}");
  };
  CHECK(compiled(tag("request.host ==")).metrics.empty());
  CHECK_THAT(warned(tag("request.host ==")), Contains("tag t: no effect: expression"));
  CHECK_THAT(warned(tag("node.id")), Contains("nothing is called node.id"));
  CHECK(warned(tag("request.host")).empty());
  CHECK_THAT(warned(telemetry("{metrics: [{overrides: [{match: {customMetric: hits}, disabled: true}]}]}")),
             Contains("there is no metric hits"));
  CHECK_THAT(
      warned(telemetry("{metrics: [{providers: [{name: stackdriver}], overrides: [{disabled: true}]}]}")),
      Contains("no provider of type prometheus"));
}

TEST_CASE("access logs: filters, providers and switching off", "[waypoint-2.9]") {
  using Rules = std::vector<model::AccessLogRule>;
  std::string filter = "accessLogging: [{filter: {expression: \"response.code >= 500\"}}]";
  CHECK(compiled(telemetry("{" + filter + "}")).access_logs == Rules{{true, "response.code >= 500"}});
  CHECK(compiled(telemetry("{accessLogging: [{disabled: true}]}")).access_logs == Rules{{false, ""}});
  CHECK(
      compiled(telemetry("{accessLogging: [{match: {mode: CLIENT}, disabled: true}]}")).access_logs.empty());
  // The service's own word switches on again, with the filter of its namespace.
  CHECK(compiled(telemetry("{accessLogging: [{disabled: true, filter: {expression: \"connection.mtls\"}}]}") +
                 telemetry("{" + kOnService + "accessLogging: [{disabled: false}]}", "shop", "s"))
            .access_logs == Rules{{true, "connection.mtls"}});
  // Its own provider replaces that of its namespace.
  CHECK(compiled(mesh_config("{extensionProviders: [{name: file, envoyFileAccessLog: {}}]}") +
                 telemetry("{" + filter + "}") +
                 telemetry("{" + kOnService + "accessLogging: [{providers: [{name: file}]}]}", "shop", "s"))
            .access_logs == Rules{{true, ""}});
  // One that cannot be read hides nothing.
  CHECK(compiled(telemetry("{accessLogging: [{filter: {expression: \"response.code >=\"}}]}")).access_logs ==
        Rules{{true, ""}});
  std::string unknown = telemetry("{accessLogging: [{providers: [{name: loki}]}]}");
  CHECK(compiled(unknown).access_logs.empty());
  CHECK_THAT(warned(unknown), Contains("extensionProviders has no loki"));
  std::string file =
      mesh_config("{extensionProviders: [{name: loki, envoyFileAccessLog: {path: /tmp/log}}]}");
  CHECK(compiled(file + unknown).access_logs == Rules{{true, ""}});
  CHECK_THAT(warned(file + unknown), Contains("lines go to /dev/stdout"));
}

TEST_CASE("spans go to the provider that meshConfig defines", "[waypoint-5.5]") {
  std::string ask = telemetry("{tracing: [{providers: [{name: jaeger}], randomSamplingPercentage: 50}]}");
  auto zipkin = compiled(ask + mesh_config("{extensionProviders: [{name: jaeger, zipkin: {service: "
                                           "obs/collector, port: 9000, path: /in, traceContextOption: "
                                           "USE_B3_WITH_W3C_PROPAGATION, timeout: 2s, headers: [{name: "
                                           "X-Key, envName: KEY}]}}]}"));
  REQUIRE(zipkin.trace);
  CHECK(zipkin.trace->protocol == model::TraceRule::Protocol::kZipkin);
  CHECK(zipkin.trace->host == "collector.obs.svc.cluster.local");
  CHECK(zipkin.trace->port == 9000);
  CHECK(zipkin.trace->path == "/in");
  CHECK(zipkin.trace->with_w3c);
  CHECK(zipkin.trace->timeout == std::chrono::seconds(2));
  CHECK(zipkin.trace->headers.at("x-key") == model::TraceTag{model::TraceTag::Kind::kEnvironment, "KEY", ""});
  CHECK(zipkin.trace->sampling_percent == 50);
  auto otel = compiled(ask + mesh_config("{extensionProviders: [{name: jaeger, opentelemetry: {service: "
                                         "otel.obs.svc, port: 4318, http: {path: /v1/traces}}}]}"));
  REQUIRE(otel.trace);
  CHECK(otel.trace->protocol == model::TraceRule::Protocol::kOtlpHttp);
  CHECK(otel.trace->host == "otel.obs.svc.cluster.local");
  std::string wrong = mesh_config("{extensionProviders: [{name: jaeger, prometheus: {}}]}");
  CHECK_FALSE(compiled(ask + wrong).trace);
  CHECK_THAT(warned(ask + wrong), Contains("takes no spans"));
}

TEST_CASE("a provider that nobody defines has a conventional collector", "[waypoint-5.5]") {
  struct Row {
    std::string provider, host;
    model::TraceRule::Protocol protocol;
    uint16_t port;
    std::string path;
  };
  using Protocol = model::TraceRule::Protocol;
  for (const Row& row : {Row{"jaeger", "jaeger-collector", Protocol::kZipkin, 9411, "/api/v2/spans"},
                         Row{"zipkin", "zipkin", Protocol::kZipkin, 9411, "/api/v2/spans"},
                         Row{"otel-tracing", "opentelemetry-collector", Protocol::kOtlpGrpc, 4317, ""},
                         Row{"opentelemetry", "opentelemetry-collector", Protocol::kOtlpGrpc, 4317, ""}}) {
    INFO(row.provider);
    auto mesh = compile_yaml(kMesh + telemetry("{tracing: [{providers: [{name: " + row.provider + "}]}]}"));
    REQUIRE(of(mesh).trace);
    CHECK(of(mesh).trace->host == row.host + ".istio-system.svc.cluster.local");
    CHECK(of(mesh).trace->protocol == row.protocol);
    CHECK(of(mesh).trace->port == row.port);
    CHECK(of(mesh).trace->path == row.path);
    CHECK(of(mesh).trace->sampling_percent == 1);
    CHECK_THAT(found(mesh, control::Severity::kInfo), Contains("--trace-collector " + row.provider));
  }
  std::string unknown = telemetry("{tracing: [{providers: [{name: lightstep}]}]}");
  CHECK_FALSE(compiled(unknown).trace);
  CHECK_THAT(warned(unknown), Contains("has no provider lightstep"));
  CHECK_THAT(warned(telemetry("{tracing: [{randomSamplingPercentage: 5}]}")), Contains("names no provider"));
}

TEST_CASE("culvertd may be told where a provider's collector is", "[waypoint-5.5]") {
  control::CompileOptions options;
  options.trace_collectors["jaeger"] = *control::parse_trace_collector("otlp-http://10.0.0.9/v1/traces");
  auto mesh = compile_yaml(kMesh + telemetry("{tracing: [{providers: [{name: jaeger}]}]}"), nullptr, options);
  REQUIRE(of(mesh).trace);
  CHECK(of(mesh).trace->protocol == model::TraceRule::Protocol::kOtlpHttp);
  CHECK(of(mesh).trace->host == "10.0.0.9");
  CHECK(of(mesh).trace->port == 4318);
}

TEST_CASE("a collector's URL", "[waypoint-5.5]") {
  using Protocol = model::TraceRule::Protocol;
  auto zipkin = control::parse_trace_collector("zipkin://[fd00::1]:1/x");
  REQUIRE(zipkin);
  CHECK(zipkin->host == "fd00::1");
  CHECK(zipkin->port == 1);
  CHECK(zipkin->path == "/x");
  CHECK(control::parse_trace_collector("zipkin://z")->path == "/api/v2/spans");
  CHECK(control::parse_trace_collector("otlp://o:99")->protocol == Protocol::kOtlpGrpc);
  for (const char* bad : {"http://z", "zipkin://", "zipkin://:9", "zipkin://a:0", "zipkin://a:b",
                          "otlp://a/x", "zipkin://[a]:1", "zipkin://[::1", "zipkin://[::1]x"}) {
    INFO(bad);
    CHECK_FALSE(control::parse_trace_collector(bad));
  }
}

TEST_CASE("sampling, tags and reporting of spans", "[waypoint-5.5]") {
  auto rule = compiled(mesh_config("{defaultProviders: {tracing: [zipkin]}, defaultConfig: {tracing: "
                                   "{sampling: 7, customTags: {old: {literal: {value: o}}}}}}") +
                       telemetry(R"({tracing: [{customTags: {a: {literal: {value: b}},
    h: {header: {name: X-H, defaultValue: none}}, e: {environment: {name: E}}, f: {formatter: {value: "%X%"}}},
    useRequestIdForTraceSampling: false, enableIstioTags: false, disableSpanReporting: true,
    disableContextPropagation: true}]})"))
                  .trace;
  REQUIRE(rule);
  using Tag = model::TraceTag;
  CHECK(rule->sampling_percent == 7);
  CHECK(rule->tags == std::map<std::string, Tag>{{"a", {Tag::Kind::kLiteral, "b", ""}},
                                                 {"e", {Tag::Kind::kEnvironment, "E", ""}},
                                                 {"h", {Tag::Kind::kHeader, "x-h", "none"}}});
  CHECK_FALSE(rule->request_id_decides);
  CHECK_FALSE(rule->istio_tags);
  CHECK(rule->disabled);
  CHECK_FALSE(rule->propagate);
  // The mesh's default provider traces without any Telemetry.
  auto plain = compiled(mesh_config("{defaultProviders: {tracing: [zipkin]}}")).trace;
  REQUIRE(plain);
  CHECK(plain->sampling_percent == 1);
  CHECK(plain->propagate);
  auto old = compiled(mesh_config("{enableTracing: true, defaultConfig: {tracing: {zipkin: {address: "
                                  "\"zipkin.obs.svc:9411\"}}}}"))
                 .trace;
  REQUIRE(old);
  CHECK(old->host == "zipkin.obs.svc.cluster.local");
}

TEST_CASE("Telemetry that nothing feels is said", "[waypoint-2.9]") {
  CHECK_THAT(warned(telemetry("{selector: {matchLabels: {app: api}}, metrics: [{overrides: []}]}")),
             Contains("no Telemetry with a selector"));
  CHECK_THAT(warned(telemetry("{metrics: [{overrides: []}]}", "other")),
             Contains("no service of namespace other has a waypoint"));
  CHECK_THAT(warned(telemetry("{targetRefs: [{kind: Service, group: \"\", name: web}], tracing: []}")),
             Contains("targetRefs names no Service"));
}

}  // namespace culvert::test
