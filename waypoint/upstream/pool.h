// SPDX-License-Identifier: Apache-2.0
// HttpPool: the HTTP connections of one data loop to one endpoint, in one version (spec waypoint
// section 2.3.3).
//
// | a request finds                                    | it                                               |
// |----------------------------------------------------|--------------------------------------------------|
// | a connection with room                             | takes a seat on it                               |
// | none, and the cluster may have one more connection | waits for the dial that is started for it        |
// | none, and it may not                               | waits as pending, first come first served        |
// | none, and as many are pending as may be            | kOverflow                                        |
//
// Dials belong to the pool: a request that is given up leaves its dial to the next. A connection ends when it
// has served its share of requests, has been idle or old long enough, or is broken.
#pragma once

#include <deque>
#include <expected>
#include <list>
#include <memory>

#include "net/async/scope.h"
#include "net/conn/http1_conn.h"
#include "net/conn/http2_conn.h"
#include "waypoint/upstream/dial.h"
#include "waypoint/upstream/limits.h"

namespace culvert::waypoint {

class HttpPool {
  struct Connection;
  struct Waiter;

 public:
  // A seat on a connection, for one request.
  class Lease {
   public:
    Lease(Lease&&) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    // Once. kRefused, kClosed, kExhausted: the connection has just gone; acquire again.
    base::Result<std::unique_ptr<conn::HttpStream>> open(wire::Headers headers, bool end_stream);
    bool tunnelled() const;
    base::SocketAddr local_addr() const;

   private:
    friend class HttpPool;
    Lease(std::weak_ptr<HttpPool*> pool, std::shared_ptr<Connection> connection)
        : pool_(std::move(pool)), connection_(std::move(connection)) {}
    std::weak_ptr<HttpPool*> pool_;
    std::shared_ptr<Connection> connection_;
  };

  // `reclaim` makes another pool of the cluster give up an idle connection, if there is one.
  HttpPool(async::Loop& loop, Dialer& dialer, std::shared_ptr<Limits> limits, DialTarget target,
           std::function<bool()> reclaim, base::Rng rng);
  ~HttpPool();
  HttpPool(const HttpPool&) = delete;
  HttpPool& operator=(const HttpPool&) = delete;

  // kConnectTimeout if the deadline comes first.
  async::Task<std::expected<Lease, UpstreamFailure>> acquire(model::TrafficPolicy policy,
                                                             async::Deadline deadline);
  // Gives up one connection nobody uses; false if there is none.
  bool drop_idle();
  // Nothing is connected, dialled or waited for.
  bool unused() const { return connections_.empty() && dials_ == 0 && waiters_.empty(); }
  size_t connections() const { return connections_.size(); }
  // Every connection ends once its requests have.
  void drain();
  // The same, and whoever waits gets a connection by this policy: those of before are no longer what is asked
  // for.
  void renew(const model::TrafficPolicy& policy);

 private:
  bool has_room(const Connection& connection) const;
  std::shared_ptr<Connection> find_room();
  Lease seat(std::shared_ptr<Connection> connection);
  size_t seats_of_a_dial() const;
  bool start_dial();
  async::Task<void> run_dial(model::TrafficPolicy policy, Seat slot);
  async::Task<void> watch(std::shared_ptr<Connection> connection);
  void adopt(Dialled dialled, Seat slot);
  void give_back(const std::shared_ptr<Connection>& connection);
  void end(const std::shared_ptr<Connection>& connection);
  void pump();

  async::Loop& loop_;
  Dialer& dialer_;
  std::shared_ptr<Limits> limits_;
  DialTarget target_;
  std::function<bool()> reclaim_;
  base::Rng rng_;
  model::TrafficPolicy policy_;  // of the latest request
  std::list<std::shared_ptr<Connection>> connections_;
  std::deque<Waiter*> waiters_;
  size_t dials_ = 0;
  uint64_t renewals_ = 0;
  bool wake_asked_ = false;
  std::shared_ptr<HttpPool*> self_ = std::make_shared<HttpPool*>(this);
  async::CallJob pump_job_{[this] { pump(); }};
  async::Scope tasks_;
};

}  // namespace culvert::waypoint
