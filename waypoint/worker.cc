// SPDX-License-Identifier: Apache-2.0
#include "waypoint/worker.h"

#include <cerrno>
#include <utility>

#include "waypoint/accept.h"

namespace culvert::waypoint {

namespace {

// A listener in trouble says so this often.
constexpr base::Duration kAcceptErrorEvery = std::chrono::seconds(5);
// And an overloaded worker.
constexpr base::Duration kOverloadedEvery = std::chrono::seconds(5);

}  // namespace

Worker::Worker(const config::WaypointConfig& config, async::Loop& loop, io::Network& network, base::Log& log,
               Shared& shared, Telemetry& telemetry, ca::CertRequest certificates,
               std::function<base::Result<std::string>()> system_roots, base::Rng rng)
    : config_(config),
      loop_(loop),
      network_(network),
      log_(log),
      shared_(shared),
      telemetry_(telemetry),
      rng_(rng),
      certificates_(loop, std::move(certificates)),
      dialer_(
          loop, network, shared.self,
          [this](model::Identity identity, async::Deadline deadline) {
            return certificates_.get(std::move(identity), deadline);
          },
          std::move(system_roots), rng_.fork()),
      upstreams_(loop, log, dialer_, shared.clusters, shared.self, rng_.fork()),
      lag_(loop),
      mirrors_(*this),
      connections_(loop),
      acceptor_(loop),
      closing_(loop) {}

Worker::~Worker() = default;

Worker::OnDrain::OnDrain(Worker& worker, std::function<void()> drain) : worker_(worker) {
  if (worker.draining_) drain();
  place_ = worker.on_drain_.insert(worker.on_drain_.end(), std::move(drain));
}

base::Result<> Worker::listen() {
  io::ListenOptions options;
  options.reuse_port = true;
  options.migrate_requests = true;
  options.keepalive = io::Keepalive{};
  base::IpAddr any = config_.ipv6_enabled ? base::IpAddr::any_v6() : base::IpAddr::any_v4();
  auto listener = network_.listen({config_.bind.value_or(any), config_.hbone_port}, options);
  bool no_v6 = !listener && !config_.bind && config_.ipv6_enabled &&
               (listener.error().os_errno() == EAFNOSUPPORT || listener.error().os_errno() == EADDRNOTAVAIL);
  if (no_v6) listener = network_.listen({base::IpAddr::any_v4(), config_.hbone_port}, options);
  if (!listener) return base::fail(std::move(listener).error().wrap("HBONE port"));
  listener_ = std::move(*listener);
  acceptor_.spawn(accept_loop(*this));
  return {};
}

async::Task<void> Worker::accept_loop(Worker& worker) {
  base::TimePoint say_again = worker.loop_.now();
  for (;;) {
    base::Result<io::Accepted> accepted = co_await io::accept(*worker.listener_);
    if (accepted) {
      Overload::Seat seat = worker.shared_.overload.connection();
      if (seat) {
        worker.connections_.spawn(serve(worker, std::move(*accepted), std::move(seat)));
      } else {
        accepted->stream->abort();
        worker.say_overloaded();
      }
      continue;
    }
    if (worker.loop_.now() >= say_again) {
      say_again = worker.loop_.now() + kAcceptErrorEvery;
      worker.log_.error("hbone", "accept failed; trying again",
                        {base::Field::text("error", accepted.error().message())});
    }
    // Out of descriptors and the like: others must get the time to end.
    co_await async::sleep_for(worker.loop_, std::chrono::milliseconds(100));
  }
}

async::Task<void> Worker::serve(Worker& worker, io::Accepted accepted, Overload::Seat) {
  co_await serve_connection(worker, std::move(accepted));
}

void Worker::say_overloaded() {
  if (loop_.now() < say_overloaded_again_) return;
  say_overloaded_again_ = loop_.now() + kOverloadedEvery;
  const Overload& overload = shared_.overload;
  log_.error("overload", "more than this waypoint takes on; newcomers are refused",
             {base::Field::number("connections", overload.connections()),
              base::Field::number("requests", overload.requests()),
              base::Field::number("connections_refused", overload.refused_connections()),
              base::Field::number("requests_refused", overload.refused_requests())});
}

void Worker::set_state(MeshStateRef state) {
  state_ = std::move(state);
  // What the new state no longer has is dropped once its last exchange could not ask for it again.
  std::erase_if(compiled_, [this](const auto& entry) {
    return state_->l7->service(entry.second.rules->service) != entry.second.rules &&
           entry.second.rules.use_count() <= 2;
  });
  model::WorkloadRef own = state_->mesh->workload_at(self().network, self().ip);
  if (own) dialer_.set_own(hbone::Baggage::of(*own));
}

const Worker::Compiled& Worker::compiled(const model::WaypointServiceRef& rules) {
  Compiled& slot = compiled_[rules.get()];
  if (!slot.rules) {
    slot.rules = rules;
    slot.tokens = jwt::TokenRules::compile(rules->guard.authentications);
    slot.reach = model::reach_of(*rules);
    for (const std::string& problem : slot.tokens->problems()) {
      log_.warn("jwt", problem, {base::Field::text("service", rules->service.to_string())});
    }
    // The policies live as long as the service that holds them.
    std::shared_ptr<const std::vector<model::RateLimitPolicy>> policies(rules, &rules->guard.rate_limits);
    slot.telemetry = std::make_unique<TelemetryRules>(rules->telemetry);
    for (const std::string& problem : slot.telemetry->problems()) {
      log_.warn("telemetry", problem, {base::Field::text("service", rules->service.to_string())});
    }
    slot.limits = std::make_unique<decide::RateLimitRules>(std::move(policies), shared_.limiters);
  }
  return slot;
}

std::string Worker::format(const std::string& value, const RequestRecord& record) {
  if (value.find('%') == std::string::npos) return value;
  auto known = formats_.find(value);
  if (known == formats_.end()) {
    base::Result<LogFormat> compiled = LogFormat::text(value);
    // The control plane refuses such values; a stranger's are passed on as written.
    if (!compiled) return value;
    if (formats_.size() >= kFormatsMax) formats_.clear();
    known = formats_.emplace(value, std::move(*compiled)).first;
  }
  return known->second.value(record);
}

void Worker::drain() {
  if (std::exchange(draining_, true)) return;
  for (const std::function<void()>& call : on_drain_) call();
}

void Worker::close(std::function<void()> done) {
  drain();
  acceptor_.cancel_all();
  connections_.cancel_all();
  mirrors_.cancel();
  closing_.spawn(wait_closed(*this, std::move(done)));
}

async::Task<void> Worker::wait_closed(Worker& worker, std::function<void()> done) {
  co_await worker.acceptor_.idle().wait();
  worker.listener_.reset();
  co_await worker.connections_.idle().wait();
  co_await worker.mirrors_.idle().wait();
  done();
}

}  // namespace culvert::waypoint
