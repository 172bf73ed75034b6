// SPDX-License-Identifier: Apache-2.0
// PodProxy: one pod on one data loop: its listeners, its tunnels, its connections (spec ztunnel section 1,
// shared mode). Owned by the Worker; owns every connection task of the pod.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "mesh/hbone/h2_tunnel.h"
#include "mesh/hbone/tunnel_pool.h"
#include "mesh/hbone/tunnel_server.h"
#include "net/async/drain.h"
#include "net/async/scope.h"
#include "net/io/network.h"
#include "ztunnel/live_connections.h"
#include "ztunnel/pod.h"
#include "ztunnel/worker.h"

namespace culvert::ztunnel {

struct LocalArrival;

class PodProxy {
 public:
  // Binds 15001, 15006 and 15008 in the pod's namespace (only 15008 for kSelf) and serves them.
  static base::Result<std::unique_ptr<PodProxy>> start(Worker& worker, PodInfo info);
  ~PodProxy();
  PodProxy(const PodProxy&) = delete;
  PodProxy& operator=(const PodProxy&) = delete;

  // The mesh view has changed: live inbound connections are judged again if that may matter to them.
  void view_changed(bool policies_changed);
  // Ends when the last connection has: graceful ones get until the deadline.
  async::Task<void> drain(async::DrainMode mode, async::Deadline deadline);

  // --- for the connections ---
  Worker& worker() { return worker_; }
  const PodInfo& info() const { return info_; }
  hbone::TunnelPool& pool() { return pool_; }
  LiveConnections& live() { return live_; }
  // Registers a tunnel server so that a drain reaches it.
  class Serving {
   public:
    Serving(PodProxy& pod, hbone::TunnelServer& server);
    ~Serving() { pod_.servers_.erase(place_); }
    Serving(const Serving&) = delete;
    Serving& operator=(const Serving&) = delete;

   private:
    PodProxy& pod_;
    std::list<hbone::TunnelServer*>::iterator place_;
  };
  // The pod's own workload; waits up to 5 s for the control plane.
  async::Task<base::Result<model::WorkloadRef>> workload();
  // The pod's certificate, under the trust domain its workload has.
  async::Task<base::Result<wire::TlsIdentityRef>> certificate(async::Deadline deadline);
  // How sockets of this pod are made: namespace, mark, keepalive.
  io::DialOptions dial_options() const;
  // Whether the address is one of the pod's own, in its namespace. A pod keeps its addresses for life.
  bool owns(const base::IpAddr& ip);
  // Serves a stream of the local path among the pod's connections.
  void serve_local(LocalArrival arrival);
  // Connections to the app show the client's address (section 4.3).
  bool spoofs_source() const { return spoofs_source_; }

 private:
  using Serve = async::Task<void> (*)(PodProxy& pod, io::Accepted accepted);

  PodProxy(Worker& worker, PodInfo info);
  base::Result<> listen(uint16_t port, Serve serve);
  io::ListenOptions listen_options(uint16_t port) const;
  static async::Task<void> accept_loop(PodProxy& pod, io::Listener& listener, Serve serve);
  static async::Task<void> serve_one(PodProxy& pod, io::Accepted accepted, Serve serve);
  void close_listeners();

  struct Listening {
    std::unique_ptr<io::Listener> listener;
    Serve serve;
    uint16_t port;
  };

  Worker& worker_;
  PodInfo info_;
  bool spoofs_source_ = false;
  async::Drain drain_;
  LiveConnections live_;
  model::WorkloadRef judged_with_;  // the workload of the last judgement
  hbone::H2TunnelDialer dialer_;
  hbone::TunnelPool pool_;
  std::list<Listening> listeners_;
  std::list<hbone::TunnelServer*> servers_;
  std::vector<base::IpAddr> owned_;  // known to be the pod's
  // Last, so that tasks end before what they use.
  async::Scope connections_;
  async::Scope acceptors_;
};

}  // namespace culvert::ztunnel
