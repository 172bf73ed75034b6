// SPDX-License-Identifier: Apache-2.0
// DestinationRule: every field, its default, and what is refused (spec waypoint 2.3).
#include "test/unit/mesh/kube/decode_helpers.h"

using namespace culvert;
using namespace culvert::kube;
using namespace std::chrono_literals;

namespace {

const std::string kRule = head("networking.istio.io/v1", "DestinationRule");

const std::string kFull = kRule + R"(spec: {
  host: "*.example.com", exportTo: ["*"], workloadSelector: {matchLabels: { app: a}},
  trafficPolicy: {
    loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 1m, minimumPercent: 20, aggression: 2},
      localityLbSetting: {enabled: true, distribute: [{from: r/z/*, to: { "r/a/*": 30, "r/b/*": 70}}]}},
    connectionPool: {
      tcp: {maxConnections: 100, connectTimeout: 3s, tcpKeepalive: {probes: 3, time: 1h, interval: 75s},
            maxConnectionDuration: 2h, idleTimeout: 0s},
      http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 4,
             idleTimeout: 5s, h2UpgradePolicy: UPGRADE, useClientProtocol: false, maxConcurrentStreams: 6,
             http2KeepAlive: {interval: 10s, timeout: 20s}}},
    outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 8,
      splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 9,
      outlierDetectionHttpErrorCodes: [500, 503], interval: 1s, baseEjectionTime: 2s, maxEjectionPercent: 50,
      minHealthPercent: 40, minRequestVolume: 10},
    tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca, subjectAltNames: [s],
          sni: sni.example.com, caCrl: /crl},
    tunnel: {protocol: POST, targetHost: t, targetPort: 3128}, proxyProtocol: {version: V2},
    retryBudget: {percent: 12.5, minRetryConcurrency: 5, budgetInterval: 10s},
    portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}, tls: {mode: DISABLE},
      connectionPool: {}, outlierDetection: {}}]},
  subsets: [{name: v1, labels: { version: v1}, trafficPolicy: {loadBalancer: {
      consistentHash: {httpCookie: {name: c, path: /, ttl: 0s, attributes: [{name: SameSite, value: Lax}]},
                       maglev: {tableSize: 131}}}}},
    {name: v2, labels: { version: v2}, trafficPolicy: {loadBalancer: {
      consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 64}},
      localityLbSetting: {failover: [{from: a, to: b}]}}}},
    {name: v3}]}
)";

LoadBalancer::ConsistentHash hash_of(const std::string& text) {
  auto rule = only<DestinationRule>(
      kRule + "spec: {host: h, trafficPolicy: {loadBalancer: {consistentHash: {" + text + "}}}}");
  return *rule.traffic_policy->load_balancer->hash;
}

}  // namespace

TEST_CASE("DestinationRule: every field", "[2.3]") {
  auto rule = only<DestinationRule>(kFull);
  CHECK(rule.host == "*.example.com");
  CHECK(rule.export_to == Strings{"*"});
  CHECK(rule.workload_selector == Labels{{"app", "a"}});
  const TrafficPolicy& policy = *rule.traffic_policy;
  using Simple = LoadBalancer::Simple;
  CHECK(policy.load_balancer->simple == Simple::kLeastRequest);
  CHECK(policy.load_balancer->warmup->duration == 1min);
  CHECK(policy.load_balancer->warmup->minimum_percent == 20);
  CHECK(policy.load_balancer->warmup->aggression == 2);
  CHECK(policy.load_balancer->locality->enabled == true);
  CHECK(policy.load_balancer->locality->distribute[0].to ==
        std::map<std::string, uint32_t>{{"r/a/*", 30}, {"r/b/*", 70}});
  const ConnectionPool& pool = *policy.connection_pool;
  CHECK(pool.tcp.max_connections == 100);
  CHECK(pool.tcp.connect_timeout == 3s);
  CHECK(pool.tcp.keepalive->probes == 3);
  CHECK(pool.tcp.keepalive->time == 1h);
  CHECK(pool.tcp.keepalive->interval == 75s);
  CHECK(pool.tcp.max_connection_duration == 2h);
  CHECK(pool.tcp.idle_timeout == 0s);
  CHECK(pool.http.http1_max_pending_requests == 1);
  CHECK(pool.http.http2_max_requests == 2);
  CHECK(pool.http.max_requests_per_connection == 3);
  CHECK(pool.http.max_retries == 4);
  CHECK(pool.http.idle_timeout == 5s);
  CHECK(pool.http.h2_upgrade == ConnectionPool::H2Upgrade::kUpgrade);
  CHECK_FALSE(pool.http.use_client_protocol);
  CHECK(pool.http.max_concurrent_streams == 6);
  CHECK(pool.http.http2_keep_alive->interval == 10s);
  CHECK(pool.http.http2_keep_alive->timeout == 20s);
  const OutlierDetection& outlier = *policy.outlier_detection;
  CHECK(outlier.consecutive_5xx_errors == 7);
  CHECK(outlier.consecutive_gateway_errors == 8);
  CHECK(outlier.split_local_origin);
  CHECK(outlier.consecutive_local_origin_failures == 9);
  CHECK(outlier.http_error_codes == std::vector<uint16_t>{500, 503});
  CHECK(outlier.interval == 1s);
  CHECK(outlier.base_ejection_time == 2s);
  CHECK(outlier.max_ejection_percent == 50);
  CHECK(outlier.min_health_percent == 40);
  CHECK(outlier.min_request_volume == 10);
  CHECK(policy.tls->mode == ClientTls::Mode::kMutual);
  CHECK(policy.tls->client_certificate == "/c");
  CHECK(policy.tls->private_key == "/k");
  CHECK(policy.tls->ca_certificates == "/ca");
  CHECK(policy.tls->ca_crl == "/crl");
  CHECK(policy.tls->sni == "sni.example.com");
  CHECK(policy.tls->subject_alt_names == Strings{"s"});
  CHECK(policy.tunnel->post);
  CHECK(policy.tunnel->target_host == "t");
  CHECK(policy.tunnel->target_port == 3128);
  CHECK(policy.proxy_protocol == 2);
  CHECK(policy.retry_budget->percent == 12.5);
  CHECK(policy.retry_budget->min_retry_concurrency == 5);
  CHECK(policy.retry_budget->interval == 10s);
  REQUIRE(policy.port_levels.contains(80));
  CHECK(policy.port_levels.at(80).load_balancer->simple == Simple::kRandom);
  CHECK(policy.port_levels.at(80).tls->mode == ClientTls::Mode::kDisable);
  REQUIRE(rule.subsets.size() == 3);
  CHECK(rule.subsets[0].labels == Labels{{"version", "v1"}});
  CHECK(rule.subsets[1].traffic_policy->load_balancer->locality->failover[0].to == "b");
  CHECK_FALSE(rule.subsets[2].traffic_policy);
}

TEST_CASE("DestinationRule: defaults of blocks that are there", "[2.3.3][2.3.4]") {
  auto rule = only<DestinationRule>(kRule +
                                    "spec: {host: h, trafficPolicy: {loadBalancer: {}, "
                                    "connectionPool: {}, outlierDetection: {maxEjectionPercent: 0}, "
                                    "proxyProtocol: {}, retryBudget: {}}}");
  const TrafficPolicy& policy = *rule.traffic_policy;
  CHECK(policy.load_balancer->simple == LoadBalancer::Simple::kUnset);
  CHECK_FALSE(policy.load_balancer->hash);
  CHECK(policy.connection_pool->tcp.max_connections == 0);
  CHECK_FALSE(policy.connection_pool->tcp.connect_timeout);
  CHECK_FALSE(policy.connection_pool->tcp.idle_timeout);
  CHECK(policy.connection_pool->http.h2_upgrade == ConnectionPool::H2Upgrade::kDefault);
  CHECK(policy.outlier_detection->consecutive_5xx_errors == 5);
  CHECK(policy.outlier_detection->consecutive_gateway_errors == 0);
  CHECK(policy.outlier_detection->consecutive_local_origin_failures == 5);
  CHECK(policy.outlier_detection->interval == 10s);
  CHECK(policy.outlier_detection->base_ejection_time == 30s);
  CHECK(policy.outlier_detection->max_ejection_percent == 10);
  CHECK(policy.outlier_detection->min_request_volume == 0);
  CHECK(policy.proxy_protocol == 1);
  CHECK(policy.retry_budget->percent == 20);
  CHECK(policy.retry_budget->min_retry_concurrency == 3);
  CHECK_FALSE(policy.tls);
  CHECK_FALSE(policy.tunnel);
  CHECK(only<DestinationRule>(kRule + "spec: {host: h, trafficPolicy: {outlierDetection: "
                                      "{consecutive5xxErrors: 0}}}")
            .traffic_policy->outlier_detection->consecutive_5xx_errors == 0);
  CHECK_FALSE(only<DestinationRule>(kRule + "spec: {host: h}").traffic_policy);
}

TEST_CASE("DestinationRule: hashes", "[2.3.2]") {
  using Key = LoadBalancer::ConsistentHash::Key;
  auto ring = hash_of("useSourceIp: true");
  CHECK(ring.key == Key::kSourceIp);
  CHECK_FALSE(ring.maglev);
  CHECK(ring.minimum_ring_size == 1024);
  CHECK(hash_of("useSourceIp: true, minimumRingSize: 7").minimum_ring_size == 7);
  CHECK(hash_of("useSourceIp: true, ringHash: {minimumRingSize: 8}").minimum_ring_size == 8);
  auto maglev = hash_of("httpQueryParameterName: q, maglev: {}");
  CHECK(maglev.key == Key::kQuery);
  CHECK(maglev.name == "q");
  CHECK(maglev.maglev);
  CHECK(maglev.table_size == 65537);
  auto cookie = hash_of("httpCookie: {name: c}");
  CHECK(cookie.key == Key::kCookie);
  CHECK_FALSE(cookie.cookie.ttl);
  auto full = only<DestinationRule>(kFull).subsets[0].traffic_policy->load_balancer->hash;
  CHECK(full->table_size == 131);
  CHECK(full->cookie.ttl == 0s);
  CHECK(full->cookie.path == "/");
  CHECK(full->cookie.attributes == std::vector<HeaderValue>{{"SameSite", "Lax"}});
  auto header = only<DestinationRule>(kFull).subsets[1].traffic_policy->load_balancer->hash;
  CHECK(header->key == Key::kHeader);
  CHECK(header->name == "x-user");
  CHECK(header->minimum_ring_size == 64);
}

TEST_CASE("DestinationRule: extensions and old forms are taken and noted", "[2.3.4]") {
  auto rule = only<DestinationRule>(kFull);
  REQUIRE(rule.meta.notes.size() == 1);
  CHECK(rule.meta.notes[0].text.starts_with(
      "spec.trafficPolicy.outlierDetection.minRequestVolume: is an extension of ours"));
  auto old = only<DestinationRule>(
      kRule + "spec: {host: h, trafficPolicy: {loadBalancer: {simple: LEAST_CONN, warmupDurationSecs: 9s}}}");
  CHECK(old.traffic_policy->load_balancer->simple == LoadBalancer::Simple::kLeastRequest);
  CHECK(old.traffic_policy->load_balancer->warmup->duration == 9s);
  CHECK(old.meta.notes.size() == 1);
}

TEST_CASE("DestinationRule: an unknown field is refused in every map of it") {
  check_unknown_fields(kFull);
  CHECK(
      problems(kRule + "spec: {host: h, trafficPolicy: {connectionPool: {http: "
                       "{http1MaxPendingRequest: 1}}}}")
          .front()
          .starts_with("4: spec.trafficPolicy.connectionPool.http.http1MaxPendingRequest: unknown field; did "
                       "you mean \"http1MaxPendingRequests\"? known here: "));
}

TEST_CASE("DestinationRule: what is refused, where, and what to write") {
#define POLICY(text) "{host: h, trafficPolicy: {" text "}}"
#define TP "spec.trafficPolicy."
  check_refused(
      kRule,
      {
          {"{}", "spec.host: is missing"},
          {"{host: ''}", "spec.host: \"\" is not a host name"},
          {"{host: h, subsets: [{name: a}, {name: a}]}", "spec.subsets[1].name: \"a\" is given twice"},
          {"{host: h, subsets: [{}]}", "spec.subsets[0].name: is missing"},
          {"{host: h, workloadSelector: {labels: {}}}",
           "spec.workloadSelector.labels: unknown field; did you "
           "mean \"matchLabels\"?"},
          {POLICY("loadBalancer: {simple: ROUND}"),
           TP "loadBalancer.simple: \"ROUND\" must be one of: UNSPECIFIED, LEAST_REQUEST"},
          {POLICY("loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}"),
           TP "loadBalancer.consistentHash: excludes simple"},
          {POLICY("loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}"),
           TP "loadBalancer: warmup goes with"},
          {POLICY("loadBalancer: {warmup: {}}"), TP "loadBalancer.warmup.duration: is missing"},
          {POLICY("loadBalancer: {consistentHash: {}}"), TP "loadBalancer.consistentHash: must have one of"},
          {POLICY("loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}"),
           TP "loadBalancer.consistentHash: must have one of"},
          {POLICY("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 100}}}"),
           TP "loadBalancer.consistentHash.maglev.tableSize: 100 must be a prime"},
          {POLICY("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}, ringHash: {}}}"),
           TP "loadBalancer.consistentHash: ringHash and maglev exclude"},
          {POLICY("loadBalancer: {consistentHash: {httpCookie: {name: c, path: '/;Domain=x'}}}"),
           TP "loadBalancer.consistentHash.httpCookie.path: must not hold a semicolon"},
          {POLICY("loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 99}}]}}"),
           TP "loadBalancer.localityLbSetting.distribute[0].to: adds up to 99, but must to 100"},
          {POLICY("loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}"),
           TP "loadBalancer.localityLbSetting.failover[0]: from and to must differ"},
          {POLICY("loadBalancer: {localityLbSetting: {failoverPriority: [a], failover: [{from: a, to: b}]}}"),
           TP "loadBalancer.localityLbSetting: distribute, failover and failoverPriority"},
          {POLICY("connectionPool: {tcp: {maxConnections: -1}}"),
           TP "connectionPool.tcp.maxConnections: \"-1\""},
          {POLICY("connectionPool: {tcp: {maxConnections: 1.5}}"),
           TP "connectionPool.tcp.maxConnections: \"1.5\" must be a whole number"},
          {POLICY("connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}"),
           TP "connectionPool.http.useClientProtocol: excludes h2UpgradePolicy: UPGRADE"},
          {POLICY("outlierDetection: {interval: 0s}"), TP "outlierDetection.interval: must be at least 1ms"},
          {POLICY("outlierDetection: {maxEjectionPercent: 101}"), TP "outlierDetection.maxEjectionPercent: "},
          {POLICY("tls: {mode: MUTUAL}"), TP "tls: MUTUAL needs credentialName"},
          {POLICY("tls: {mode: SIMPLE, credentialName: c, caCertificates: /ca}"),
           TP "tls.credentialName: excludes"},
          {POLICY("tls: {mode: ISTIO_MUTUAL, caCertificates: /ca}"), TP "tls: ISTIO_MUTUAL takes"},
          {POLICY("tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: /ca}"),
           TP "tls.insecureSkipVerify: excludes"},
          {POLICY("tunnel: {targetHost: t}"), TP "tunnel.targetPort: is missing"},
          {POLICY("retryBudget: {percent: 101}"), TP "retryBudget.percent: \"101\" must be a number"},
          {POLICY("portLevelSettings: [{}]"), TP "portLevelSettings[0].port.number: is missing"},
          {POLICY("portLevelSettings: [{port: {number: 1}}, {port: {number: 1}}]"),
           TP "portLevelSettings[1].port: 1 is given twice"},
          {POLICY("portLevelSettings: [{port: {number: 1}, tunnel: {}}]"),
           TP "portLevelSettings[0].tunnel: unknown field"},
      });
#undef POLICY
#undef TP
}
