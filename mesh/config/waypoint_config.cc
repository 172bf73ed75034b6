// SPDX-License-Identifier: Apache-2.0
#include "mesh/config/waypoint_config.h"

#include <algorithm>

namespace culvert::config {

namespace {

using base::Code;
using base::Result;

class Reader {
 public:
  explicit Reader(const Environment& environment) : env_(environment) {}

  void text(std::string& into, std::string_view name) {
    if (auto value = env_.get(name); value && !value->empty()) into = std::move(*value);
  }
  void required(std::string& into, std::string_view name) {
    text(into, name);
    if (into.empty()) complain(base::Error(Code::kInvalid, std::string(name) + " is not set"));
  }
  void port(uint16_t& into, std::string_view name) { number(into, name, 65535); }
  template <class T>
  void number(T& into, std::string_view name, uint64_t limit) {
    take(into, env_.number_or(name, into, limit));
  }
  void flag(bool& into, std::string_view name) { take(into, env_.boolean(name, into)); }
  void duration(base::Duration& into, std::string_view name) { take(into, env_.duration(name, into)); }
  template <class T>
  void address(T& into, std::string_view name) {
    std::string value;
    text(value, name);
    if (value.empty()) return;
    auto parsed = base::IpAddr::parse(value);
    if (!parsed) return complain(std::move(parsed).error().wrap(name));
    into = *parsed;
  }
  const std::optional<base::Error>& error() const { return error_; }

 private:
  void complain(base::Error error) {
    if (!error_) error_ = std::move(error);
  }
  template <class T, class U>
  void take(T& into, Result<U> value) {
    if (!value) return complain(std::move(value).error());
    into = static_cast<T>(*value);
  }
  const Environment& env_;
  std::optional<base::Error> error_;
};

}  // namespace

Result<WaypointConfig> load_waypoint_config(const Environment& environment, unsigned cpu_count) {
  WaypointConfig config;
  Reader read(environment);
  read.required(config.namespace_, "POD_NAMESPACE");
  read.required(config.service_account, "SERVICE_ACCOUNT");
  read.required(config.xds_address, "XDS_ADDRESS");
  config.name = config.service_account;
  read.text(config.name, "GATEWAY_NAME");
  config.pod_name = config.name;
  read.text(config.pod_name, "POD_NAME");
  read.text(config.node_name, "NODE_NAME");
  read.address(config.instance_ip, "INSTANCE_IP");
  read.text(config.network, "NETWORK");
  read.text(config.trust_domain, "TRUST_DOMAIN");
  read.text(config.cluster_id, "CLUSTER_ID");
  read.text(config.cluster_domain, "CLUSTER_DOMAIN");
  config.ca_address = config.xds_address;
  read.text(config.ca_address, "CA_ADDRESS");
  config.xds_root_ca = "./var/run/secrets/istio/root-cert.pem";
  read.text(config.xds_root_ca, "XDS_ROOT_CA");
  config.ca_root_ca = config.xds_root_ca;
  read.text(config.ca_root_ca, "CA_ROOT_CA");
  config.auth_token = "./var/run/secrets/tokens/istio-token";
  read.text(config.auth_token, "AUTH_TOKEN");
  read.duration(config.secret_ttl, "SECRET_TTL");
  read.port(config.hbone_port, "CULVERT_HBONE_PORT");
  read.port(config.admin_port, "CULVERT_ADMIN_PORT");
  read.port(config.stats_port, "CULVERT_STATS_PORT");
  read.port(config.prometheus_port, "CULVERT_PROMETHEUS_PORT");
  read.port(config.readiness_port, "CULVERT_READINESS_PORT");
  read.address(config.bind, "CULVERT_BIND");
  read.flag(config.ipv6_enabled, "IPV6_ENABLED");
  read.number(config.worker_threads, "WORKER_THREADS", 1024);
  if (config.worker_threads == 0) config.worker_threads = std::max(1u, cpu_count);
  read.text(config.log_filter, "RUST_LOG");
  config.log_json = environment.get_or("LOG_FORMAT", "") == "json";
  read.duration(config.drain_duration, "TERMINATION_DRAIN_DURATION");
  read.duration(config.handshake_timeout, "CULVERT_HANDSHAKE_TIMEOUT");
  read.duration(config.detection_timeout, "PROTOCOL_DETECTION_TIMEOUT");
  read.duration(config.headers_timeout, "REQUEST_HEADERS_TIMEOUT");
  read.duration(config.stream_idle_timeout, "STREAM_IDLE_TIMEOUT");
  read.flag(config.tell_client_identity, "CULVERT_TELL_CLIENT_IDENTITY");
  read.number(config.connections_max, "CULVERT_CONNECTIONS_MAX", 10'000'000);
  read.number(config.requests_max, "CULVERT_REQUESTS_MAX", 10'000'000);
  read.number(config.memory_bytes_max, "CULVERT_MEMORY_MAX", uint64_t{1} << 48);
  if (read.error()) return base::fail(*read.error());
  return config;
}

}  // namespace culvert::config
