// SPDX-License-Identifier: Apache-2.0
#include "control/serve/ads_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "net/async/scope.h"
#include "proto/discovery.pb.h"

namespace culvert::control {

namespace v3 = envoy::service::discovery::v3;
using base::Field;
using base::Result;
using conn::GrpcCode;
using conn::GrpcStatus;

namespace {

constexpr std::string_view kMethod =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

// In the order of sending: services name what comes before them.
constexpr std::string_view kWaypointTypes[] = {xds::kBackendType, xds::kWorkloadLabelsType,
                                               xds::kWaypointSettingsType, xds::kWaypointServiceType};

bool is_waypoint_type(std::string_view type) {
  return std::find(std::begin(kWaypointTypes), std::end(kWaypointTypes), type) != std::end(kWaypointTypes);
}

// What one client wants of one type.
struct Subscription {
  bool opened = false;  // its first request has come
  bool wildcard = false;
  std::set<std::string> names;  // on demand
  std::set<std::string> dirty;  // to be sent or removed
  bool must_answer = false;     // answer even with nothing: a first request waits for it
  std::string nonce_sent;
  std::string nonce_acked;
  uint64_t snapshot_sent = 0;
  uint64_t snapshot_acked = 0;
  uint64_t rejects = 0;
  std::string last_error;

  bool unacknowledged() const { return nonce_sent != nonce_acked; }
};

std::string metadata_text(const v3::Node& node, const char* key) {
  auto found = node.metadata().fields().find(key);
  return found == node.metadata().fields().end() ? std::string() : found->second.string_value();
}

// Four parts, a known type, an address: "ztunnel~10.0.0.1~pod.ns~ns.svc.cluster.local".
bool is_node_id(const std::string& id) {
  if (std::count(id.begin(), id.end(), '~') != 3) return false;
  std::string type = id.substr(0, id.find('~'));
  size_t second = id.find('~', type.size() + 1);
  std::string ip = id.substr(type.size() + 1, second - type.size() - 1);
  return (type == "ztunnel" || type == "waypoint" || type == "sidecar" || type == "router") &&
         base::IpAddr::parse(ip).has_value();
}

// The third part of a node id is "<pod>.<namespace>".
std::string namespace_of(const std::string& node_id) {
  size_t second = node_id.find('~', node_id.find('~') + 1);
  std::string pod = node_id.substr(second + 1, node_id.rfind('~') - second - 1);
  size_t dot = pod.rfind('.');
  return dot == std::string::npos ? std::string() : pod.substr(dot + 1);
}

// A client that wants more than this wants the wildcard. `kept`: names it has already.
constexpr size_t kNamesMax = 200'000;
constexpr size_t kNameBytesMax = 1024;

std::optional<GrpcStatus> check_name(size_t kept, const std::string& name) {
  if (name.size() > kNameBytesMax) {
    return GrpcStatus{GrpcCode::kInvalidArgument,
                      fmt::format("a resource name of {} bytes; at most {}", name.size(), kNameBytesMax)};
  }
  if (kept >= kNamesMax) {
    return GrpcStatus{GrpcCode::kResourceExhausted,
                      fmt::format("more than {} names on one stream; subscribe to all", kNamesMax)};
  }
  return std::nullopt;
}

}  // namespace

class AdsServer::Stream {
 public:
  Stream(AdsServer& server, conn::GrpcCall& call, CallerIdentity caller)
      : server_(server), call_(call), caller_(std::move(caller)), work_(server.loop_), sender_(server.loop_) {
    connected_at_ = base::format_rfc3339(server.loop_.wall_now(), 0);
    place_ = server_.streams_.insert(server_.streams_.end(), this);
  }
  ~Stream() { server_.streams_.erase(place_); }

  async::Task<GrpcStatus> run();
  // The server has a new snapshot.
  void changed(const std::set<std::string>& addresses, const std::set<std::string>& authorizations);
  // The same of waypoint types; `before`: what was served.
  void changed(std::string_view type, const std::set<std::string>& names, const Snapshot& before);
  Client describe() const;

 private:
  Subscription& subscription(const std::string& type) {
    if (is_waypoint_type(type)) return waypoint_types_[type];
    return type == kAddressType ? address_ : authorization_;
  }
  bool serves(const std::string& type) const {
    return type == kAddressType || type == kAuthorizationType ||
           (!waypoint_.empty() && is_waypoint_type(type));
  }
  bool visible(const Snapshot& snapshot, std::string_view type, const std::string& name) const {
    return type != xds::kWaypointServiceType || snapshot.bound(name, waypoint_);
  }
  std::optional<GrpcStatus> check_node(const v3::DeltaDiscoveryRequest& request);
  std::optional<GrpcStatus> take(const v3::DeltaDiscoveryRequest& request);
  std::optional<GrpcStatus> open(Subscription& subscription, const v3::DeltaDiscoveryRequest& request);
  std::optional<GrpcStatus> subscribe(Subscription& subscription, const v3::DeltaDiscoveryRequest& request);
  std::vector<std::string> resolve(const std::string& type, const std::string& name) const;
  void demand(Subscription& subscription, const std::string& type, const std::string& name);
  void acknowledge(Subscription& subscription, const v3::DeltaDiscoveryRequest& request);
  std::optional<std::string> next_response();
  std::string respond(std::string_view type, Subscription& subscription, std::set<std::string> names);
  static async::Task<void> send_loop(Stream& stream);

  AdsServer& server_;
  conn::GrpcCall& call_;
  CallerIdentity caller_;
  std::string node_id_;
  std::string node_name_;
  std::string connected_at_;
  Subscription address_;
  Subscription authorization_;
  std::string waypoint_;  // "ns/name" of the waypoint the caller is; empty: it is none
  std::map<std::string, Subscription, std::less<>> waypoint_types_;
  std::set<std::string> policies_to_remove_;  // after the next Address response
  uint64_t next_nonce_ = 0;
  async::Event work_;
  async::Scope sender_;
  std::list<Stream*>::iterator place_;
};

AdsServer::AdsServer(async::Loop& loop, base::Log& log, const Authenticator& authenticator)
    : loop_(loop), log_(log), authenticator_(authenticator), snapshot_(make_snapshot({}, nullptr)) {}

AdsServer::~AdsServer() = default;

void AdsServer::register_on(conn::GrpcServer& server) {
  server.handle(std::string(kMethod), [this](conn::GrpcCall& call) { return serve(call); });
}

async::Task<GrpcStatus> AdsServer::serve(conn::GrpcCall& call) {
  std::optional<CallerIdentity> caller = authenticator_.authenticate(call);
  if (!caller) {
    counters_.refused++;
    co_return GrpcStatus{GrpcCode::kUnauthenticated, "request authenticate failure"};
  }
  counters_.streams++;
  Stream stream(*this, call, std::move(*caller));
  co_return co_await stream.run();
}

void AdsServer::publish(SnapshotRef snapshot) {
  std::set<std::string> addresses = changed_names(snapshot_->addresses, snapshot->addresses);
  std::set<std::string> authorizations = changed_names(snapshot_->authorizations, snapshot->authorizations);
  SnapshotRef before = std::exchange(snapshot_, std::move(snapshot));
  for (Stream* stream : streams_) stream->changed(addresses, authorizations);
  for (std::string_view type : kWaypointTypes) {
    std::set<std::string> names = changed_names(before->table(type), snapshot_->table(type));
    if (type == xds::kWaypointServiceType) {
      // Bound to another waypoint: the same resource for somebody else.
      for (const auto& [name, waypoints] : snapshot_->compiled.waypoints_of) {
        auto old = before->compiled.waypoints_of.find(name);
        if (old != before->compiled.waypoints_of.end() && old->second != waypoints) names.insert(name);
      }
    }
    for (Stream* stream : streams_) stream->changed(type, names, *before);
  }
}

std::vector<AdsServer::Client> AdsServer::clients() const {
  std::vector<Client> out;
  for (const Stream* stream : streams_) out.push_back(stream->describe());
  return out;
}

async::Task<GrpcStatus> AdsServer::Stream::run() {
  sender_.spawn(send_loop(*this));
  for (;;) {
    Result<std::optional<std::string>> message = co_await call_.receive();
    if (!message) {
      GrpcCode code = message.error().code() == base::Code::kExhausted ? GrpcCode::kResourceExhausted
                                                                       : GrpcCode::kUnavailable;
      co_return GrpcStatus{code, message.error().message()};
    }
    if (!message->has_value()) co_return GrpcStatus{};
    v3::DeltaDiscoveryRequest request;
    if (!request.ParseFromString(**message))
      co_return GrpcStatus{GrpcCode::kInvalidArgument, "the request cannot be read"};
    if (std::optional<GrpcStatus> refused = take(request)) {
      server_.log_.warn("ads", "stream refused",
                        {Field::text("node", node_id_), Field::text("caller", caller_.to_string()),
                         Field::text("reason", refused->message)});
      co_return std::move(*refused);
    }
    work_.set();
  }
}

std::optional<GrpcStatus> AdsServer::Stream::check_node(const v3::DeltaDiscoveryRequest& request) {
  if (!request.has_node() || request.node().id().empty())
    return GrpcStatus{GrpcCode::kInvalidArgument, "missing node information"};
  if (!is_node_id(request.node().id())) {
    return GrpcStatus{GrpcCode::kInvalidArgument,
                      "node id \"" + request.node().id() + "\" is not type~ip~pod.ns~domain"};
  }
  node_id_ = request.node().id();
  node_name_ = metadata_text(request.node(), "NODE_NAME");
  std::string ns = metadata_text(request.node(), "NAMESPACE");
  if (ns.empty()) ns = namespace_of(node_id_);
  std::string account = metadata_text(request.node(), "SERVICE_ACCOUNT");
  if (ns != caller_.ns || (!account.empty() && account != caller_.service_account)) {
    return GrpcStatus{GrpcCode::kPermissionDenied, fmt::format("the node claims {}/{}, but has proven {}", ns,
                                                               account, caller_.to_string())};
  }
  if (node_id_.starts_with("waypoint~")) waypoint_ = caller_.ns + "/" + caller_.service_account;
  server_.log_.info("ads", "proxy connected",
                    {Field::text("node", node_id_), Field::text("caller", caller_.to_string()),
                     Field::bare("peer", call_.peer_addr().to_string())});
  return std::nullopt;
}

std::optional<GrpcStatus> AdsServer::Stream::take(const v3::DeltaDiscoveryRequest& request) {
  if (node_id_.empty()) {
    if (auto refused = check_node(request)) return refused;
  }
  if (!serves(request.type_url())) {
    // Other types of upstream's proxies: answered by silence, as a server without such resources does.
    return std::nullopt;
  }
  Subscription& wanted = subscription(request.type_url());
  if (!request.response_nonce().empty()) acknowledge(wanted, request);
  return wanted.opened ? subscribe(wanted, request) : open(wanted, request);
}

void AdsServer::Stream::acknowledge(Subscription& wanted, const v3::DeltaDiscoveryRequest& request) {
  if (request.response_nonce() != wanted.nonce_sent) {
    server_.counters_.stale_nonces++;
    return;
  }
  if (request.has_error_detail()) {
    // Recorded, never resent: what a client refuses once it refuses again.
    wanted.rejects++;
    wanted.last_error = request.error_detail().message().substr(0, 1000);
    server_.counters_.rejects++;
    server_.log_.warn("ads", "proxy refused resources",
                      {Field::text("node", node_id_), Field::text("type", request.type_url()),
                       Field::text("error", wanted.last_error)});
  }
  wanted.nonce_acked = wanted.nonce_sent;
  wanted.snapshot_acked = wanted.snapshot_sent;
}

std::optional<GrpcStatus> AdsServer::Stream::open(Subscription& wanted,
                                                  const v3::DeltaDiscoveryRequest& request) {
  wanted.opened = true;
  wanted.must_answer = true;
  const auto& asked = request.resource_names_subscribe();
  const auto& left = request.resource_names_unsubscribe();
  bool star = std::find(asked.begin(), asked.end(), "*") != asked.end();
  bool star_left = std::find(left.begin(), left.end(), "*") != left.end();
  wanted.wildcard = (asked.empty() || star) && !star_left;
  const ResourceTable& table = server_.snapshot_->table(request.type_url());
  const auto& held = request.initial_resource_versions();
  auto is_held = [&](const std::string& name, const ResourceRef& resource) {
    auto have = held.find(name);
    return have != held.end() && have->second == resource->shown_to(caller_.ns).version;
  };
  if (wanted.wildcard) {
    for (const auto& [name, resource] : table) {
      if (visible(*server_.snapshot_, request.type_url(), name) && !is_held(name, resource))
        wanted.dirty.insert(name);
    }
    for (const auto& [name, version] : held) {
      if (!table.contains(name) || !visible(*server_.snapshot_, request.type_url(), name))
        wanted.dirty.insert(name);
    }
    return std::nullopt;
  }
  // On demand: what the client still holds is what it is subscribed to; a name it waited for ("/ip", with an
  // empty version) costs only the resources behind it that it does not hold as they are.
  for (const auto& [name, version] : held) {
    if (std::optional<GrpcStatus> refused = check_name(wanted.names.size(), name)) return refused;
    wanted.names.insert(name);
    std::vector<std::string> behind = resolve(request.type_url(), name);
    if (behind.empty()) wanted.dirty.insert(name);
    for (std::string& resource : behind) {
      auto found = table.find(resource);
      if (found == table.end() || !is_held(resource, found->second)) wanted.dirty.insert(resource);
      wanted.names.insert(std::move(resource));
    }
  }
  return subscribe(wanted, request);
}

std::optional<GrpcStatus> AdsServer::Stream::subscribe(Subscription& wanted,
                                                       const v3::DeltaDiscoveryRequest& request) {
  for (const std::string& name : request.resource_names_unsubscribe()) {
    if (name != "*") wanted.names.erase(name);
  }
  for (const std::string& name : request.resource_names_subscribe()) {
    if (name == "*") continue;
    // A wildcard stream keeps no names; what waits to be sent is bounded all the same.
    size_t kept = wanted.wildcard ? wanted.dirty.size() : wanted.names.size();
    size_t spare = wanted.wildcard ? server_.snapshot_->table(request.type_url()).size() : 0;
    if (std::optional<GrpcStatus> refused = check_name(kept - std::min(kept, spare), name)) return refused;
    demand(wanted, request.type_url(), name);
  }
  return std::nullopt;
}

// The resources behind a uid, "network/ip" or "ns/hostname"; a service brings its workloads.
std::vector<std::string> AdsServer::Stream::resolve(const std::string& type, const std::string& name) const {
  const Snapshot& snapshot = *server_.snapshot_;
  // These go by their own name only; what is not visible is answered as removed.
  if (is_waypoint_type(type)) return {name};
  std::vector<std::string> found;
  if (snapshot.addresses.contains(name) || snapshot.authorizations.contains(name)) found.push_back(name);
  auto [first, last] = snapshot.lookup().address_by_alias.equal_range(name);
  for (auto it = first; it != last; ++it) found.push_back(it->second);
  for (size_t i = 0, direct = found.size(); i < direct; ++i) {
    auto [begin, end] = snapshot.lookup().workloads_of_service.equal_range(found[i]);
    for (auto it = begin; it != end; ++it) found.push_back(it->second);
  }
  return found;
}

// Every name is answered, with what is behind it or as removed. A wildcard stream gets what it asks for once
// more; it is subscribed to everything already.
void AdsServer::Stream::demand(Subscription& wanted, const std::string& type, const std::string& name) {
  wanted.must_answer = true;
  std::vector<std::string> behind = resolve(type, name);
  if (behind.empty()) wanted.dirty.insert(name);
  if (!wanted.wildcard) wanted.names.insert(name);
  for (std::string& resource : behind) {
    wanted.dirty.insert(resource);
    if (!wanted.wildcard) wanted.names.insert(std::move(resource));
  }
}

void AdsServer::Stream::changed(const std::set<std::string>& addresses,
                                const std::set<std::string>& authorizations) {
  const Snapshot& snapshot = *server_.snapshot_;
  if (authorization_.opened) authorization_.dirty.insert(authorizations.begin(), authorizations.end());
  if (address_.opened && address_.wildcard) {
    address_.dirty.insert(addresses.begin(), addresses.end());
  } else if (address_.opened) {
    for (const std::string& name : addresses) {
      auto workload = snapshot.compiled.workloads.find(name);
      bool ours = workload != snapshot.compiled.workloads.end() && !node_name_.empty() &&
                  workload->second->node == node_name_;
      bool member = workload != snapshot.compiled.workloads.end() &&
                    std::any_of(workload->second->services.begin(), workload->second->services.end(),
                                [&](const model::Membership& m) {
                                  return address_.names.contains(m.service.to_string());
                                });
      auto resource = snapshot.addresses.find(name);
      bool by_alias = resource != snapshot.addresses.end() &&
                      std::any_of(resource->second->aliases.begin(), resource->second->aliases.end(),
                                  [&](const std::string& alias) { return address_.names.contains(alias); });
      if (!ours && !member && !by_alias && !address_.names.contains(name)) continue;
      address_.names.insert(name);
      address_.dirty.insert(name);
    }
  }
  work_.set();
}

void AdsServer::Stream::changed(std::string_view type, const std::set<std::string>& names,
                                const Snapshot& before) {
  auto found = waypoint_types_.find(type);
  if (found == waypoint_types_.end() || !found->second.opened) return;
  Subscription& wanted = found->second;
  for (const std::string& name : names) {
    bool asked = wanted.wildcard || wanted.names.contains(name);
    if (asked && (visible(*server_.snapshot_, type, name) || visible(before, type, name)))
      wanted.dirty.insert(name);
  }
  work_.set();
}

std::string AdsServer::Stream::respond(std::string_view type, Subscription& wanted,
                                       std::set<std::string> names) {
  const Snapshot& snapshot = *server_.snapshot_;
  const ResourceTable& table = snapshot.table(type);
  v3::DeltaDiscoveryResponse response;
  response.set_type_url(std::string(type));
  response.set_system_version_info(fmt::format("{}", snapshot.number));
  for (const std::string& name : names) {
    auto found = table.find(name);
    if (found == table.end() || !visible(snapshot, type, name)) {
      // An address that is answered under its resource's own name is not gone. A wildcard stream knows
      // nothing by address.
      if (!wanted.wildcard && type == kAddressType && snapshot.lookup().address_by_alias.contains(name))
        continue;
      response.add_removed_resources(name);
      continue;
    }
    const Resource& shown = found->second->shown_to(caller_.ns);
    v3::Resource* resource = response.add_resources();
    resource->set_name(name);
    resource->set_version(shown.version);
    resource->mutable_resource()->set_type_url(std::string(type));
    resource->mutable_resource()->set_value(shown.value);
    if (!wanted.wildcard) {
      for (const std::string& alias : found->second->aliases) resource->add_aliases(alias);
    }
  }
  wanted.nonce_sent = fmt::format("{}-{}", snapshot.number, ++next_nonce_);
  wanted.snapshot_sent = snapshot.number;
  wanted.must_answer = false;
  response.set_nonce(wanted.nonce_sent);
  Counters& counters = server_.counters_;
  (is_waypoint_type(type) ? counters.pushes_waypoint
   : type == kAddressType ? counters.pushes_address
                          : counters.pushes_authorization)++;
  return response.SerializeAsString();
}

// One response, or nothing to say now. Policies that exist go first, then addresses, then policies that are
// gone; then what waypoints have beside. Per type one response waits for its acknowledgement at most; an
// acknowledgement calls here again.
std::optional<std::string> AdsServer::Stream::next_response() {
  for (auto it = authorization_.dirty.begin(); it != authorization_.dirty.end();) {
    bool exists = server_.snapshot_->authorizations.contains(*it);
    if (exists) policies_to_remove_.erase(*it);
    if (exists || authorization_.must_answer) {
      ++it;
    } else {
      policies_to_remove_.insert(*it);
      it = authorization_.dirty.erase(it);
    }
  }
  bool policies_wait = !authorization_.dirty.empty() && authorization_.unacknowledged();
  if (!policies_wait && (authorization_.must_answer || !authorization_.dirty.empty())) {
    return respond(kAuthorizationType, authorization_, std::exchange(authorization_.dirty, {}));
  }
  // Addresses may name the policies that wait; and they come before the removal of what they named.
  if (policies_wait && !address_.must_answer) return std::nullopt;
  if (address_.must_answer || !address_.dirty.empty()) {
    if (address_.unacknowledged()) return std::nullopt;
    return respond(kAddressType, address_, std::exchange(address_.dirty, {}));
  }
  if (!policies_to_remove_.empty() && !authorization_.unacknowledged()) {
    return respond(kAuthorizationType, authorization_, std::exchange(policies_to_remove_, {}));
  }
  for (std::string_view type : kWaypointTypes) {
    auto wanted = waypoint_types_.find(type);
    if (wanted == waypoint_types_.end()) continue;
    if (!wanted->second.must_answer && wanted->second.dirty.empty()) continue;
    if (wanted->second.unacknowledged()) return std::nullopt;
    return respond(type, wanted->second, std::exchange(wanted->second.dirty, {}));
  }
  return std::nullopt;
}

async::Task<void> AdsServer::Stream::send_loop(Stream& stream) {
  for (;;) {
    co_await stream.work_.wait();
    stream.work_.reset();
    while (std::optional<std::string> response = stream.next_response()) {
      // Waits while the client is slow; what changes meanwhile only grows the sets.
      Result<> sent = co_await stream.call_.send(std::move(*response));
      if (!sent) co_return;
    }
  }
}

AdsServer::Client AdsServer::Stream::describe() const {
  Client client{node_id_, caller_.to_string(), call_.peer_addr().to_string(), connected_at_, {}};
  auto add = [&](std::string_view type, const Subscription& s) {
    if (!s.opened) return;
    client.types.push_back({std::string(type), s.wildcard, s.nonce_sent, s.nonce_acked, s.snapshot_sent,
                            s.snapshot_acked, s.rejects, s.last_error, s.dirty.size()});
  };
  add(kAddressType, address_);
  add(kAuthorizationType, authorization_);
  for (const auto& [type, wanted] : waypoint_types_) add(type, wanted);
  return client;
}

}  // namespace culvert::control
