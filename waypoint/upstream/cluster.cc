// SPDX-License-Identifier: Apache-2.0
#include "waypoint/upstream/cluster.h"

#include <algorithm>
#include <utility>

namespace culvert::waypoint {

namespace {

// The endpoint's own port for a service port; 0 if it does not serve it.
uint16_t target_port(const model::Endpoint& endpoint, const model::Service& service, uint16_t port) {
  for (const model::PortMapping& mapping : endpoint.ports()) {
    if (mapping.service_port == port && mapping.target_port != 0) return mapping.target_port;
  }
  const model::PortMapping* mapping = service.port(port);
  return mapping ? mapping->target_port : 0;
}

}  // namespace

std::shared_ptr<HostLoad> SharedCluster::load(const std::string& host_key, base::TimePoint now) {
  std::lock_guard lock(mutex_);
  std::weak_ptr<HostLoad>& slot = loads_[host_key];
  std::shared_ptr<HostLoad> load = slot.lock();
  if (!load) {
    load = std::make_shared<HostLoad>();
    load->since = now;
    slot = load;
  }
  return load;
}

void SharedCluster::set_hosts(const std::vector<std::string>& keys) {
  std::lock_guard lock(mutex_);
  outliers_.set_hosts(keys);
  std::erase_if(loads_, [](const auto& entry) { return entry.second.expired(); });
}

void SharedCluster::mark(const std::vector<decide::OutlierDetector::Change>& changes) {
  for (const decide::OutlierDetector::Change& change : changes) {
    auto found = loads_.find(change.host);
    std::shared_ptr<HostLoad> load = found == loads_.end() ? nullptr : found->second.lock();
    if (load) load->ejected.store(change.ejected);
  }
  if (!changes.empty()) ejections_.fetch_add(1);
}

std::vector<decide::OutlierDetector::Change> SharedCluster::report(const model::OutlierDetection& rules,
                                                                   const std::string& host,
                                                                   decide::HostOutcome outcome,
                                                                   base::TimePoint now) {
  std::lock_guard lock(mutex_);
  std::vector<decide::OutlierDetector::Change> changes = outliers_.report(rules, host, outcome, now);
  mark(changes);
  return changes;
}

std::vector<decide::OutlierDetector::Change> SharedCluster::sweep(const model::OutlierDetection& rules,
                                                                  base::TimePoint now) {
  std::lock_guard lock(mutex_);
  std::vector<decide::OutlierDetector::Change> changes = outliers_.sweep(rules, now);
  mark(changes);
  return changes;
}

std::vector<decide::OutlierDetector::Change> SharedCluster::clear() {
  std::lock_guard lock(mutex_);
  std::vector<decide::OutlierDetector::Change> changes = outliers_.clear();
  mark(changes);
  return changes;
}

std::shared_ptr<SharedCluster> SharedClusters::get(const ClusterKey& key) {
  std::lock_guard lock(mutex_);
  std::weak_ptr<SharedCluster>& slot = clusters_[key];
  std::shared_ptr<SharedCluster> shared = slot.lock();
  if (shared) return shared;
  slot = shared = std::make_shared<SharedCluster>();
  if (clusters_.size() >= sweep_at_) {
    std::erase_if(clusters_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = 2 * clusters_.size() + 1024;
  }
  return shared;
}

Cluster::Cluster(async::Loop& loop, base::Log& log, Dialer& dialer, NameCache& names, ClusterKey key,
                 std::shared_ptr<SharedCluster> shared, Self self, base::Rng rng)
    : loop_(loop),
      log_(log),
      dialer_(dialer),
      names_(names),
      key_(std::move(key)),
      shared_(std::move(shared)),
      self_(std::move(self)),
      rng_(rng),
      policy_(std::make_shared<model::TrafficPolicy>()) {
  shared_->limits()->add_reclaimer(loop_, alive_, [this] { reclaim(); });
}

Cluster::~Cluster() = default;

void Cluster::refresh(const MeshState& state) {
  std::span<const model::Endpoint> endpoints = state.mesh->endpoints(key_.service);
  model::BackendRef backend = state.l7->backend(key_.service);
  uint64_t labels = key_.subset.empty() ? 0 : state.l7->generation();
  bool named = names_changed(state.l7->settings().dns_refresh);
  if (endpoints.data() == endpoints_seen_ && backend == backend_ && labels == labels_seen_ && !named) return;
  mesh_ = state.mesh;
  endpoints_seen_ = endpoints.data();
  backend_ = std::move(backend);
  labels_seen_ = labels;

  const model::Subset* subset = backend_ ? backend_->subset(key_.subset) : nullptr;
  auto policy = std::make_shared<model::TrafficPolicy>();
  if (backend_) *policy = (subset ? subset->policy : backend_->policy).of(key_.port);
  bool otherwise = policy->tls != policy_->tls || policy->proxy_protocol != policy_->proxy_protocol;
  policy_ = std::move(policy);
  if (otherwise) {
    for (auto& [key, pool] : pools_) pool->renew(*policy_);
  }
  if (!policy_->outliers) tell(shared_->clear());

  picker_.reset();
  // What is known of endpoints and names that stay is kept by their old owners until they have new ones.
  std::vector<HostRef> hosts_before = std::exchange(hosts_, {});
  std::vector<Naming> namings_before = std::exchange(namings_, {});
  nameless_ = false;
  model::ServiceRef service = state.mesh->service(key_.service.ns, key_.service.hostname);
  if (!service) return;
  passthrough_ = service->passthrough() ? service : nullptr;
  for (const model::Endpoint& endpoint : endpoints) {
    if (passthrough_) break;
    if (subset && !covers(subset->labels, state.l7->labels(endpoint.workload->uid))) continue;
    uint16_t port = target_port(endpoint, *service, key_.port);
    if (port != 0) add_hosts(endpoint, port, backend_ ? backend_->names : model::Backend::Names::kAll);
  }
  (void)names_changed(state.l7->settings().dns_refresh);  // starts to look up what is new
  std::vector<std::string> keys;
  for (const HostRef& host : hosts_) keys.push_back(host->key);
  shared_->set_hosts(keys);
  make_picker(&state);
  // Pools of endpoints that have gone end with their requests.
  for (auto at = pools_.begin(); at != pools_.end();) {
    bool stays = std::any_of(hosts_.begin(), hosts_.end(),
                             [&](const HostRef& host) { return host->key == at->first.host; });
    if (!stays) at->second->drain();
    at = !stays && at->second->unused() ? pools_.erase(at) : std::next(at);
  }
}

void Cluster::add_host(std::string key, const model::WorkloadRef& workload, base::SocketAddr address,
                       std::vector<base::SocketAddr> others) {
  auto host = std::make_shared<Host>();
  host->key = std::move(key);
  host->workload = workload;
  host->address = address;
  host->others = std::move(others);
  host->load = shared_->load(host->key, loop_.now());
  hosts_.push_back(std::move(host));
}

// An endpoint is one host, or one for each address of its name.
void Cluster::add_hosts(const model::Endpoint& endpoint, uint16_t port, model::Backend::Names names) {
  using Names = model::Backend::Names;
  const model::WorkloadRef& workload = endpoint.workload;
  std::string suffix = ":" + std::to_string(port);
  if (!workload->addresses.empty())
    return add_host(workload->uid + suffix, workload, {workload->addresses.front(), port});
  std::string name = is_wildcard(workload->hostname.view()) ? key_.host : workload->hostname.str();
  if (name.empty()) return;
  NameCache::EntryRef entry = names_.entry(name);
  if (!entry) {
    nameless_ = true;
    return;
  }
  namings_.push_back({entry, entry->version});
  std::vector<base::SocketAddr> all;
  for (const base::IpAddr& ip : entry->addresses) all.push_back({ip, port});
  if (all.empty()) return;
  if (names == Names::kFirst) all.resize(1);
  if (names == Names::kAll) {
    for (const base::SocketAddr& one : all) add_host(workload->uid + "@" + one.to_string(), workload, one);
    return;
  }
  base::SocketAddr first = all.front();
  all.erase(all.begin());
  add_host(workload->uid + "@" + first.to_string(), workload, first, std::move(all));
}

// Starts what is due; true if an answer was another than before.
bool Cluster::names_changed(base::Duration refresh) {
  bool changed = false;
  unresolved_ = false;
  name_problem_ = nameless_ ? "too many names are in use" : "";
  for (const Naming& naming : namings_) {
    const NameCache::Entry& entry = *naming.entry;
    unresolved_ |= names_.touch(naming.entry, refresh);
    changed |= entry.version != naming.seen;
    if (!entry.addresses.empty() || entry.looking) continue;
    name_problem_ = entry.problem.empty() ? "too many names are being looked up" : entry.problem;
  }
  return changed;
}

async::Task<void> Cluster::resolve(MeshStateRef state, async::Deadline deadline) {
  std::vector<NameCache::EntryRef> waited;
  for (const Naming& naming : namings_) waited.push_back(naming.entry);
  for (const NameCache::EntryRef& entry : waited) {
    if (entry->looking) (void)co_await entry->settled.wait(deadline);
  }
  refresh(*state);
  for (const NameCache::EntryRef& entry : waited) {
    if (entry->looking && entry->addresses.empty())
      name_problem_ = "resolve " + entry->host + ": no answer in the time for connecting";
  }
}

// Where the client was going, if that belongs to the service (R1.4).
HostRef Cluster::outside(const base::SocketAddr& dialled) {
  auto is_vip = [&](const model::NetworkAddress& vip) {
    return vip.network == self_.network && vip.ip == dialled.ip;
  };
  auto in_range = [&](const model::NetworkCidr& vip) {
    return vip.network == self_.network && vip.range.contains(dialled.ip);
  };
  const auto& vips = passthrough_->vips;
  const auto& ranges = passthrough_->cidr_vips;
  bool inside =
      std::any_of(vips.begin(), vips.end(), is_vip) || std::any_of(ranges.begin(), ranges.end(), in_range);
  if (!inside || !may_dial(dialled.ip, self_.ip)) return nullptr;
  auto host = std::make_shared<Host>();
  host->key = dialled.to_string();
  host->address = dialled;
  host->load = std::make_shared<HostLoad>();
  host->workload = mesh_->workload_at(self_.network, dialled.ip);
  if (!host->workload) {
    auto nobody = std::make_shared<model::Workload>();
    nobody->addresses = {dialled.ip};
    nobody->network = self_.network;
    host->workload = std::move(nobody);
  }
  return host;
}

void Cluster::refresh(const model::WorkloadRef& pod) {
  if (!hosts_.empty() && hosts_.front()->workload == pod) return;
  picker_.reset();
  hosts_.clear();
  if (pod->addresses.empty()) return;
  add_host(pod->uid + ":" + std::to_string(key_.port), pod, {pod->addresses.front(), key_.port});
  make_picker(nullptr);
}

void Cluster::report(const Host& host, decide::HostOutcome outcome) {
  if (policy_->outliers && !passthrough_)
    tell(shared_->report(*policy_->outliers, host.key, outcome, loop_.now()));
}

void Cluster::tell(const std::vector<decide::OutlierDetector::Change>& changes) {
  for (const decide::OutlierDetector::Change& change : changes) {
    if (change.ejected) {
      log_.warn("outlier", "endpoint ejected",
                {base::Field::text("service", key_.service.to_string()),
                 base::Field::text("host", change.host), base::Field::text("reason", change.reason),
                 base::Field::text("for", base::format_duration(change.duration))});
    } else {
      log_.info(
          "outlier", "endpoint back in service",
          {base::Field::text("service", key_.service.to_string()), base::Field::text("host", change.host)});
    }
  }
}

HostRef Cluster::pick(const PickRequest& request) {
  if (policy_->outliers) tell(shared_->sweep(*policy_->outliers, loop_.now()));
  if (passthrough_) return outside(request.dialled);
  if (!picker_) return nullptr;
  if (!request.held.empty()) {
    auto held = std::find_if(hosts_.begin(), hosts_.end(),
                             [&](const HostRef& host) { return host->key == request.held; });
    if (held != hosts_.end() && !(*held)->load->ejected.load()) return *held;
  }
  std::vector<size_t> tried;
  for (size_t i = 0; i < hosts_.size() && !request.tried.empty(); ++i) {
    bool avoided =
        std::find(request.tried.begin(), request.tried.end(), hosts_[i]->key) != request.tried.end();
    if (avoided) tried.push_back(i);
  }
  decide::PickInput input;
  input.now = loop_.now();
  input.hash = request.hash;
  input.ejections = shared_->ejections();
  input.tried = tried;
  input.other_levels = request.other_levels;
  std::optional<size_t> chosen = picker_->pick(input);
  return chosen ? hosts_[*chosen] : nullptr;
}

void Cluster::make_picker(const MeshState* state) {
  std::vector<decide::BalanceHost> hosts;
  for (const HostRef& host : hosts_) {
    decide::BalanceHost one;
    one.key = host->key;
    one.weight = host->workload->capacity;
    one.workload = host->workload.get();
    if (state) one.labels = &state->l7->labels(host->workload->uid);
    one.since = host->load->since;
    one.active = &host->load->active;
    one.ejected = &host->load->ejected;
    hosts.push_back(std::move(one));
  }
  decide::BalanceOrigin origin;
  own_ = state ? state->mesh->workload_at(self_.network, self_.ip) : nullptr;
  origin.workload = own_.get();
  l7_ = state ? state->l7 : nullptr;
  uint32_t health_min = policy_->outliers ? policy_->outliers->health_percent_min : 0;
  picker_ = std::make_unique<decide::HostPicker>(policy_->balancer, health_min, std::move(hosts), origin,
                                                 rng_.fork());
}

DialTarget Cluster::dial_target(const Host& host, bool http2, base::SocketAddr client,
                                base::SocketAddr dialled) const {
  return {.workload = host.workload,
          .address = host.address,
          .others = host.others,
          .http2 = http2,
          .host = key_.host.empty() ? key_.service.hostname.str() : key_.host,
          .client = client,
          .dialled = dialled};
}

HttpPool& Cluster::pool(const HostRef& host, bool http2, base::SocketAddr client, base::SocketAddr dialled) {
  std::string proxied = policy_->proxy_protocol ? client.to_string() + dialled.to_string() : "";
  PoolKey key{host->key, http2, std::move(proxied)};
  if (passthrough_ && pools_.size() >= kPoolsMax) {
    std::erase_if(pools_, [](const auto& entry) {
      while (entry.second->drop_idle()) {
      }
      return entry.second->unused();
    });
  }
  std::unique_ptr<HttpPool>& slot = pools_[key];
  if (!slot) {
    slot = std::make_unique<HttpPool>(
        loop_, dialer_, shared_->limits(), dial_target(*host, http2, client, dialled),
        [this] { return reclaim(); }, rng_.fork());
  }
  return *slot;
}

bool Cluster::reclaim() {
  return std::any_of(pools_.begin(), pools_.end(), [](auto& entry) { return entry.second->drop_idle(); });
}

// The name that was used longest ago and by nobody now goes.
bool Upstreams::make_room() {
  if (named_ < kNamedMax) return true;
  auto oldest = clusters_.end();
  for (auto at = clusters_.begin(); at != clusters_.end(); ++at) {
    bool free = !at->first.host.empty() && at->second.cluster.use_count() == 1;
    if (free && (oldest == clusters_.end() || at->second.used < oldest->second.used)) oldest = at;
  }
  if (oldest == clusters_.end()) return false;
  clusters_.erase(oldest);
  --named_;
  return true;
}

std::shared_ptr<Cluster> Upstreams::get(const ClusterKey& key) {
  auto found = clusters_.find(key);
  if (found == clusters_.end()) {
    if (!key.host.empty()) {
      if (!make_room()) return nullptr;
      ++named_;
    }
    found = clusters_
                .emplace(key, Slot{std::make_shared<Cluster>(loop_, log_, dialer_, names_, key,
                                                             shared_.get(key), self_, rng_.fork())})
                .first;
  }
  found->second.used = ++uses_;
  return found->second.cluster;
}

std::shared_ptr<Cluster> Upstreams::find(const MeshState& state, const ClusterKey& key) {
  model::ServiceRef service = state.mesh->service(key.service.ns, key.service.hostname);
  if (!service || !service->port(key.port)) return nullptr;
  if (!key.subset.empty()) {
    model::BackendRef backend = state.l7->backend(key.service);
    if (!backend || !backend->subset(key.subset)) return nullptr;
  }
  std::shared_ptr<Cluster> cluster = get(key);
  if (cluster) cluster->refresh(state);
  return cluster;
}

std::shared_ptr<Cluster> Upstreams::pod(const model::WorkloadRef& workload, uint16_t port) {
  std::shared_ptr<Cluster> cluster = get({{"", workload->uid}, port, "", ""});
  cluster->refresh(workload);
  return cluster;
}

}  // namespace culvert::waypoint
