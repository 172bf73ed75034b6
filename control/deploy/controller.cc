// SPDX-License-Identifier: Apache-2.0
#include "control/deploy/controller.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace culvert::control {

using base::Code;
using base::fail;
using base::Field;
using base::Result;
using nlohmann::json;

namespace {

constexpr const char* kAddressesFile = "waypoint-addresses.json";
constexpr const char* kProgrammedFile = "waypoints-programmed.json";
constexpr const char* kRootsFile = "waypoints/root-cert.pem";

Result<std::set<std::string>> read_programmed(const StateDir& state) {
  Result<std::optional<std::string>> kept = state.read(kProgrammedFile);
  if (!kept) return fail(std::move(kept).error());
  std::set<std::string> out;
  if (!kept->has_value()) return out;
  json list = json::parse(**kept, nullptr, false);
  if (!list.is_array()) return fail(Code::kInvalid, state.path(kProgrammedFile) + " is not a JSON list");
  for (const json& key : list) {
    if (key.is_string()) out.insert(key.get<std::string>());
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<WaypointController>> WaypointController::make(World world, WaypointOptions options,
                                                                     CompileOptions compile,
                                                                     std::string roots_pem,
                                                                     std::function<void()> changed) {
  Result<VipPool> pool = VipPool::make(options.range);
  if (!pool) return fail(std::move(pool).error());
  Result<std::optional<std::string>> kept = world.state.read(kAddressesFile);
  if (!kept) return fail(std::move(kept).error());
  if (kept->has_value()) {
    if (Result<> loaded = pool->load_json(**kept); !loaded) {
      return fail(std::move(loaded).error().wrap(kAddressesFile));
    }
  }
  Result<std::set<std::string>> programmed = read_programmed(world.state);
  if (!programmed) return fail(std::move(programmed).error());
  if (Result<> written = world.state.write(kRootsFile, roots_pem, 0644); !written) {
    return fail(std::move(written).error());
  }
  std::unique_ptr<WaypointController> controller(
      new WaypointController(std::move(world), std::move(options), std::move(compile), std::move(*pool),
                             std::move(roots_pem), std::move(changed)));
  controller->programmed_ = std::move(*programmed);
  return controller;
}

WaypointController::WaypointController(World world, WaypointOptions options, CompileOptions compile,
                                       VipPool pool, std::string roots_pem, std::function<void()> changed)
    : world_(std::move(world)),
      options_(std::move(options)),
      compile_(std::move(compile)),
      pool_(std::move(pool)),
      roots_pem_(std::move(roots_pem)),
      changed_(std::move(changed)),
      renew_timer_([this] { renew_tokens(); }),
      processes_(
          world_.loop, world_.machine, world_.network, world_.log,
          [this](const std::string& key) { return prepare(key); }, [this] { processes_changed(); }) {
  world_.loop.arm(renew_timer_, world_.loop.now() + kTokenRenewal);
}

kube::ObjectsRef WaypointController::apply(const kube::ObjectsRef& objects) {
  const kube::Labels& system = objects->namespace_labels(compile_.system_namespace);
  auto network = system.find("topology.istio.io/network");
  network_ = network == system.end() ? "" : network->second;
  derived_ = derive_waypoints(*objects);
  refused_.clear();
  std::erase_if(admin_ports_, [&](const auto& entry) { return !derived_.deployments.contains(entry.first); });
  std::map<std::string, ProcessWanted> all;
  for (const auto& [key, deployment] : derived_.deployments) {
    Result<base::IpAddr> address = address_of(deployment);
    Result<uint16_t> port = admin_port_of(key);
    if (!address || !port) {
      const base::Error& error = address ? port.error() : address.error();
      refused_.push_back({"IST0171", Severity::kError, deployment.origin, "Gateway " + key,
                          "no waypoint is started: " + error.message()});
      continue;
    }
    all[key] = wanted(deployment, *address, *port);
  }
  if (pool_.take_dirty()) keep(kAddressesFile, pool_.to_json());
  std::erase_if(running_, [&](const auto& entry) { return !all.contains(entry.first); });
  for (const auto& [key, process] : all) running_[key] = {process.address, options_.node, false, false};
  size_t before = programmed_.size();
  std::erase_if(programmed_, [&](const std::string& key) { return !objects->gateways.contains(key); });
  if (programmed_.size() != before) keep(kProgrammedFile, json(programmed_).dump() + "\n");
  processes_.set(std::move(all));
  take_states();
  return with_waypoints(objects, derived_.deployments, running_);
}

Result<base::IpAddr> WaypointController::address_of(const WaypointDeployment& deployment) {
  if (!deployment.address) return pool_.allocate(deployment.key());
  if (options_.range.contains(*deployment.address)) {
    return fail(Code::kInvalid, fmt::format("AddressNotUsable: {} is in {}, which is given out by us",
                                            deployment.address->to_string(), options_.range.to_string()));
  }
  return *deployment.address;
}

Result<uint16_t> WaypointController::admin_port_of(const std::string& key) {
  if (auto found = admin_ports_.find(key); found != admin_ports_.end()) return found->second;
  for (size_t i = 0; i < kWaypointsMax; ++i) {
    auto port = static_cast<uint16_t>(kAdminPortFirst + i);
    bool taken = std::any_of(admin_ports_.begin(), admin_ports_.end(),
                             [&](const auto& entry) { return entry.second == port; });
    if (!taken) return admin_ports_[key] = port;
  }
  return fail(Code::kExhausted, fmt::format("{} waypoints run on this machine already", kWaypointsMax));
}

ProcessWanted WaypointController::wanted(const WaypointDeployment& deployment, base::IpAddr address,
                                         uint16_t admin_port) {
  WaypointPlace place;
  place.pod_name = deployment.pod_name();
  place.node = options_.node;
  place.address = address;
  place.admin_port = admin_port;
  place.control_address = options_.control;
  place.root_path = world_.state.path(kRootsFile);
  place.token_path = world_.state.path(file_name(deployment, "token"));
  place.trust_domain = compile_.trust_domain;
  place.cluster_id = compile_.cluster_id;
  place.cluster_domain = compile_.cluster_domain;
  place.network = network_;
  place.drain = options_.drain;
  ProcessWanted out;
  out.program = options_.program;
  std::map<std::string, std::string> environment;
  for (EnvironmentVariable& variable : waypoint_environment(deployment, place)) {
    if (variable.field_path.empty()) environment[variable.name] = variable.value;
  }
  for (const std::string& more : options_.environment) {
    size_t equals = more.find('=');
    environment[more.substr(0, equals)] = more.substr(equals + 1);
  }
  for (const auto& [name, value] : environment) out.environment.push_back(name + "=" + value);
  out.address = address;
  out.netns = options_.netns;
  out.output =
      fmt::format("{}/waypoint-{}.{}.log", options_.output_directory, deployment.ns, deployment.name);
  out.drain = options_.drain;
  return out;
}

std::string WaypointController::file_name(const WaypointDeployment& deployment, const char* what) const {
  return fmt::format("waypoints/{}.{}.{}", deployment.ns, deployment.name, what);
}

Result<> WaypointController::prepare(const std::string& key) {
  auto found = derived_.deployments.find(key);
  if (found == derived_.deployments.end()) return fail(Code::kNotFound, "Gateway " + key + " is gone");
  const WaypointDeployment& deployment = found->second;
  base::WallTime now = world_.loop.wall_now();
  TokenClaims claims{{deployment.ns, deployment.service_account, options_.node, deployment.pod_name()},
                     options_.token_audience,
                     now,
                     now + kTokenLifetime};
  return world_.state.write(file_name(deployment, "token"), world_.key.issue(claims), 0600);
}

void WaypointController::renew_tokens() {
  base::Duration next = kTokenRenewal;
  for (const auto& [key, running] : running_) {
    Result<> renewed = prepare(key);
    if (renewed) continue;
    next = kTokenRetry;
    world_.log.error("waypoint", "its token cannot be renewed",
                     {Field::text("waypoint", key), Field::text("error", renewed.error().message())});
  }
  world_.loop.arm(renew_timer_, world_.loop.now() + next);
}

void WaypointController::take_states() {
  std::map<std::string, ProcessState> states = processes_.states();
  bool more = false;
  for (auto& [key, running] : running_) {
    auto found = states.find(key);
    running.ready = found != states.end() && found->second.phase == ProcessPhase::kReady;
    if (running.ready) more |= programmed_.insert(key).second;
    running.programmed = programmed_.contains(key);
  }
  if (more) keep(kProgrammedFile, json(programmed_).dump() + "\n");
}

void WaypointController::processes_changed() {
  auto told = [this] {
    std::vector<std::string> out;
    for (const auto& [key, one] : running_)
      out.push_back(fmt::format("{} {} {}", key, one.programmed, one.ready));
    return out;
  };
  auto before = told();
  take_states();
  if (told() != before) changed_();
}

std::vector<Finding> WaypointController::findings() const {
  std::vector<Finding> out = derived_.findings;
  out.insert(out.end(), refused_.begin(), refused_.end());
  for (const auto& [key, deployment] : derived_.deployments) {
    if (deployment.parameters.empty()) continue;
    out.push_back(
        {"IST0171", Severity::kWarning, deployment.origin, "Gateway " + key,
         fmt::format("infrastructure.parametersRef ({}) changes Kubernetes objects; a waypoint that "
                     "runs as a process has none",
                     deployment.parameters)});
  }
  return out;
}

std::optional<WaypointController::Report> WaypointController::report(const std::string& key) const {
  auto running = running_.find(key);
  auto port = admin_ports_.find(key);
  if (running == running_.end() || port == admin_ports_.end()) return std::nullopt;
  std::map<std::string, ProcessState> states = processes_.states();
  auto state = states.find(key);
  return Report{running->second, state == states.end() ? ProcessState() : state->second, port->second};
}

size_t WaypointController::running() const {
  size_t count = 0;
  for (const auto& [key, state] : processes_.states()) count += state.pid != 0 ? 1 : 0;
  return count;
}

void WaypointController::keep(const char* name, const std::string& content) {
  if (Result<> kept = world_.state.write(name, content, 0600); !kept) {
    world_.log.error("waypoint", "cannot be kept; after a restart it may differ",
                     {Field::text("file", name), Field::text("error", kept.error().message())});
  }
}

std::string describe_waypoints(const kube::Objects& objects, const WaypointController* controller) {
  json out = json::array();
  for (const auto& [key, gateway] : objects.gateways) {
    if (!is_waypoint_class(objects, gateway->class_name)) continue;
    auto revision = gateway->meta.labels.find("istio.io/rev");
    json one = {{"namespace", gateway->meta.ns},
                {"name", gateway->meta.name},
                {"class", gateway->class_name},
                {"revision", revision == gateway->meta.labels.end() ? "default" : revision->second},
                {"trafficType", waypoint_traffic(objects, *gateway)},
                {"programmed", !gateway->status_addresses.empty()}};
    if (!gateway->status_addresses.empty()) one["address"] = gateway->status_addresses.front().value;
    if (auto report = controller ? controller->report(key) : std::nullopt) {
      one["address"] = report->running.address.to_string();
      one["programmed"] = report->running.programmed;
      one["process"] = {{"phase", to_string(report->process.phase)},
                        {"pid", report->process.pid},
                        {"restarts", report->process.restarts},
                        {"problem", report->process.problem},
                        {"adminPort", report->admin_port}};
    }
    out.push_back(std::move(one));
  }
  return json({{"waypoints", std::move(out)}}).dump(2) + "\n";
}

}  // namespace culvert::control
