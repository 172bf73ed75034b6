// SPDX-License-Identifier: Apache-2.0
// DestinationRule, strictly (spec waypoint section 2.3).
#include <fmt/format.h>

#include <set>

#include "mesh/kube/decode_fields.h"
#include "mesh/kube/decode_kinds.h"

namespace culvert::kube {

namespace {

LoadBalancer::ConsistentHash decode_hash(const Cursor& at) {
  at.only({"httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName", "ringHash", "maglev",
           "minimumRingSize"});
  using Key = LoadBalancer::ConsistentHash::Key;
  LoadBalancer::ConsistentHash hash;
  int keys = 0;
  if (!at.at("httpHeaderName").absent()) {
    hash.key = Key::kHeader;
    hash.name = decode_header_name(at.at("httpHeaderName"));
    keys++;
  }
  if (!at.at("httpQueryParameterName").absent()) {
    hash.key = Key::kQuery;
    hash.name = decode_needed(at, "httpQueryParameterName");
    keys++;
  }
  if (at.at("useSourceIp").flag()) {
    hash.key = Key::kSourceIp;
    keys++;
  }
  if (Cursor cookie = at.at("httpCookie"); !cookie.absent()) {
    cookie.only({"name", "path", "ttl", "attributes"});
    hash.key = Key::kCookie;
    hash.cookie.name = decode_needed(cookie, "name");
    check_header_name(cookie.at("name"), hash.cookie.name);  // the same token
    hash.cookie.path = cookie.at("path").text();
    hash.cookie.ttl = decode_duration(cookie.at("ttl"));
    for (const Cursor& item : cookie.at("attributes").items()) {
      item.only({"name", "value"});
      hash.cookie.attributes.push_back({decode_needed(item, "name"), item.at("value").text()});
      check_cookie_part(item, hash.cookie.attributes.back().name);
      check_cookie_part(item, hash.cookie.attributes.back().value);
    }
    check_cookie_part(cookie.at("path"), hash.cookie.path);
    keys++;
  }
  if (keys != 1) {
    at.fail("must have one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName");
  }
  constexpr int64_t kRingMax = 8 * 1024 * 1024;
  constexpr uint32_t kTableMax = 5'000'011;  // upstream's bound
  Cursor ring = at.at("ringHash"), maglev = at.at("maglev"), old = at.at("minimumRingSize");
  if (!ring.absent() && !maglev.absent()) at.fail("ringHash and maglev exclude one another");
  ring.only({"minimumRingSize"});
  maglev.only({"tableSize"});
  if (!old.absent()) old.note("is deprecated; write ringHash.minimumRingSize");
  auto size = static_cast<uint64_t>(old.integer(0, kRingMax, 1024));
  size = static_cast<uint64_t>(ring.at("minimumRingSize").integer(0, kRingMax, static_cast<int64_t>(size)));
  hash.minimum_ring_size = size == 0 ? 1024 : size;
  hash.maglev = !maglev.absent();
  hash.table_size = decode_count(maglev.at("tableSize"), 65537, kTableMax);
  if (hash.table_size == 0) hash.table_size = 65537;
  bool prime = hash.table_size > 1;
  for (uint64_t i = 2; i * i <= hash.table_size; ++i) prime = prime && hash.table_size % i != 0;
  if (!prime)
    maglev.at("tableSize").fail(fmt::format("{} must be a prime, for example 65537", hash.table_size));
  return hash;
}

LoadBalancer decode_load_balancer(const Cursor& at) {
  at.only({"simple", "consistentHash", "localityLbSetting", "warmupDurationSecs", "warmup"});
  using Simple = LoadBalancer::Simple;
  LoadBalancer balancer;
  balancer.simple = decode_choice<Simple>(at.at("simple"), Simple::kUnset,
                                          {{"UNSPECIFIED", Simple::kUnset},
                                           {"LEAST_REQUEST", Simple::kLeastRequest},
                                           {"LEAST_CONN", Simple::kLeastRequest},
                                           {"ROUND_ROBIN", Simple::kRoundRobin},
                                           {"RANDOM", Simple::kRandom},
                                           {"PASSTHROUGH", Simple::kPassthrough}});
  if (at.at("simple").text() == "LEAST_CONN") at.at("simple").note("is deprecated; write LEAST_REQUEST");
  if (Cursor hash = at.at("consistentHash"); !hash.absent()) {
    if (!at.at("simple").absent()) hash.fail("excludes simple; keep one of the two");
    balancer.hash = decode_hash(hash);
  }
  if (Cursor locality = at.at("localityLbSetting"); !locality.absent()) {
    balancer.locality = decode_locality_lb(locality);
  }
  Cursor warmup = at.at("warmup"), old = at.at("warmupDurationSecs");
  if (!warmup.absent() && !old.absent()) old.fail("excludes warmup; write warmup.duration");
  if (!old.absent()) balancer.warmup = LoadBalancer::Warmup{decode_duration(old, {}), 10, 1};
  if (!warmup.absent()) {
    warmup.only({"duration", "minimumPercent", "aggression"});
    if (warmup.at("duration").absent()) warmup.at("duration").fail("is missing");
    balancer.warmup = LoadBalancer::Warmup{decode_duration(warmup.at("duration"), {}),
                                           decode_number(warmup.at("minimumPercent"), 0, 100, 10),
                                           decode_number(warmup.at("aggression"), 1, 1000, 1)};
  }
  if (balancer.warmup &&
      (balancer.hash || balancer.simple == Simple::kRandom || balancer.simple == Simple::kPassthrough)) {
    at.fail("warmup goes with ROUND_ROBIN and LEAST_REQUEST only");
  }
  return balancer;
}

ConnectionPool decode_connection_pool(const Cursor& at) {
  at.only({"tcp", "http"});
  ConnectionPool pool;
  Cursor tcp = at.at("tcp");
  tcp.only({"maxConnections", "connectTimeout", "tcpKeepalive", "maxConnectionDuration", "idleTimeout"});
  pool.tcp.max_connections = decode_count(tcp.at("maxConnections"), 0, INT32_MAX);
  pool.tcp.connect_timeout = decode_duration(tcp.at("connectTimeout"));
  if (!tcp.at("tcpKeepalive").absent()) pool.tcp.keepalive = decode_keepalive(tcp.at("tcpKeepalive"));
  pool.tcp.max_connection_duration = decode_duration(tcp.at("maxConnectionDuration"));
  pool.tcp.idle_timeout = decode_duration(tcp.at("idleTimeout"));

  Cursor http = at.at("http");
  http.only({"http1MaxPendingRequests", "http2MaxRequests", "maxRequestsPerConnection", "maxRetries",
             "idleTimeout", "h2UpgradePolicy", "useClientProtocol", "maxConcurrentStreams",
             "http2KeepAlive"});
  auto number = [&](const char* key) { return decode_count(http.at(key), 0, INT32_MAX); };
  pool.http.http1_max_pending_requests = number("http1MaxPendingRequests");
  pool.http.http2_max_requests = number("http2MaxRequests");
  // Upstream's bound (2^29).
  pool.http.max_requests_per_connection = decode_count(http.at("maxRequestsPerConnection"), 0, 1u << 29);
  pool.http.max_retries = number("maxRetries");
  pool.http.max_concurrent_streams = number("maxConcurrentStreams");
  pool.http.idle_timeout = decode_duration(http.at("idleTimeout"));
  using H2 = ConnectionPool::H2Upgrade;
  pool.http.h2_upgrade = decode_choice<H2>(
      http.at("h2UpgradePolicy"), H2::kDefault,
      {{"DEFAULT", H2::kDefault}, {"DO_NOT_UPGRADE", H2::kDoNotUpgrade}, {"UPGRADE", H2::kUpgrade}});
  pool.http.use_client_protocol = http.at("useClientProtocol").flag();
  if (pool.http.use_client_protocol && pool.http.h2_upgrade == H2::kUpgrade) {
    http.at("useClientProtocol").fail("excludes h2UpgradePolicy: UPGRADE; keep one of the two");
  }
  if (Cursor ping = http.at("http2KeepAlive"); !ping.absent()) {
    ping.only({"interval", "timeout"});
    pool.http.http2_keep_alive = ConnectionPool::Http2KeepAlive{decode_duration(ping.at("interval"), {}),
                                                                decode_duration(ping.at("timeout"), {})};
  }
  return pool;
}

OutlierDetection decode_outlier_detection(const Cursor& at) {
  at.only({"consecutiveErrors", "consecutive5xxErrors", "consecutiveGatewayErrors",
           "splitExternalLocalOriginErrors", "consecutiveLocalOriginFailures",
           "outlierDetectionHttpErrorCodes", "interval", "baseEjectionTime", "maxEjectionPercent",
           "minHealthPercent", "minRequestVolume"});
  OutlierDetection out;
  if (Cursor old = at.at("consecutiveErrors"); !old.absent()) {
    old.note("is deprecated; write consecutiveGatewayErrors");
    out.consecutive_gateway_errors = decode_count(old, 0, INT32_MAX);
  }
  out.consecutive_5xx_errors = decode_count(at.at("consecutive5xxErrors"), out.consecutive_5xx_errors);
  out.consecutive_gateway_errors =
      decode_count(at.at("consecutiveGatewayErrors"), out.consecutive_gateway_errors);
  out.split_local_origin = at.at("splitExternalLocalOriginErrors").flag();
  out.consecutive_local_origin_failures =
      decode_count(at.at("consecutiveLocalOriginFailures"), out.consecutive_local_origin_failures);
  for (const Cursor& code : at.at("outlierDetectionHttpErrorCodes").items()) {
    out.http_error_codes.push_back(static_cast<uint16_t>(code.integer(100, 599, 500)));
  }
  out.interval = decode_duration(at.at("interval"), out.interval);
  out.base_ejection_time = decode_duration(at.at("baseEjectionTime"), out.base_ejection_time);
  for (const char* key : {"interval", "baseEjectionTime"}) {
    if (auto given = decode_duration(at.at(key)); given && *given < std::chrono::milliseconds(1)) {
      at.at(key).fail("must be at least 1ms");
    }
  }
  out.max_ejection_percent = decode_count(at.at("maxEjectionPercent"), out.max_ejection_percent, 100);
  if (out.max_ejection_percent == 0) out.max_ejection_percent = OutlierDetection{}.max_ejection_percent;
  out.min_health_percent = decode_count(at.at("minHealthPercent"), 0, 100);
  if (Cursor volume = at.at("minRequestVolume"); !volume.absent()) {
    out.min_request_volume = decode_count(volume);
    volume.note("is an extension of ours; an API server with Istio's own definitions drops or refuses it");
  }
  return out;
}

ClientTls decode_tls(const Cursor& at) {
  at.only({"mode", "clientCertificate", "privateKey", "caCertificates", "credentialName", "subjectAltNames",
           "sni", "insecureSkipVerify", "caCrl"});
  using Mode = ClientTls::Mode;
  ClientTls tls;
  tls.mode = decode_choice<Mode>(at.at("mode"), Mode::kDisable,
                                 {{"DISABLE", Mode::kDisable},
                                  {"SIMPLE", Mode::kSimple},
                                  {"MUTUAL", Mode::kMutual},
                                  {"ISTIO_MUTUAL", Mode::kIstioMutual}});
  tls.client_certificate = at.at("clientCertificate").text();
  tls.private_key = at.at("privateKey").text();
  tls.ca_certificates = at.at("caCertificates").text();
  tls.ca_crl = at.at("caCrl").text();
  tls.credential_name = at.at("credentialName").text();
  tls.subject_alt_names = at.at("subjectAltNames").texts();
  if (!at.at("sni").absent()) tls.sni = decode_host(at.at("sni"), false);
  tls.insecure_skip_verify = at.at("insecureSkipVerify").flag();
  bool files = !tls.client_certificate.empty() || !tls.private_key.empty();
  if (tls.mode == Mode::kMutual && tls.credential_name.empty() &&
      (tls.client_certificate.empty() || tls.private_key.empty())) {
    at.fail("MUTUAL needs credentialName, or clientCertificate and privateKey");
  }
  if (!tls.credential_name.empty() && (files || !tls.ca_certificates.empty())) {
    at.at("credentialName").fail("excludes clientCertificate, privateKey and caCertificates");
  }
  if (tls.mode == Mode::kIstioMutual &&
      (files || !tls.ca_certificates.empty() || !tls.credential_name.empty())) {
    at.fail("ISTIO_MUTUAL takes the mesh's own certificates; leave the others out");
  }
  if (tls.insecure_skip_verify && (!tls.ca_certificates.empty() || !tls.subject_alt_names.empty())) {
    at.at("insecureSkipVerify").fail("excludes caCertificates and subjectAltNames, which ask to verify");
  }
  return tls;
}

void decode_blocks(const Cursor& at, TrafficBlocks& out) {
  if (Cursor block = at.at("loadBalancer"); !block.absent()) out.load_balancer = decode_load_balancer(block);
  if (Cursor block = at.at("connectionPool"); !block.absent()) {
    out.connection_pool = decode_connection_pool(block);
  }
  if (Cursor block = at.at("outlierDetection"); !block.absent()) {
    out.outlier_detection = decode_outlier_detection(block);
  }
  if (Cursor block = at.at("tls"); !block.absent()) out.tls = decode_tls(block);
}

TrafficPolicy decode_traffic_policy(const Cursor& at) {
  at.only({"loadBalancer", "connectionPool", "outlierDetection", "tls", "portLevelSettings", "tunnel",
           "proxyProtocol", "retryBudget"});
  TrafficPolicy policy;
  decode_blocks(at, policy);
  if (Cursor tunnel = at.at("tunnel"); !tunnel.absent()) {
    tunnel.only({"protocol", "targetHost", "targetPort"});
    Tunnel out;
    out.post = decode_choice<bool>(tunnel.at("protocol"), false, {{"CONNECT", false}, {"POST", true}});
    out.target_host = decode_needed(tunnel, "targetHost");
    check_header_value(tunnel.at("targetHost"), out.target_host);
    out.target_port = decode_port(tunnel.at("targetPort"));
    if (out.target_port == 0) tunnel.at("targetPort").fail("is missing");
    policy.tunnel = std::move(out);
  }
  if (Cursor proxy = at.at("proxyProtocol"); !proxy.absent()) {
    proxy.only({"version"});
    policy.proxy_protocol = decode_choice<int>(proxy.at("version"), 1, {{"V1", 1}, {"V2", 2}});
  }
  if (Cursor budget = at.at("retryBudget"); !budget.absent()) {
    budget.only({"percent", "minRetryConcurrency", "budgetInterval"});
    policy.retry_budget = RetryBudget{decode_number(budget.at("percent"), 0, 100, 20),
                                      decode_count(budget.at("minRetryConcurrency"), 3),
                                      decode_duration(budget.at("budgetInterval"), {})};
  }
  for (const Cursor& item : at.at("portLevelSettings").items()) {
    item.only({"port", "loadBalancer", "connectionPool", "outlierDetection", "tls"});
    item.at("port").only({"number"});
    uint16_t port = decode_port(item.at("port").at("number"));
    if (port == 0) {
      item.at("port").at("number").fail("is missing");
      continue;
    }
    auto [entry, placed] = policy.port_levels.try_emplace(port);
    if (!placed) {
      item.at("port").fail(fmt::format("{} is given twice", port));
    } else {
      decode_blocks(item, entry->second);
    }
  }
  return policy;
}

}  // namespace

// A part of a Set-Cookie line (RFC 6265 section 4.1.1): nothing that would begin another part.
void check_cookie_part(const Cursor& at, const std::string& text) {
  check_header_value(at, text);
  if (text.find(';') != std::string::npos) at.fail("must not hold a semicolon");
}

TcpKeepalive decode_keepalive(const Cursor& at) {
  at.only({"probes", "time", "interval"});
  return {decode_count(at.at("probes"), 0, 127), decode_duration(at.at("time"), {}),
          decode_duration(at.at("interval"), {})};
}

LocalityLb decode_locality_lb(const Cursor& at) {
  at.only({"enabled", "distribute", "failover", "failoverPriority"});
  LocalityLb out;
  out.enabled = decode_flag(at.at("enabled"));
  for (const Cursor& item : at.at("distribute").items()) {
    item.only({"from", "to"});
    LocalityLb::Distribute part;
    part.from = decode_needed(item, "from");
    uint64_t sum = 0;
    for (const auto& [place, percent] : item.at("to").fields()) {
      sum += part.to[place] = decode_count(percent, 0, 100);
    }
    if (sum != 100) item.at("to").fail(fmt::format("adds up to {}, but must to 100", sum));
    out.distribute.push_back(std::move(part));
  }
  for (const Cursor& item : at.at("failover").items()) {
    item.only({"from", "to"});
    out.failover.push_back({decode_needed(item, "from"), decode_needed(item, "to")});
    if (out.failover.back().from == out.failover.back().to) item.fail("from and to must differ");
  }
  out.failover_priority = at.at("failoverPriority").texts();
  if (!out.distribute.empty() + !out.failover.empty() + !out.failover_priority.empty() > 1) {
    at.fail("distribute, failover and failoverPriority exclude one another");
  }
  return out;
}

DestinationRule decode_destination_rule(const Cursor& root, Meta meta) {
  DestinationRule rule;
  rule.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"host", "trafficPolicy", "subsets", "exportTo", "workloadSelector"});
  if (spec.at("host").absent()) {
    spec.at("host").fail("is missing");
  } else {
    rule.host = decode_host(spec.at("host"), true);
  }
  if (!spec.at("trafficPolicy").absent())
    rule.traffic_policy = decode_traffic_policy(spec.at("trafficPolicy"));
  std::set<std::string> names;
  for (const Cursor& item : spec.at("subsets").items()) {
    item.only({"name", "labels", "trafficPolicy"});
    DestinationRule::Subset subset;
    subset.line = item.line();
    subset.name = decode_needed(item, "name");
    if (!names.insert(subset.name).second) {
      item.at("name").fail(fmt::format("\"{}\" is given twice", subset.name));
    }
    subset.labels = item.at("labels").labels();
    if (!item.at("trafficPolicy").absent()) {
      subset.traffic_policy = decode_traffic_policy(item.at("trafficPolicy"));
    }
    rule.subsets.push_back(std::move(subset));
  }
  rule.export_to = decode_export_to(spec.at("exportTo"));
  rule.workload_selector = decode_match_labels(spec.at("workloadSelector"));
  return rule;
}

}  // namespace culvert::kube
