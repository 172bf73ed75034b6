// SPDX-License-Identifier: Apache-2.0
// SimNetwork: machines, pods and the links between them inside one process, on a SimLoop (design section 5).
//
// A SimHost is one network namespace with its addresses; several may share a node (a machine). A process is
// an io::Network that lives in one host and may open sockets in others by their NetNs, as ztunnel does. TCP
// is modelled as far as a proxy can notice: a hand-shake that takes a round trip, segments that arrive in
// order after the latency, a bounded window, half-close, resets, silence. The redirect rules of a captured
// pod (spec ztunnel section 5) are two ports per host.
//
// Everything is decided by the order of calls and the loop's clock: the same test gives the same trace.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "net/async/loop.h"
#include "net/io/network.h"

namespace culvert::test {

class SimNetwork;

struct SimOptions {
  base::Duration latency = std::chrono::microseconds(200);  // one way, between hosts
  // From one segment to the next of a direction, also within a host: spreads what happens over many moments.
  base::Duration segment_gap{0};
  size_t buffer_bytes = 64 * 1024;    // under way and unread, per direction
  size_t fragment_bytes = 16 * 1024;  // largest segment
};

// One direction of one connection, as the tap sees it.
struct SimFlow {
  uint64_t connection = 0;
  std::string from_host, to_host;
  std::string from_node, to_node;
  base::SocketAddr from, to;
  bool from_dialer = false;
  uint32_t mark = 0;  // of the dialing socket
};

class SimHost {
 public:
  const std::string& name() const { return name_; }
  const std::string& node() const { return node_; }
  const std::vector<base::IpAddr>& ips() const { return ips_; }
  // For SocketOptions::netns.
  io::NetNsRef netns() const { return netns_; }
  // A real descriptor that any Network of this world adopts as this host's namespace.
  base::UniqueFd open_netns() const;

  // Captured: connections of unmarked sockets to anything but loopback reach `outbound`; those that arrive
  // for any port but `tunnel` reach `inbound`. Zero turns a rule off.
  struct Redirect {
    uint16_t outbound = 0;
    uint16_t inbound = 0;
    uint16_t tunnel = 15008;
    std::vector<base::IpAddr> exempt_sources;  // node-local health probes
  };
  Redirect redirect;
  // While set nothing arrives here and nothing leaves; what was sent arrives when it is cleared.
  void set_silent(bool silent);
  bool silent() const { return silent_; }
  // The next `count` accepts on this host fail as if descriptors had run out.
  int failing_accepts = 0;
  // Stream ends that exist here, accepted or waiting.
  size_t open_streams() const { return open_streams_; }

 private:
  friend class SimNetwork;
  friend class SimProcess;
  friend class SimStream;
  friend class SimChannel;
  friend class SimListener;
  friend struct SimConnection;
  std::string name_, node_;
  std::vector<base::IpAddr> ips_;
  io::NetNsRef netns_;
  base::UniqueFd netns_file_;
  SimNetwork* network_ = nullptr;
  bool attached_ = true;
  bool silent_ = false;
  size_t open_streams_ = 0;
  uint16_t next_port_ = 32768;
  std::vector<class SimListener*> listeners_;
};

class SimNetwork {
 public:
  explicit SimNetwork(async::Loop& loop, SimOptions options = {});
  ~SimNetwork();
  SimNetwork(const SimNetwork&) = delete;

  SimHost& add_host(std::string name, std::string node, std::vector<base::IpAddr> ips);
  // The host leaves the network (pod deleted): its addresses are free for another, its sockets go silent. A
  // byte sent to an address that another host has taken since is answered by a reset and never delivered.
  void remove_host(SimHost& host);
  SimHost* find_host(const base::IpAddr& ip) const;

  // An io::Network whose own namespace is `home`.
  std::unique_ptr<io::Network> process(SimHost& home);

  // Answers for Network::resolve; unknown names are kNotFound, while `resolver_silent` is set none ends.
  std::map<std::string, std::vector<base::IpAddr>> names;
  bool resolver_silent = false;

  // Sees every run of bytes when it arrives, in order.
  using Tap = std::function<void(const SimFlow&, base::ByteView)>;
  void set_tap(Tap tap) { tap_ = std::move(tap); }

  // Aborts every connection that touches the host, as a machine that restarts does.
  void reset_connections(SimHost& host);

  uint64_t connections_made() const { return next_connection_; }
  uint64_t bytes_delivered() const { return bytes_delivered_; }
  // Depends on every delivery: time, flow, bytes. Equal for equal days.
  uint64_t trace_hash() const { return trace_hash_; }
  size_t open_streams() const;

 private:
  friend class SimHost;
  friend class SimProcess;
  friend class SimStream;
  friend class SimChannel;
  friend class SimListener;
  friend class SimNetNs;
  friend struct SimConnection;
  void delivered(const SimFlow& flow, base::ByteView bytes);
  void note(uint64_t value);
  SimHost* host_of(const io::NetNs& netns) const;

  async::Loop& loop_;
  SimOptions options_;
  std::vector<std::unique_ptr<SimHost>> hosts_;
  std::vector<std::weak_ptr<struct SimConnection>> connections_;
  std::map<std::pair<std::string, std::string>, class SimListener*> unix_listeners_;          // node, path
  std::map<std::pair<std::string, std::string>, class SimPacketListener*> packet_listeners_;  // node, path
  friend class SimPacketListener;
  Tap tap_;
  uint64_t next_connection_ = 0;
  uint64_t bytes_delivered_ = 0;
  uint64_t trace_hash_ = 0xcbf29ce484222325;
};

}  // namespace culvert::test
