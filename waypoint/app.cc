// SPDX-License-Identifier: Apache-2.0
#include "waypoint/app.h"

#include <utility>

#include "mesh/ca/ca_client.h"
#include "mesh/config/server_access.h"
#include "waypoint/config_dump.h"
#include "waypoint/version.h"

namespace culvert::waypoint {

namespace {

using base::Field;
constexpr char kConfiguration[] = "configuration";
constexpr char kListener[] = "listener";
constexpr char kDraining[] = "draining";
// For the last spans, once no request is left.
constexpr base::Duration kSpansCloseMax = std::chrono::seconds(5);
constexpr char kCgroupBound[] = "/sys/fs/cgroup/memory.max";
constexpr base::Duration kMemoryEvery = std::chrono::milliseconds(250);

Self self_of(const config::WaypointConfig& config) {
  return {{config.trust_domain, config.namespace_, config.service_account},
          config.network,
          config.instance_ip,
          config.name};
}

// Where the keys of rate limits fall in their tables is nobody's to know.
decide::SipKey secret_of(uint64_t seed) {
  base::Rng rng(seed ^ 0x5ee5u);
  return {rng.next(), rng.next()};
}

conn::HttpResponse text(int status, std::string body) {
  conn::HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

}  // namespace

App::App(config::WaypointConfig config, AppParts parts)
    : config_(std::move(config)),
      parts_(std::move(parts)),
      control_(parts_.control.loop),
      log_(parts_.log),
      shared_(self_of(config_), secret_of(parts_.seed), {config_.connections_max, config_.requests_max}),
      reporter_(log_, std::move(parts_.access_log)),
      store_(""),
      synced_(control_),
      stopping_(control_),
      tasks_(control_) {
  base::Rng rng(parts_.seed);
  auto system_roots = config::roots_reader("SYSTEM", parts_.files);
  for (const LoopPlace& place : parts_.data) {
    workers_.push_back(std::make_unique<Worker>(config_, place.loop, place.network, log_, shared_, reporter_,
                                                cert_request(place.loop), system_roots, rng.fork()));
  }
  spans_ = make_spans(rng.fork());
  reporter_.export_spans(*spans_);
  readiness_.pending(kConfiguration);
  readiness_.pending(kListener);
}

App::~App() = default;

std::unique_ptr<SpanExporter> App::make_spans(base::Rng rng) {
  auto identities = [this](model::Identity identity, async::Deadline deadline) {
    return own_certificate(*this, std::move(identity), deadline);
  };
  return std::make_unique<SpanExporter>(SpanExporter::Parts{
      control_, parts_.control.network, log_, shared_.clusters, shared_.self, config_.cluster_domain,
      SpanSource::of(config_), identities, config::roots_reader("SYSTEM", parts_.files), rng});
}

async::Task<base::Result<wire::TlsIdentityRef>> App::own_certificate(App& app, model::Identity identity,
                                                                     async::Deadline deadline) {
  base::Result<wire::TlsIdentityRef> certificate = co_await async::with_deadline(
      app.control_, deadline, "our own certificate", app.certificates_->get(std::move(identity)));
  co_return certificate;
}

async::Task<base::Result<>> App::run() {
  base::Result<> made = make_certificates();
  if (!made) co_return made;
  base::Result<> pages = start_pages();
  if (!pages) co_return pages;
  base::Result<> xds = start_xds();
  if (!xds) co_return xds;
  co_await synced_.wait();
  if (!stopping_.is_set()) {
    readiness_.ready(kConfiguration);
    certificates_->warm(shared_.self.identity);
    base::Result<> started = co_await start_workers();
    if (!started) co_return started;
    if (parts_.heap_bytes) tasks_.spawn(watch_memory(*this));
    readiness_.ready(kListener);
    log_.info("app", "serving",
              {Field::text("waypoint", config_.namespace_ + "/" + config_.name),
               Field::number("services", l7_->services().size()), Field::number("port", config_.hbone_port)});
  }
  co_await stopping_.wait();
  co_await drain();
  co_return base::Result<>{};
}

base::Result<> App::make_certificates() {
  fetcher_ = std::move(parts_.certificates);
  if (!fetcher_) {
    auto address = config::parse_https_url(config_.ca_address, "CA_ADDRESS");
    if (!address) return base::fail(std::move(address).error());
    ca::CaClientOptions options;
    options.host = std::move(address->host);
    options.port = address->port;
    options.read_roots = config::roots_reader(config_.ca_root_ca, parts_.files);
    options.read_token = config::token_reader(config_.auth_token, parts_.files);
    options.cluster_id = config_.cluster_id;
    options.lifetime = config_.secret_ttl;
    options.impersonate = false;
    fetcher_ = std::make_unique<ca::CaClient>(control_, parts_.control.network, std::move(options));
  }
  certificates_ = std::make_unique<ca::CertStore>(control_, log_, base::Rng(parts_.seed + 1), *fetcher_);
  return {};
}

base::Result<> App::start_xds() {
  auto address = config::parse_https_url(config_.xds_address, "XDS_ADDRESS");
  if (!address) return base::fail(std::move(address).error());
  xds::XdsClientOptions options;
  options.host = std::move(address->host);
  options.port = address->port;
  options.read_roots = config::roots_reader(config_.xds_root_ca, parts_.files);
  options.read_token = config::token_reader(config_.auth_token, parts_.files);
  options.cluster_id = config_.cluster_id;
  options.delta.node.id =
      xds::waypoint_node_id(config_.instance_ip.to_string(), config_.pod_name, config_.namespace_);
  options.delta.node.metadata = {{"NAME", config_.pod_name},
                                 {"NAMESPACE", config_.namespace_},
                                 {"GATEWAY_NAME", config_.name},
                                 {"NODE_NAME", config_.node_name},
                                 {"CLUSTER_ID", config_.cluster_id}};
  options.delta.types = xds::TypeSet::kWaypoint;
  auto apply_mesh = [this](model::MeshUpdate update) { apply(std::move(update), {}); };
  options.apply_waypoint = [this](model::WaypointUpdate update) { apply({}, std::move(update)); };
  xds_ = std::make_unique<xds::XdsClient>(control_, parts_.control.network, log_, base::Rng(parts_.seed + 2),
                                          store_.names(), std::move(options), apply_mesh,
                                          [this] { synced_.set(); });
  tasks_.spawn(xds_->run());
  return {};
}

void App::apply(model::MeshUpdate mesh, model::WaypointUpdate l7) {
  model::ViewRef view = mesh.empty() ? store_.view() : store_.apply(std::move(mesh)).view;
  if (!l7.empty()) l7_ = l7_->with(std::move(l7));
  auto state = std::make_shared<MeshState>(MeshState{std::move(view), l7_});
  reporter_.set_settings(l7_->settings());
  spans_->set_state(state);
  for (size_t i = 0; i < workers_.size(); ++i) {
    parts_.data[i].loop.post([worker = workers_[i].get(), state] { worker->set_state(state); });
  }
}

async::Task<base::Result<>> App::start_workers() {
  struct Outcome {
    size_t left = 0;
    base::Result<> result;
  };
  auto outcome = std::make_shared<Outcome>();
  auto done = std::make_shared<async::Event>(control_);
  outcome->left = workers_.size();
  for (size_t i = 0; i < workers_.size(); ++i) {
    parts_.data[i].loop.post([this, worker = workers_[i].get(), outcome, done] {
      base::Result<> listening = worker->listen();
      control_.post([listening, outcome, done] {
        if (!listening) outcome->result = listening;
        if (--outcome->left == 0) done->set();
      });
    });
  }
  co_await done->wait();
  co_return outcome->result;
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

void App::shut_down(std::string why) {
  if (stopping_.is_set()) return;
  log_.info("app", "shutting down",
            {Field::text("reason", std::move(why)),
             Field::text("deadline", base::format_duration(config_.drain_duration))});
  readiness_.pending(kDraining);
  stopping_.set();
  synced_.set();
}

async::Task<void> App::watch_memory(App& app) {
  uint64_t bound = app.config_.memory_bytes_max;
  if (bound == 0) {
    base::Result<std::string> text = app.parts_.files(kCgroupBound);
    bound = text ? cgroup_memory_bound(*text) : 0;
  }
  if (bound == 0) co_return;
  for (;;) {
    app.shared_.overload.set_memory(app.parts_.heap_bytes(), bound);
    co_await async::sleep_for(app.control_, kMemoryEvery);
  }
}

// GOAWAY first; connections may go on until they are idle or the deadline comes.
async::Task<void> App::drain() {
  for (size_t i = 0; i < workers_.size(); ++i) {
    parts_.data[i].loop.post([worker = workers_[i].get()] { worker->drain(); });
  }
  async::Deadline deadline = async::Deadline::in(control_, config_.drain_duration);
  while (control_.now() < deadline.when()) {
    auto open = std::make_shared<size_t>(0);
    auto left = std::make_shared<size_t>(workers_.size());
    auto counted = std::make_shared<async::Event>(control_);
    for (size_t i = 0; i < workers_.size(); ++i) {
      parts_.data[i].loop.post([this, worker = workers_[i].get(), open, left, counted] {
        size_t connections = worker->connections();
        control_.post([connections, open, left, counted] {
          *open += connections;
          if (--*left == 0) counted->set();
        });
      });
    }
    co_await counted->wait();
    if (*open == 0) break;
    co_await async::sleep_for(control_, std::chrono::milliseconds(50));
  }
  auto left = std::make_shared<size_t>(workers_.size());
  auto closed = std::make_shared<async::Event>(control_);
  for (size_t i = 0; i < workers_.size(); ++i) {
    parts_.data[i].loop.post([this, worker = workers_[i].get(), left, closed] {
      worker->close([this, left, closed] {
        control_.post([left, closed] {
          if (--*left == 0) closed->set();
        });
      });
    });
  }
  co_await closed->wait();
  co_await spans_->close(async::Deadline::in(control_, kSpansCloseMax));
  for (auto& server : servers_) server->drain();
  tasks_.cancel_all();
  co_await tasks_.idle().wait();
  log_.info("app", "all connections have ended");
}

void App::serve(std::unique_ptr<io::Listener> listener, conn::HttpHandler handler) {
  servers_.push_back(
      std::make_unique<conn::HttpServer>(control_, std::move(listener), std::move(handler), log_));
  tasks_.spawn(servers_.back()->run());
}

base::Result<> App::start_pages() {
  io::Network& network = parts_.control.network;
  base::IpAddr any = config_.bind.value_or(base::IpAddr::any_v4());
  struct Page {
    const char* what;
    base::SocketAddr address;
    conn::HttpHandler handler;
  };
  auto stats_handler = [this](conn::HttpRequest request) { return stats(std::move(request)); };
  std::vector<Page> pages{{"admin port",
                           {base::IpAddr::loopback_v4(), config_.admin_port},
                           [this](conn::HttpRequest request) { return admin(std::move(request)); }},
                          {"readiness port",
                           {any, config_.readiness_port},
                           [this](conn::HttpRequest request) { return ready(std::move(request)); }},
                          {"stats port", {any, config_.stats_port}, stats_handler}};
  if (config_.prometheus_port != 0) {
    pages.push_back({"prometheus port", {any, config_.prometheus_port}, stats_handler});
  }
  for (Page& page : pages) {
    auto listener = network.listen(page.address, {});
    if (!listener) return base::fail(std::move(listener).error().wrap(page.what));
    serve(std::move(*listener), std::move(page.handler));
  }
  return {};
}

async::Task<conn::HttpResponse> App::ready(conn::HttpRequest request) {
  if (request.path != "/healthz/ready") co_return text(404, "");
  std::string pending = readiness_.pending_text();
  if (pending.empty()) co_return text(200, "ready\n");
  co_return text(503, "not ready, pending: " + pending + "\n");
}

async::Task<conn::HttpResponse> App::stats(conn::HttpRequest request) {
  if (request.path != "/stats/prometheus" && request.path != "/metrics") co_return text(404, "");
  conn::HttpResponse response =
      text(200, reporter_.render_metrics(control_.now()) + spans_->render_metrics());
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  co_return response;
}

async::Task<conn::HttpResponse> App::admin(conn::HttpRequest request) {
  if (request.path == "/config_dump") {
    conn::HttpResponse response = text(200, config_dump(config_, *store_.view(), *l7_));
    response.content_type = "application/json";
    co_return response;
  }
  if (request.path == "/logging") {
    base::LogFilter filter = parts_.log.filter();
    if (auto level = conn::query_value(request.query, "level")) {
      if (request.method != "POST") co_return text(405, "use POST\n");
      if (auto added = filter.add(*level); !added) co_return text(400, added.error().message() + "\n");
      parts_.log.set_filter(filter);
    }
    co_return text(200, "current log level is " + filter.to_string() + "\n");
  }
  if (request.path == "/drain" || request.path == "/quitquitquit") {
    if (request.method != "POST") co_return text(405, "use POST\n");
    shut_down("asked by " + request.path);
    co_return text(200, "draining\n");
  }
  if (request.path == "/") {
    co_return text(200, std::string("Culvert waypoint ") + kVersion +
                            "\n/config_dump  what this waypoint knows\n/logging      POST, ?level=debug or "
                            "?level=target=debug\n/drain        POST, ends gracefully\n");
  }
  co_return text(404, "");
}

}  // namespace culvert::waypoint
