// SPDX-License-Identifier: Apache-2.0
// MeshConfig, ProxyConfig and IstioOperator, strictly (spec waypoint sections 1.6, 2.9, 5.4, 5.5).
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "mesh/kube/decode.h"
#include "mesh/kube/decode_fields.h"
#include "mesh/kube/decode_kinds.h"

namespace culvert::kube {

namespace {

// Fields of `at` that are in `names`: told of, and kept by name.
void keep_unused(const Cursor& at, std::initializer_list<std::string_view> names,
                 std::vector<std::string>& out) {
  for (const auto& [key, value] : at.fields()) {
    if (std::find(names.begin(), names.end(), key) == names.end()) continue;
    value.note("is not acted on");
    out.push_back(key);
  }
}

std::string decode_trust_domain(const Cursor& at, const std::string& fallback) {
  std::string text = at.text(fallback);
  // It becomes part of every identity.
  bool good =
      !text.empty() && text.size() <= 253 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
        return std::islower(c) || std::isdigit(c) || c == '-' || c == '_' || c == '.';
      });
  if (!good)
    at.fail(
        fmt::format("\"{}\" is not a trust domain (small letters, digits, \"-\", \"_\" and \".\")", text));
  return text;
}

ProxySettings::Headers decode_proxy_headers(const Cursor& at) {
  at.only({"forwardedClientCert", "setCurrentClientCertDetails", "requestId", "server", "attemptCount",
           "envoyDebugHeaders", "metadataExchangeHeaders", "preserveHttp1HeaderCase", "xForwardedHost",
           "xForwardedPort"});
  using Cert = ProxySettings::ForwardClientCert;
  ProxySettings::Headers out;
  out.forwarded_client_cert = decode_choice<Cert>(at.at("forwardedClientCert"), Cert::kUndefined,
                                                  {{"UNDEFINED", Cert::kUndefined},
                                                   {"SANITIZE", Cert::kSanitize},
                                                   {"FORWARD_ONLY", Cert::kForwardOnly},
                                                   {"APPEND_FORWARD", Cert::kAppendForward},
                                                   {"SANITIZE_SET", Cert::kSanitizeSet},
                                                   {"ALWAYS_FORWARD_ONLY", Cert::kAlwaysForwardOnly}});
  Cursor details = at.at("setCurrentClientCertDetails");
  details.only({"subject", "cert", "chain", "dns", "uri"});
  out.cert_subject = decode_flag(details.at("subject"));
  out.cert_cert = decode_flag(details.at("cert"));
  out.cert_chain = decode_flag(details.at("chain"));
  out.cert_dns = decode_flag(details.at("dns"));
  out.cert_uri = decode_flag(details.at("uri"));
  for (auto [key, disabled] : {std::pair("requestId", &out.request_id_disabled),
                               std::pair("attemptCount", &out.attempt_count_disabled),
                               std::pair("envoyDebugHeaders", &out.envoy_debug_headers_disabled)}) {
    at.at(key).only({"disabled"});
    *disabled = at.at(key).at("disabled").flag();
  }
  for (auto [key, enabled] : {std::pair("xForwardedHost", &out.x_forwarded_host),
                              std::pair("xForwardedPort", &out.x_forwarded_port)}) {
    at.at(key).only({"enabled"});
    *enabled = at.at(key).at("enabled").flag();
  }
  at.at("server").only({"disabled", "value"});
  out.server_disabled = at.at("server").at("disabled").flag();
  out.server_value = at.at("server").at("value").text();
  check_header_value(at.at("server").at("value"), out.server_value);
  at.at("metadataExchangeHeaders").only({"mode"});
  out.metadata_exchange_in_mesh = decode_choice<bool>(at.at("metadataExchangeHeaders").at("mode"), false,
                                                      {{"UNDEFINED", false}, {"IN_MESH", true}});
  out.preserve_http1_header_case = at.at("preserveHttp1HeaderCase").flag();
  return out;
}

ProxySettings::Tracing decode_tracing(const Cursor& at, std::vector<std::string>& unused) {
  static constexpr std::initializer_list<std::string_view> kUnused = {"lightstep", "datadog", "stackdriver",
                                                                      "openCensusAgent", "tlsSettings"};
  at.only({"zipkin", "sampling", "maxPathTagLength", "customTags", "enableIstioTags"}, kUnused);
  ProxySettings::Tracing out;
  at.at("zipkin").only({"address"});
  out.zipkin_address = at.at("zipkin").at("address").text();
  if (!at.at("sampling").absent()) out.sampling = decode_number(at.at("sampling"), 0, 100, 0);
  out.max_path_tag_length = decode_count(at.at("maxPathTagLength"), out.max_path_tag_length, 1 << 16);
  out.custom_tags = decode_custom_tags(at.at("customTags"));
  out.enable_istio_tags = decode_flag(at.at("enableIstioTags"));
  keep_unused(at, kUnused, unused);
  return out;
}

ProxySettings decode_proxy_settings(const Cursor& at) {
  static constexpr std::initializer_list<std::string_view> kUnused = {"configPath",
                                                                      "binaryPath",
                                                                      "customConfigFile",
                                                                      "serviceCluster",
                                                                      "parentShutdownDuration",
                                                                      "discoveryAddress",
                                                                      "discoveryRefreshDelay",
                                                                      "zipkinAddress",
                                                                      "statsdUdpAddress",
                                                                      "envoyMetricsServiceAddress",
                                                                      "proxyAdminPort",
                                                                      "availabilityZone",
                                                                      "controlPlaneAuthPolicy",
                                                                      "statNameLength",
                                                                      "proxyBootstrapTemplatePath",
                                                                      "interceptionMode",
                                                                      "sds",
                                                                      "envoyAccessLogService",
                                                                      "envoyMetricsService",
                                                                      "runtimeValues",
                                                                      "extraStatTags",
                                                                      "meshId",
                                                                      "readinessProbe",
                                                                      "proxyStatsMatcher",
                                                                      "holdApplicationUntilProxyStarts",
                                                                      "caCertificatesPem",
                                                                      "image",
                                                                      "privateKeyProvider",
                                                                      "fileFlushInterval",
                                                                      "fileFlushMinSizeKb",
                                                                      "statsCompression"};
  at.only({"concurrency", "drainDuration", "terminationDrainDuration", "statusPort", "tracing",
           "proxyHeaders", "gatewayTopology", "proxyMetadata"},
          kUnused);
  ProxySettings out;
  if (!at.at("concurrency").absent()) out.concurrency = decode_count(at.at("concurrency"), 0, 1024);
  out.drain = decode_duration(at.at("drainDuration"), out.drain);
  out.termination_drain = decode_duration(at.at("terminationDrainDuration"), out.termination_drain);
  if (!at.at("statusPort").absent()) out.status_port = decode_port(at.at("statusPort"));
  if (!at.at("tracing").absent()) out.tracing = decode_tracing(at.at("tracing"), out.unused);
  out.headers = decode_proxy_headers(at.at("proxyHeaders"));
  Cursor topology = at.at("gatewayTopology");
  topology.only({"numTrustedProxies"}, {"forwardClientCertDetails", "proxyProtocol"});
  out.trusted_proxies = decode_count(topology.at("numTrustedProxies"), 0, 100);
  keep_unused(topology, {"forwardClientCertDetails", "proxyProtocol"}, out.unused);
  out.metadata = at.at("proxyMetadata").labels();
  keep_unused(at, kUnused, out.unused);
  return out;
}

void decode_mesh_log_fields(const Cursor& at, MeshConfig& out) {
  out.access_log_file = at.at("accessLogFile").text();
  out.access_log_format = at.at("accessLogFormat").text();
  out.access_log_json =
      decode_choice<bool>(at.at("accessLogEncoding"), false, {{"TEXT", false}, {"JSON", true}});
  out.enable_tracing = at.at("enableTracing").flag();
  std::set<std::string> names;
  for (const Cursor& item : at.at("extensionProviders").items()) {
    out.extension_providers.push_back(decode_extension_provider(item));
    const std::string& name = out.extension_providers.back().name;
    if (!names.insert(name).second) item.at("name").fail(fmt::format("\"{}\" is given twice", name));
  }
  Cursor defaults = at.at("defaultProviders");
  defaults.only({"metrics", "tracing", "accessLogging"});
  out.default_providers = {defaults.at("metrics").texts(), defaults.at("tracing").texts(),
                           defaults.at("accessLogging").texts()};
}

void decode_mesh_traffic_fields(const Cursor& at, MeshConfig& out) {
  using Outbound = MeshConfig::Outbound;
  at.at("outboundTrafficPolicy").only({"mode"});
  out.outbound = decode_choice<Outbound>(
      at.at("outboundTrafficPolicy").at("mode"), Outbound::kAllowAny,
      {{"ALLOW_ANY", Outbound::kAllowAny}, {"REGISTRY_ONLY", Outbound::kRegistryOnly}});
  Cursor mtls = at.at("enableAutoMtls"), capitals = at.at("enableAutoMTLS");
  if (!capitals.absent()) {
    if (!mtls.absent()) capitals.fail("is given as enableAutoMtls too");
    capitals.note("is taken; the API writes enableAutoMtls");
  }
  out.enable_auto_mtls = capitals.absent() ? mtls.flag(true) : capitals.flag(true);
  out.connect_timeout = decode_duration(at.at("connectTimeout"), out.connect_timeout);
  if (out.connect_timeout < std::chrono::milliseconds(1))
    at.at("connectTimeout").fail("must be at least 1ms");
  if (!at.at("tcpKeepalive").absent()) out.tcp_keepalive = decode_keepalive(at.at("tcpKeepalive"));
  out.h2_upgrade =
      decode_choice<bool>(at.at("h2UpgradePolicy"), false, {{"DO_NOT_UPGRADE", false}, {"UPGRADE", true}});
  using Path = MeshConfig::PathNormalization;
  at.at("pathNormalization").only({"normalization"});
  out.path_normalization = decode_choice<Path>(at.at("pathNormalization").at("normalization"), Path::kDefault,
                                               {{"DEFAULT", Path::kDefault},
                                                {"NONE", Path::kNone},
                                                {"BASE", Path::kBase},
                                                {"MERGE_SLASHES", Path::kMergeSlashes},
                                                {"DECODE_AND_MERGE_SLASHES", Path::kDecodeAndMerge}});
  if (Cursor retries = at.at("defaultHttpRetryPolicy"); !retries.absent()) {
    out.default_http_retries = decode_retries(retries);
    if (!retries.at("perTryTimeout").absent()) {
      retries.at("perTryTimeout").fail("has no place in the mesh's default; write it in a VirtualService");
    }
  }
  if (!at.at("localityLbSetting").absent()) out.locality = decode_locality_lb(at.at("localityLbSetting"));
  out.hbone_idle_timeout = decode_duration(at.at("hboneIdleTimeout"), out.hbone_idle_timeout);
  out.dns_refresh_rate = decode_duration(at.at("dnsRefreshRate"), out.dns_refresh_rate);
  out.default_service_export_to = decode_export_to(at.at("defaultServiceExportTo"));
  out.default_virtual_service_export_to = decode_export_to(at.at("defaultVirtualServiceExportTo"));
  out.default_destination_rule_export_to = decode_export_to(at.at("defaultDestinationRuleExportTo"));
  out.allow_client_retry_hints = at.at("allowClientRetryHints").flag();
}

}  // namespace

MeshConfig decode_mesh_config(const Cursor& at) {
  static constexpr std::initializer_list<std::string_view> kUnused = {"proxyListenPort",
                                                                      "proxyInboundListenPort",
                                                                      "proxyHttpPort",
                                                                      "ingressClass",
                                                                      "ingressService",
                                                                      "ingressControllerMode",
                                                                      "ingressSelector",
                                                                      "enableEnvoyAccessLogService",
                                                                      "disableEnvoyListenerLog",
                                                                      "inboundTrafficPolicy",
                                                                      "configSources",
                                                                      "caCertificates",
                                                                      "inboundClusterStatName",
                                                                      "outboundClusterStatName",
                                                                      "certificates",
                                                                      "thriftConfig",
                                                                      "serviceSettings",
                                                                      "enablePrometheusMerge",
                                                                      "verifyCertificateAtClient",
                                                                      "ca",
                                                                      "discoverySelectors",
                                                                      "meshMTLS",
                                                                      "tlsDefaults",
                                                                      "serviceScopeConfigs",
                                                                      "protocolDetectionTimeout",
                                                                      "sdsUdsPath",
                                                                      "enableSdsTokenMount"};
  at.only({"accessLogFile",
           "accessLogFormat",
           "accessLogEncoding",
           "outboundTrafficPolicy",
           "enableAutoMtls",
           "connectTimeout",
           "tcpKeepalive",
           "h2UpgradePolicy",
           "pathNormalization",
           "defaultHttpRetryPolicy",
           "extensionProviders",
           "defaultProviders",
           "enableTracing",
           "defaultConfig",
           "trustDomain",
           "trustDomainAliases",
           "localityLbSetting",
           "rootNamespace",
           "hboneIdleTimeout",
           "dnsRefreshRate",
           "defaultServiceExportTo",
           "defaultVirtualServiceExportTo",
           "defaultDestinationRuleExportTo",
           "allowClientRetryHints",
           "enableAutoMTLS"},
          kUnused);
  MeshConfig out;
  out.line = at.line();
  decode_mesh_log_fields(at, out);
  decode_mesh_traffic_fields(at, out);
  out.proxy = decode_proxy_settings(at.at("defaultConfig"));
  out.trust_domain = decode_trust_domain(at.at("trustDomain"), out.trust_domain);
  for (const Cursor& item : at.at("trustDomainAliases").items()) {
    out.trust_domain_aliases.push_back(decode_trust_domain(item, ""));
  }
  out.root_namespace = at.at("rootNamespace").text(out.root_namespace);
  if (!is_kube_name(out.root_namespace)) {
    at.at("rootNamespace").fail(fmt::format("\"{}\" is not a Kubernetes name", out.root_namespace));
  }
  keep_unused(at, kUnused, out.unused);
  return out;
}

IstioOperator decode_istio_operator(const Cursor& root, Meta meta) {
  IstioOperator out;
  out.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"meshConfig", "profile", "revision", "components", "values", "hub", "tag", "namespace",
             "installPackagePath", "compatibilityVersion", "unvalidatedValues", "resourceSuffix",
             "defaultRevision", "addonComponents"});
  if (!spec.at("meshConfig").absent()) out.mesh = decode_mesh_config(spec.at("meshConfig"));
  for (const auto& [key, value] : spec.fields()) {
    if (key != "meshConfig") out.installer_only.push_back(value.path());
  }
  return out;
}

ProxyConfig decode_proxy_config(const Cursor& root, Meta meta) {
  ProxyConfig out;
  out.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"selector", "concurrency", "environmentVariables", "image"});
  out.selector = decode_match_labels(spec.at("selector"));
  if (!spec.at("concurrency").absent()) out.concurrency = decode_count(spec.at("concurrency"), 0, 1024);
  out.environment = spec.at("environmentVariables").labels();
  spec.at("image").only({"imageType"});
  out.image_type = spec.at("image").at("imageType").text();
  return out;
}

}  // namespace culvert::kube
