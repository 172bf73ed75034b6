// SPDX-License-Identifier: Apache-2.0
#include "waypoint/upstream/dial.h"

#include <algorithm>
#include <utility>

#include "net/async/scope.h"
#include "net/async/wait.h"
#include "net/conn/tls_stream.h"
#include "net/io/stream_wait.h"
#include "net/wire/http1.h"
#include "net/wire/proxy_header.h"

namespace culvert::waypoint {

namespace {

using Kind = UpstreamFailure::Kind;

std::unexpected<UpstreamFailure> failed(Kind kind, std::string reason) {
  return std::unexpected(UpstreamFailure{kind, std::move(reason)});
}
std::unexpected<UpstreamFailure> failed(const base::Error& error) {
  return failed(error.code() == base::Code::kTimeout ? Kind::kConnectTimeout : Kind::kConnect,
                error.message());
}

// The bytes of a granted CONNECT; keeps its seat in the tunnel.
class TunnelBytes final : public io::ByteStream {
 public:
  explicit TunnelBytes(hbone::TunnelStream stream) : stream_(std::move(stream)) {}
  io::IoResult try_read(base::ByteSpan into) override { return bytes().try_read(into); }
  using io::ByteStream::try_write;
  io::IoResult try_write(std::span<const iovec> from) override { return bytes().try_write(from); }
  void arm_read(io::Waiter* waiter) override { bytes().arm_read(waiter); }
  void arm_write(io::Waiter* waiter) override { bytes().arm_write(waiter); }
  void shutdown_write() override { bytes().shutdown_write(); }
  bool flushed() const override { return const_cast<hbone::TunnelStream&>(stream_).stream().flushed(); }
  void abort() override { bytes().abort(); }
  base::SocketAddr local_addr() const override {
    return const_cast<hbone::TunnelStream&>(stream_).stream().local_addr();
  }
  base::SocketAddr peer_addr() const override {
    return const_cast<hbone::TunnelStream&>(stream_).stream().peer_addr();
  }

 private:
  io::ByteStream& bytes() { return stream_.stream(); }
  hbone::TunnelStream stream_;
};

hbone::TunnelPoolOptions pool_options() {
  hbone::TunnelPoolOptions options;
  options.idle_release = std::chrono::hours(1);  // hboneIdleTimeout
  return options;
}

io::DialOptions dial_options(const model::PoolLimits& pool) {
  io::DialOptions options;
  bool asked =
      pool.keepalive_probes != 0 || pool.keepalive_time.count() > 0 || pool.keepalive_interval.count() > 0;
  if (!asked) return options;
  io::Keepalive& keepalive = options.keepalive.emplace();
  if (pool.keepalive_probes != 0) keepalive.probes = static_cast<int>(std::min(pool.keepalive_probes, 127u));
  if (pool.keepalive_time.count() > 0) keepalive.idle = pool.keepalive_time;
  if (pool.keepalive_interval.count() > 0) keepalive.interval = pool.keepalive_interval;
  return options;
}

}  // namespace

Dialer::Dialer(async::Loop& loop, io::Network& network, const Self& self, hbone::IdentitySource identities,
               std::function<base::Result<std::string>()> system_roots, base::Rng rng)
    : loop_(loop),
      network_(network),
      self_(self),
      rng_(rng),
      read_system_roots_(std::move(system_roots)),
      tunnel_dialer_(loop, network, [] { return io::DialOptions{}; }, std::move(identities), {}),
      tunnels_(loop, tunnel_dialer_, pool_options()) {}

async::Task<std::expected<Dialled, UpstreamFailure>> Dialer::connect_tunnel(DialTarget target,
                                                                            async::Deadline deadline) {
  hbone::TunnelKey key{self_.identity,
                       {target.workload->identity()},
                       {target.address.ip, model::kHbonePort},
                       self_.ip,
                       target.workload->uid.str()};
  hbone::ConnectRequest request;
  request.authority = target.address.to_string();
  request.baggage = baggage_;
  request.source = {self_.ip, 0};
  request.traceparent = hbone::make_traceparent(rng_);
  hbone::HeaderList headers = request.to_headers();
  // Whoever resolves this to another waypoint refuses it instead of going round (R1.11, section 1.7).
  headers.emplace_back("x-istio-source", "waypoint");
  std::expected<hbone::TunnelStream, hbone::OpenError> stream =
      co_await tunnels_.open(std::move(key), std::move(headers), deadline);
  if (!stream) {
    bool late = stream.error().stage == hbone::Stage::kConnectTimeout ||
                stream.error().error.code() == base::Code::kTimeout;
    co_return failed(late ? Kind::kConnectTimeout : Kind::kConnect, stream.error().error.message());
  }
  if (stream->status() != 200) {
    co_return failed(Kind::kConnect, "the endpoint's tunnel answered " + std::to_string(stream->status()));
  }
  co_return Dialled{std::make_unique<TunnelBytes>(std::move(*stream)), true};
}

struct Dialer::Race {
  io::Network& network;
  io::DialOptions options;
  async::Deadline deadline;
  async::Event news;
  std::unique_ptr<io::ByteStream> winner;
  size_t failed = 0;
  std::optional<base::Error> last;
};

async::Task<void> Dialer::run_in(Race& race, base::SocketAddr address) {
  base::Result<std::unique_ptr<io::ByteStream>> made =
      co_await race.network.dial(address, race.options, race.deadline);
  if (!made) {
    ++race.failed;
    race.last = std::move(made).error();
  } else if (!race.winner) {
    race.winner = std::move(*made);
  }
  race.news.set();
}

async::Task<base::Result<std::unique_ptr<io::ByteStream>>> Dialer::race(
    std::vector<base::SocketAddr> addresses, io::DialOptions options, async::Deadline deadline) {
  Race race{network_, std::move(options), deadline, async::Event(loop_)};
  async::Scope runners(loop_);
  for (size_t started = 0; !race.winner && race.failed < addresses.size();) {
    bool more = started < addresses.size();
    if (more) runners.spawn(run_in(race, addresses[started++]));
    more = started < addresses.size();
    async::Deadline next = more ? async::Deadline::in(loop_, kHeadStart).earlier(deadline) : deadline;
    // The dials keep the deadline themselves.
    (void)co_await race.news.wait(more ? next : async::Deadline::never());
    race.news.reset();
  }
  if (race.winner) co_return std::move(race.winner);
  co_return base::fail(std::move(*race.last));
}

async::Task<std::expected<Dialled, UpstreamFailure>> Dialer::connect(DialTarget target,
                                                                     model::PoolLimits pool,
                                                                     async::Deadline deadline) {
  if (target.workload && target.workload->protocol == model::TunnelProtocol::kHbone) {
    std::expected<Dialled, UpstreamFailure> tunnelled = co_await connect_tunnel(std::move(target), deadline);
    co_return tunnelled;
  }
  std::vector<base::SocketAddr> addresses = std::move(target.others);
  addresses.insert(addresses.begin(), target.address);
  base::Result<std::unique_ptr<io::ByteStream>> plain =
      addresses.size() == 1 ? co_await network_.dial(target.address, dial_options(pool), deadline)
                            : co_await race(std::move(addresses), dial_options(pool), deadline);
  if (!plain) co_return failed(plain.error());
  co_return Dialled{std::move(*plain), false};
}

base::Result<wire::TlsIdentityRef> Dialer::trust(const model::BackendTls& tls) {
  if (!tls.broken.empty()) return base::fail(base::Code::kInvalid, tls.broken);
  std::string key = tls.roots + tls.certificate + tls.key;
  if (auto found = trusts_.find(key); found != trusts_.end()) return found->second;
  std::string roots = tls.roots;
  if (roots.empty()) {
    auto system = read_system_roots_();
    if (!system) return base::fail(std::move(system).error());
    roots = std::move(*system);
  }
  auto made = tls.certificate.empty() ? wire::TlsIdentity::roots_only(roots)
                                      : wire::TlsIdentity::from_pem(tls.certificate, tls.key, roots);
  if (!made) return base::fail(std::move(made).error());
  if (trusts_.size() >= kTrustsMax) trusts_.clear();
  trusts_.emplace(std::move(key), *made);
  return *made;
}

async::Task<std::expected<Dialled, UpstreamFailure>> Dialer::secure(DialTarget target,
                                                                    model::TrafficPolicy policy,
                                                                    async::Deadline deadline) {
  wire::TlsIdentityRef trusted;
  if (policy.tls) {
    base::Result<wire::TlsIdentityRef> found = trust(*policy.tls);
    if (!found) co_return failed(Kind::kPolicy, found.error().message());
    trusted = std::move(*found);
  }
  std::string host = target.host, proxy;
  bool http2 = target.http2, raw = target.raw;
  if (policy.proxy_protocol == 1) proxy = wire::proxy_v1_header(target.client, target.dialled);
  if (policy.proxy_protocol == 2) proxy = wire::proxy_v2_header(target.client, target.dialled, "");
  std::expected<Dialled, UpstreamFailure> dialled =
      co_await connect(std::move(target), policy.pool, deadline);
  if (!dialled) co_return dialled;
  if (!proxy.empty()) {
    base::Result<> written = co_await io::write_all(*dialled->stream, base::as_bytes(proxy));
    if (!written) co_return failed(written.error().wrap("write the PROXY header"));
  }
  if (!policy.tls) co_return dialled;
  conn::TlsClientOptions options;
  options.identity = std::move(trusted);
  options.tls.tls12 = true;
  options.tls.alpn.clear();
  if (!raw) options.tls.alpn = {http2 ? "h2" : "http/1.1"};
  options.tls.sni = policy.tls->server_name.empty() ? host : policy.tls->server_name;
  options.tls.server_names = policy.tls->subject_alt_names;
  if (options.tls.server_names.empty()) options.tls.server_names = {options.tls.sni};
  options.tls.unverified = !policy.tls->verify;
  base::Result<std::unique_ptr<conn::TlsStream>> tls =
      co_await conn::tls_connect(loop_, std::move(dialled->stream), std::move(options), deadline);
  if (!tls) co_return failed(tls.error().wrap("TLS to the backend"));
  dialled->stream = std::move(*tls);
  co_return dialled;
}

// Reads no byte behind the answer's head: it is the tunnel's.
async::Task<base::Result<>> Dialer::ask_tunnel(io::ByteStream& stream, std::string authority) {
  constexpr size_t kHeadBytesMax = 16 * 1024;
  std::string ask = "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n\r\n";
  base::Result<> asked = co_await io::write_all(stream, base::as_bytes(ask));
  if (!asked) co_return asked;
  wire::Http1Limits limits;
  limits.head_bytes_max = kHeadBytesMax;
  wire::Http1Decoder decoder(wire::Http1Decoder::Kind::kResponse, limits);
  decoder.expect_answer_to("HEAD", "");  // nothing of HTTP follows the head
  for (;;) {
    uint8_t byte = 0;
    base::Result<size_t> got = co_await io::read_some(stream, {&byte, 1});
    if (!got) co_return base::fail(std::move(got).error());
    if (*got == 0) co_return base::fail(base::Code::kReset, "it ended the connection");
    switch (decoder.next({&byte, 1}).event) {
      case wire::Http1Decoder::Event::kFault:
        co_return base::fail(base::Code::kProtocol, "it does not answer in HTTP");
      case wire::Http1Decoder::Event::kInformational: (void)decoder.take_head(); break;
      case wire::Http1Decoder::Event::kHead: {
        wire::Http1Head head = decoder.take_head();
        const std::string* status = wire::find_header(head.headers, ":status");
        if (status && status->starts_with('2')) co_return base::Result<>{};
        co_return base::fail(base::Code::kRefused,
                             "it answered " + (status ? *status : std::string("nothing")));
      }
      default: break;
    }
  }
}

async::Task<std::expected<Dialled, UpstreamFailure>> Dialer::dial(DialTarget target,
                                                                  model::TrafficPolicy policy) {
  async::Deadline deadline = async::Deadline::in(loop_, policy.pool.connect_timeout);
  std::optional<model::HttpTunnel> tunnel = target.raw ? policy.tunnel : std::nullopt;
  if (tunnel && !tunnel->broken.empty()) co_return failed(Kind::kPolicy, tunnel->broken);
  std::expected<Dialled, UpstreamFailure> dialled =
      co_await secure(std::move(target), std::move(policy), deadline);
  if (!dialled || !tunnel) co_return dialled;
  base::Result<> granted = co_await async::with_deadline(loop_, deadline, "ask for a tunnel",
                                                         ask_tunnel(*dialled->stream, tunnel->authority));
  if (!granted) co_return failed(granted.error().wrap("a tunnel to " + tunnel->authority));
  co_return dialled;
}

}  // namespace culvert::waypoint
