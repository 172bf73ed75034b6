// SPDX-License-Identifier: Apache-2.0
#include "cni/plugin.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace culvert::cni {
namespace {

constexpr std::string_view kTarget = "cni-plugin";
// How much of the agent's reason goes into our error.
constexpr size_t kReasonBytesMax = 1 << 20;

CniError own(std::string message, std::string details = "") {
  return CniError{CniCode::kOwn, std::move(message), std::move(details)};
}

PluginOutcome failed(const CniError& error) { return {1, error.to_json(), ""}; }

std::string version_answer() {
  nlohmann::json json{{"cniVersion", supported_versions().back()},
                      {"supportedVersions", supported_versions()}};
  return json.dump() + "\n";
}

CniResult<void> check_environment(const PluginEnvironment& env) {
  std::vector<std::string> missing;
  const bool pod_command = env.command == "ADD" || env.command == "CHECK" || env.command == "DEL";
  if (pod_command && env.container_id.empty()) missing.emplace_back("CNI_CONTAINERID");
  if ((env.command == "ADD" || env.command == "CHECK") && env.netns.empty())
    missing.emplace_back("CNI_NETNS");
  if (pod_command && env.ifname.empty()) missing.emplace_back("CNI_IFNAME");
  if (env.path.empty()) missing.emplace_back("CNI_PATH");
  if (!missing.empty()) {
    return std::unexpected(
        CniError{CniCode::kBadEnvironment,
                 fmt::format("required env variables [{}] missing", fmt::join(missing, ",")), ""});
  }
  if (!pod_command) return {};
  if (!valid_container_id(env.container_id)) {
    return std::unexpected(CniError{CniCode::kBadEnvironment, "invalid characters in containerID",
                                    env.container_id.substr(0, 200)});
  }
  if (!valid_ifname(env.ifname)) {
    return std::unexpected(
        CniError{CniCode::kBadEnvironment, "invalid interface name", env.ifname.substr(0, 200)});
  }
  return {};
}

CniResult<void> check_version(const std::string& command, const std::string& version) {
  const char* least = command == "CHECK"                       ? "0.4.0"
                      : command == "GC" || command == "STATUS" ? "1.1.0"
                                                               : "0.1.0";
  if (compare_versions(version, least) >= 0) return {};
  return std::unexpected(CniError{CniCode::kIncompatibleVersion,
                                  fmt::format("config version does not allow {}", command),
                                  fmt::format("config is \"{}\", {} needs \"{}\"", version, command, least)});
}

// Our agent's pod must start when the agent is down: it is exempt before anything else is asked.
bool is_agent_itself(const CniArgs& args, const NetworkConfig& config) {
  return args.pod_name.starts_with("istio-cni-node-") && args.pod_namespace == config.pod_namespace;
}

CniResult<void> ask_agent(const PluginEnvironment& env, const NetworkConfig& config, const CniArgs& args,
                          const PluginHooks& hooks, base::Log& log) {
  const std::string socket = config.run_dir + "/pluginevent.sock";
  auto answer = hooks.post_add(socket, encode_add_event(env.netns, args, config.addresses));
  if (!answer) {
    return std::unexpected(own("failed to contact node Istio CNI agent", answer.error().message()));
  }
  if (answer->status != 200) {
    return std::unexpected(own(
        "failed to contact node Istio CNI agent",
        fmt::format("the agent answered {}: {}", answer->status, answer->body.substr(0, kReasonBytesMax))));
  }
  log.info(kTarget, "the agent has answered", {base::Field::text("answer", answer->body.substr(0, 200))});
  return {};
}

CniResult<void> add(const PluginEnvironment& env, const NetworkConfig& config, const PluginHooks& hooks,
                    base::Log& log) {
  auto args = CniArgs::parse(env.args);
  if (!args) return std::unexpected(args.error());
  log.debug(kTarget, "ADD",
            {base::Field::text("pod", args->pod_name), base::Field::text("namespace", args->pod_namespace),
             base::Field::text("netns", env.netns)});
  if (is_agent_itself(*args, config)) return {};
  if (args->pod_name.empty() || args->pod_namespace.empty()) return {};
  const auto& excluded = config.exclude_namespaces;
  if (std::find(excluded.begin(), excluded.end(), args->pod_namespace) != excluded.end()) return {};
  if (!config.ambient_enabled) return {};
  if (config.directory.empty()) {
    return std::unexpected(own("cannot decide about this pod",
                               "this build learns pods from a manifest directory through the node agent; "
                               "the configuration has no culvert_directory"));
  }
  return ask_agent(env, config, *args, hooks, log);
}

}  // namespace

PluginOutcome run_plugin(const PluginEnvironment& env, const PluginHooks& hooks, base::Log& log) {
  if (env.command.empty()) {
    return {
        0, "",
        fmt::format(
            "CNI plugin istio-cni: enrols pods into the ambient mesh\nCNI protocol versions supported: {}\n",
            fmt::join(supported_versions(), ", "))};
  }
  if (env.command == "VERSION") return {0, version_answer(), ""};
  static const std::vector<std::string_view> kCommands{"ADD", "DEL", "CHECK", "GC", "STATUS"};
  if (std::find(kCommands.begin(), kCommands.end(), env.command) == kCommands.end()) {
    return failed(
        {CniCode::kBadEnvironment, fmt::format("unknown CNI_COMMAND: {}", env.command.substr(0, 64)), ""});
  }
  if (auto checked = check_environment(env); !checked) return failed(checked.error());
  auto config = NetworkConfig::parse(hooks.read_stdin());
  if (!config) return failed(config.error());
  if (hooks.configured) hooks.configured(*config);
  if (auto checked = check_version(env.command, config->version); !checked) return failed(checked.error());
  // CHECK, GC and STATUS must succeed while the agent is down: its own pod could not start otherwise.
  if (env.command != "ADD" && env.command != "DEL") return {};
  const bool may_be_own = env.netns_override == "true" || env.netns_override == "1";
  if (!env.netns.empty() && !may_be_own && hooks.is_own_netns(env.netns)) {
    return failed({CniCode::kInvalidNetns, "plugin's netns and netns from CNI_NETNS should not be the same",
                   env.netns});
  }
  if (env.command == "DEL") return {};
  if (auto added = add(env, *config, hooks, log); !added) {
    log.error(kTarget, added.error().message, {base::Field::text("details", added.error().details)});
    return failed(added.error());
  }
  return {0, config->result_json, ""};
}

}  // namespace culvert::cni
