// SPDX-License-Identifier: Apache-2.0
// The node proxy's environment (spec ztunnel section 11, checklist X2).
#include "mesh/config/ztunnel_config.h"

#include <catch2/catch.hpp>

using namespace culvert;
using config::Environment;
using config::ZtunnelConfig;

namespace {

base::Result<std::string> no_files(const std::string& path) {
  return base::fail(base::Code::kNotFound, path + " does not exist");
}

base::Result<ZtunnelConfig> load(std::map<std::string, std::string> values, unsigned cpus = 8) {
  return config::load_ztunnel_config(Environment(std::move(values)), no_files, cpus);
}

std::string refusal(std::map<std::string, std::string> values) {
  auto loaded = load(std::move(values));
  REQUIRE_FALSE(loaded);
  return loaded.error().message();
}

}  // namespace

TEST_CASE("an empty environment gives upstream's defaults", "[X2]") {
  auto loaded = load({});
  REQUIRE(loaded);
  CHECK(loaded->mode == config::ProxyMode::kShared);
  CHECK(loaded->packet_mark == 1337);
  CHECK(loaded->xds_address == "https://localhost:15012");
  CHECK(loaded->ca_address == "https://localhost:15012");
  CHECK(loaded->cluster_id == "Kubernetes");
  CHECK(loaded->drain_deadline == std::chrono::seconds(5));
  CHECK(loaded->pool_streams_max == 100);
  CHECK(loaded->zds_path == "/var/run/ztunnel/ztunnel.sock");
  CHECK(loaded->keepalive_retries == 9);
  CHECK(loaded->local_path);
  CHECK_FALSE(load({{"CULVERT_LOCAL_PATH", "false"}})->local_path);
  CHECK(refusal({{"CULVERT_LOCAL_PATH", "maybe"}}).find("CULVERT_LOCAL_PATH") != std::string::npos);
  CHECK(loaded->auth_token.empty());
  CHECK(loaded->log_filter == "info");
  // No DNS proxy in this build: said, not failed.
  REQUIRE(loaded->notes.size() == 1);
  CHECK(loaded->notes[0].find("15053") != std::string::npos);
}

TEST_CASE("in a cluster istiod is the default, and a scheme is added", "[X2]") {
  CHECK(load({{"KUBERNETES_SERVICE_HOST", "10.0.0.1"}})->xds_address ==
        "https://istiod.istio-system.svc:15012");
  CHECK(load({{"XDS_ADDRESS", "10.1.2.3:15012"}})->xds_address == "https://10.1.2.3:15012");
  CHECK(load({{"XDS_ADDRESS", ""}})->xds_address.empty());
  CHECK(load({{"CA_ADDRESS", ""}})->ca_address.empty());
}

TEST_CASE("bad values name their variable", "[X2]") {
  CHECK(refusal({{"ENABLE_PROXY", "yes"}}).find("ENABLE_PROXY") != std::string::npos);
  CHECK(refusal({{"PROXY_MODE", "both"}}).find("PROXY_MODE") != std::string::npos);
  CHECK(refusal({{"PROXY_MODE", "dedicated"}}).find("PROXY_WORKLOAD_INFO") != std::string::npos);
  CHECK(refusal({{"PROXY_WORKLOAD_INFO", "a/b"}}).find("PROXY_WORKLOAD_INFO") != std::string::npos);
  CHECK(refusal({{"SECRET_TTL", "soon"}}).find("SECRET_TTL") != std::string::npos);
  CHECK(refusal({{"POOL_MAX_STREAMS_PER_CONNECTION", "70000"}}).find("POOL_MAX") != std::string::npos);
  CHECK(refusal({{"POOL_MAX_STREAMS_PER_CONNECTION", "0"}}).find("POOL_MAX") != std::string::npos);
  CHECK(refusal({{"ZTUNNEL_WORKER_THREADS", "many"}}).find("ZTUNNEL_WORKER_THREADS") != std::string::npos);
  CHECK(refusal({{"ZTUNNEL_RESOURCE_CPU_LIMIT", "2k"}}).find("CPU_LIMIT") != std::string::npos);
  CHECK(refusal({{"LOCAL_XDS", "{}"}, {"LOCAL_XDS_PATH", "/x"}}).find("LOCAL_XDS_PATH") != std::string::npos);
  CHECK(refusal({{"LOG_FORMAT", "xml"}}).find("LOG_FORMAT") != std::string::npos);
  CHECK(refusal({{"PROXY_CONFIG", "statsPort: 1"}}).find("proxyMetadata") != std::string::npos);
  CHECK(refusal({{"PROXY_CONFIG", "statsPort: ["}}).find("PROXY_CONFIG") != std::string::npos);
  CHECK(refusal({{"ENABLE_PROXY", "false"}, {"ISTIO_META_DNS_CAPTURE", "false"}}).find("nothing") !=
        std::string::npos);
  CHECK(refusal({{"XDS_ON_DEMAND", "true"}}).find("XDS_ON_DEMAND") != std::string::npos);
  // Destinations nobody asks the control plane for would be taken for strangers and get plaintext.
  CHECK(refusal({{"XDS_ON_DEMAND", "true"}, {"ISTIO_META_DNS_CAPTURE", "false"}}).find("XDS_ON_DEMAND") !=
        std::string::npos);
  CHECK(refusal({{"CRL_PATH", "/crl"}}).find("CRL_PATH") != std::string::npos);
}

TEST_CASE("worker threads", "[X2]") {
  using Values = std::map<std::string, std::string>;
  auto threads = [](Values values, unsigned cpus) { return load(std::move(values), cpus)->worker_threads; };
  CHECK(threads({}, 1) == 2);
  CHECK(threads({}, 16) == 4);
  CHECK(threads({}, 17) == 5);
  CHECK(threads({{"ZTUNNEL_WORKER_THREADS", "3"}}, 16) == 3);
  CHECK(threads({{"ZTUNNEL_WORKER_THREADS", "0"}}, 16) == 16);
  CHECK(threads({{"ZTUNNEL_WORKER_THREADS", "10%"}}, 16) == 2);
  CHECK(threads({{"ZTUNNEL_WORKER_THREADS", "1%"}}, 2) == 1);
  CHECK(threads({{"ZTUNNEL_RESOURCE_CPU_LIMIT", "1500m"}}, 16) == 2);
  CHECK(threads({{"ZTUNNEL_RESOURCE_CPU_LIMIT", "1"}, {"ZTUNNEL_RESOURCE_CPU_REQUEST", "3"}}, 16) == 3);
  CHECK(threads({{"ZTUNNEL_RESOURCE_CPU_REQUEST", "6"}}, 16) == 6);
  CHECK(threads({{"ZTUNNEL_CPU_LIMIT", "40"}}, 4) == 10);
  CHECK(threads({{"PROXY_CONFIG", "{concurrency: 7, proxyMetadata: {}}"}}, 4) == 7);
  CHECK(threads({{"PROXY_CONFIG", "{concurrency: 0, proxyMetadata: {}}"}}, 4) == 4);
}

TEST_CASE("the drain deadline never underflows", "[X2]") {
  auto deadline = [](const char* seconds) {
    return load({{"TERMINATION_GRACE_PERIOD_SECONDS", seconds}})->drain_deadline;
  };
  CHECK(deadline("0") == std::chrono::seconds(1));
  CHECK(deadline("1") == std::chrono::seconds(1));
  CHECK(deadline("10") == std::chrono::seconds(9));
  CHECK(deadline("30") == std::chrono::seconds(25));
  auto both = load({{"TERMINATION_GRACE_PERIOD_SECONDS", "30"}, {"CONNECTION_TERMINATION_DEADLINE", "2s"}});
  CHECK(both->drain_deadline == std::chrono::seconds(2));
}

TEST_CASE("proxy metadata: mesh file, then PROXY_CONFIG, then ISTIO_META_", "[X2]") {
  auto files = [](const std::string& path) -> base::Result<std::string> {
    if (path == config::kMeshFilePath) {
      return std::string(
          "defaultConfig: {discoveryAddress: mesh:1, statsPort: 1, proxyMetadata: {A: 1, B: 1, C: 1}}");
    }
    return base::fail(base::Code::kNotFound, path);
  };
  Environment env({{"PROXY_CONFIG", "{discoveryAddress: config:2, proxyMetadata: {B: 2, C: 2}}"},
                   {"ISTIO_META_C", "3"},
                   {"ISTIO_META_CLUSTER_ID", "east"},
                   {"CLUSTER_ID", "west"}});
  auto loaded = config::load_ztunnel_config(env, files, 2);
  REQUIRE(loaded);
  CHECK(loaded->proxy_metadata.at("A") == "1");
  CHECK(loaded->proxy_metadata.at("B") == "2");
  CHECK(loaded->proxy_metadata.at("C") == "3");
  CHECK(loaded->xds_address == "https://config:2");
  CHECK(loaded->stats_port == 1);
  CHECK(loaded->cluster_id == "east");
}

TEST_CASE("headers and dedicated mode", "[X2]") {
  auto loaded = load({{"PROXY_MODE", "dedicated"},
                      {"PROXY_WORKLOAD_INFO", "ns/name/sa"},
                      {"XDS_HEADER_X-Env", "prod"},
                      {"CA_HEADER_Y", "z"}});
  REQUIRE(loaded);
  CHECK(loaded->packet_mark == 0);
  CHECK(loaded->dedicated_workload == config::WorkloadName{"ns", "name", "sa"});
  CHECK(loaded->xds_headers.at("x-env") == "prod");
  CHECK(loaded->ca_headers.at("y") == "z");
  CHECK(config::is_illegal_port(15008));
  CHECK_FALSE(config::is_illegal_port(15020));
}
