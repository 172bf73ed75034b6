// SPDX-License-Identifier: Apache-2.0
// WaypointController on a simulated machine: what runs, what is told of it, what is kept.
#include "control/deploy/controller.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "mesh/config/waypoint_config.h"
#include "test/unit/control/deploy/machine_world.h"
#include "test/unit/control/deploy/manifests.h"
#include "test/unit/control/serve/temp_dir.h"

namespace culvert::control {
namespace {

using std::chrono::seconds;
using test::gateway;
using test::objects_of;

constexpr const char* kKey = "production/waypoint";

struct World : test::MachineWorld {
  explicit World(const std::string& directory, const char* range = "10.97.0.0/24") : state(open(directory)) {
    options.program = "/bin/waypoint";
    options.range = *base::Cidr::parse(range);
    options.node = "node1";
    options.control = "https://10.10.0.100:15012";
    options.output_directory = "/var/log";
    restart();
  }
  static StateDir open(const std::string& directory) {
    auto opened = StateDir::open(directory);
    REQUIRE(opened.has_value());
    return std::move(*opened);
  }
  void restart() {
    controller.reset();
    loop.run_ready();
    auto made = WaypointController::make({loop, machine, *network, log, state, key}, options, {}, "ROOTS\n",
                                         [this] { ++changes; });
    if (!made) FAIL(made.error().message());
    controller = std::move(*made);
  }
  kube::ObjectsRef apply(const std::string& yaml) {
    base_objects = objects_of(yaml);
    return controller->apply(base_objects);
  }
  kube::ObjectsRef again() { return controller->apply(base_objects); }
  std::string token() {
    auto text = state.read("waypoints/production.waypoint.token");
    return text && *text ? **text : "";
  }

  StateDir state;
  TokenKey key = TokenKey::generate();
  WaypointOptions options;
  int changes = 0;
  kube::ObjectsRef base_objects;
  std::unique_ptr<WaypointController> controller;
};

TEST_CASE("a waypoint is told with its Pod at once, its Gateway has the address when it is ready") {
  test::TempDir directory;
  World world(directory.path());
  kube::ObjectsRef objects = world.apply(gateway(kKey));
  REQUIRE(world.machine.started.size() == 1);
  auto& process = world.machine.started[0];
  std::string address = process.variable("CULVERT_BIND");
  REQUIRE(objects->pods.contains("production/waypoint-0"));
  const kube::Pod& pod = *objects->pods.at("production/waypoint-0");
  CHECK(pod.ips == std::vector<std::string>{address});
  CHECK(pod.service_account == "waypoint");
  CHECK(pod.node == "node1");
  CHECK(pod.ready == false);
  CHECK(objects->gateways.at(kKey)->status_addresses.empty());
  world.loop.run_for(seconds(1));
  CHECK(world.changes == 0);
  world.serve(process, 200, "");
  world.loop.run_for(seconds(1));
  CHECK(world.changes == 1);
  objects = world.again();
  REQUIRE(objects->gateways.at(kKey)->status_addresses.size() == 1);
  CHECK(objects->gateways.at(kKey)->status_addresses[0].value == address);
  CHECK(objects->pods.at("production/waypoint-0")->ready == true);
  CHECK(world.base_objects->pods.empty());  // what was read stays as it was
  CHECK(world.controller->running() == 1);
}

TEST_CASE(
    "node proxies are told an HBONE workload with the waypoint's identity; it is told its services first") {
  test::TempDir directory;
  World world(directory.path());
  std::string yaml =
      gateway(kKey) +
      "apiVersion: v1\nkind: Service\n"
      "metadata: {namespace: production, name: api, labels: {istio.io/use-waypoint: waypoint}}\n"
      "spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}\n";
  Compiled starting = compile(*world.apply(yaml), {});
  constexpr const char* kService = "production/api.production.svc.cluster.local";
  const model::Workload& workload = *starting.workloads.at("Kubernetes//Pod/production/waypoint-0");
  CHECK(workload.protocol == model::TunnelProtocol::kHbone);
  CHECK(workload.service_account.str() == "waypoint");
  CHECK(workload.workload_name.str() == "waypoint");
  CHECK(workload.status == model::HealthStatus::kUnhealthy);
  CHECK_FALSE(starting.services.at(kService)->waypoint);
  CHECK(starting.waypoints_of.at(kService) == std::vector<std::string>{kKey});
  CHECK(starting.waypoint_services.contains(kService));
  world.serve(world.machine.started[0], 200, "");
  world.loop.run_for(seconds(1));
  Compiled ready = compile(*world.again(), {});
  REQUIRE(ready.services.at(kService)->waypoint);
  CHECK(std::get<model::NetworkAddress>(ready.services.at(kService)->waypoint->destination).ip ==
        workload.addresses.front());
  CHECK(ready.waypoint_services.at(kService) != nullptr);
}

TEST_CASE("a waypoint that was ready keeps its address while it is down, and over a restart of ours") {
  test::TempDir directory;
  World world(directory.path());
  world.ready_at_once();
  world.apply(gateway(kKey));
  world.loop.run_for(seconds(1));
  std::string address = world.again()->gateways.at(kKey)->status_addresses.at(0).value;
  world.machine.refuses = base::Error(base::Code::kIo, "no memory");
  world.machine.end(world.machine.started[0], {0, SIGKILL});
  world.loop.run_for(seconds(3));
  kube::ObjectsRef objects = world.again();
  CHECK(objects->gateways.at(kKey)->status_addresses.at(0).value == address);
  CHECK(objects->pods.at("production/waypoint-0")->ready == false);
  world.restart();
  objects = world.again();
  CHECK(objects->gateways.at(kKey)->status_addresses.at(0).value == address);
  CHECK(objects->pods.at("production/waypoint-0")->ready == false);
}

TEST_CASE("with its Gateway everything goes; one of the same name starts anew") {
  test::TempDir directory;
  World world(directory.path());
  world.ready_at_once();
  world.apply(gateway(kKey));
  world.loop.run_for(seconds(1));
  kube::ObjectsRef objects = world.apply("");
  CHECK(objects->pods.empty());
  world.loop.run_for(seconds(1));
  CHECK(world.machine.running() == 0);
  CHECK(world.machine.addresses.empty());
  world.machine.on_start = [](test::SimMachine::Started&) {};
  objects = world.apply(gateway(kKey));
  CHECK(objects->gateways.at(kKey)->status_addresses.empty());
  CHECK(world.machine.running() == 1);
}

TEST_CASE("addresses and admin ports are one's own, and the address is the same after a restart") {
  test::TempDir directory;
  World world(directory.path());
  std::string yaml;
  for (int i = 0; i < 30; ++i) yaml += gateway("ns" + std::to_string(i) + "/waypoint");
  world.apply(yaml);
  std::map<std::string, std::string> addresses;
  std::set<std::string> distinct, ports;
  for (const auto& process : world.machine.started) {
    addresses[process.variable("POD_NAMESPACE")] = process.variable("CULVERT_BIND");
    distinct.insert(process.variable("CULVERT_BIND"));
    ports.insert(process.variable("CULVERT_ADMIN_PORT"));
  }
  CHECK(distinct.size() == 30);
  CHECK(ports.size() == 30);
  CHECK_FALSE(ports.contains("15021"));
  size_t before = world.machine.started.size();
  world.restart();
  world.again();
  for (size_t i = before; i < world.machine.started.size(); ++i) {
    const auto& process = world.machine.started[i];
    CHECK(addresses.at(process.variable("POD_NAMESPACE")) == process.variable("CULVERT_BIND"));
  }
}

TEST_CASE("a range that is used up, an address within it and parametersRef are findings") {
  test::TempDir directory;
  World world(directory.path(), "10.97.0.0/30");
  world.apply(gateway("a/one") + gateway("b/two") + gateway("c/three") +
              gateway("d/four", "", "  addresses: [{value: 10.97.0.1}]\n") +
              gateway("e/five", "",
                      "  addresses: [{value: 10.1.1.1}]\n"
                      "  infrastructure: {parametersRef: {group: \"\", kind: ConfigMap, name: sizes}}\n"));
  CHECK(world.machine.started.size() == 3);
  std::map<std::string, std::string> told;
  for (const Finding& finding : world.controller->findings()) told[finding.object] = finding.message;
  CHECK_THAT(told.at("Gateway c/three"), Catch::Contains("10.97.0.0/30 is used up"));
  CHECK_THAT(told.at("Gateway d/four"), Catch::Contains("10.97.0.1 is in 10.97.0.0/30"));
  CHECK_THAT(told.at("Gateway e/five"), Catch::Contains("ConfigMap sizes"));
  CHECK(told.size() == 3);
}

TEST_CASE("the token is the waypoint's own, for its user alone, and is renewed in time") {
  test::TempDir directory;
  World world(directory.path());
  world.ready_at_once();
  world.apply(gateway(kKey));
  CHECK(world.machine.started[0].variable("AUTH_TOKEN") ==
        directory.path() + "/waypoints/production.waypoint.token");
  struct stat info;
  REQUIRE(stat((directory.path() + "/waypoints/production.waypoint.token").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  auto claims = world.key.verify(world.token(), "istio-ca", world.loop.wall_now());
  REQUIRE(claims.has_value());
  CHECK(claims->caller.ns == "production");
  CHECK(claims->caller.service_account == "waypoint");
  CHECK(claims->caller.node == "node1");
  std::string first = world.token();
  for (int hour = 0; hour < 48; ++hour) {
    world.loop.run_for(std::chrono::hours(1));
    REQUIRE(world.key.verify(world.token(), "istio-ca", world.loop.wall_now() + std::chrono::hours(12))
                .has_value());
  }
  CHECK(world.token() != first);
  auto roots = world.state.read("waypoints/root-cert.pem");
  CHECK(**roots == "ROOTS\n");
}

TEST_CASE("what is started is a configuration that the waypoint takes; further variables win") {
  test::TempDir directory;
  World world(directory.path());
  world.options.environment = {"RUST_LOG=debug", "WORKER_THREADS=3", "TRUST_DOMAIN=other.example"};
  world.restart();
  world.apply(gateway(kKey));
  std::map<std::string, std::string> variables;
  for (const std::string& one : world.machine.started[0].spec.environment) {
    size_t equals = one.find('=');
    CHECK(variables.emplace(one.substr(0, equals), one.substr(equals + 1)).second);
  }
  auto config = config::load_waypoint_config(config::Environment(variables), 4);
  if (!config) FAIL(config.error().message());
  CHECK(config->name == "waypoint");
  CHECK(config->namespace_ == "production");
  CHECK(config->bind == config->instance_ip);
  CHECK(config->worker_threads == 3);
  CHECK(config->trust_domain == "other.example");
  CHECK(config->drain_duration == seconds(10));
  CHECK(config->admin_port == WaypointController::kAdminPortFirst);
}

TEST_CASE("for people: every Gateway of the class and how far it is") {
  test::TempDir directory;
  World world(directory.path());
  world.ready_at_once();
  world.apply(gateway(kKey) + gateway("a/w", "", "  listeners: []\n"));
  world.loop.run_for(seconds(1));
  auto page = nlohmann::json::parse(describe_waypoints(*world.base_objects, world.controller.get()));
  REQUIRE(page["waypoints"].size() == 2);
  CHECK(page["waypoints"][0]["programmed"] == false);
  CHECK_FALSE(page["waypoints"][0].contains("process"));
  CHECK(page["waypoints"][1]["name"] == "waypoint");
  CHECK(page["waypoints"][1]["programmed"] == true);
  CHECK(page["waypoints"][1]["trafficType"] == "service");
  CHECK(page["waypoints"][1]["process"]["phase"] == "ready");
  auto without = nlohmann::json::parse(describe_waypoints(*world.base_objects, nullptr));
  CHECK(without["waypoints"].size() == 2);
}

}  // namespace
}  // namespace culvert::control
