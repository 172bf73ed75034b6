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
#include "waypoint/upstream/pool.h"

namespace culvert::waypoint {

struct ClusterKey {
  model::NamespacedHostname service;
  uint16_t port = 0;
  std::string subset;
  auto operator<=>(const ClusterKey&) const = default;
};

// One endpoint, as all loops see it.
struct HostLoad {
  base::TimePoint since{};          // first seen
  std::atomic<uint32_t> active{0};  // requests and connections under way
  std::atomic<bool> ejected{false};
};

struct Host {
  std::string key;  // "uid:port"
  model::WorkloadRef workload;
  base::SocketAddr address;  // of the application
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
  std::map<ClusterKey, std::shared_ptr<SharedCluster>> clusters_;
};

struct PickRequest {
  std::optional<uint64_t> hash;    // of hash balancers
  std::vector<std::string> tried;  // keys of hosts to be avoided
  bool other_levels = false;       // and of their localities
};

class Cluster {
 public:
  Cluster(async::Loop& loop, base::Log& log, Dialer& dialer, ClusterKey key,
          std::shared_ptr<SharedCluster> shared, Self self, base::Rng rng);
  ~Cluster();

  // A cluster of nobody but this pod.
  void refresh(const model::WorkloadRef& pod);
  // Takes over endpoints and policy if they have changed.
  void refresh(const MeshState& state);
  const model::TrafficPolicy& policy() const { return *policy_; }
  Limits& limits() { return *shared_->limits(); }
  const ClusterKey& key() const { return key_; }

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

  void make_picker(const MeshState* state);
  void tell(const std::vector<decide::OutlierDetector::Change>& changes);

  async::Loop& loop_;
  base::Log& log_;
  Dialer& dialer_;
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
  std::unique_ptr<decide::HostPicker> picker_;
  std::map<PoolKey, std::unique_ptr<HttpPool>> pools_;
  std::shared_ptr<Cluster*> alive_ = std::make_shared<Cluster*>(this);
};

// All clusters of one data loop, made when first used.
class Upstreams {
 public:
  Upstreams(async::Loop& loop, base::Log& log, Dialer& dialer, SharedClusters& shared, Self self,
            base::Rng rng)
      : loop_(loop), log_(log), dialer_(dialer), shared_(shared), self_(std::move(self)), rng_(rng) {}

  // Null: there is no such service, port or subset.
  Cluster* find(const MeshState& state, const ClusterKey& key);
  // The cluster of one pod, addressed as such.
  Cluster* pod(const model::WorkloadRef& workload, uint16_t port);

 private:
  async::Loop& loop_;
  base::Log& log_;
  Dialer& dialer_;
  SharedClusters& shared_;
  Self self_;
  base::Rng rng_;
  std::map<ClusterKey, std::unique_ptr<Cluster>> clusters_;
};

}  // namespace culvert::waypoint
