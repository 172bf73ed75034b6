// SPDX-License-Identifier: Apache-2.0
// DeltaXds: the acknowledge, reject and resubscribe machine of delta ADS, without I/O (design 3.17, spec apis
// sections 3.1 to 3.6). The driver (XdsClient) opens streams, moves messages and applies updates.
//
// | event           | what happens |
// |-----------------|--------------|
// | start_stream    | one request per type, Address first, with what we still hold |
// | on_response     | good resources become an update, bad ones a reject; one reply per response |
// | applied         | (the driver has applied the update) waiters wake, the type counts as received |
// | stream_ended    | what we hold is kept; how long to wait before the next stream |
//
// Lives on the control loop; no protobuf type shows here.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "mesh/model/store.h"
#include "mesh/model/waypoint.h"
#include "net/base/bytes.h"
#include "net/base/duration.h"
#include "net/base/result.h"
#include "net/base/rng.h"

namespace culvert::xds {

// One entry of the node's metadata. `json`: the value is JSON and becomes the typed value it says.
struct NodeMetadata {
  std::string key;
  std::string value;
  bool json = false;
};

// Who asks (spec apis section 3.2). Later entries of one key replace earlier ones.
struct NodeInfo {
  std::string id;
  std::vector<NodeMetadata> metadata;
};

// "ztunnel~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local"; an empty ip becomes 1.1.1.1.
std::string ztunnel_node_id(std::string_view ip, std::string_view pod, std::string_view ns);
// The same of a waypoint.
std::string waypoint_node_id(std::string_view ip, std::string_view pod, std::string_view ns);

// What a program asks for.
enum class TypeSet : unsigned char {
  kNodeProxy,  // Address, Authorization
  kWaypoint,   // Address, and the resources of mesh/xds/waypoint_proto.h
};

struct DeltaXdsOptions {
  NodeInfo node;
  TypeSet types = TypeSet::kNodeProxy;
  // Addresses only on request instead of the whole mesh (XDS_ON_DEMAND).
  bool on_demand = false;
  // A first request above this goes out without versions, and the full answer replaces what we hold
  // (spec apis section 3.4: stock servers refuse 4 MiB).
  size_t first_request_bytes_max = 3670016;
  // Names on demand held at most; the least recently used is dropped.
  size_t on_demand_names_max = 16384;
};

struct RejectedResource {
  std::string name;
  std::string reason;
};

class DeltaXds {
 public:
  explicit DeltaXds(DeltaXdsOptions options);

  // The first requests of a new stream, serialized, in order of sending. Metadata that should be JSON and is
  // not is left out and listed in `metadata_errors`.
  std::vector<std::string> start_stream();
  const std::vector<std::string>& metadata_errors() const { return metadata_errors_; }

  struct Outcome {
    size_t resource_bytes = 0;  // of the payloads
    std::string_view type_url;  // one of those asked for, or empty: a type we never asked for
    model::MeshUpdate update;   // apply both, then call applied()
    model::WaypointUpdate waypoint;
    std::string reply;  // serialized acknowledgement or reject; send it in order of arrival
    std::vector<RejectedResource> rejected;
    size_t accepted = 0;
    size_t removed = 0;
    std::vector<std::string> answered;  // on-demand keys this response answers, present or not
  };
  // One response. An error means that the bytes are no response at all: end the stream.
  base::Result<Outcome> on_response(base::ByteView message, model::NamePool& names);
  void applied(const Outcome& outcome);

  // Every type has been received and applied once in the life of this process (partially accepted counts).
  bool ready() const { return pending_types_.empty(); }
  std::vector<std::string> pending_types() const { return {pending_types_.begin(), pending_types_.end()}; }

  // On demand: the request that asks for `key` ("network/ip", uid or "ns/hostname"); nothing if it is asked
  // or held already.
  std::optional<std::string> demand(std::string_view key);
  // The request that gives `key` up; nothing if it was not asked for.
  std::optional<std::string> undemand(std::string_view key);

  // Call when the server refused the first request for its size (RESOURCE_EXHAUSTED): the next stream starts
  // without versions.
  void forget_versions_once() { without_versions_ = true; }
  // Names held per type, with their versions.
  size_t held(std::string_view type_url) const;
  uint64_t rejected_total() const { return rejected_total_; }

 private:
  struct TypeState {
    std::string_view url;
    // What we hold: name to version.
    std::unordered_map<model::Name, model::Name, model::NameHash, model::NameEqual> versions;
    std::unordered_set<model::Name, model::NameHash, model::NameEqual>
        sweep;              // held before a request without
    bool sweeping = false;  // the next response is the full truth
    bool drop(std::string_view name);
  };
  TypeState* state_of(std::string_view type_url);
  std::string first_request(TypeState& state);

  DeltaXdsOptions options_;
  std::vector<TypeState> types_;  // in the order they are asked for
  std::set<std::string> pending_types_;
  std::vector<std::string> metadata_errors_;
  std::map<std::string, uint64_t, std::less<>> demanded_;  // key to last use
  uint64_t demand_clock_ = 0;
  bool without_versions_ = false;
  uint64_t rejected_total_ = 0;
};

// How an attempt ended, for the backoff table of spec apis section 3.5.
enum class StreamEnd : unsigned char {
  kFailedToOpen,  // TCP, TLS, or a status instead of a stream
  kRecycled,      // UNKNOWN, CANCELLED, DEADLINE_EXCEEDED, or UNAVAILABLE because the server closes
  kRefused,       // any other gRPC status
  kClean,         // ended without error, or our own side of the connection broke
};
// `status` is the gRPC code, `message` its text.
StreamEnd classify_stream_end(int status, std::string_view message);
// The `reason` label of istio_xds_connection_terminations (spec ztunnel section 10).
std::string_view to_string(StreamEnd end);

class XdsBackoff {
 public:
  static constexpr base::Duration kFirst = std::chrono::milliseconds(10);
  static constexpr base::Duration kMax = std::chrono::seconds(15);
  // A stream that lived this long starts the table anew.
  static constexpr base::Duration kStable = std::chrono::seconds(60);

  // A clean end of a shorter stream counts as refused.
  static constexpr base::Duration kBrief = std::chrono::seconds(1);

  // How long to wait before the next attempt; +-20 % jitter.
  base::Duration after(StreamEnd end, base::Duration lived, base::Rng& rng);

 private:
  base::Duration current_ = kFirst;
};

}  // namespace culvert::xds
