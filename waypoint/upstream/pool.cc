// SPDX-License-Identifier: Apache-2.0
#include "waypoint/upstream/pool.h"

#include <algorithm>
#include <utility>

namespace culvert::waypoint {

struct HttpPool::Connection {
  std::unique_ptr<conn::Http1ClientConn> h1;
  std::unique_ptr<conn::Http2Conn> h2;
  base::SocketAddr local;
  bool tunnelled = false;
  bool retired = false;  // takes no more requests
  size_t seats = 0;
  uint64_t requests = 0;
  Seat slot;
  std::unique_ptr<async::CallTimer> idle_timer, age_timer;

  async::Event& closed() { return h1 ? h1->closed() : h2->closed(); }
};

// Taken back out of the pool when its request is given up.
struct HttpPool::Waiter {
  Waiter(HttpPool& pool, async::Loop& loop) : owner(pool.self_), woken(loop) {
    pool.waiters_.push_back(this);
  }
  ~Waiter() {
    std::shared_ptr<HttpPool*> pool = owner.lock();
    if (!pool) return;
    std::erase((*pool)->waiters_, this);
    if (granted) (*pool)->give_back(granted);
  }
  std::weak_ptr<HttpPool*> owner;
  async::Event woken;
  Seat pending;
  std::shared_ptr<Connection> granted;
  std::optional<UpstreamFailure> failure;
};

HttpPool::Lease::~Lease() {
  if (!connection_) return;
  if (std::shared_ptr<HttpPool*> pool = pool_.lock()) (*pool)->give_back(connection_);
}

base::Result<std::unique_ptr<conn::HttpStream>> HttpPool::Lease::open(wire::Headers headers,
                                                                      bool end_stream) {
  if (connection_->h1) return connection_->h1->open(std::move(headers), end_stream);
  base::Result<std::unique_ptr<conn::Http2Stream>> stream =
      connection_->h2->open(std::move(headers), end_stream);
  if (!stream) return base::fail(std::move(stream).error());
  return std::unique_ptr<conn::HttpStream>(std::move(*stream));
}

bool HttpPool::Lease::tunnelled() const { return connection_->tunnelled; }
base::SocketAddr HttpPool::Lease::local_addr() const { return connection_->local; }

HttpPool::HttpPool(async::Loop& loop, Dialer& dialer, std::shared_ptr<Limits> limits, DialTarget target,
                   std::function<bool()> reclaim, base::Rng rng)
    : loop_(loop),
      dialer_(dialer),
      limits_(std::move(limits)),
      target_(std::move(target)),
      reclaim_(std::move(reclaim)),
      rng_(rng),
      tasks_(loop) {}

HttpPool::~HttpPool() {
  self_.reset();
  for (Waiter* waiter : waiters_) {
    waiter->failure = UpstreamFailure{UpstreamFailure::Kind::kConnect, "the endpoint has been removed"};
    waiter->woken.set();
  }
}

bool HttpPool::has_room(const Connection& connection) const {
  if (connection.retired) return false;
  const model::PoolLimits& pool = policy_.pool;
  if (pool.requests_per_connection_max != 0 && connection.requests >= pool.requests_per_connection_max) {
    return false;
  }
  if (connection.h1) return connection.seats == 0 && connection.h1->reusable();
  size_t streams_max = std::min<size_t>(pool.streams_max, connection.h2->peer_streams_max());
  return connection.h2->usable() && connection.seats < streams_max;
}

std::shared_ptr<HttpPool::Connection> HttpPool::find_room() {
  // The latest used first: its peer is the least likely to have given it up.
  for (auto at = connections_.rbegin(); at != connections_.rend(); ++at) {
    if (has_room(**at)) return *at;
  }
  return nullptr;
}

HttpPool::Lease HttpPool::seat(std::shared_ptr<Connection> connection) {
  ++connection->seats;
  ++connection->requests;
  if (connection->idle_timer) connection->idle_timer->disarm();
  return Lease(self_, std::move(connection));
}

async::Task<std::expected<HttpPool::Lease, UpstreamFailure>> HttpPool::acquire(model::TrafficPolicy policy,
                                                                               async::Deadline deadline) {
  using Kind = UpstreamFailure::Kind;
  policy_ = std::move(policy);
  if (std::shared_ptr<Connection> connection = find_room()) co_return seat(std::move(connection));
  Waiter waiter(*this, loop_);
  bool dialling = waiters_.size() <= dials_ * seats_of_a_dial() || start_dial();
  if (!dialling) {
    waiter.pending = limits_->pending(policy_.pool);
    if (!waiter.pending) co_return std::unexpected(UpstreamFailure{Kind::kOverflow, "overflow"});
  }
  bool woken = co_await waiter.woken.wait(deadline);
  if (waiter.failure) co_return std::unexpected(std::move(*waiter.failure));
  if (!woken || !waiter.granted) {
    co_return std::unexpected(UpstreamFailure{Kind::kConnectTimeout, "no connection became free in time"});
  }
  co_return Lease(waiter.owner, std::exchange(waiter.granted, nullptr));
}

size_t HttpPool::seats_of_a_dial() const {
  if (target_.http2) {
    uint32_t share = policy_.pool.requests_per_connection_max;
    size_t streams = std::min<size_t>(policy_.pool.streams_max, 100);
    return std::max<size_t>(1, share == 0 ? streams : std::min<size_t>(share, streams));
  }
  return 1;
}

bool HttpPool::start_dial() {
  Seat slot = limits_->connection(policy_.pool);
  // Somebody's idle connection may stand in the way.
  if (!slot && reclaim_()) slot = limits_->connection(policy_.pool);
  if (!slot) {
    if (!std::exchange(wake_asked_, true)) {
      limits_->wake_when_free(loop_, self_, [this] {
        wake_asked_ = false;
        pump();
      });
    }
    limits_->reclaim_elsewhere(loop_);
    return false;
  }
  ++dials_;
  tasks_.spawn(run_dial(policy_, std::move(slot)));
  return true;
}

async::Task<void> HttpPool::run_dial(model::TrafficPolicy policy, Seat slot) {
  size_t seats = seats_of_a_dial();
  uint64_t renewals = renewals_;
  std::expected<Dialled, UpstreamFailure> dialled = co_await dialer_.dial(target_, std::move(policy));
  --dials_;
  if (renewals != renewals_) {
    slot.release();  // whatever came of it; pump() dials again for those who wait
  } else if (dialled) {
    adopt(std::move(*dialled), std::move(slot));
  } else {
    slot.release();
    // Those it was meant for learn why; the rest wait for their own.
    for (size_t i = 0; i < seats && !waiters_.empty(); ++i) {
      Waiter* waiter = waiters_.front();
      waiters_.pop_front();
      waiter->failure = dialled.error();
      waiter->woken.set();
    }
  }
  pump();
}

void HttpPool::adopt(Dialled dialled, Seat slot) {
  auto connection = std::make_shared<Connection>();
  connection->local = dialled.stream->local_addr();
  connection->tunnelled = dialled.tunnelled;
  connection->slot = std::move(slot);
  if (target_.http2) {
    conn::Http2Options options = conn::Http2Options::for_users_traffic();
    options.idle_timeout = base::Duration::zero();  // the pool has its own
    options.ping_every = policy_.pool.ping_interval;
    if (policy_.pool.ping_timeout.count() > 0) options.ping_timeout = policy_.pool.ping_timeout;
    connection->h2 = std::make_unique<conn::Http2Conn>(loop_, std::move(dialled.stream),
                                                       wire::H2Engine::Role::kClient, options);
  } else {
    connection->h1 = std::make_unique<conn::Http1ClientConn>(loop_, std::move(dialled.stream), rng_.fork(),
                                                             conn::Http1Options{});
  }
  std::weak_ptr<Connection> weak = connection;
  auto give_up = [this, weak] {
    std::shared_ptr<Connection> aged = weak.lock();
    if (!aged) return;
    aged->retired = true;
    if (aged->seats == 0) end(aged);
  };
  connection->idle_timer = std::make_unique<async::CallTimer>(give_up);
  connection->age_timer = std::make_unique<async::CallTimer>(give_up);
  if (policy_.pool.connection_duration_max.count() > 0) {
    loop_.arm(*connection->age_timer, loop_.now() + policy_.pool.connection_duration_max);
  }
  connections_.push_back(connection);
  tasks_.spawn(watch(std::move(connection)));
}

async::Task<void> HttpPool::watch(std::shared_ptr<Connection> connection) {
  co_await connection->closed().wait();
  end(connection);
}

void HttpPool::end(const std::shared_ptr<Connection>& connection) {
  auto found = std::find(connections_.begin(), connections_.end(), connection);
  if (found == connections_.end()) return;
  std::shared_ptr<Connection> ended = connection;
  connections_.erase(found);
  ended->retired = true;
  ended->slot.release();
  if (ended->h2) ended->h2->drain();
  if (ended->h1 && ended->seats == 0) ended->h1->abort();
  loop_.defer(pump_job_);
}

void HttpPool::give_back(const std::shared_ptr<Connection>& connection) {
  --connection->seats;
  uint32_t share = policy_.pool.requests_per_connection_max;
  bool spent = share != 0 && connection->requests >= share;
  bool broken = connection->h1 ? !connection->h1->reusable() : !connection->h2->usable();
  if (spent || broken) connection->retired = true;
  if (connection->seats == 0) {
    if (connection->retired) {
      end(connection);
    } else if (policy_.pool.http_idle_timeout.count() > 0) {
      loop_.arm(*connection->idle_timer, loop_.now() + policy_.pool.http_idle_timeout);
    }
  }
  loop_.defer(pump_job_);
}

void HttpPool::pump() {
  while (!waiters_.empty()) {
    std::shared_ptr<Connection> connection = find_room();
    if (!connection) break;
    Waiter* waiter = waiters_.front();
    waiters_.pop_front();
    ++connection->seats;
    ++connection->requests;
    connection->idle_timer->disarm();
    waiter->granted = std::move(connection);
    waiter->pending.release();
    waiter->woken.set();
  }
  while (waiters_.size() > dials_ * seats_of_a_dial() && start_dial()) {
  }
  // Whoever has a dial on its way is no longer pending.
  size_t coming = std::min(waiters_.size(), dials_ * seats_of_a_dial());
  for (size_t i = 0; i < coming; ++i) waiters_[i]->pending.release();
}

bool HttpPool::drop_idle() {
  for (const std::shared_ptr<Connection>& connection : connections_) {
    if (connection->seats > 0) continue;
    end(connection);
    return true;
  }
  return false;
}

void HttpPool::drain() {
  std::list<std::shared_ptr<Connection>> all = connections_;
  for (const std::shared_ptr<Connection>& connection : all) {
    connection->retired = true;
    if (connection->seats == 0) end(connection);
  }
}

void HttpPool::renew(const model::TrafficPolicy& policy) {
  policy_ = policy;
  ++renewals_;
  drain();
}

}  // namespace culvert::waypoint
