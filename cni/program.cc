// SPDX-License-Identifier: Apache-2.0
#include "cni/program.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cni/files.h"

namespace culvert::cni {
namespace {

constexpr std::string_view kTarget = "cni-agent";
constexpr size_t kLogRecordsMax = 10'000;  // of one batch from a plugin

LocalResponse not_found() { return {404, "not found\n"}; }

NetnsRef host_netns(const AgentConfig& config) {
  if (!config.switch_to_host) return nullptr;
  auto netns = Netns::open(config.kernel.proc_root + "/1/ns/net");
  return netns ? *netns : nullptr;
}

LinuxKernelOptions kernel_options(const AgentConfig& config) {
  LinuxKernelOptions options = config.kernel;
  options.host = host_netns(config);
  return options;
}

std::string directory_of(const std::string& path) {
  return path.substr(0, std::max<size_t>(path.rfind('/'), 1));
}

}  // namespace

Program::Program(async::Loop& loop, io::Network& network, base::Log& log, AgentConfig config,
                 std::unique_ptr<PodSource> source)
    : loop_(loop),
      network_(network),
      log_(log),
      config_(std::move(config)),
      source_(std::move(source)),
      kernel_(kernel_options(config_)),
      installer_(config_.installer, log),
      installer_watch_(installer_, log),
      scope_(loop) {}

Program::~Program() { stop(false); }

base::Result<> Program::listen_tcp(uint16_t port, std::unique_ptr<LocalHttp>& server,
                                   LocalHttp::Handler handler) {
  auto listener = network_.listen({base::IpAddr::any_v6(), port}, {});
  // No IPv6 on this machine: IPv4 alone.
  if (!listener) listener = network_.listen({base::IpAddr::any_v4(), port}, {});
  if (!listener) return base::fail(std::move(listener.error()).wrap(fmt::format("serve port {}", port)));
  server = std::make_unique<LocalHttp>(loop_, log_, std::move(handler), false);
  server->start(std::move(*listener));
  return {};
}

base::Result<> Program::listen_local(const std::string& name, std::unique_ptr<LocalHttp>& server,
                                     LocalHttp::Handler handler) {
  auto listener = network_.listen_unix(config_.run_dir + "/" + name, 0600);
  if (!listener) return base::fail(std::move(listener.error()).wrap("serve " + name));
  server = std::make_unique<LocalHttp>(loop_, log_, std::move(handler), true);
  server->start(std::move(*listener));
  return {};
}

base::Result<> Program::start(std::function<void(base::Error)> fatal) {
  fatal_ = std::move(fatal);
  if (config_.switch_to_host && !host_netns(config_)) {
    return base::fail(base::Code::kIo,
                      "ALLOW_SWITCH_TO_HOST_NS is set but the host's namespace cannot be opened under " +
                          config_.kernel.proc_root);
  }
  CULVERT_TRY(make_directories(config_.run_dir, 0750));
  if (config_.monitoring_port > 0) {
    CULVERT_TRY(listen_tcp(static_cast<uint16_t>(config_.monitoring_port), metrics_server_,
                           [this](LocalRequest r) { return metrics(std::move(r)); }));
  }
  CULVERT_TRY(
      listen_local("log.sock", log_server_, [this](LocalRequest r) { return plugin_log(std::move(r)); }));
  CULVERT_TRY(listen_tcp(config_.health_port, health_server_,
                         [this](LocalRequest r) { return health(std::move(r)); }));
  if (!config_.ambient) {
    watch_ready_ = true;
    return installer_watch_.start();
  }
  worker_ = std::make_unique<ThreadWorker>();
  agent_ = std::make_unique<Agent>(loop_, log_, kernel_, *worker_, config_.agent,
                                   Enrolment(config_.pairs, config_.excluded));
  CULVERT_TRY(make_directories(directory_of(config_.zds_path), 0755));
  // Listens now, accepts once the snapshot is complete.
  auto listener = network_.listen_packet(config_.zds_path, 0600);
  if (!listener) return base::fail(std::move(listener.error()).wrap("serve " + config_.zds_path));
  zds_listener_ = std::move(*listener);
  CULVERT_TRY(listen_local("pluginevent.sock", command_server_,
                           [this](LocalRequest r) { return command(std::move(r)); }));
  source_->start([this](ClusterRef cluster) { agent_->update(std::move(cluster)); });
  scope_.spawn(run(*this));
  return {};
}

async::Task<void> Program::run(Program& program) {
  auto started = co_await program.agent_->start();
  if (!started) {
    program.fatal_(started.error());
    co_return;
  }
  program.agent_->zds().start(*program.zds_listener_);
  program.watch_ready_ = true;
  // Chained only now: from here on every new pod needs our answer.
  auto installing = program.installer_watch_.start();
  if (!installing) program.fatal_(installing.error());
}

void Program::stop(bool clean) {
  installer_watch_.stop();
  scope_.cancel_all();
  command_server_.reset();
  worker_.reset();  // joins: nothing touches the agent afterwards
  agent_.reset();
  if (!clean) return;
  if (auto done = uninstall(config_, log_); !done) {
    log_.error(kTarget, "uninstalling left something behind",
               {base::Field::text("error", done.error().message())});
  }
}

async::Task<LocalResponse> Program::health(LocalRequest request) {
  if (request.path == "/healthz") co_return LocalResponse{200, "ok\n"};
  if (request.path != "/readyz") co_return not_found();
  const bool installed = installer_watch_.status().ready.load();
  if (installed && watch_ready_) co_return LocalResponse{200, "ok\n"};
  co_return LocalResponse{503, fmt::format("not ready: installed={} watching={}\n", installed, watch_ready_)};
}

async::Task<LocalResponse> Program::metrics(LocalRequest request) {
  if (request.path != "/metrics") co_return not_found();
  const auto& status = installer_watch_.status();
  std::string text = fmt::format(
      "# TYPE istio_cni_install_ready gauge\nistio_cni_install_ready {}\n"
      "# TYPE istio_cni_installs_total counter\nistio_cni_installs_total{{result=\"SUCCESS\"}} {}\n"
      "istio_cni_installs_total{{result=\"COPY_BINARIES_FAILURE\"}} {}\n"
      "istio_cni_installs_total{{result=\"CREATE_CNI_CONFIG_FAILURE\"}} {}\n",
      status.ready.load() ? 1 : 0, status.installs.load(), status.binary_failures.load(),
      status.config_failures.load());
  if (agent_) {
    const auto& counters = agent_->counters();
    text += "# TYPE istio_cni_plugin_requests_total counter\n";
    for (const auto& [code, count] : counters.plugin_requests) {
      text += fmt::format("istio_cni_plugin_requests_total{{response_code=\"{}\"}} {}\n", code, count);
    }
    text += fmt::format(
        "# TYPE nodeagent_reconcile_events_total counter\n"
        "nodeagent_reconcile_events_total{{type=\"add\"}} "
        "{}\nnodeagent_reconcile_events_total{{type=\"update\"}} {}\n"
        "nodeagent_reconcile_events_total{{type=\"delete\"}} {}\n"
        "# TYPE culvert_cni_drift_repaired_total counter\nculvert_cni_drift_repaired_total {}\n"
        "# HELP culvert_cni_conntrack_drops_total Packets of enrolled pods lost to a full table of "
        "connections.\n"
        "# TYPE culvert_cni_conntrack_drops_total counter\nculvert_cni_conntrack_drops_total {}\n"
        "# TYPE ztunnel_connected gauge\nztunnel_connected {}\n",
        counters.adds, counters.updates, counters.deletes, counters.drift_repaired, counters.conntrack_drops,
        agent_->zds().connected());
  }
  co_return LocalResponse{200, std::move(text), "text/plain; version=0.0.4; charset=utf-8"};
}

async::Task<LocalResponse> Program::plugin_log(LocalRequest request) {
  if (request.path != "/log") co_return not_found();
  if (request.method != "POST") co_return LocalResponse{405, "POST only\n"};
  auto batch = nlohmann::json::parse(request.body, nullptr, false);
  if (!batch.is_array() || batch.size() > kLogRecordsMax)
    co_return LocalResponse{400, "not a list of log records\n"};
  for (const auto& item : batch) {
    auto record = nlohmann::json::parse(item.is_string() ? item.get<std::string>() : "", nullptr, false);
    auto text = [&](const char* key) {
      return record.contains(key) && record[key].is_string() ? record[key].get<std::string>() : std::string();
    };
    if (!record.is_object()) continue;
    auto level = base::parse_level(text("level"));
    if (!level || text("time").empty() || text("msg").empty()) continue;
    std::vector<std::string> keys;  // Field keys are views
    keys.reserve(record.size());
    std::vector<base::Field> fields;
    for (const auto& [key, value] : record.items()) {
      if (key == "level" || key == "msg" || key == "scope") continue;
      keys.push_back(key == "time" ? "plugin_time" : key);
      fields.push_back(
          base::Field::text(keys.back(), value.is_string() ? value.get<std::string>() : value.dump()));
    }
    log_.write(*level, "cni-plugin", text("msg"), std::span<const base::Field>(fields));
  }
  co_return LocalResponse{200, ""};
}

async::Task<LocalResponse> Program::command(LocalRequest request) {
  if (request.path != "/cmdadd") co_return not_found();
  if (request.method != "POST") co_return LocalResponse{405, "POST only\n"};
  auto answer = co_await agent_->cmd_add(std::move(request.body));
  co_return LocalResponse{answer.status, std::move(answer.body),
                          answer.status == 200 ? "application/json" : "text/plain; charset=utf-8"};
}

base::Result<> uninstall(const AgentConfig& config, base::Log& log) {
  Installer installer(config.installer, log);
  auto removed = installer.uninstall();
  if (!config.ambient) return removed;
  LinuxKernel kernel(kernel_options(config));
  auto host = kernel.remove_host();
  if (removed)
    log.info(kTarget,
             "istio-cni was taken out of the CNI configuration; enrolled pods keep their rules until they "
             "leave the mesh");
  return removed ? host : removed;
}

}  // namespace culvert::cni
