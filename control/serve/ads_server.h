// SPDX-License-Identifier: Apache-2.0
// AdsServer: delta ADS for node proxies and waypoints (spec apis section 3, control-plane section 5.2).
// Control loop.
//
// Each stream holds, per type, what its client is subscribed to and which names changed since its last
// response. A response is made when the stream can take one, from the newest snapshot: a slow client costs a
// set of names, never a queue of responses. Authorization goes out before Address, so that no workload names
// a policy its proxy does not have; removed policies go after. Every name asked for is answered, also on a
// wildcard stream and also a second time; a stream that asks for too many is ended with RESOURCE_EXHAUSTED.
//
// A stream whose node id begins with "waypoint~" gets the resources of waypoints too: WaypointServices of the
// waypoint "ns/name" that its caller has proven to be (namespace and service account), and none other.
#pragma once

#include <list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "control/serve/ca_service.h"
#include "control/serve/snapshot.h"
#include "net/async/loop.h"
#include "net/base/log.h"
#include "net/conn/grpc.h"

namespace culvert::control {

class AdsServer {
 public:
  AdsServer(async::Loop& loop, base::Log& log, const Authenticator& authenticator);
  ~AdsServer();
  AdsServer(const AdsServer&) = delete;

  void register_on(conn::GrpcServer& server);
  // Serves it from now on; the differences go to every stream.
  void publish(SnapshotRef snapshot);
  const SnapshotRef& snapshot() const { return snapshot_; }

  // For /debug/syncz, `culvert get proxies` and metrics.
  struct ClientType {
    std::string type;
    bool wildcard = false;
    std::string nonce_sent;
    std::string nonce_acked;
    uint64_t snapshot_sent = 0;  // number of the snapshot last sent
    uint64_t snapshot_acked = 0;
    uint64_t rejects = 0;
    std::string last_error;
    size_t waiting = 0;  // changed names not sent yet
  };
  struct Client {
    std::string node_id;
    std::string caller;
    std::string address;
    std::string connected_at;  // RFC 3339
    std::vector<ClientType> types;
  };
  std::vector<Client> clients() const;

  struct Counters {
    uint64_t streams = 0;
    uint64_t pushes_address = 0;
    uint64_t pushes_authorization = 0;
    uint64_t pushes_waypoint = 0;  // of the types that only waypoints have
    uint64_t rejects = 0;
    uint64_t stale_nonces = 0;
    uint64_t refused = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  class Stream;
  friend class Stream;
  async::Task<conn::GrpcStatus> serve(conn::GrpcCall& call);

  async::Loop& loop_;
  base::Log& log_;
  const Authenticator& authenticator_;
  SnapshotRef snapshot_;
  std::list<Stream*> streams_;
  Counters counters_;
};

}  // namespace culvert::control
