// SPDX-License-Identifier: Apache-2.0
// Worker: one data loop of the waypoint with everything its connections need: the mesh as it is now, upstream
// pools, certificates, telemetry. Workers share only atomics and the circuit breakers (design section 4).
//
// Everything here runs on the worker's own loop. Made before its loop runs, destroyed after it stopped.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "mesh/ca/cert_cache.h"
#include "mesh/config/waypoint_config.h"
#include "mesh/decide/rate_limit.h"
#include "mesh/jwt/authenticate.h"
#include "net/async/scope.h"
#include "net/base/log.h"
#include "net/base/rng.h"
#include "net/conn/relay.h"
#include "net/io/network.h"
#include "waypoint/mirror.h"
#include "waypoint/overload.h"
#include "waypoint/state.h"
#include "waypoint/telemetry/log_format.h"
#include "waypoint/telemetry/telemetry.h"
#include "waypoint/upstream/circuit.h"
#include "waypoint/upstream/cluster.h"

namespace culvert::waypoint {

// What all loops share.
struct Shared {
  Shared(Self own, decide::SipKey secret, Overload::Bounds bounds)
      : self(std::move(own)), limiters(secret), overload(bounds) {}
  Self self;
  SharedClusters clusters;
  decide::RateLimiters limiters;
  Circuits circuits;
  Overload overload;
  std::atomic<uint64_t> next_connection_id{1};
};

class Worker {
 public:
  Worker(const config::WaypointConfig& config, async::Loop& loop, io::Network& network, base::Log& log,
         Shared& shared, Telemetry& telemetry, ca::CertRequest certificates,
         std::function<base::Result<std::string>()> system_roots, base::Rng rng);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // --- commands of the control loop, posted to this one ---
  base::Result<> listen();
  void set_state(MeshStateRef state);
  // GOAWAY to everyone; the listener goes on taking connections until `close`, so that nothing is refused
  // while endpoints are being withdrawn.
  void drain();
  // Ends what is left. `done` is called once nothing is.
  void close(std::function<void()> done);

  // --- for the connections ---
  const config::WaypointConfig& config() const { return config_; }
  async::Loop& loop() { return loop_; }
  io::Network& network() { return network_; }
  base::Log& log() { return log_; }
  base::Rng& rng() { return rng_; }
  const Self& self() const { return shared_.self; }
  Shared& shared() { return shared_; }
  Telemetry& telemetry() { return telemetry_; }
  ca::CertCache& certificates() { return certificates_; }
  const MeshStateRef& state() const { return state_; }
  Upstreams& upstreams() { return upstreams_; }
  Dialer& dialer() { return dialer_; }
  Mirrors& mirrors() { return mirrors_; }
  conn::RelayBuffer& buffer() { return buffer_; }
  // What was compiled from the rules of a service; made when first asked for, valid until the next state.
  struct Compiled {
    model::WaypointServiceRef rules;
    std::shared_ptr<const jwt::TokenRules> tokens;
    std::set<model::NamespacedHostname> reach;  // model::reach_of
    std::unique_ptr<decide::RateLimitRules> limits;
    std::unique_ptr<const TelemetryRules> telemetry;
  };
  const Compiled& compiled(const model::WaypointServiceRef& rules);
  // Of bodies that authorizers are shown now.
  static constexpr size_t kShownBytesMax = 64 * 1024 * 1024;
  size_t& shown_bytes() { return shown_bytes_; }
  jwt::TokenCache& token_cache() { return token_cache_; }
  // A header value with its %OPERATORS% expanded.
  std::string format(const std::string& value, const RequestRecord& record);
  bool draining() const { return draining_; }
  // No more CONNECTs: this loop is late, or the process is out of memory.
  bool overloaded() const {
    return lag_.late() || shared_.overload.pressure() >= Overload::Pressure::kRefusing;
  }
  // For the log, every now and then.
  void say_overloaded();
  size_t connections() const { return connections_.running(); }

  // Calls `drain` when the worker drains, at once if it does already; for as long as it lives.
  class OnDrain {
   public:
    OnDrain(Worker& worker, std::function<void()> drain);
    ~OnDrain() { worker_.on_drain_.erase(place_); }
    OnDrain(const OnDrain&) = delete;
    OnDrain& operator=(const OnDrain&) = delete;

   private:
    Worker& worker_;
    std::list<std::function<void()>>::iterator place_;
  };

 private:
  static async::Task<void> accept_loop(Worker& worker);
  static async::Task<void> serve(Worker& worker, io::Accepted accepted, Overload::Seat seat);
  static async::Task<void> wait_closed(Worker& worker, std::function<void()> done);

  const config::WaypointConfig& config_;
  async::Loop& loop_;
  io::Network& network_;
  base::Log& log_;
  Shared& shared_;
  Telemetry& telemetry_;
  base::Rng rng_;
  ca::CertCache certificates_;
  conn::RelayBuffer buffer_;
  MeshStateRef state_ = std::make_shared<MeshState>();
  Dialer dialer_;
  Upstreams upstreams_;
  // Compiled header values by their text.
  static constexpr size_t kFormatsMax = 4096;
  std::map<std::string, LogFormat> formats_;
  std::map<const model::WaypointService*, Compiled> compiled_;
  jwt::TokenCache token_cache_;
  size_t shown_bytes_ = 0;
  bool draining_ = false;
  LagWatch lag_;
  base::TimePoint say_overloaded_again_{};
  std::list<std::function<void()>> on_drain_;
  std::unique_ptr<io::Listener> listener_;
  // Last, so that tasks end before what they use.
  Mirrors mirrors_;
  async::Scope connections_;
  async::Scope acceptor_;
  async::Scope closing_;
};

}  // namespace culvert::waypoint
