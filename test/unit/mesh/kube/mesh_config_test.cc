// SPDX-License-Identifier: Apache-2.0
// MeshConfig in its three places: every field, its default, and what is refused (spec
// waypoint 1.6, 2.9, 5.4).
#include "test/unit/mesh/kube/decode_helpers.h"

using namespace culvert;
using namespace culvert::kube;
using namespace std::chrono_literals;

namespace {

const std::string kOperator = head("install.istio.io/v1alpha1", "IstioOperator");
const std::string kProxy = head("networking.istio.io/v1beta1", "ProxyConfig");

const std::string kFull =
    kOperator + R"(spec: {profile: ambient, components: { pilot: { enabled: true}}, meshConfig: {
  accessLogFile: /dev/stdout, accessLogFormat: "%START_TIME%", accessLogEncoding: JSON,
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}, enableAutoMtls: false, connectTimeout: 3s,
  tcpKeepalive: {probes: 1, time: 2s, interval: 3s}, h2UpgradePolicy: UPGRADE,
  pathNormalization: {normalization: MERGE_SLASHES}, defaultHttpRetryPolicy: {attempts: 5, retryOn: 5xx},
  defaultProviders: {metrics: [prom], tracing: [zip], accessLogging: [file]}, enableTracing: true,
  trustDomain: td.example, trustDomainAliases: [old.example], rootNamespace: root,
  localityLbSetting: {enabled: false}, hboneIdleTimeout: 5m, dnsRefreshRate: 7s,
  defaultServiceExportTo: ["*"], defaultVirtualServiceExportTo: ["."], defaultDestinationRuleExportTo: [a],
  allowClientRetryHints: true, ingressClass: istio, enablePrometheusMerge: true,
  defaultConfig: {concurrency: 2, drainDuration: 1s, terminationDrainDuration: 2s, statusPort: 1,
    tracing: {zipkin: {address: "zipkin:9411"}, sampling: 10, maxPathTagLength: 99, enableIstioTags: true,
              customTags: { a: {literal: {value: b}}}},
    proxyHeaders: {forwardedClientCert: SANITIZE, setCurrentClientCertDetails: {subject: true, cert: false,
        chain: true, dns: true, uri: true}, requestId: {disabled: true}, server: {disabled: false, value: s},
      attemptCount: {disabled: true}, envoyDebugHeaders: {disabled: true},
      metadataExchangeHeaders: {mode: IN_MESH}, preserveHttp1HeaderCase: true, xForwardedHost: {enabled: true},
      xForwardedPort: {enabled: true}},
    gatewayTopology: {numTrustedProxies: 2}, proxyMetadata: { K: V}, holdApplicationUntilProxyStarts: true},
  extensionProviders: [
    {name: zip, zipkin: {service: ns/zipkin.example, port: 9411, maxTagLength: 1, enable64bitTraceId: true,
      path: /z, timeout: 1s, headers: [{name: h, value: v}, {name: e, envName: E}],
      traceContextOption: USE_B3_WITH_W3C_PROPAGATION}},
    {name: otlp, opentelemetry: {service: otel, port: 4317, maxTagLength: 2, grpc: {timeout: 2s,
      initialMetadata: [{name: a, value: b}]}, resourceDetectors: {environment: { }},
      serviceAttributeEnrichment: OTEL_SEMANTIC_CONVENTIONS}},
    {name: otlp-http, opentelemetry: {service: otel, port: 4318, http: {path: /t, timeout: 3s,
      headers: [{name: c, value: d}]}}},
    {name: prom, prometheus: {}},
    {name: file, envoyFileAccessLog: {path: /log, omitEmptyValues: true, logFormat: {labels: { a: "%X%",
      b: { c: "%Y%"}}}}},
    {name: als, envoyOtelAls: {service: otel, port: 4317, logName: n, logFormat: {text: t, labels: { a: b}}}},
    {name: authz, envoyExtAuthzGrpc: {service: authz, port: 9000, timeout: 1s, failOpen: true,
      clearRouteCache: true, statusOnError: 500,
      includeRequestBodyInCheck: {maxRequestBytes: 1024, allowPartialMessage: true, packAsBytes: true}}},
    {name: authz-http, envoyExtAuthzHttp: {service: authz, port: 8000, pathPrefix: /check,
      includeRequestHeadersInCheck: [x-a, "x-b*"], includeAdditionalHeadersInCheck: { x-c: d},
      headersToUpstreamOnAllow: [x-e], headersToDownstreamOnAllow: [x-f], headersToDownstreamOnDeny: [x-g]}},
    {name: sky, skywalking: { service: s, port: 1}}]}}
)";

MeshConfig mesh_of(const std::string& fields) {
  return *only<IstioOperator>(kOperator + "spec: {meshConfig: {" + fields + "}}").mesh;
}

}  // namespace

TEST_CASE("MeshConfig: every field", "[1.6]") {
  auto installed = only<IstioOperator>(kFull);
  CHECK(installed.installer_only == Strings{"spec.profile", "spec.components"});
  const MeshConfig& mesh = *installed.mesh;
  CHECK(mesh.access_log_file == "/dev/stdout");
  CHECK(mesh.access_log_format == "%START_TIME%");
  CHECK(mesh.access_log_json);
  CHECK(mesh.outbound == MeshConfig::Outbound::kRegistryOnly);
  CHECK_FALSE(mesh.enable_auto_mtls);
  CHECK(mesh.connect_timeout == 3s);
  CHECK(mesh.tcp_keepalive->probes == 1);
  CHECK(mesh.h2_upgrade);
  CHECK(mesh.path_normalization == MeshConfig::PathNormalization::kMergeSlashes);
  CHECK(mesh.default_http_retries->attempts == 5);
  CHECK(mesh.default_http_retries->retry_on == Strings{"5xx"});
  CHECK(mesh.default_providers.metrics == Strings{"prom"});
  CHECK(mesh.default_providers.tracing == Strings{"zip"});
  CHECK(mesh.default_providers.access_logging == Strings{"file"});
  CHECK(mesh.enable_tracing);
  CHECK(mesh.trust_domain == "td.example");
  CHECK(mesh.trust_domain_aliases == Strings{"old.example"});
  CHECK(mesh.root_namespace == "root");
  CHECK(mesh.locality->enabled == false);
  CHECK(mesh.hbone_idle_timeout == 5min);
  CHECK(mesh.dns_refresh_rate == 7s);
  CHECK(mesh.default_service_export_to == Strings{"*"});
  CHECK(mesh.default_virtual_service_export_to == Strings{"."});
  CHECK(mesh.default_destination_rule_export_to == Strings{"a"});
  CHECK(mesh.allow_client_retry_hints);
  CHECK(mesh.unused == Strings{"ingressClass", "enablePrometheusMerge"});
  const ProxySettings& proxy = mesh.proxy;
  CHECK(proxy.concurrency == 2u);
  CHECK(proxy.drain == 1s);
  CHECK(proxy.termination_drain == 2s);
  CHECK(proxy.status_port == 1);
  CHECK(proxy.tracing->zipkin_address == "zipkin:9411");
  CHECK(proxy.tracing->sampling == 10);
  CHECK(proxy.tracing->max_path_tag_length == 99);
  CHECK(proxy.tracing->custom_tags.at("a").value == "b");
  CHECK(proxy.headers.forwarded_client_cert == ProxySettings::ForwardClientCert::kSanitize);
  CHECK(proxy.headers.cert_subject == true);
  CHECK(proxy.headers.cert_cert == false);
  CHECK(proxy.headers.request_id_disabled);
  CHECK(proxy.headers.server_value == "s");
  CHECK_FALSE(proxy.headers.server_disabled);
  CHECK(proxy.headers.attempt_count_disabled);
  CHECK(proxy.headers.envoy_debug_headers_disabled);
  CHECK(proxy.headers.metadata_exchange_in_mesh);
  CHECK(proxy.headers.preserve_http1_header_case);
  CHECK(proxy.headers.x_forwarded_host);
  CHECK(proxy.headers.x_forwarded_port);
  CHECK(proxy.trusted_proxies == 2);
  CHECK(proxy.metadata.at("K") == "V");
  CHECK(proxy.unused == Strings{"holdApplicationUntilProxyStarts"});
}

TEST_CASE("MeshConfig: defaults", "[1.6]") {
  MeshConfig mesh = mesh_of("");
  CHECK(mesh.access_log_file.empty());
  CHECK_FALSE(mesh.access_log_json);
  CHECK(mesh.outbound == MeshConfig::Outbound::kAllowAny);
  CHECK(mesh.enable_auto_mtls);
  CHECK(mesh.connect_timeout == 10s);
  CHECK(mesh.trust_domain == "cluster.local");
  CHECK(mesh.root_namespace == "istio-system");
  CHECK(mesh.hbone_idle_timeout == 1h);
  CHECK(mesh.proxy.drain == 45s);
  CHECK(mesh.proxy.termination_drain == 5s);
  CHECK(mesh.proxy.status_port == 15020);
  CHECK(mesh.proxy.trusted_proxies == 0);
  CHECK_FALSE(mesh.default_http_retries);
  CHECK_FALSE(mesh.allow_client_retry_hints);
  CHECK_FALSE(only<IstioOperator>(kOperator + "spec: {profile: demo}").mesh);
}

TEST_CASE("MeshConfig: extension providers", "[2.6.6][2.9]") {
  auto providers = only<IstioOperator>(kFull).mesh->extension_providers;
  REQUIRE(providers.size() == 9);
  const auto& zipkin = std::get<ZipkinProvider>(providers[0].config);
  CHECK(zipkin.service.service == "ns/zipkin.example");
  CHECK(zipkin.service.port == 9411);
  CHECK(zipkin.path == "/z");
  CHECK(zipkin.max_tag_length == 1);
  CHECK(zipkin.trace_id_64_bit);
  CHECK(zipkin.with_w3c);
  CHECK(zipkin.timeout == 1s);
  CHECK(zipkin.headers.at(0).value == "v");
  CHECK(zipkin.headers.at(1).env == "E");
  const auto& otlp = std::get<OpenTelemetryProvider>(providers[1].config);
  CHECK_FALSE(otlp.http);
  CHECK(otlp.timeout == 2s);
  CHECK(otlp.headers.at(0).name == "a");
  CHECK(otlp.environment_resource);
  CHECK(otlp.semantic_service_name);
  const auto& http = std::get<OpenTelemetryProvider>(providers[2].config);
  CHECK(http.http);
  CHECK(http.path == "/t");
  CHECK(http.timeout == 3s);
  CHECK(http.headers.at(0).name == "c");
  CHECK_FALSE(http.environment_resource);
  CHECK(std::holds_alternative<PrometheusProvider>(providers[3].config));
  const auto& file = std::get<FileLogProvider>(providers[4].config);
  CHECK(file.path == "/log");
  CHECK(file.omit_empty_values);
  CHECK(file.format.labels == std::map<std::string, std::string>{{"a", "%X%"}, {"b.c", "%Y%"}});
  const auto& als = std::get<OtelLogProvider>(providers[5].config);
  CHECK(als.log_name == "n");
  CHECK(als.format.text == "t");
  const auto& grpc = std::get<ExtAuthzProvider>(providers[6].config);
  CHECK_FALSE(grpc.http);
  CHECK(grpc.timeout == 1s);
  CHECK(grpc.fail_open);
  CHECK(grpc.clear_route_cache);
  CHECK(grpc.status_on_error == 500);
  CHECK(grpc.body->max_bytes == 1024);
  CHECK(grpc.body->allow_partial);
  CHECK(grpc.body->as_bytes);
  const auto& authz = std::get<ExtAuthzProvider>(providers[7].config);
  CHECK(authz.http);
  CHECK(authz.path_prefix == "/check");
  CHECK(authz.request_headers == Strings{"x-a", "x-b*"});
  CHECK(authz.additional_headers == std::vector<HeaderValue>{{"x-c", "d"}});
  CHECK(authz.headers_to_upstream_on_allow == Strings{"x-e"});
  CHECK(authz.headers_to_downstream_on_allow == Strings{"x-f"});
  CHECK(authz.headers_to_downstream_on_deny == Strings{"x-g"});
  CHECK_FALSE(authz.fail_open);
  CHECK(authz.status_on_error == 403);
  CHECK(authz.timeout == 600s);
  CHECK(std::get<UnsupportedProvider>(providers[8].config).type == "skywalking");
}

TEST_CASE("MeshConfig: what the seed writes otherwise, and what nobody acts on, is noted") {
  auto seed = only<IstioOperator>(kOperator + "spec: {meshConfig: {enableAutoMTLS: false, ingressClass: a}}");
  CHECK_FALSE(seed.mesh->enable_auto_mtls);
  REQUIRE(seed.meta.notes.size() == 2);
  CHECK(seed.meta.notes[0].text == "spec.meshConfig.enableAutoMTLS: is taken; the API writes enableAutoMtls");
  CHECK(seed.meta.notes[1].text == "spec.meshConfig.ingressClass: is not acted on");
}

TEST_CASE("MeshConfig in the ConfigMap istio: errors tell the line of the file", "[5.4]") {
  const std::string map =
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n";
  auto good = only<ConfigMap>(map +
                              "data:\n  meshNetworks: 'networks: {}'\n  mesh: |\n"
                              "    accessLogFile: /dev/stdout\n    extensionProviders:\n"
                              "    - name: p\n      prometheus: {}\n");
  REQUIRE(good.mesh);
  CHECK(good.mesh->access_log_file == "/dev/stdout");
  CHECK(good.mesh->extension_providers.at(0).line == 9);
  CHECK(problems(map + "data:\n  mesh: |\n    # first\n    accessLogFile: a\n    accesLogFormat: b\n")
            .front() ==
        "8: data.mesh.accesLogFormat: unknown field; did you mean \"accessLogFormat\"? known here: " +
            problems(kOperator + "spec: {meshConfig: {q1: 1}}")
                .front()
                .substr(std::string("4: spec.meshConfig.q1: unknown field; known here: ").size()));
  CHECK(problems(map + "data:\n  mesh: 'trustDomain: A'\n")
            .front()
            .starts_with("5: data.mesh.trustDomain: \"A\" is not a trust domain"));
  CHECK(problems(map + "data:\n  mesh: |\n    a: b\n    c: [\n").front().find("data.mesh: not YAML: ") !=
        std::string::npos);
  CHECK(problems(map + "data:\n  mesh: |\n    accessLogFile: a\n    accessLogFile: b\n") ==
        Strings{"7: data.mesh: key \"accessLogFile\" is given twice"});
  CHECK(problems(map + "data: {mesh: 'text'}").front() == "4: data.mesh: must be a map");
  CHECK(problems(map + "data:\n  mesh: |\n    accessLogFile: a\n    ---\n    accessLogFile: b\n")
            .front()
            .find("data.mesh: must be one document") != std::string::npos);
  CHECK(only<ConfigMap>(map + "data: {mesh: ''}").mesh.has_value() == false);
  // Another ConfigMap's data is nobody's business.
  CHECK_FALSE(only<ConfigMap>(head("v1", "ConfigMap") + "data: {mesh: 'zzz: 1'}").mesh);
}

TEST_CASE("ProxyConfig, the object") {
  auto proxy = only<ProxyConfig>(kProxy +
                                 "spec: {selector: {matchLabels: {a: b}}, concurrency: 0, "
                                 "environmentVariables: {K: V}, image: {imageType: distroless}}");
  CHECK(proxy.selector == Labels{{"a", "b"}});
  CHECK(proxy.concurrency == 0u);
  CHECK(proxy.environment.at("K") == "V");
  CHECK(proxy.image_type == "distroless");
  check_unknown_fields(kProxy + "spec: {selector: {matchLabels: { a: b}}, image: {imageType: x}}");
}

TEST_CASE("MeshConfig: an unknown field is refused in every map of it") { check_unknown_fields(kFull); }

TEST_CASE("MeshConfig: what is refused, where, and what to write") {
#define MESH(text) "{meshConfig: {" text "}}"
#define PROVIDER(text) "{meshConfig: {extensionProviders: [{name: p, " text "}]}}"
#define M "spec.meshConfig."
#define P M "extensionProviders[0]."
  check_refused(
      kOperator,
      {{"{meshconfig: {}}", "spec.meshconfig: unknown field; did you mean \"meshConfig\"?"},
       {MESH("accessLogEncoding: json"), M "accessLogEncoding: \"json\" must be one of: TEXT, JSON"},
       {MESH("outboundTrafficPolicy: ALLOW_ANY"), M "outboundTrafficPolicy: must be a map"},
       {MESH("outboundTrafficPolicy: {mode: ANY}"),
        M "outboundTrafficPolicy.mode: \"ANY\" must be one of: ALLOW"},
       {MESH("enableAutoMTLS: true, enableAutoMtls: true"),
        M "enableAutoMTLS: is given as enableAutoMtls too"},
       {MESH("connectTimeout: 0s"), M "connectTimeout: must be at least 1ms"},
       {MESH("defaultHttpRetryPolicy: {perTryTimeout: 1s}"),
        M "defaultHttpRetryPolicy.perTryTimeout: has no place"},
       {MESH("trustDomain: ''"), M "trustDomain: \"\" is not a trust domain"},
       {MESH("trustDomain: a/ns/b"), M "trustDomain: \"a/ns/b\" is not a trust domain"},
       {MESH("rootNamespace: A"), M "rootNamespace: \"A\" is not a Kubernetes name"},
       {MESH("extensionProviders: [{prometheus: {}}]"), P "name: is missing"},
       {MESH("extensionProviders: [{name: p}]"), M "extensionProviders[0]: must have exactly one type"},
       {PROVIDER("prometheus: {}}, {name: p, prometheus: {}"),
        M "extensionProviders[1].name: \"p\" is given twice"},
       {PROVIDER("jaeger: {}"), P "jaeger: unknown field"},
       {PROVIDER("zipkin: {port: 1}"), P "zipkin.service: is missing"},
       {PROVIDER("zipkin: {service: s}"), P "zipkin.port: is missing"},
       {PROVIDER("zipkin: {service: 'a b', port: 1}"), P "zipkin.service: \"a b\" must be a host"},
       {PROVIDER("opentelemetry: {service: s, port: 1, http: {}, grpc: {}}"),
        P "opentelemetry.http: excludes grpc"},
       {PROVIDER("envoyFileAccessLog: {logFormat: {text: a, labels: {b: c}}}"),
        P "envoyFileAccessLog.logFormat: must have text or labels"},
       {PROVIDER("envoyExtAuthzGrpc: {service: s, port: 1, pathPrefix: /}"),
        P "envoyExtAuthzGrpc.pathPrefix: unknown field"},
       {PROVIDER("envoyExtAuthzHttp: {service: s, port: 1, pathPrefix: a}"),
        P "envoyExtAuthzHttp.pathPrefix: \"a\" must begin with a slash"},
       {PROVIDER("envoyExtAuthzHttp: {service: s, port: 1, includeRequestBodyInCheck: {}}"),
        P "envoyExtAuthzHttp.includeRequestBodyInCheck.maxRequestBytes: is missing"}});
#undef MESH
#undef PROVIDER
#undef M
#undef P
}
