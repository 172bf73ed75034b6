// SPDX-License-Identifier: Apache-2.0
#include "test/sim/waypoint_world.h"

#include <catch2/catch.hpp>

#include "net/conn/tls_stream.h"
#include "net/io/stream_wait.h"
#include "net/wire/sniff.h"

namespace culvert::test {

namespace {

using async::Task;
using base::Result;
using namespace std::chrono_literals;

config::WaypointConfig waypoint_config() {
  config::WaypointConfig config;
  config.name = config.service_account = config.pod_name = "waypoint";
  config.namespace_ = "shop";
  config.instance_ip = *base::IpAddr::parse("10.0.9.9");
  config.ipv6_enabled = false;
  return config;
}

waypoint::Self self_of(const config::WaypointConfig& config) {
  return {{config.trust_domain, config.namespace_, config.service_account},
          config.network,
          config.instance_ip,
          config.name};
}

}  // namespace

struct WaypointWorld::Client {
  Client(WaypointWorld& world, const std::string& name)
      : identity(identity_of(name)),
        host(world.network.add_host(
            name, "n1", {*base::IpAddr::parse("10.0.1." + std::to_string(10 + world.clients_.size()))})),
        network(world.network.process(host)),
        certificate(world.issue(identity)),
        dialer(
            world.loop, *network, [] { return io::DialOptions{}; },
            [this](model::Identity, async::Deadline) { return give(certificate); }, {}),
        pool(world.loop, dialer, {}) {}
  static model::Identity identity_of(const std::string& name) {
    size_t slash = name.find('/');
    if (slash == std::string::npos) return {"cluster.local", "shop", name};
    return {"cluster.local", name.substr(0, slash), name.substr(slash + 1)};
  }
  static Task<Result<wire::TlsIdentityRef>> give(wire::TlsIdentityRef certificate) { co_return certificate; }
  hbone::TunnelKey key() const {
    return {identity,
            {{"cluster.local", "shop", "waypoint"}},
            *base::SocketAddr::parse("10.0.9.9:15008"),
            host.ips().front(),
            "waypoint"};
  }
  hbone::HeaderList headers(const std::string& authority) const {
    hbone::ConnectRequest request;
    request.authority = authority;
    request.source = {host.ips().front(), 1};
    return request.to_headers();
  }
  model::Identity identity;
  SimHost& host;
  std::unique_ptr<io::Network> network;
  wire::TlsIdentityRef certificate;
  hbone::H2TunnelDialer dialer;
  hbone::TunnelPool pool;
};

namespace {

// The bytes of a client's CONNECT, for a connection object to own.
class Bytes final : public io::ByteStream {
 public:
  explicit Bytes(hbone::TunnelStream stream) : stream_(std::move(stream)) {}
  io::IoResult try_read(base::ByteSpan into) override { return stream_.stream().try_read(into); }
  using io::ByteStream::try_write;
  io::IoResult try_write(std::span<const iovec> from) override { return stream_.stream().try_write(from); }
  void arm_read(io::Waiter* waiter) override { stream_.stream().arm_read(waiter); }
  void arm_write(io::Waiter* waiter) override { stream_.stream().arm_write(waiter); }
  void shutdown_write() override { stream_.stream().shutdown_write(); }
  void abort() override { stream_.stream().abort(); }
  base::SocketAddr local_addr() const override { return {}; }
  base::SocketAddr peer_addr() const override { return {}; }

 private:
  hbone::TunnelStream stream_;
};

}  // namespace

WaypointWorld::WaypointWorld(uint64_t seed, waypoint::Overload::Bounds bounds)
    : config_(waypoint_config()),
      ca_(*wire::CertSigner::self_signed(*wire::PrivateKey::generate_p256(), "td", loop.wall_now() - 1h,
                                         loop.wall_now() + 10000h)),
      host_(network.add_host("waypoint", "n2", {config_.instance_ip})),
      own_network_(network.process(host_)),
      shared_(self_of(config_), {1, 2}, bounds),
      tasks_(std::make_unique<async::Scope>(loop)) {
  auto certificates = [this](const model::Identity& identity, ca::CertAnswer answer) {
    wire::TlsIdentityRef issued = issue(identity);
    loop.post([answer = std::move(answer), issued] { answer(issued); });
  };
  auto no_roots = []() -> Result<std::string> { return base::fail(base::Code::kNotFound, "no roots here"); };
  worker_ = std::make_unique<waypoint::Worker>(config_, loop, *own_network_, log_, shared_, telemetry,
                                               certificates, no_roots, base::Rng(seed));
  spans_ = std::make_unique<waypoint::SpanExporter>(waypoint::SpanExporter::Parts{
      loop, *own_network_, log_, shared_.clusters, shared_.self, "cluster.local",
      waypoint::SpanSource::of(config_),
      [this](model::Identity identity, async::Deadline) { return give(issue(identity)); }, no_roots,
      base::Rng(seed + 1)});
  telemetry.spans = spans_.get();
  Result<> listening = worker_->listen();
  REQUIRE(listening.has_value());
  set_rules({});
}

WaypointWorld::~WaypointWorld() {
  tasks_.reset();
  for (HttpPod& pod : pods_) close(pod);
  for (HttpPod& pod : outside_) close(pod);
  clients_.clear();
  bool closed = false;
  worker_->close([&] { closed = true; });
  loop.run_for(1s);
  CHECK(closed);
  telemetry.spans = nullptr;
  loop.run(spans_->close(async::Deadline::in(loop, 5s)));
  CHECK(spans_->queued() == 0);
  spans_.reset();
  worker_.reset();
}

Task<Result<wire::TlsIdentityRef>> WaypointWorld::give(wire::TlsIdentityRef identity) { co_return identity; }

void WaypointWorld::add(std::optional<model::Service> service, std::optional<model::Workload> workload) {
  if (service) more_services_.push_back(std::move(*service));
  if (workload) more_workloads_.push_back(std::move(*workload));
  publish();
}

void WaypointWorld::set_mesh(std::vector<model::Service> services, std::vector<model::Workload> workloads) {
  more_services_ = std::move(services);
  more_workloads_ = std::move(workloads);
  publish();
}

HttpPod& WaypointWorld::listen(const std::string& name, const std::string& ip, uint16_t port) {
  HttpPod& pod = start_pod(name, ip, port);
  pod.side = true;
  pod.http2 = false;
  return pod;
}

wire::TlsIdentityRef WaypointWorld::issue(const model::Identity& identity) {
  auto key = *wire::PrivateKey::generate_p256();
  wire::LeafSpec leaf;
  leaf.public_key_der = *wire::public_key_der(key);
  leaf.uri_sans = {identity.to_string()};
  leaf.not_before = loop.wall_now() - 1h;
  leaf.not_after = loop.wall_now() + 1000h;
  return *wire::TlsIdentity::from_pem(*ca_.sign(leaf), key.to_pem(), ca_.certificate().pem);
}

wire::TlsIdentityRef WaypointWorld::issue_server(const std::string& dns_name) {
  auto key = *wire::PrivateKey::generate_p256();
  wire::LeafSpec leaf;
  leaf.public_key_der = *wire::public_key_der(key);
  leaf.dns_sans = {dns_name};
  leaf.not_before = loop.wall_now() - 1h;
  leaf.not_after = loop.wall_now() + 1000h;
  return *wire::TlsIdentity::from_pem(*ca_.sign(leaf), key.to_pem(), roots());
}

std::pair<std::string, std::string> WaypointWorld::issue_pem(const std::string& uri) {
  auto key = *wire::PrivateKey::generate_p256();
  wire::LeafSpec leaf;
  leaf.public_key_der = *wire::public_key_der(key);
  leaf.uri_sans = {uri};
  leaf.not_before = loop.wall_now() - 1h;
  leaf.not_after = loop.wall_now() + 1000h;
  return {*ca_.sign(leaf), key.to_pem()};
}

HttpPod& WaypointWorld::start_pod(const std::string& name, const std::string& ip, uint16_t port) {
  HttpPod& pod = pods_.emplace_back();
  pod.name = name;
  pod.host = &network.add_host(name, "n3", {*base::IpAddr::parse(ip)});
  pod.network = network.process(*pod.host);
  pod.listener = std::move(*pod.network->listen({base::IpAddr::any_v4(), port}, {}));
  pod.acceptor = std::make_unique<async::Scope>(loop);
  pod.acceptor->spawn(serve(*this, pod));
  return pod;
}

HttpPod& WaypointWorld::add_side(const std::string& name, const std::string& ip,
                                 const model::NamespacedHostname& service, uint16_t port) {
  HttpPod& pod = listen(name, ip, port);
  model::Service made;
  made.name = name;
  made.ns = service.ns;
  made.hostname = service.hostname;
  made.ports = {{port, port, model::AppProtocol::kUnknown}};
  model::Workload workload;
  workload.uid = "c//Pod/" + service.ns.str() + "/" + name;
  workload.name = name;
  workload.ns = service.ns;
  workload.trust_domain = "cluster.local";
  workload.service_account = name;
  workload.addresses = {pod.host->ips().front()};
  workload.services = {{service, {{port, port}}}};
  add(std::move(made), std::move(workload));
  return pod;
}

HttpPod& WaypointWorld::add_pod(const std::string& name, const std::string& ip, const std::string& version) {
  HttpPod& pod = start_pod(name, ip, 8080);
  model::WaypointUpdate update;
  update.labels = {{"c//Pod/shop/" + name, {{"app", "api"}, {"version", version}}}};
  l7_ = l7_->with(std::move(update));
  publish();
  return pod;
}

HttpPod& WaypointWorld::add_outside(const std::string& name, const std::string& ip, uint16_t port) {
  HttpPod& pod = outside_.emplace_back();
  pod.name = name;
  pod.host = &network.add_host(name, "outside", {*base::IpAddr::parse(ip)});
  pod.network = network.process(*pod.host);
  pod.listener = std::move(*pod.network->listen({base::IpAddr::any_v4(), port}, {}));
  pod.acceptor = std::make_unique<async::Scope>(loop);
  pod.acceptor->spawn(serve(*this, pod));
  return pod;
}

void WaypointWorld::tell(model::WaypointUpdate update) {
  l7_ = l7_->with(std::move(update));
  publish();
}

void WaypointWorld::close(HttpPod& pod) {
  pod.acceptor.reset();
  pod.listener.reset();
}

HttpPod& WaypointWorld::pod(const std::string& name) {
  for (HttpPod& pod : pods_) {
    if (pod.name == name) return pod;
  }
  FAIL("no pod " << name);
  return pods_.front();
}

void WaypointWorld::set_rules(model::WaypointService rules) {
  rules.service = kApiService;
  model::WaypointUpdate update;
  update.services.push_back(std::move(rules));
  l7_ = l7_->with(std::move(update));
  publish();
}

void WaypointWorld::set_backend(model::Backend backend) {
  backend.service = kApiService;
  model::WaypointUpdate update;
  update.backends.push_back(std::move(backend));
  l7_ = l7_->with(std::move(update));
  publish();
}

void WaypointWorld::set_protocol(model::AppProtocol protocol) {
  protocol_ = protocol;
  publish();
}

void WaypointWorld::publish() {
  model::MeshUpdate update;
  model::Service service;
  service.name = "api";
  service.ns = kApiService.ns;
  service.hostname = kApiService.hostname;
  service.vips = {{"", *base::IpAddr::parse("10.96.0.1")}};
  service.ports = {{80, 8080, protocol_}};
  update.services.push_back(std::move(service));
  for (const HttpPod& pod : pods_) {
    if (pod.side) continue;
    model::Workload workload;
    workload.uid = "c//Pod/shop/" + pod.name;
    workload.name = pod.name;
    workload.ns = "shop";
    workload.trust_domain = "cluster.local";
    workload.service_account = "api";
    workload.addresses = {pod.host->ips().front()};
    workload.services = {{kApiService, {{80, 8080}}}};
    update.workloads.push_back(std::move(workload));
  }
  update.services.insert(update.services.end(), more_services_.begin(), more_services_.end());
  update.workloads.insert(update.workloads.end(), more_workloads_.begin(), more_workloads_.end());
  auto state =
      std::make_shared<waypoint::MeshState>(waypoint::MeshState{store_.apply(std::move(update)).view, l7_});
  worker_->set_state(state);
  spans_->set_state(state);
}

// --- servers ---

Task<void> WaypointWorld::answer(WaypointWorld& world, HttpPod& pod,
                                 std::unique_ptr<conn::HttpStream> request) {
  pod.requests.push_back(request->headers());
  if (pod.break_off) {
    request->reset(wire::kH2InternalError);
    co_return;
  }
  if (pod.delay.count() > 0) co_await async::sleep_for(world.loop, pod.delay);
  std::string body = pod.body.empty() ? pod.name : pod.body;
  if (pod.echo) body.clear();
  wire::Headers headers{{":status", std::to_string(pod.status)}, {"x-pod", pod.name}};
  headers.insert(headers.end(), pod.headers.begin(), pod.headers.end());
  std::vector<uint8_t> block(16 * 1024);
  std::string received;
  if (pod.echo) request->respond(headers, false);
  for (;;) {
    Result<size_t> got = co_await io::read_some(*request, block);
    if (!got) co_return;
    if (*got == 0) {
      pod.bodies.push_back(std::move(received));
      break;
    }
    pod.bytes_in += *got;
    received.append(reinterpret_cast<const char*>(block.data()), *got);
    if (!pod.echo) continue;
    Result<> wrote = co_await io::write_all(*request, base::ByteView(block).first(*got));
    if (!wrote) co_return;
  }
  if (pod.bare) {
    request->respond(headers, true);
  } else if (!pod.echo) {
    request->respond(headers, false);
    Result<> wrote = co_await io::write_all(*request, base::as_bytes(body));
    if (!wrote) co_return;
  }
  if (!pod.bare && !pod.trailers.empty()) {
    request->send_trailers(pod.trailers);
  } else if (!pod.bare) {
    request->shutdown_write();
  }
  co_await io::flush(*request);
}

Task<void> WaypointWorld::serve_connection(WaypointWorld& world, HttpPod& pod,
                                           std::unique_ptr<io::ByteStream> stream) {
  // Policies that ask for HTTP/2 are the tests' own business: the first byte tells.
  bool http2 = world.l7_->backend(kApiService) && world.l7_->backend(kApiService)->policy.all.pool.upgrade ==
                                                      model::PoolLimits::Upgrade::kUpgrade;
  http2 =
      http2 || world.protocol_ == model::AppProtocol::kHttp2 || world.protocol_ == model::AppProtocol::kGrpc;
  if (pod.proxied) {
    pod.proxy_line.clear();
    uint8_t byte = 0;
    while (!pod.proxy_line.ends_with("\r\n")) {
      Result<size_t> got = co_await io::read_some(*stream, {&byte, 1});
      if (!got || *got == 0) co_return;
      pod.proxy_line += static_cast<char>(byte);
    }
  }
  if (pod.tls) {
    if (pod.handshake_delay.count() > 0) co_await async::sleep_for(world.loop, pod.handshake_delay);
    conn::TlsServerOptions options;
    options.identity = pod.tls;
    options.tls.tls12 = true;
    options.tls.alpn = {"h2", "http/1.1"};
    options.tls.client_certificate_required = false;
    auto secured = co_await conn::tls_accept(world.loop, std::move(stream), std::move(options),
                                             async::Deadline::in(world.loop, 10s));
    if (!secured) co_return;
    pod.alpn = (*secured)->alpn();
    pod.client_uris = (*secured)->peer().uri_sans();
    stream = std::move(*secured);
  }
  if (!pod.raw.empty()) {
    std::vector<uint8_t> block(16 * 1024);
    Result<size_t> got = co_await io::read_some(*stream, block);
    if (!got || *got == 0) co_return;
    pod.raw_request = base::as_text(base::ByteView(block).first(*got));
    Result<> wrote = co_await io::write_all(*stream, base::as_bytes(pod.raw));
    if (pod.raw_waits) co_await async::sleep_for(world.loop, 10min);
    if (wrote) stream->shutdown_write();
    co_await async::sleep_for(world.loop, 1s);  // what lies unread would reset it
    co_return;
  }
  if (pod.http2.value_or(http2)) {
    conn::Http2Conn connection(world.loop, std::move(stream), wire::H2Engine::Role::kServer,
                               conn::Http2Options::for_users_traffic());
    async::Scope requests(world.loop);
    for (;;) {
      std::unique_ptr<conn::Http2Stream> request = co_await connection.accept();
      if (!request) break;
      requests.spawn(answer(world, pod, std::move(request)));
    }
    co_await requests.idle().wait();
    co_return;
  }
  conn::Http1ServerConn connection(world.loop, std::move(stream), {});
  for (;;) {
    std::unique_ptr<conn::HttpStream> request = co_await connection.accept();
    if (!request) co_return;
    co_await answer(world, pod, std::move(request));
  }
}

Task<void> WaypointWorld::serve(WaypointWorld& world, HttpPod& pod) {
  for (;;) {
    Result<io::Accepted> accepted = co_await io::accept(*pod.listener);
    if (!accepted) co_return;
    ++pod.connections;
    world.tasks_->spawn(serve_connection(world, pod, std::move(accepted->stream)));
  }
}

// --- clients ---

WaypointWorld::Client& WaypointWorld::client(const std::string& account) {
  std::unique_ptr<Client>& slot = clients_[account];
  if (!slot) slot = std::make_unique<Client>(*this, account);
  return *slot;
}

Task<void> WaypointWorld::send_body(conn::HttpStream& stream, std::string body) {
  Result<> wrote = co_await io::write_all(stream, base::as_bytes(body));
  if (wrote) stream.shutdown_write();
}

Task<void> WaypointWorld::exchange(WaypointWorld& world, conn::HttpStream& stream, Request request,
                                   HttpAnswer& answer) {
  async::Scope upload(world.loop);
  if (!request.body.empty()) upload.spawn(send_body(stream, std::move(request.body)));
  Result<wire::Headers> head = co_await stream.response(async::Deadline::in(world.loop, 3h));
  if (!head) {
    answer.error = head.error().message();
    co_return;
  }
  answer.headers = *head;
  answer.status = std::stoi(answer.header(":status"));
  std::vector<uint8_t> block(16 * 1024);
  for (;;) {
    Result<size_t> got = co_await io::read_some(stream, block);
    if (!got) {
      answer.error = got.error().message();
      co_return;
    }
    if (*got == 0) co_return;
    answer.body.append(reinterpret_cast<char*>(block.data()), *got);
  }
}

Task<void> WaypointWorld::run(WaypointWorld& world, Client& client, Request request, HttpAnswer& answer) {
  struct Done {
    HttpAnswer& answer;
    ~Done() { answer.done = true; }
  } done{answer};
  auto tunnel = co_await client.pool.open(client.key(), client.headers(request.dialled),
                                          async::Deadline::in(world.loop, 10s));
  if (!tunnel || tunnel->status() != 200) {
    answer.error =
        tunnel ? "CONNECT answered " + std::to_string(tunnel->status()) : tunnel.error().error.message();
    co_return;
  }
  auto bytes = std::make_unique<Bytes>(std::move(*tunnel));
  wire::Headers headers{{":method", request.method},
                        {":scheme", "http"},
                        {":authority", request.host},
                        {":path", request.path}};
  headers.insert(headers.end(), request.headers.begin(), request.headers.end());
  bool ends = request.body.empty();
  if (!ends && !request.http2) headers.emplace_back("content-length", std::to_string(request.body.size()));
  if (request.http2) {
    conn::Http2Conn connection(world.loop, std::move(bytes), wire::H2Engine::Role::kClient,
                               conn::Http2Options::for_users_traffic());
    auto stream = connection.open(headers, ends);
    if (stream) co_await exchange(world, **stream, std::move(request), answer);
    co_return;
  }
  conn::Http1ClientConn connection(world.loop, std::move(bytes), base::Rng(3), {});
  auto stream = connection.open(headers, ends);
  if (stream) co_await exchange(world, **stream, std::move(request), answer);
}

HttpAnswer& WaypointWorld::send(Request request, const std::string& account) {
  HttpAnswer& answer = answers_.emplace_back();
  tasks_->spawn(run(*this, client(account), std::move(request), answer));
  return answer;
}

HttpAnswer WaypointWorld::get(const std::string& path, wire::Headers headers, const std::string& account) {
  HttpAnswer& answer = send({.path = path, .headers = std::move(headers)}, account);
  finish(answer);
  return answer;
}

void WaypointWorld::finish(HttpAnswer& answer, base::Duration limit) {
  bool done = loop.run_until([&] { return answer.done; }, limit);
  INFO(answer.error);
  CHECK(done);
}

Task<void> WaypointWorld::exchange_raw(WaypointWorld& world, Client& client, std::string dialled,
                                       std::string bytes, std::string& answer) {
  async::Deadline deadline = async::Deadline::in(world.loop, 2min);
  auto tunnel = co_await client.pool.open(client.key(), client.headers(dialled), deadline);
  if (!tunnel || tunnel->status() != 200) co_return;
  Bytes stream(std::move(*tunnel));
  Result<> sent = co_await io::write_all(stream, base::as_bytes(bytes));
  std::vector<uint8_t> block(16 * 1024);
  while (sent) {
    Result<size_t> got =
        co_await async::with_deadline(world.loop, deadline, "read", io::read_some(stream, block));
    if (!got || *got == 0) co_return;
    answer.append(reinterpret_cast<char*>(block.data()), *got);
  }
}

std::string WaypointWorld::raw(std::string bytes, const std::string& account, const std::string& dialled) {
  std::string answer;
  loop.run(exchange_raw(*this, client(account), dialled, std::move(bytes), answer));
  return answer;
}

int WaypointWorld::connect(const std::string& authority, const std::string& account) {
  Client& from = client(account);
  auto opened = loop.run(from.pool.open(from.key(), from.headers(authority), async::Deadline::in(loop, 10s)));
  if (!opened) UNSCOPED_INFO(authority << ": " << opened.error().error.message());
  return opened ? opened->status() : -1;
}

// --- rules ---

model::WaypointService rules_of(std::vector<model::HttpRoute> routes) {
  model::WaypointService out;
  out.routes.ports = {{80, std::move(routes), std::nullopt}};
  return out;
}

model::HttpRoute route_to(const std::string& prefix, std::vector<std::pair<std::string, uint32_t>> subsets) {
  model::HttpRoute out;
  out.name = "route " + prefix;
  if (!prefix.empty()) {
    model::RouteMatch match;
    match.path = model::TextMatch::prefix(prefix);
    out.matches = {match};
  }
  for (auto& [subset, weight] : subsets) {
    model::RouteTarget target;
    target.service = kApiService;
    target.subset = subset;
    target.weight = weight;
    out.targets.push_back(std::move(target));
  }
  return out;
}

model::Backend versions(model::TrafficPolicy policy) {
  model::Backend out;
  out.policy.all = policy;
  out.subsets = {{"v1", {{"version", "v1"}}, out.policy}, {"v2", {{"version", "v2"}}, out.policy}};
  return out;
}

}  // namespace culvert::test
