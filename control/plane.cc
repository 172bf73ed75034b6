// SPDX-License-Identifier: Apache-2.0
#include "control/plane.h"

#include <fmt/format.h>

#include <set>
#include <tuple>

#include "net/conn/tls_stream.h"
#include "net/wire/crypto.h"

namespace culvert::control {

using base::fail;
using base::Field;
using base::Result;

namespace {

conn::GrpcServer::Options grpc_options() {
  conn::GrpcServer::Options options;
  options.http2.settings.stream_window_bytes = 8 * 1024 * 1024;
  options.http2.settings.connection_window_bytes = 16 * 1024 * 1024;
  options.http2.settings.header_bytes_max = 64 * 1024;
  options.http2.settings.streams_max = 1000;
  options.http2.ping_every = std::chrono::seconds(30);
  options.http2.ping_timeout = std::chrono::seconds(10);
  options.message_bytes_max = 64 * 1024 * 1024;  // a reconnect names everything its client holds
  return options;
}

}  // namespace

Result<std::unique_ptr<ControlPlane>> ControlPlane::make(async::Loop& loop, io::Network& network,
                                                         base::Log& log, kube::ResourceSource& source,
                                                         StateDir state, VipPool vips, PlaneOptions options,
                                                         io::Machine* machine) {
  Result<CertAuthority> authority =
      options.ca_directory.empty()
          ? CertAuthority::self_signed(state, options.compile.trust_domain, loop.wall_now())
          : CertAuthority::plugged_in(options.ca_directory);
  if (!authority) return fail(std::move(authority).error());
  Result<TokenKey> key = load_token_key(state);
  if (!key) return fail(std::move(key).error());
  if (Result<std::optional<std::string>> kept = state.read("vips.json"); kept && kept->has_value()) {
    if (Result<> loaded = vips.load_json(**kept); !loaded) return fail(std::move(loaded).error());
  }
  Result<std::optional<std::string>> jwks = state.read("jwks.json");
  TokenKey signs = *key;
  options.compile.session_key = wire::hmac_sha256(key->bytes(), "sessions of waypoints");
  std::unique_ptr<ControlPlane> plane(new ControlPlane(loop, network, log, source, std::move(state),
                                                       std::move(vips), std::move(*authority),
                                                       std::move(*key), std::move(options)));
  // Only so that tokens are taken at once after a restart: what cannot be read is fetched.
  Result<> loaded;
  if (!jwks) loaded = fail(std::move(jwks).error());
  if (jwks && jwks->has_value()) loaded = plane->jwks_.load(**jwks);
  if (!loaded) log.warn("jwks", "kept keys are not used", {Field::text("error", loaded.error().message())});
  if (machine && plane->options_.waypoints) {
    if (Result<> made = plane->make_waypoints(*machine, signs); !made) return fail(std::move(made).error());
  }
  return plane;
}

Result<> ControlPlane::make_waypoints(io::Machine& machine, const TokenKey& key) {
  WaypointOptions options = *options_.waypoints;
  options.token_audience = options_.token_audience;
  auto made = WaypointController::make({loop_, machine, network_, log_, state_, key}, std::move(options),
                                       options_.compile, authority_.roots_pem(), [this] { recompile(); });
  if (!made) return fail(std::move(made).error().wrap("run waypoints"));
  waypoints_ = std::move(*made);
  pages_.show(*waypoints_);
  return {};
}

ControlPlane::ControlPlane(async::Loop& loop, io::Network& network, base::Log& log,
                           kube::ResourceSource& source, StateDir state, VipPool vips,
                           CertAuthority authority, TokenKey key, PlaneOptions options)
    : loop_(loop),
      network_(network),
      log_(log),
      source_(source),
      state_(std::move(state)),
      vips_(std::move(vips)),
      options_(std::move(options)),
      authority_(std::move(authority)),
      authenticator_(loop, log, std::move(key), options_.compile.trust_domain, options_.token_audience),
      ads_(loop, log, authenticator_),
      ca_(loop, log, authority_, authenticator_,
          [this](const std::string& ns, const std::string& account, const std::string& node) {
            return pod_on_node(ns, account, node);
          },
          {options_.compile.trust_domain, options_.trusted_node_accounts}),
      pages_(ads_, ca_, source, options_.version),
      grpc_(loop, grpc_options()),
      jwks_(loop, network, log, options_.jwks, [this] { jwks_changed(); }),
      renew_timer_([this] { (void)renew_server_certificate(); }),
      stopping_(loop),
      tasks_(loop) {
  options_.compile.allocate_vip = [this](const std::string& service) { return vips_.allocate(service); };
  options_.compile.jwks = [this](const std::string& uri) { return jwks_.keys(uri); };
  pages_.show(jwks_);
  ads_.register_on(grpc_);
  ca_.register_on(grpc_);
}

bool ControlPlane::pod_on_node(const std::string& ns, const std::string& service_account,
                               const std::string& node) {
  auto place = [](const std::string& in, const std::string& account, const std::string& on) {
    return fmt::format("{}/{}/{}", in, account, on);
  };
  if (kube::ObjectsRef now = source_.objects(); now != placed_of_) {
    placed_.clear();
    for (const auto& [key, pod] : now->pods) {
      if (pod->phase != "Failed" && !pod->node.empty())
        placed_.insert(place(pod->meta.ns, pod->service_account, pod->node));
    }
    placed_of_ = std::move(now);
  }
  return placed_.contains(place(ns, service_account, node));
}

void ControlPlane::jwks_changed() {
  if (Result<> kept = state_.write("jwks.json", jwks_.save(), 0600); !kept) {
    log_.error("jwks", "keys cannot be kept; after a restart they are fetched before tokens are taken",
               {Field::text("error", kept.error().message())});
  }
  recompile();
}

void ControlPlane::recompile() {
  kube::ObjectsRef objects = waypoints_ ? waypoints_->apply(source_.objects()) : source_.objects();
  jwks_.begin_round();
  Compiled compiled = compile(*objects, options_.compile, &ads_.snapshot()->compiled);
  jwks_.end_round();
  if (waypoints_) {
    for (Finding& finding : waypoints_->findings()) compiled.findings.push_back(std::move(finding));
  }
  if (vips_.take_dirty()) {
    if (Result<> kept = state_.write("vips.json", vips_.to_json(), 0600); !kept) {
      log_.error("source", "the VIPs cannot be kept; after a restart they may differ",
                 {Field::text("error", kept.error().message())});
    }
  }
  using Told = std::tuple<std::string_view, std::string_view, std::string_view>;
  auto told = [](const Finding& finding) { return Told{finding.code, finding.object, finding.message}; };
  SnapshotRef replaced = ads_.snapshot();
  std::set<Told> before;
  for (const Finding& finding : replaced->compiled.findings) before.insert(told(finding));
  ads_.publish(make_snapshot(std::move(compiled), ads_.snapshot()));
  const Compiled& now = ads_.snapshot()->compiled;
  for (const Finding& finding : now.findings) {
    if (finding.severity == Severity::kInfo || before.contains(told(finding))) continue;
    log_.warn("source", finding.message,
              {Field::text("code", finding.code), Field::bare("at", finding.origin.to_string()),
               Field::text("object", finding.object)});
  }
  log_.debug(
      "source", "derived",
      {Field::number("snapshot", ads_.snapshot()->number), Field::number("workloads", now.workloads.size()),
       Field::number("services", now.services.size()), Field::number("policies", now.policies.size())});
}

Result<> ControlPlane::renew_server_certificate() {
  std::vector<std::string> names = options_.server_names;
  const std::string& ns = options_.compile.system_namespace;
  for (const char* name : {"istiod", "istiod-remote", "istio-pilot", "culvertd"}) {
    names.push_back(fmt::format("{}.{}.svc", name, ns));
    names.push_back(fmt::format("{}.{}", name, ns));
  }
  for (const char* name : {"localhost", "127.0.0.1", "::1"}) names.emplace_back(name);
  Result<wire::TlsIdentityRef> issued = authority_.issue_server(names, kServerLifetime, loop_.wall_now());
  if (!issued) {
    log_.error("ca", "no certificate for the control plane itself",
               {Field::text("error", issued.error().message())});
    loop_.arm(renew_timer_, loop_.now() + std::chrono::minutes(1));
    return fail(std::move(issued).error());
  }
  server_identity_ = std::move(*issued);
  loop_.arm(renew_timer_, loop_.now() + (server_identity_->leaf().not_after - loop_.wall_now()) / 2);
  return {};
}

async::Task<void> ControlPlane::accept_loop() {
  for (;;) {
    Result<io::Accepted> accepted = co_await io::accept(*listener_);
    if (!accepted) {
      log_.warn("grpc", accepted.error().message());
      continue;
    }
    tasks_.spawn(serve(std::move(accepted->stream)));
  }
}

async::Task<void> ControlPlane::serve(std::unique_ptr<io::ByteStream> stream) {
  base::SocketAddr peer = stream->peer_addr();
  conn::TlsServerOptions options{server_identity_, {}};
  options.tls.client_certificate_required = false;
  options.tls.tls12 = true;
  Result<std::unique_ptr<conn::TlsStream>> tls = co_await conn::tls_accept(
      loop_, std::move(stream), std::move(options), async::Deadline::in(loop_, kHandshakeTimeout));
  if (!tls) {
    log_.info("grpc", "connection refused",
              {Field::bare("peer", peer.to_string()), Field::text("error", tls.error().message())});
    co_return;
  }
  wire::PeerInfo info = (*tls)->peer();
  co_await grpc_.serve(std::move(*tls), std::move(info));
}

async::Task<Result<>> ControlPlane::run() {
  if (Result<> renewed = renew_server_certificate(); !renewed) co_return renewed;
  source_.on_change([this] { recompile(); });
  recompile();
  Result<std::unique_ptr<io::Listener>> listener = network_.listen(options_.listen, {});
  if (!listener) co_return fail(std::move(listener).error().wrap("serve xDS and CA"));
  listener_ = std::move(*listener);
  Result<std::unique_ptr<io::Listener>> http = network_.listen(options_.http, {});
  if (!http) co_return fail(std::move(http).error().wrap("serve health and metrics"));
  http_ = std::make_unique<conn::HttpServer>(
      loop_, std::move(*http), [this](conn::HttpRequest request) { return pages_.serve(std::move(request)); },
      log_);
  tasks_.spawn(accept_loop());
  tasks_.spawn(http_->run());
  log_.info("culvertd", "ready",
            {Field::bare("xds", options_.listen.to_string()), Field::bare("http", options_.http.to_string()),
             Field::number("workloads", ads_.snapshot()->compiled.workloads.size())});
  co_await stopping_.wait();
  if (waypoints_) co_await waypoints_->stop();
  jwks_.shut_down();
  co_await jwks_.idle().wait();
  // Proxies keep what they know; an end they notice at once is all they need.
  tasks_.cancel_all();
  co_await tasks_.idle().wait();
  co_return Result<>{};
}

}  // namespace culvert::control
