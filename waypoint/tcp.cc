// SPDX-License-Identifier: Apache-2.0
#include "waypoint/tcp.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "mesh/decide/authorize_http.h"
#include "mesh/decide/match_route.h"
#include "net/conn/relay.h"
#include "waypoint/record.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

namespace {

// One more endpoint is tried when the first cannot be connected (gap G16).
constexpr int kConnectsMax = 2;
// Looks per idle timeout: how exactly it is kept.
constexpr int kIdleLooks = 10;
constexpr base::Duration kTellEvery = std::chrono::seconds(5);  // bytes, to metrics (section 5.1)

class Stream {
 public:
  Stream(Worker& worker, ClientRef client, std::unique_ptr<ClientStream> stream,
         std::optional<std::string> server_name)
      : worker_(worker),
        client_(std::move(client)),
        stream_(std::move(stream)),
        state_(worker.state()),
        server_name_(std::move(server_name)) {
    record_.client = client_;
    record_.tcp = true;
    record_.times.start = worker.loop().now();
    record_.times.start_wall = worker.loop().wall_now();
    if (server_name_) record_.sni = *server_name_;
    if (client_->addressed.l7) l7_ = state_->l7->service(client_->addressed.l7->service);
    facts_.peer = &client_->identity;
    facts_.source_ip = facts_.remote_ip = client_->address.ip;
    facts_.destination = client_->addressed.dialled;
    facts_.port = client_->addressed.port;
    facts_.sni = record_.sni;
    if (client_->workload) facts_.source_labels = &state_->l7->labels(client_->workload->uid);
  }

  async::Task<void> run() {
    bool pass = allowed([](const model::HttpPolicy& policy) { return !policy.selector; }, facts_);
    if (!pass) co_return finish();
    std::shared_ptr<Cluster> cluster = route();
    if (!cluster) co_return finish();
    if (!within_limits()) co_return finish();
    if (cluster->unresolved()) {
      co_await cluster->resolve(state_,
                                async::Deadline::in(worker_.loop(), cluster->policy().pool.connect_timeout));
    }
    record_.upstream_failure = cluster->name_problem();
    if (!cluster->key().host.empty() && !cluster->name_problem().empty()) {
      refuse(Flag::kDnsFailure, cluster->name_problem());
      co_return finish();
    }
    std::expected<Dialled, UpstreamFailure> upstream = co_await connect(*cluster);
    if (!upstream) co_return finish();
    worker_.telemetry().tcp_opened(record_, rules(), *state_);
    conn::Relay relay(worker_.loop(), worker_.buffer(), *stream_, *upstream->stream);
    watch(relay, cluster->policy().pool);
    co_await relay.run();
    unwatch();
    record_.counts.body_bytes_in = relay.bytes_to_upstream();
    record_.counts.body_bytes_out = relay.bytes_to_downstream();
    tell_bytes(relay);
    finish();
  }

 private:
  const TelemetryRules* rules() const { return l7_ ? worker_.compiled(l7_).telemetry.get() : nullptr; }

  void finish() {
    record_.times.end = worker_.loop().now();
    worker_.telemetry().finished(record_, rules(), *state_);
  }

  // What has passed since the last time: long connections show in metrics while they last.
  void tell_bytes(const conn::Relay& relay) {
    uint64_t received = relay.bytes_to_upstream() - std::exchange(told_received_, relay.bytes_to_upstream());
    uint64_t sent = relay.bytes_to_downstream() - std::exchange(told_sent_, relay.bytes_to_downstream());
    if (received + sent == 0) return;
    record_.times.end = worker_.loop().now();
    worker_.telemetry().tcp_bytes(record_, rules(), *state_, received, sent);
  }
  void tell_again() {
    tell_bytes(*relay_);
    worker_.loop().arm(tell_timer_, worker_.loop().now() + kTellEvery);
  }

  // Ends a connection that is old enough, or on which nothing has moved for long enough.
  void watch(conn::Relay& relay, const model::PoolLimits& pool) {
    relay_ = &relay;
    idle_max_ = pool.tcp_idle_timeout;
    last_moved_ = worker_.loop().now();
    worker_.loop().arm(tell_timer_, last_moved_ + kTellEvery);
    if (pool.connection_duration_max.count() > 0)
      worker_.loop().arm(age_timer_, last_moved_ + pool.connection_duration_max);
    if (idle_max_.count() > 0) worker_.loop().arm(idle_timer_, last_moved_ + idle_max_ / kIdleLooks);
  }
  void unwatch() {
    relay_ = nullptr;
    tell_timer_.disarm();
    age_timer_.disarm();
    idle_timer_.disarm();
  }
  void look_idle() {
    base::TimePoint now = worker_.loop().now();
    uint64_t moved = relay_->bytes_to_upstream() + relay_->bytes_to_downstream();
    if (moved != moved_) last_moved_ = now;
    moved_ = moved;
    if (now - last_moved_ >= idle_max_) return end_relay("tcp_session_idle_timeout");
    worker_.loop().arm(idle_timer_, std::min(now + idle_max_ / kIdleLooks, last_moved_ + idle_max_));
  }
  void too_old() {
    record_.flags.add(Flag::kDurationTimeout);
    end_relay("max_connection_duration_reached");
  }
  void end_relay(std::string why) {
    relay_->abort(base::Error(base::Code::kTimeout, why));
    record_.termination = std::move(why);
  }

  void refuse(Flag flag, std::string why) {
    record_.flags.add(flag);
    record_.termination = std::move(why);
    stream_->abort();
  }

  template <class Applies>
  bool allowed(Applies applies, const decide::HttpRequestFacts& facts) {
    if (!l7_ || l7_->guard.policies.empty()) return true;
    decide::AuthorizeHttpOptions options;
    options.http = false;
    std::vector<std::string> domains = state_->l7->settings().trust_domain_aliases;
    domains.push_back(worker_.self().identity.trust_domain.str());
    options.trust_domains = domains;
    options.applies = std::move(applies);
    // Providers are asked about requests; a connection that a CUSTOM policy covers cannot be judged.
    for (const decide::CustomHit& hit : decide::custom_policies(l7_->guard.policies, facts, options)) {
      record_.denied_by = hit.name;
      record_.details = "ext_authz_error";
      refuse(Flag::kExternalDenied, record_.details);
      return false;
    }
    decide::HttpVerdict verdict = decide::authorize_http(l7_->guard.policies, facts, options);
    if (verdict.allowed) return true;
    record_.denied_by = verdict.denied_by();
    record_.details = "rbac_access_denied_matched_policy[" +
                      (verdict.decided_by.empty() ? std::string("none") : verdict.decided_by) + "]";
    record_.termination = record_.details;
    stream_->abort();
    return false;
  }

  // A new connection is what is counted (section 4.2).
  bool within_limits() {
    if (!l7_ || l7_->guard.rate_limits.empty()) return true;
    decide::RateLimitOptions options;
    options.now = worker_.loop().now();
    options.http = false;
    options.route_name = record_.route_name;
    options.route_origin = record_.route_origin;
    std::vector<std::string> domains = state_->l7->settings().trust_domain_aliases;
    domains.push_back(worker_.self().identity.trust_domain.str());
    options.trust_domains = domains;
    decide::RateLimitDecision decision = worker_.compiled(l7_).limits->decide(facts_, options);
    for (const decide::RateLimitNote& note : decision.notes) {
      worker_.telemetry().rate_limited(note, decision.admitted);
    }
    if (decision.admitted) return true;
    record_.details = "local_rate_limited";
    refuse(Flag::kRateLimited, record_.details);
    return false;
  }

  // Policies bound by selector: they hold for the endpoints they cover, and mean their addresses and ports.
  bool allowed_at(const Host& host) {
    if (!l7_) return true;
    if (!can_tell(l7_->guard.policies, *host.workload, *state_->l7)) {
      refuse(Flag::kNoHealthyUpstream, "the labels of the endpoint are not known yet");
      return false;
    }
    decide::HttpRequestFacts facts = facts_;
    facts.destination = host.address;
    facts.port = host.address.port;
    return allowed(
        [&](const model::HttpPolicy& policy) { return *selects(policy, *host.workload, *state_->l7); },
        facts);
  }

  // Null: refused already.
  std::shared_ptr<Cluster> route() {
    const Addressed& addressed = client_->addressed;
    if (addressed.pod) return worker_.upstreams().pod(addressed.pod, addressed.port);
    ClusterKey key{addressed.service->key(), addressed.port, "", ""};
    const model::PortRoutes* routes = l7_ ? l7_->port(addressed.port, client_->identity.ns.view()) : nullptr;
    if (routes && routes->tcp) {
      const model::TcpRoute* hit = decide::match_tcp_route(*routes->tcp, facts_, server_name_.has_value());
      const model::RouteTarget* target = hit ? decide::pick_target(hit->targets, worker_.rng()) : nullptr;
      if (!target || !target->invalid.empty()) {
        refuse(Flag::kNoRoute, hit ? "the route's backends cannot be used" : "no route matches");
        return nullptr;
      }
      record_.route_name = hit->name;
      record_.route_origin = hit->origin;
      key = {target->service, target->port == 0 ? addressed.port : target->port, target->subset, ""};
    }
    model::ServiceRef service = state_->mesh->service(key.service.ns, key.service.hostname);
    if (service && named_by_clients(*service)) {
      std::optional<std::string> name = name_within(key.service.hostname.view(), server_name_.value_or(""));
      if (!name) {
        refuse(Flag::kNoRoute, "the server name lies outside the wildcard");
        return nullptr;
      }
      key.host = std::move(*name);
    }
    record_.cluster = fmt::format("outbound|{}|{}|{}", key.port, key.subset, key.service.hostname.view());
    std::shared_ptr<Cluster> cluster = worker_.upstreams().find(*state_, key);
    if (!cluster) refuse(Flag::kNoCluster, "no such service, port or subset");
    return cluster;
  }

  async::Task<std::expected<Dialled, UpstreamFailure>> connect(Cluster& cluster) {
    using Kind = UpstreamFailure::Kind;
    UpstreamFailure last{Kind::kConnect, "no healthy upstream"};
    PickRequest pick;
    pick.dialled = client_->addressed.dialled;
    for (int attempt = 1; attempt <= kConnectsMax; ++attempt) {
      HostRef host = cluster.pick(pick);
      if (!host) {
        refuse(Flag::kNoHealthyUpstream, "no healthy upstream");
        co_return std::unexpected(std::move(last));
      }
      pick.tried.push_back(host->key);
      record_.attempts = static_cast<uint32_t>(attempt);
      record_.upstream = host->workload;
      record_.upstream_address = host->address;
      if (!allowed_at(*host)) co_return std::unexpected(std::move(last));
      seat_ = cluster.limits().connection(cluster.policy().pool);
      if (!seat_) {
        refuse(Flag::kUpstreamOverflow, "overflow");
        co_return std::unexpected(std::move(last));
      }
      use_.emplace(host);
      DialTarget target = cluster.dial_target(*host, false, client_->address, client_->addressed.dialled);
      target.raw = true;
      std::expected<Dialled, UpstreamFailure> dialled =
          co_await worker_.dialer().dial(std::move(target), cluster.policy());
      if (dialled) {
        cluster.report(*host, {decide::HostOutcome::Kind::kResponse, 200});
        record_.upstream_tls = dialled->tunnelled;
        record_.upstream_local = dialled->stream->local_addr();
        co_return std::move(*dialled);
      }
      cluster.report(*host, {decide::HostOutcome::Kind::kConnectFailure, 0});
      last = std::move(dialled).error();
      record_.upstream_failure = last.reason;
      use_.reset();
      seat_.release();
    }
    record_.flags.add(Flag::kRetryLimit);
    refuse(Flag::kUpstreamFailure, last.reason);
    co_return std::unexpected(std::move(last));
  }

  Worker& worker_;
  ClientRef client_;
  std::unique_ptr<ClientStream> stream_;
  MeshStateRef state_;
  model::WaypointServiceRef l7_;
  std::optional<std::string> server_name_;
  decide::HttpRequestFacts facts_;
  RequestRecord record_;
  conn::Relay* relay_ = nullptr;
  base::Duration idle_max_{0};
  base::TimePoint last_moved_{};
  uint64_t moved_ = 0;
  uint64_t told_received_ = 0, told_sent_ = 0;
  async::CallTimer tell_timer_{[this] { tell_again(); }};
  async::CallTimer age_timer_{[this] { too_old(); }};
  async::CallTimer idle_timer_{[this] { look_idle(); }};
  Seat seat_;
  std::optional<HostUse> use_;
};

}  // namespace

async::Task<void> serve_tcp(Worker& worker, ClientRef client, std::unique_ptr<ClientStream> stream,
                            std::optional<std::string> server_name) {
  Stream serving(worker, std::move(client), std::move(stream), std::move(server_name));
  co_await serving.run();
}

}  // namespace culvert::waypoint
