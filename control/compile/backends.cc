// SPDX-License-Identifier: Apache-2.0
#include "control/compile/backends.h"

#include <algorithm>
#include <set>

namespace culvert::control {

namespace {

using kube::TrafficBlocks;

uint32_t limit(uint32_t value) { return value == 0 ? model::kNoLimit : value; }

model::LocalityPreference locality_of(const kube::LocalityLb& lb, bool outliers) {
  model::LocalityPreference out;
  out.enabled = lb.enabled.value_or(true);
  for (const auto& distribute : lb.distribute) out.distribute.push_back({distribute.from, distribute.to});
  for (const auto& failover : lb.failover) out.failover.emplace_back(failover.from, failover.to);
  out.failover_priority = lb.failover_priority;
  out.effective = outliers || !lb.distribute.empty();
  return out;
}

model::HashPolicy hash_of(const kube::LoadBalancer::ConsistentHash& hash) {
  using Key = kube::LoadBalancer::ConsistentHash::Key;
  model::HashPolicy out;
  out.name = hash.name;
  switch (hash.key) {
    case Key::kHeader:
      out.kind = model::HashPolicy::Kind::kHeader;
      std::transform(out.name.begin(), out.name.end(), out.name.begin(),
                     [](unsigned char c) { return std::tolower(c); });
      break;
    case Key::kQuery: out.kind = model::HashPolicy::Kind::kQuery; break;
    case Key::kSourceIp: out.kind = model::HashPolicy::Kind::kSourceIp; break;
    case Key::kCookie:
      out.kind = model::HashPolicy::Kind::kCookie;
      out.name = hash.cookie.name;
      out.path = hash.cookie.path;
      out.ttl = hash.cookie.ttl;
      for (const kube::HeaderValue& attribute : hash.cookie.attributes) {
        out.attributes.emplace_back(attribute.name, attribute.value);
      }
      break;
  }
  return out;
}

model::Balancer balancer_of(const kube::LoadBalancer* lb, bool outliers, const kube::MeshConfig* mesh) {
  using Simple = kube::LoadBalancer::Simple;
  model::Balancer out;
  out.locality.effective = outliers;
  if (mesh && mesh->locality) out.locality = locality_of(*mesh->locality, outliers);
  if (!lb) return out;
  switch (lb->simple) {
    case Simple::kUnset:
    case Simple::kLeastRequest: out.kind = model::Balancer::Kind::kLeastRequest; break;
    case Simple::kRoundRobin: out.kind = model::Balancer::Kind::kRoundRobin; break;
    case Simple::kRandom: out.kind = model::Balancer::Kind::kRandom; break;
    case Simple::kPassthrough: out.kind = model::Balancer::Kind::kPassthrough; break;
  }
  if (lb->hash) {
    out.kind = lb->hash->maglev ? model::Balancer::Kind::kMaglev : model::Balancer::Kind::kRingHash;
    out.table_size = lb->hash->maglev ? lb->hash->table_size : lb->hash->minimum_ring_size;
    out.hash = hash_of(*lb->hash);
  }
  if (lb->locality) out.locality = locality_of(*lb->locality, outliers);
  if (lb->warmup) {
    out.warmup = lb->warmup->duration;
    out.warmup_percent_min = lb->warmup->minimum_percent;
    out.warmup_aggression = lb->warmup->aggression;
  }
  return out;
}

void take_keepalive(model::PoolLimits& out, const kube::TcpKeepalive& keepalive) {
  out.keepalive_probes = keepalive.probes;
  out.keepalive_time = keepalive.time;
  out.keepalive_interval = keepalive.interval;
}

model::PoolLimits pool_of(const kube::ConnectionPool* pool, const kube::MeshConfig* mesh) {
  using Upgrade = kube::ConnectionPool::H2Upgrade;
  model::PoolLimits out;
  if (mesh) {
    out.connect_timeout = mesh->connect_timeout;
    if (mesh->tcp_keepalive) take_keepalive(out, *mesh->tcp_keepalive);
    if (mesh->h2_upgrade) out.upgrade = model::PoolLimits::Upgrade::kUpgrade;
  }
  if (!pool) return out;
  const auto& tcp = pool->tcp;
  out.connections_max = limit(tcp.max_connections);
  if (tcp.connect_timeout) out.connect_timeout = *tcp.connect_timeout;
  if (tcp.keepalive) take_keepalive(out, *tcp.keepalive);
  if (tcp.max_connection_duration) out.connection_duration_max = *tcp.max_connection_duration;
  if (tcp.idle_timeout) out.tcp_idle_timeout = *tcp.idle_timeout;
  const auto& http = pool->http;
  out.pending_max = limit(http.http1_max_pending_requests);
  out.requests_max = limit(http.http2_max_requests);
  out.requests_per_connection_max = http.max_requests_per_connection;
  out.retries_max = limit(http.max_retries);
  out.streams_max = limit(http.max_concurrent_streams);
  if (http.idle_timeout) out.http_idle_timeout = *http.idle_timeout;
  if (http.http2_keep_alive) {
    out.ping_interval = http.http2_keep_alive->interval;
    out.ping_timeout = http.http2_keep_alive->timeout;
  }
  if (http.h2_upgrade == Upgrade::kUpgrade) out.upgrade = model::PoolLimits::Upgrade::kUpgrade;
  if (http.h2_upgrade == Upgrade::kDoNotUpgrade) out.upgrade = model::PoolLimits::Upgrade::kDoNotUpgrade;
  out.use_client_protocol = http.use_client_protocol;
  if (out.use_client_protocol) out.upgrade = model::PoolLimits::Upgrade::kDefault;
  return out;
}

model::OutlierDetection outliers_of(const kube::OutlierDetection& outliers) {
  model::OutlierDetection out;
  out.consecutive_5xx = outliers.consecutive_5xx_errors;
  out.consecutive_gateway_errors = outliers.consecutive_gateway_errors;
  out.split_local_errors = outliers.split_local_origin;
  out.consecutive_local_errors = outliers.consecutive_local_origin_failures;
  for (uint16_t code : outliers.http_error_codes) out.error_codes.emplace_back(code, code);
  out.interval = outliers.interval;
  out.base_ejection_time = outliers.base_ejection_time;
  out.ejection_percent_max = outliers.max_ejection_percent;
  out.health_percent_min = outliers.min_health_percent;
  out.request_volume_min = outliers.min_request_volume;
  return out;
}

// What all policies of one backend are compiled with.
struct Scope {
  const kube::MeshConfig* mesh;  // may be null
  const Credentials& credentials;
};

model::TrafficPolicy policy_of(const TrafficBlocks& blocks, const Scope& scope) {
  const kube::MeshConfig* mesh = scope.mesh;
  model::TrafficPolicy out;
  bool outliers = blocks.outlier_detection.has_value();
  out.balancer = balancer_of(blocks.load_balancer ? &*blocks.load_balancer : nullptr, outliers, mesh);
  out.pool = pool_of(blocks.connection_pool ? &*blocks.connection_pool : nullptr, mesh);
  if (outliers) out.outliers = outliers_of(*blocks.outlier_detection);
  if (blocks.tls) out.tls = compile_backend_tls(*blocks.tls, scope.credentials);
  if (blocks.retry_budget) {
    out.retry_budget = {blocks.retry_budget->percent, blocks.retry_budget->min_retry_concurrency};
  }
  if (blocks.tunnel) {
    model::HttpTunnel& tunnel = out.tunnel.emplace();
    auto ip = base::IpAddr::parse(blocks.tunnel->target_host);
    uint16_t port = blocks.tunnel->target_port;
    tunnel.authority = ip ? base::SocketAddr{*ip, port}.to_string()
                          : blocks.tunnel->target_host + ":" + std::to_string(port);
    if (blocks.tunnel->post) tunnel.broken = "tunnel.protocol POST is not carried out; write CONNECT";
  }
  out.proxy_protocol = static_cast<uint8_t>(blocks.proxy_protocol.value_or(0));
  return out;
}

// What `own` does not set comes from `parent`.
TrafficBlocks inherit(TrafficBlocks own, const TrafficBlocks& parent) {
  if (!own.load_balancer) own.load_balancer = parent.load_balancer;
  if (!own.connection_pool) own.connection_pool = parent.connection_pool;
  if (!own.outlier_detection) own.outlier_detection = parent.outlier_detection;
  if (!own.tls) own.tls = parent.tls;
  if (!own.tunnel) own.tunnel = parent.tunnel;
  if (!own.proxy_protocol) own.proxy_protocol = parent.proxy_protocol;
  if (!own.retry_budget) own.retry_budget = parent.retry_budget;
  return own;
}

const TrafficBlocks& at_port(const kube::TrafficPolicy& policy, uint16_t port) {
  auto found = policy.port_levels.find(port);
  return found == policy.port_levels.end() ? policy : found->second;
}

model::PortedPolicy ported(const kube::TrafficPolicy& own, const kube::TrafficPolicy* parent,
                           const Scope& scope) {
  model::PortedPolicy out;
  out.all = policy_of(parent ? inherit(own, *parent) : TrafficBlocks(own), scope);
  std::set<uint16_t> ports;
  for (const auto& [port, blocks] : own.port_levels) ports.insert(port);
  if (parent) {
    for (const auto& [port, blocks] : parent->port_levels) ports.insert(port);
  }
  for (uint16_t port : ports) {
    // A port of this level replaces the level whole; one of the parent's is inherited from.
    bool here = own.port_levels.contains(port);
    TrafficBlocks blocks = here ? at_port(own, port) : inherit(own, at_port(*parent, port));
    out.by_port[port] = policy_of(blocks, scope);
  }
  return out;
}

}  // namespace

std::string resolve_host(std::string_view host, std::string_view ns, std::string_view cluster_domain) {
  if (host.find('.') != host.npos || host == "*") return std::string(host);
  return std::string(host) + "." + std::string(ns) + ".svc." + std::string(cluster_domain);
}

size_t host_rank(std::string_view pattern, std::string_view hostname) {
  if (pattern == hostname) return 2 * pattern.size() + 1;
  if (pattern == "*") return 1;
  bool wild = pattern.starts_with("*.") && hostname.size() > pattern.size() - 1 &&
              hostname.ends_with(pattern.substr(1));
  return wild ? 2 * pattern.size() : 0;
}

bool exported_to(const std::vector<std::string>& export_to, std::string_view owner_ns, std::string_view ns) {
  if (export_to.empty() || owner_ns == ns) return true;
  return std::any_of(export_to.begin(), export_to.end(),
                     [&](const std::string& to) { return to == "*" || to == ns; });
}

model::Backend compile_backend(const model::NamespacedHostname& service,
                               const std::vector<const kube::DestinationRule*>& rules,
                               const kube::MeshConfig* mesh, const Credentials& credentials) {
  Scope scope{mesh, credentials};
  model::Backend out;
  out.service = service;
  const kube::TrafficPolicy none;
  const kube::TrafficPolicy* top = &none;
  for (const kube::DestinationRule* rule : rules) {
    if (!rule->traffic_policy) continue;
    top = &*rule->traffic_policy;
    break;
  }
  out.policy = ported(*top, nullptr, scope);
  for (const kube::DestinationRule* rule : rules) {
    for (const kube::DestinationRule::Subset& subset : rule->subsets) {
      if (out.subset(subset.name)) continue;
      const kube::TrafficPolicy& own = subset.traffic_policy ? *subset.traffic_policy : none;
      out.subsets.push_back({subset.name, subset.labels, ported(own, top, scope)});
    }
  }
  return out;
}

}  // namespace culvert::control
