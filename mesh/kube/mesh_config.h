// SPDX-License-Identifier: Apache-2.0
// MeshConfig, with ProxyConfig inside, and the objects that carry them: IstioOperator, ProxyConfig, the
// ConfigMap "istio" (spec waypoint sections 1.6, 2.9, 5.4, 5.5). Fields that upstream knows and the mesh does
// not act on are kept by name, so that lint can say so.
#pragma once

#include "mesh/kube/destination_rule.h"
#include "mesh/kube/extension_provider.h"
#include "mesh/kube/telemetry.h"
#include "mesh/kube/virtual_service.h"

namespace culvert::kube {

// Upstream's ProxyConfig message: of meshConfig.defaultConfig and of the annotation proxy.istio.io/config.
struct ProxySettings {
  enum class ForwardClientCert : unsigned char {
    kUndefined,
    kSanitize,
    kForwardOnly,
    kAppendForward,
    kSanitizeSet,
    kAlwaysForwardOnly,
  };
  struct Tracing {
    std::string zipkin_address;  // "host:port"; empty: none
    std::optional<double> sampling;
    uint32_t max_path_tag_length = 256;
    std::map<std::string, CustomTag> custom_tags;
    std::optional<bool> enable_istio_tags;
  };
  // Of proxyHeaders; each knob not given is upstream's default.
  struct Headers {
    ForwardClientCert forwarded_client_cert = ForwardClientCert::kUndefined;
    // setCurrentClientCertDetails.
    std::optional<bool> cert_subject, cert_cert, cert_chain, cert_dns, cert_uri;
    bool request_id_disabled = false;
    bool server_disabled = false;
    std::string server_value;
    bool attempt_count_disabled = false;
    bool envoy_debug_headers_disabled = false;
    bool metadata_exchange_in_mesh = false;  // metadataExchangeHeaders.mode: IN_MESH
    bool preserve_http1_header_case = false;
    bool x_forwarded_host = false;
    bool x_forwarded_port = false;
  };
  std::optional<uint32_t> concurrency;  // 0: all cores
  base::Duration drain = std::chrono::seconds(45);
  base::Duration termination_drain = std::chrono::seconds(5);
  uint16_t status_port = 15020;
  std::optional<Tracing> tracing;
  Headers headers;
  uint32_t trusted_proxies = 0;  // gatewayTopology.numTrustedProxies
  std::map<std::string, std::string> metadata;
  std::vector<std::string> unused;  // fields upstream knows and we do not act on
};

struct MeshConfig {
  enum class Outbound : unsigned char { kAllowAny, kRegistryOnly };
  enum class PathNormalization : unsigned char { kDefault, kNone, kBase, kMergeSlashes, kDecodeAndMerge };
  struct DefaultProviders {
    std::vector<std::string> metrics, tracing, access_logging;
  };
  std::string access_log_file;  // empty: off
  std::string access_log_format;
  bool access_log_json = false;
  Outbound outbound = Outbound::kAllowAny;
  bool enable_auto_mtls = true;
  base::Duration connect_timeout = std::chrono::seconds(10);
  std::optional<TcpKeepalive> tcp_keepalive;
  bool h2_upgrade = false;  // h2UpgradePolicy: UPGRADE
  PathNormalization path_normalization = PathNormalization::kDefault;
  std::optional<HttpRetries> default_http_retries;
  std::vector<ExtensionProvider> extension_providers;  // of different names
  DefaultProviders default_providers;
  bool enable_tracing = false;
  ProxySettings proxy;  // defaultConfig
  std::string trust_domain = "cluster.local";
  std::vector<std::string> trust_domain_aliases;
  std::optional<LocalityLb> locality;  // not given: enabled
  std::string root_namespace = "istio-system";
  base::Duration hbone_idle_timeout = std::chrono::hours(1);
  base::Duration dns_refresh_rate = std::chrono::seconds(60);
  // Empty: all. Defaults for objects that leave exportTo out.
  std::vector<std::string> default_service_export_to, default_virtual_service_export_to,
      default_destination_rule_export_to;
  bool allow_client_retry_hints = false;  // ours
  std::vector<std::string> unused;        // fields upstream knows and we do not act on
  int line = 0;
};

struct IstioOperator {
  Meta meta;
  std::optional<MeshConfig> mesh;
  std::vector<std::string> installer_only;  // "spec.components", "spec.profile", ...
};

// The object of that name, which is smaller than the message.
struct ProxyConfig {
  Meta meta;
  std::optional<Labels> selector;
  std::optional<uint32_t> concurrency;
  std::map<std::string, std::string> environment;
  std::string image_type;
};

}  // namespace culvert::kube
