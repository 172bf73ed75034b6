// SPDX-License-Identifier: Apache-2.0
// XdsClient: keeps one delta ADS stream to the control plane alive (design 3.17, spec apis section 3).
// Connects, speaks gRPC over TLS, feeds DeltaXds, hands out updates, backs off. What was learned is kept
// while the control plane is away.
//
// Lives on the control loop. `run` never ends by itself; cancel it by destroying its task, before this
// object.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mesh/model/store.h"
#include "mesh/xds/delta_xds.h"
#include "net/async/deadline.h"
#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/base/log.h"
#include "net/base/result.h"
#include "net/base/rng.h"
#include "net/io/network.h"

namespace culvert::xds {

struct XdsClientOptions {
  std::string host;  // name or address, no scheme
  uint16_t port = 15012;
  std::string alternative_host;  // ALT_XDS_HOSTNAME: accepted in the certificate if `host` is not
  bool tls12 = false;            // allow TLS 1.2
  // The trusted roots as PEM text; called at every connect.
  std::function<base::Result<std::string>()> read_roots;
  // The bearer token without white space around it; called for every stream. Null, or an empty token: neither
  // `authorization` nor `clusterid` is sent.
  std::function<base::Result<std::string>()> read_token;
  std::string cluster_id = "Kubernetes";
  std::vector<std::pair<std::string, std::string>> headers;  // XDS_HEADER_*; names in lower case
  DeltaXdsOptions delta;
  // Takes what is a waypoint's, after Apply has taken the rest of the same response; null on a node proxy.
  std::function<void(model::WaypointUpdate)> apply_waypoint;

  size_t message_bytes_max = 200 * 1024 * 1024;
  base::Duration connect_timeout = std::chrono::seconds(5);  // TCP
  base::Duration open_timeout = std::chrono::seconds(10);    // TCP and TLS together
  base::Duration ping_interval = std::chrono::seconds(30);
  base::Duration ping_timeout = std::chrono::seconds(10);
  // Acknowledgements and demands that wait to be sent; a server that reads none of them loses the stream.
  size_t outbox_messages_max = 4096;
};

class XdsClient {
 public:
  // Applies one update to the store; called on the control loop, before the response is acknowledged.
  using Apply = std::function<void(model::MeshUpdate)>;
  // Called once, when every type has been applied for the first time.
  using Ready = std::function<void()>;

  XdsClient(async::Loop& loop, io::Network& network, base::Log& log, base::Rng rng, model::NamePool& names,
            XdsClientOptions options, Apply apply, Ready on_ready);
  ~XdsClient();
  XdsClient(const XdsClient&) = delete;
  XdsClient& operator=(const XdsClient&) = delete;

  async::Task<void> run();
  bool ready() const;
  // On demand only: asks for `key` ("network/ip", a uid, or "ns/hostname") and waits until the control plane
  // has said what it is, or that it is nothing; false if the deadline came first. Any number may wait for one
  // key.
  async::Task<bool> demand(std::string key, async::Deadline deadline);

  // Counters for metrics.
  struct Stats {
    bool connected = false;
    uint64_t connections = 0;          // streams opened
    uint64_t connection_failures = 0;  // attempts that failed to open
    uint64_t resources_accepted = 0;
    uint64_t resources_rejected = 0;
    struct Received {
      uint64_t messages = 0;
      uint64_t bytes = 0;
    };
    std::map<std::string, Received> received;      // responses, by type URL
    std::map<std::string, uint64_t> terminations;  // attempts and streams that ended, by to_string(StreamEnd)
  };
  Stats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace culvert::xds
