// SPDX-License-Identifier: Apache-2.0
#include "mesh/xds/delta_xds.h"

#include <google/protobuf/arena.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "mesh/xds/from_proto.h"
#include "mesh/xds/waypoint_proto.h"
#include "proto/discovery.pb.h"

namespace culvert::xds {
namespace {

namespace pbd = ::envoy::service::discovery::v3;

// The text of a reject lists at most this many bytes; a server logs it, nobody parses it.
constexpr size_t kRejectTextBytesMax = 16 * 1024;

std::string reject_text(const std::vector<RejectedResource>& rejected) {
  std::string text;
  for (const auto& reject : rejected) {
    if (text.size() > kRejectTextBytesMax) return text + "; and more";
    if (!text.empty()) text += "; ";
    text += reject.name + ": " + reject.reason;
  }
  return text;
}

std::string make_reply(const pbd::DeltaDiscoveryResponse& response,
                       const std::vector<RejectedResource>& rejected) {
  pbd::DeltaDiscoveryRequest reply;
  reply.set_type_url(response.type_url());
  reply.set_response_nonce(response.nonce());
  if (!rejected.empty()) reply.mutable_error_detail()->set_message(reject_text(rejected));
  return reply.SerializeAsString();
}

template <class T>
base::Result<> keep(base::Result<T> decoded, std::vector<T>& into) {
  if (!decoded) return base::fail(std::move(decoded).error());
  into.push_back(std::move(*decoded));
  return {};
}

base::Result<> decode_waypoint_resource(base::ByteView bytes, const std::string& name,
                                        std::string_view type_url, model::WaypointUpdate& update) {
  if (type_url == kWaypointServiceType) return keep(decode_waypoint_service(bytes, name), update.services);
  if (type_url == kBackendType) return keep(decode_backend(bytes, name), update.backends);
  if (type_url == kWorkloadLabelsType) return keep(decode_workload_labels(bytes, name), update.labels);
  auto settings = decode_waypoint_settings(bytes, name);
  if (!settings) return base::fail(std::move(settings).error());
  update.settings = std::move(*settings);
  return {};
}

// One resource into the update, or why not.
base::Result<> decode_resource(const pbd::Resource& resource, const model::Name& name,
                               DeltaXds::Outcome& outcome, model::NamePool& names) {
  model::MeshUpdate& update = outcome.update;
  const auto& any = resource.resource();
  std::string_view type_url = outcome.type_url;
  if (any.type_url() != type_url) {
    return base::fail(base::Code::kInvalid,
                      "a resource of type \"" + any.type_url() + "\" in a response of another");
  }
  auto bytes = base::as_bytes(any.value());
  if (type_url == kAddressType) {
    auto address = decode_address(bytes, resource.name(), names);
    if (!address) return base::fail(std::move(address).error());
    if (auto* workload = std::get_if<model::Workload>(&*address)) {
      if (workload->uid == name) workload->uid = name;  // one text for both
      update.workloads.push_back(std::move(*workload));
    } else {
      update.services.push_back(std::move(std::get<model::Service>(*address)));
    }
    return {};
  }
  if (type_url == kAuthorizationType) {
    return keep(decode_authorization(bytes, resource.name(), names), update.policies);
  }
  return decode_waypoint_resource(bytes, resource.name(), type_url, outcome.waypoint);
}

// Where the names go that the server has taken back. Settings are never without a value: a removed one is
// kept, as the rest of what we hold is when the server goes.
std::vector<std::string>* removed_names(DeltaXds::Outcome& outcome) {
  if (outcome.type_url == kAddressType) return &outcome.update.removed_addresses;
  if (outcome.type_url == kAuthorizationType) return &outcome.update.removed_policies;
  if (outcome.type_url == kWaypointServiceType) return &outcome.waypoint.removed_services;
  if (outcome.type_url == kBackendType) return &outcome.waypoint.removed_backends;
  if (outcome.type_url == kWorkloadLabelsType) return &outcome.waypoint.removed_labels;
  return nullptr;
}

std::string node_id(std::string_view role, std::string_view ip, std::string_view pod, std::string_view ns) {
  std::string id(role);
  id.append("~").append(ip.empty() ? "1.1.1.1" : ip).append("~").append(pod).append(".").append(ns);
  id.append("~").append(ns).append(".svc.cluster.local");
  return id;
}

}  // namespace

std::string ztunnel_node_id(std::string_view ip, std::string_view pod, std::string_view ns) {
  return node_id("ztunnel", ip, pod, ns);
}
std::string waypoint_node_id(std::string_view ip, std::string_view pod, std::string_view ns) {
  return node_id("waypoint", ip, pod, ns);
}

DeltaXds::DeltaXds(DeltaXdsOptions options) : options_(std::move(options)) {
  std::vector<std::string_view> urls{kAddressType};
  if (options_.types == TypeSet::kWaypoint) {
    urls.insert(urls.end(), {kBackendType, kWorkloadLabelsType, kWaypointSettingsType, kWaypointServiceType});
  } else {
    urls.push_back(kAuthorizationType);
  }
  for (std::string_view url : urls) {
    types_.emplace_back().url = url;
    // A type is expected if the first request asks for all of it.
    if (url != kAddressType || !options_.on_demand) pending_types_.emplace(url);
  }
}

bool DeltaXds::TypeState::drop(std::string_view name) {
  auto at = versions.find(name);
  if (at == versions.end()) return false;
  versions.erase(at);
  return true;
}

DeltaXds::TypeState* DeltaXds::state_of(std::string_view type_url) {
  for (TypeState& state : types_) {
    if (state.url == type_url) return &state;
  }
  return nullptr;
}

size_t DeltaXds::held(std::string_view type_url) const {
  for (const TypeState& state : types_) {
    if (state.url == type_url) return state.versions.size();
  }
  return 0;
}

std::vector<std::string> DeltaXds::start_stream() {
  metadata_errors_.clear();
  std::vector<std::string> requests;
  for (TypeState& state : types_) requests.push_back(first_request(state));
  without_versions_ = false;
  return requests;
}

std::string DeltaXds::first_request(TypeState& state) {
  pbd::DeltaDiscoveryRequest request;
  request.set_type_url(std::string(state.url));
  auto& node = *request.mutable_node();
  node.set_id(options_.node.id);
  auto& fields = *node.mutable_metadata()->mutable_fields();
  for (const auto& entry : options_.node.metadata) {
    google::protobuf::Value value;
    if (!entry.json) {
      value.set_string_value(entry.value);
    } else if (!google::protobuf::util::JsonStringToMessage(entry.value, &value).ok()) {
      std::string text = entry.key + " is not JSON";
      if (std::find(metadata_errors_.begin(), metadata_errors_.end(), text) == metadata_errors_.end()) {
        metadata_errors_.push_back(std::move(text));
      }
      continue;
    }
    fields[entry.key] = std::move(value);
  }
  bool wildcard = !(options_.on_demand && state.url == kAddressType);
  if (!wildcard) {
    // Adds and drops the wildcard in one message: the stream is open and asks for nothing yet.
    request.add_resource_names_subscribe("*");
    request.add_resource_names_unsubscribe("*");
  }

  state.sweeping = false;
  state.sweep.clear();
  size_t bytes = request.ByteSizeLong();
  for (const auto& [name, version] : state.versions) bytes += name.view().size() + version.view().size() + 12;
  auto& versions = *request.mutable_initial_resource_versions();
  if (wildcard && !state.versions.empty() &&
      (without_versions_ || bytes > options_.first_request_bytes_max)) {
    // Too large for stock servers: the answer will be everything; what it does not name is gone.
    state.sweeping = true;
    for (const auto& [name, version] : state.versions) state.sweep.insert(name);
  } else {
    for (const auto& [name, version] : state.versions) versions[name.str()] = version.str();
    if (!wildcard) {
      for (const auto& [key, used] : demanded_) versions.insert({key, ""});
    }
  }
  return request.SerializeAsString();
}

base::Result<DeltaXds::Outcome> DeltaXds::on_response(base::ByteView message, model::NamePool& names) {
  google::protobuf::Arena arena;
  auto& response = *google::protobuf::Arena::CreateMessage<pbd::DeltaDiscoveryResponse>(&arena);
  if (!response.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    return base::fail(base::Code::kProtocol, "the server sent bytes that are no DeltaDiscoveryResponse");
  }
  Outcome outcome;
  TypeState* state = state_of(response.type_url());
  if (!state) {
    outcome.rejected.push_back({"type " + response.type_url(), "not subscribed"});
    outcome.reply = make_reply(response, outcome.rejected);
    ++rejected_total_;
    return outcome;
  }
  outcome.type_url = state->url;

  for (const auto& resource : response.resources()) {
    outcome.resource_bytes += resource.resource().value().size();
    // Named, therefore not gone, even if we cannot read it: the version we hold stays in use.
    std::string_view text = resource.name();
    auto known = state->versions.find(text);
    model::Name name = known != state->versions.end() ? known->first : model::Name(text);
    if (state->sweeping) state->sweep.erase(name);
    if (auto decoded = decode_resource(resource, name, outcome, names); !decoded) {
      outcome.rejected.push_back({resource.name(), decoded.error().message()});
      continue;
    }
    ++outcome.accepted;
    state->versions[name] = model::Name(resource.version());
    if (!options_.on_demand) continue;
    outcome.answered.push_back(resource.name());
    for (const auto& alias : resource.aliases()) outcome.answered.push_back(alias);
  }
  std::vector<std::string>* removed = removed_names(outcome);
  for (const auto& name : response.removed_resources()) {
    if (state->drop(name)) ++outcome.removed;
    if (options_.on_demand) outcome.answered.push_back(name);
    if (removed) removed->push_back(name);
  }
  if (state->sweeping) {
    for (const auto& name : state->sweep) {
      if (state->drop(name)) ++outcome.removed;
      if (removed) removed->push_back(name.str());
    }
    state->sweep.clear();
    state->sweeping = false;
  }
  rejected_total_ += outcome.rejected.size();
  outcome.reply = make_reply(response, outcome.rejected);
  return outcome;
}

void DeltaXds::applied(const Outcome& outcome) {
  if (auto pending = pending_types_.find(std::string(outcome.type_url)); pending != pending_types_.end()) {
    pending_types_.erase(pending);
  }
}

std::optional<std::string> DeltaXds::demand(std::string_view key) {
  if (!options_.on_demand) return std::nullopt;
  auto known = demanded_.find(key);
  if (known != demanded_.end()) {
    known->second = ++demand_clock_;
    return std::nullopt;
  }
  pbd::DeltaDiscoveryRequest request;
  request.set_type_url(std::string(kAddressType));
  request.add_resource_names_subscribe(std::string(key));
  if (demanded_.size() >= options_.on_demand_names_max && !demanded_.empty()) {
    auto oldest = std::min_element(demanded_.begin(), demanded_.end(),
                                   [](const auto& a, const auto& b) { return a.second < b.second; });
    request.add_resource_names_unsubscribe(oldest->first);
    demanded_.erase(oldest);
  }
  demanded_.emplace(key, ++demand_clock_);
  return request.SerializeAsString();
}

std::optional<std::string> DeltaXds::undemand(std::string_view key) {
  auto known = demanded_.find(key);
  if (known == demanded_.end()) return std::nullopt;
  demanded_.erase(known);
  pbd::DeltaDiscoveryRequest request;
  request.set_type_url(std::string(kAddressType));
  request.add_resource_names_unsubscribe(std::string(key));
  return request.SerializeAsString();
}

StreamEnd classify_stream_end(int status, std::string_view message) {
  constexpr int kOk = 0, kCancelled = 1, kUnknown = 2, kDeadlineExceeded = 4, kUnavailable = 14;
  switch (status) {
    case kOk: return StreamEnd::kClean;
    case kCancelled:
    case kUnknown:
    case kDeadlineExceeded: return StreamEnd::kRecycled;
    case kUnavailable: {
      bool closing = message.find("transport is closing") != std::string_view::npos ||
                     message.find("received prior goaway") != std::string_view::npos;
      return closing ? StreamEnd::kRecycled : StreamEnd::kRefused;
    }
    default: return StreamEnd::kRefused;
  }
}

std::string_view to_string(StreamEnd end) {
  switch (end) {
    case StreamEnd::kFailedToOpen: return "ConnectionError";
    case StreamEnd::kRecycled: return "Reconnect";
    case StreamEnd::kRefused: return "Error";
    case StreamEnd::kClean: return "Complete";
  }
  return "Error";
}

base::Duration XdsBackoff::after(StreamEnd end, base::Duration lived, base::Rng& rng) {
  if (lived >= kStable) current_ = kFirst;
  base::Duration wait{0};
  if (end == StreamEnd::kClean) {
    // At once, unless the server ends every stream as soon as it has begun.
    if (lived >= kBrief) return wait;
    end = StreamEnd::kRefused;
  }
  switch (end) {
    case StreamEnd::kClean: break;
    case StreamEnd::kRecycled: wait = current_ = kFirst; break;
    case StreamEnd::kFailedToOpen:
    case StreamEnd::kRefused: wait = current_ = std::min(kMax, current_ * 2); break;
  }
  double jitter = 0.8 + 0.4 * rng.unit();
  return base::Duration(static_cast<base::Duration::rep>(static_cast<double>(wait.count()) * jitter));
}

}  // namespace culvert::xds
