// SPDX-License-Identifier: Apache-2.0
// The agent's environment, and the pods it takes from the manifest directory.
#include <catch2/catch.hpp>

#include "cni/agent_config.h"
#include "cni/directory_pods.h"

using namespace culvert;
using namespace culvert::cni;

namespace {

std::map<std::string, std::string> usual() {
  return {{"AMBIENT_ENABLED", "true"},
          {"NODE_NAME", "node1"},
          {"CULVERT_DIR", "/m"},
          {"CNI_AGENT_RUN_DIR", "/run/agent"},
          {"EXCLUDE_NAMESPACES", "kube-system, other"},
          {"AMBIENT_ENABLEMENT_SELECTOR", "[{podSelector: {matchLabels: {a: b}}}]"}};
}

}  // namespace

TEST_CASE("the environment becomes one typed struct") {
  auto config = read_agent_config(config::Environment(usual()));
  REQUIRE(config);
  CHECK(config->agent.bindings_dir == "/m/bindings");
  CHECK(config->agent.seen_dir == "/run/agent/pods");
  CHECK_FALSE(config->agent.ipv6);
  CHECK_FALSE(config->agent.dns_capture);
  CHECK(config->excluded == std::vector<std::string>{"kube-system", "other"});
  CHECK(config->installer.entry.selectors_json == R"([{"podSelector":{"matchLabels":{"a":"b"}}}])");
  CHECK(config->installer.entry.directory == "/m");
  CHECK(config->kernel.proc_root == "/proc");
  CHECK(config->monitoring_port == 15014);
}

TEST_CASE("owned configuration needs chaining and ambient; both names of its file are taken") {
  auto env = usual();
  env["ISTIO_OWNED_CNI_CONFIG"] = "true";
  CHECK(read_agent_config(config::Environment(env))->installer.owned);
  CHECK(read_agent_config(config::Environment(env))->installer.owned_name == "02-istio-cni.conflist");
  env["ISTIO_OWNED_CNI_CONF_FILENAME"] = "01-a.conflist";
  CHECK(read_agent_config(config::Environment(env))->installer.owned_name == "01-a.conflist");
  env["AMBIENT_ENABLED"] = "false";
  CHECK_FALSE(read_agent_config(config::Environment(env))->installer.owned);
}

TEST_CASE("bad values are refused by name") {
  for (auto [name, value] : std::map<std::string, std::string>{{"AMBIENT_ENABLED", "yes"},
                                                               {"HOST_PROBE_SNAT_IP", "fd00::1"},
                                                               {"HOST_PROBE_SNAT_IPV6", "10.0.0.1"},
                                                               {"MONITORING_PORT", "70000"},
                                                               {"CULVERT_DRIFT_CHECK_INTERVAL", "1ms"},
                                                               {"AMBIENT_ENABLEMENT_SELECTOR", "{"},
                                                               {"NODE_NAME", ""},
                                                               {"CULVERT_DIR", ""}}) {
    auto env = usual();
    env[name] = value;
    auto config = read_agent_config(config::Environment(env));
    INFO(name);
    REQUIRE_FALSE(config);
    CHECK(config.error().message().find(name) != std::string::npos);
  }
}

TEST_CASE("pods of this node only, without our own annotation", "[N3]") {
  kube::Objects objects;
  auto name_space = std::make_shared<kube::Namespace>();
  name_space->meta.name = "prod";
  name_space->meta.labels["x"] = "y";
  objects.namespaces["prod"] = name_space;
  for (const char* node : {"node1", "node2"}) {
    auto pod = std::make_shared<kube::Pod>();
    pod->meta.ns = "prod";
    pod->meta.name = std::string("on-") + node;
    pod->meta.uid = "u";
    pod->meta.annotations = {{"ambient.istio.io/redirection", "enabled"}, {"other", "1"}};
    pod->node = node;
    pod->phase = "Succeeded";
    pod->ips = {"::ffff:10.0.0.1", "fd00::1"};
    objects.pods["prod/" + pod->meta.name] = pod;
  }
  auto cluster = cluster_of(objects, "node1");
  REQUIRE(cluster.pods.size() == 1);
  const auto& pod = cluster.pods.at("prod/on-node1");
  CHECK(pod.terminal);
  CHECK(pod.ips.size() == 2);
  CHECK(pod.ips[0] == base::IpAddr::v4(10, 0, 0, 1));
  CHECK(pod.annotations == Labels{{"other", "1"}});
  CHECK(cluster.namespaces.at("prod").at("x") == "y");
}
