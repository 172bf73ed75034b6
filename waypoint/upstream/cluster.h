// SPDX-License-Identifier: Apache-2.0
// Cluster: the endpoints of one (service, port, subset) as one data loop uses them, with their pools; and
// what all loops share about it: circuit breakers, load, ejections (spec waypoint sections 1.10, 2.3).
//
// What is shared outlives configuration changes: counters, pools and ejections of endpoints that stay, stay.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "mesh/decide/balance.h"
#include "mesh/decide/outliers.h"
#include "mesh/model/backend.h"
#include "net/base/log.h"
#include "waypoint/state.h"
#include "waypoint/upstream/limits.h"
#include "waypoint/upstream/names.h"
#include "waypoint/upstream/pool.h"

namespace culvert::waypoint {

struct ClusterKey {
  model::NamespacedHostname service;
  uint16_t port = 0;
  std::string subset;
  std::string host;  // of a wildcard service: which of its names
  auto operator<=>(const ClusterKey&) const = default;
};

// Which of its names is meant clients say with each request or connection (DYNAMIC_DNS).
inline bool named_by_clients(const model::Service& service) {
  return is_wildcard(service.hostname.view()) && !service.passthrough();
}

// One endpoint, as all loops see it.
struct HostLoad {
  base::TimePoint since{};          // first seen
  std::atomic<uint32_t> active{0};  // requests and connections under way
  std::atomic<bool> ejected{false};
};

struct Host {
  std::string key;  // "uid:port"; of one address of a name: "uid@ip:port"
  model::WorkloadRef workload;
  base::SocketAddr address;              // of the application
  std::vector<base::SocketAddr> others;  // of the same name: whichever answers first
  std::shared_ptr<HostLoad> load;
};
using HostRef = std::shared_ptr<const Host>;

// Counts a request on its host while it lives.
class HostUse {
 public:
  explicit HostUse(HostRef host) : host_(std::move(host)) { host_->load->active.fetch_add(1); }
  HostUse(HostUse&& other) noexcept = default;
  ~HostUse() {
    if (host_) host_->load->active.fetch_sub(1);
  }
  const Host& host() const { return *host_; }

 private:
  HostRef host_;
};

// What all loops share about one cluster. Thread safe.
class SharedCluster {
 public:
  SharedCluster() : limits_(std::make_shared<Limits>()) {}
  const std::shared_ptr<Limits>& limits() const { return limits_; }
  // The same object for the same endpoint, as long as anybody holds it. A new endpoint warms up from `now`.
  std::shared_ptr<HostLoad> load(const std::string& host_key, base::TimePoint now);
  // Changes with every ejection and return.
  uint64_t ejections() const { return ejections_.load(); }

  void set_hosts(const std::vector<std::string>& keys);
  // Takes an outcome and moves hosts out of the cluster and back; what has changed, for the log.
  std::vector<decide::OutlierDetector::Change> report(const model::OutlierDetection& rules,
                                                      const std::string& host, decide::HostOutcome outcome,
                                                      base::TimePoint now);
  // There are no rules any more: everybody comes back.
  std::vector<decide::OutlierDetector::Change> clear();
  // Brings back whose time is over.
  std::vector<decide::OutlierDetector::Change> sweep(const model::OutlierDetection& rules,
                                                     base::TimePoint now);

 private:
  void mark(const std::vector<decide::OutlierDetector::Change>& changes);

  std::shared_ptr<Limits> limits_;
  std::mutex mutex_;
  decide::OutlierDetector outliers_;
  std::atomic<uint64_t> ejections_{0};
  std::map<std::string, std::weak_ptr<HostLoad>> loads_;
};

class SharedClusters {
 public:
  std::shared_ptr<SharedCluster> get(const ClusterKey& key);

 private:
  std::mutex mutex_;
  // As long as a loop has the cluster.
  std::map<ClusterKey, std::weak_ptr<SharedCluster>> clusters_;
  size_t sweep_at_ = 1024;  // what has gone is looked for at this size
};

struct PickRequest {
  std::optional<uint64_t> hash;    // of hash balancers
  std::string held;                // the key of the host that takes it if it can; empty: none
  std::vector<std::string> tried;  // keys of hosts to be avoided
  bool other_levels = false;       // and of their localities
  base::SocketAddr dialled;        // by the client: where services without endpoints of their own are
};

class Cluster {
 public:
  Cluster(async::Loop& loop, base::Log& log, Dialer& dialer, NameCache& names, ClusterKey key,
          std::shared_ptr<SharedCluster> shared, Self self, base::Rng rng);
  ~Cluster();

  // A cluster of nobody but this pod.
  void refresh(const model::WorkloadRef& pod);
  // Takes over endpoints and policy if they have changed.
  void refresh(const MeshState& state);
  const model::TrafficPolicy& policy() const { return *policy_; }
  Limits& limits() { return *shared_->limits(); }
  const ClusterKey& key() const { return key_; }

  // Endpoints are names, and some have to be looked up first: resolve() ends when that is done, or at the
  // deadline.
  bool unresolved() const { return unresolved_; }
  async::Task<void> resolve(MeshStateRef state, async::Deadline deadline);
  // Why names have no addresses; "" they have.
  const std::string& name_problem() const { return name_problem_; }

  // Null: nobody healthy.
  HostRef pick(const PickRequest& request);
  void report(const Host& host, decide::HostOutcome outcome);
  // The pool of a host for one version; `client` and `dialled` are what a PROXY header would say, and where
  // one is sent a pool is theirs alone.
  HttpPool& pool(const HostRef& host, bool http2, base::SocketAddr client, base::SocketAddr dialled);
  DialTarget dial_target(const Host& host, bool http2, base::SocketAddr client,
                         base::SocketAddr dialled) const;

 private:
  struct PoolKey {
    std::string host;
    bool http2 = false;
    std::string proxied;  // with a PROXY header a connection belongs to one client
    auto operator<=>(const PoolKey&) const = default;
  };
  bool reclaim();

  struct Naming {
    NameCache::EntryRef entry;
    uint64_t seen = 0;  // its version
  };
  static constexpr size_t kPoolsMax = 1024;  // of addresses that clients choose; idle ones give way

  bool names_changed(base::Duration refresh);
  void add_hosts(const model::Endpoint& endpoint, uint16_t port, model::Backend::Names names);
  void add_host(std::string key, const model::WorkloadRef& workload, base::SocketAddr address,
                std::vector<base::SocketAddr> others = {});
  HostRef outside(const base::SocketAddr& dialled);
  void make_picker(const MeshState* state);
  void tell(const std::vector<decide::OutlierDetector::Change>& changes);

  async::Loop& loop_;
  base::Log& log_;
  Dialer& dialer_;
  NameCache& names_;
  ClusterKey key_;
  std::shared_ptr<SharedCluster> shared_;
  Self self_;
  base::Rng rng_;
  // What the present endpoints were made from.
  model::ViewRef mesh_;  // keeps the endpoint list alive whose address is compared
  const void* endpoints_seen_ = nullptr;
  model::BackendRef backend_;
  model::WaypointViewRef l7_;  // keeps alive the labels that the picker looks at
  model::WorkloadRef own_;
  uint64_t labels_seen_ = 0;
  std::shared_ptr<const model::TrafficPolicy> policy_;
  std::vector<HostRef> hosts_;
  std::vector<Naming> namings_;
  bool unresolved_ = false;
  bool nameless_ = false;  // a name found no room in the cache
  std::string name_problem_;
  model::ServiceRef passthrough_;  // set: clients are taken where they were going
  std::unique_ptr<decide::HostPicker> picker_;
  std::map<PoolKey, std::unique_ptr<HttpPool>> pools_;
  std::shared_ptr<Cluster*> alive_ = std::make_shared<Cluster*>(this);
};

// All clusters of one data loop, made when first used.
class Upstreams {
 public:
  Upstreams(async::Loop& loop, base::Log& log, Dialer& dialer, SharedClusters& shared, Self self,
            base::Rng rng)
      : loop_(loop),
        log_(log),
        dialer_(dialer),
        shared_(shared),
        self_(std::move(self)),
        rng_(rng),
        names_(loop, dialer.network(), self_.ip, rng_.fork()) {}

  // Null: there is no such service, port or subset; or more names of wildcards than kNamedMax are in use.
  std::shared_ptr<Cluster> find(const MeshState& state, const ClusterKey& key);
  // The cluster of one pod, addressed as such.
  std::shared_ptr<Cluster> pod(const model::WorkloadRef& workload, uint16_t port);

 private:
  static constexpr size_t kNamedMax = 1024;  // clusters of names that clients choose; the oldest gives way
  struct Slot {
    std::shared_ptr<Cluster> cluster;
    uint64_t used = 0;
  };
  std::shared_ptr<Cluster> get(const ClusterKey& key);
  bool make_room();

  async::Loop& loop_;
  base::Log& log_;
  Dialer& dialer_;
  SharedClusters& shared_;
  Self self_;
  base::Rng rng_;
  NameCache names_;
  std::map<ClusterKey, Slot> clusters_;
  size_t named_ = 0;
  uint64_t uses_ = 0;
};

}  // namespace culvert::waypoint
