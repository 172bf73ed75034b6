// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/app.h"

#include <dirent.h>
#include <sys/resource.h>

#include <utility>

#include "mesh/config/local_file.h"
#include "ztunnel/app_pages.h"
#include "ztunnel/ca_certificates.h"
#include "ztunnel/control_plane.h"

namespace culvert::ztunnel {

namespace {

using base::Field;
constexpr char kStateManager[] = "state manager";
constexpr char kProxy[] = "proxy";
constexpr char kWorkloadManager[] = "workload proxy manager";
// Fixed names where no pod uid exists.
constexpr char kDedicatedUid[] = "dedicated";
constexpr char kSelfUid[] = "self";

uint64_t open_descriptors() {
  DIR* directory = ::opendir("/proc/self/fd");
  if (!directory) return 0;
  uint64_t count = 0;
  while (::readdir(directory)) ++count;
  ::closedir(directory);
  return count > 3 ? count - 3 : 0;  // ".", ".." and the directory itself
}

uint64_t descriptor_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

}  // namespace

App::App(config::ZtunnelConfig config, AppParts parts)
    : config_(std::move(config)),
      parts_(std::move(parts)),
      control_(parts_.control.loop),
      log_(parts_.log),
      shard_(metrics_.add_shard()),
      store_(config_.node_name),
      certificates_(std::move(parts_.certificates)),
      synced_(control_),
      stopping_(control_),
      zds_(control_),
      tasks_(control_) {
  base::Rng rng(parts_.seed);
  std::vector<Worker*> workers;
  for (const LoopPlace& place : parts_.data) {
    workers_.push_back(std::make_unique<Worker>(config_, place.loop, place.network, log_,
                                                metrics_.add_shard(), cert_request(place.loop), rng.fork()));
    workers.push_back(workers_.back().get());
  }
  fleet_ = std::make_unique<Fleet>(control_, shard_, std::move(workers));
  if (config_.mode == config::ProxyMode::kShared) {
    inpod_ = std::make_unique<InpodClient>(control_, parts_.control.network, log_, shard_, rng.fork(),
                                           config_.zds_path, *fleet_);
  }
  pages_ = std::make_unique<AppPages>(*this);
  servers_ = std::make_unique<Servers>(config_, log_, *pages_);
}

App::~App() = default;

async::Task<base::Result<>> App::run() {
  base::Result<> prepared = prepare();
  if (!prepared) co_return prepared;
  base::Result<> bound = co_await servers_->start(control_, parts_.control.network, parts_.data.front().loop,
                                                  parts_.data.front().network);
  if (!bound) co_return bound;
  readiness_.ready(kProxy);
  base::Result<> started = co_await start_pods();
  if (!started) co_return started;
  co_await stopping_.wait();
  co_await drain();
  co_return base::Result<>{};
}

// What can fail without a socket, then the clients of the control plane.
base::Result<> App::prepare() {
  for (const std::string& note : config_.notes) log_.warn("config", note);
  readiness_.pending(kStateManager);
  readiness_.pending(kProxy);
  if (inpod_) {
    readiness_.pending(kWorkloadManager);
    inpod_->on_change([this] { readiness_.set(kWorkloadManager, inpod_->state().ready()); });
  }
  register_gauges();
  if (!certificates_) CULVERT_TRY(make_certificates());
  CULVERT_TRY(load_local_mesh());
  return start_xds();
}

base::Result<> App::make_certificates() {
  if (config_.fake_ca) {
    auto own = OwnCertificates::make(control_, config_.secret_ttl);
    if (!own) return base::fail(std::move(own).error());
    log_.warn("ca", "FAKE_CA is on: certificates are signed by a root only this process trusts");
    certificates_ = std::move(*own);
    return {};
  }
  auto made = CaCertificates::make(control_, parts_.control.network, log_, base::Rng(parts_.seed + 1),
                                   config_, parts_.files);
  if (!made) return base::fail(std::move(made).error());
  certificates_ = std::move(*made);
  return {};
}

void App::register_gauges() {
  std::string labels;
  observe::append_label(labels, "component", "ztunnel");
  observe::append_label(labels, "tag", config_.istio_version);
  shard_.cell(observe::families::build_info(), labels).set(1);
  metrics_.add_gauge(observe::families::process_open_fds(), open_descriptors);
  metrics_.add_gauge(observe::families::process_max_fds(), descriptor_limit);
}

void App::export_xds() {
  if (!xds_) return;
  xds::XdsClient::Stats stats = xds_->stats();
  for (const auto& [type_url, received] : stats.received) {
    std::string labels;
    observe::append_label(labels, "url", type_url);
    shard_.cell(observe::families::xds_messages(), labels).set(received.messages);
    shard_.cell(observe::families::xds_message_bytes(), labels).set(received.bytes);
  }
  for (const auto& [reason, count] : stats.terminations) {
    std::string labels;
    observe::append_label(labels, "reason", reason);
    shard_.cell(observe::families::xds_connection_terminations(), labels).set(count);
  }
}

base::Result<> App::load_local_mesh() {
  std::string text = config_.local_xds;
  std::string origin = "LOCAL_XDS";
  if (!config_.local_xds_path.empty()) {
    origin = config_.local_xds_path;
    auto file = parts_.files(origin);
    if (!file) return base::fail(std::move(file).error().wrap("LOCAL_XDS_PATH"));
    text = std::move(*file);
  }
  if (text.empty()) return {};
  auto update = config::parse_local_mesh(text, origin, store_.names());
  if (!update) return base::fail(std::move(update).error());
  apply(std::move(*update));
  return {};
}

base::Result<> App::start_xds() {
  auto ready = [this] {
    readiness_.ready(kStateManager);
    synced_.set();
  };
  if (config_.xds_address.empty()) {
    ready();
    return {};
  }
  auto options = xds_options(config_, parts_.files);
  if (!options) return base::fail(std::move(options).error());
  xds_ = std::make_unique<xds::XdsClient>(
      control_, parts_.control.network, log_, base::Rng(parts_.seed + 2), store_.names(), std::move(*options),
      [this](model::MeshUpdate update) { apply(std::move(update)); }, ready);
  tasks_.spawn(xds_->run());
  return {};
}

void App::apply(model::MeshUpdate update) {
  model::MeshChange change = store_.apply(std::move(update));
  fleet_->set_view(change.view, change.policies_changed);
  if (config_.mode != config::ProxyMode::kShared || !certificates_) return;
  for (const model::Identity& identity : change.local_identities_added) certificates_->warm(identity);
  for (const model::Identity& identity : change.local_identities_gone) {
    certificates_->forget(identity);
    fleet_->forget_identity(identity);
  }
}

ca::CertRequest App::cert_request(async::Loop& loop) {
  return [this, &loop](const model::Identity& identity, ca::CertAnswer answer) {
    control_.post([this, &loop, identity, answer = std::move(answer)]() mutable {
      tasks_.spawn(answer_cert(*this, std::move(identity), std::move(answer), loop));
    });
  };
}

async::Task<void> App::answer_cert(App& app, model::Identity identity, ca::CertAnswer answer,
                                   async::Loop& loop) {
  base::Result<wire::TlsIdentityRef> certificate = co_await app.certificates_->get(std::move(identity));
  loop.post([answer = std::move(answer), certificate = std::move(certificate)] { answer(certificate); });
}

// Data-plane work begins once the first state is here (section 1), so that policies stand before traffic.
async::Task<base::Result<>> App::start_pods() {
  co_await synced_.wait();  // a shutdown sets it too
  if (stopping_.is_set()) co_return base::Result<>{};
  log_.info("app", "state received, starting to proxy",
            {Field::number("workloads", store_.view()->workload_count())});
  if (!config_.proxy_enabled) co_return base::Result<>{};
  if (config_.mode == config::ProxyMode::kDedicated) {
    base::Result<> started = co_await fleet_->start_pod(
        {kDedicatedUid, *config_.dedicated_workload, nullptr, PodKind::kDedicated});
    co_return started;
  }
  if (config_.has_self_identity()) {
    config::WorkloadName self{config_.pod_namespace, config_.pod_name, config_.service_account};
    base::Result<> started = co_await fleet_->start_pod({kSelfUid, std::move(self), nullptr, PodKind::kSelf});
    if (!started) co_return base::fail(std::move(started).error().wrap("self listener"));
  }
  zds_.spawn(inpod_->run());
  co_return base::Result<>{};
}

void App::shut_down(std::string why) {
  if (stopping_.is_set()) return;
  log_.info("app", "shutting down",
            {Field::text("reason", std::move(why)),
             Field::text("deadline", base::format_duration(config_.drain_deadline))});
  stopping_.set();
  synced_.set();
}

async::Task<void> App::drain() {
  // The agent sees the socket close and sends new pods elsewhere; a start in flight is given up.
  zds_.cancel_all();
  co_await zds_.idle().wait();
  co_await fleet_->drain(async::Deadline::in(control_, config_.drain_deadline));
  tasks_.cancel_all();
  co_await tasks_.idle().wait();
  co_await servers_->stop();
  log_.info("app", "all connections have ended");
}

}  // namespace culvert::ztunnel
