// SPDX-License-Identifier: Apache-2.0
// Network: listen, dial, resolve, Unix packet sockets, each in a named network namespace
// (design section 3.7). UvNetwork (net/uv) and SimNetwork (test/support) implement it. One Network
// belongs to one Loop.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/async/deadline.h"
#include "net/async/task.h"
#include "net/base/ip.h"
#include "net/base/result.h"
#include "net/base/unique_fd.h"
#include "net/io/stream.h"

namespace culvert::io {

// A network namespace by descriptor. Sockets created "in" it stay usable from anywhere.
// Null pointers to NetNs mean the process's own namespace. Shared across loops, immutable.
class NetNs {
 public:
  virtual ~NetNs() = default;
  // Equal exactly for the same namespace: (device, inode) of its file.
  struct Id {
    uint64_t device = 0;
    uint64_t inode = 0;
    auto operator<=>(const Id&) const = default;
  };
  virtual Id id() const = 0;
};
using NetNsRef = std::shared_ptr<const NetNs>;

struct Keepalive {
  base::Duration idle = std::chrono::seconds(180);
  base::Duration interval = std::chrono::seconds(180);
  int probes = 9;
};

struct SocketOptions {
  NetNsRef netns;                      // null: our own
  uint32_t mark = 0;                   // SO_MARK; 0: leave
  std::optional<Keepalive> keepalive;  // none: off. Failures to set are ignored
  base::Duration user_timeout{0};      // TCP_USER_TIMEOUT; 0: leave
};

struct ListenOptions : SocketOptions {
  int backlog = 1024;
  bool reuse_port = false;  // failure is an error
  // Turn on net.ipv4.tcp_migrate_req in the namespace: what waits in the queue of a closed listener then
  // moves to another listener of the port. Failure (an old kernel, a read-only /proc/sys) is ignored.
  bool migrate_requests = false;
  bool transparent = false;  // IP_TRANSPARENT; failure is an error if required
  bool transparent_required = false;
  bool original_destination = false;  // fill Accepted::original_destination
};

struct DialOptions : SocketOptions {
  // Bind to this address (port 0) with IP_TRANSPARENT and IP_FREEBIND, so that the peer sees it
  // as the source. Failure to bind is reported through `spoof_failed`, the dial goes on unbound.
  std::optional<base::IpAddr> spoof_source;
};

struct Accepted {
  std::unique_ptr<ByteStream> stream;  // TCP_NODELAY set, mark inherited
  base::SocketAddr peer;
  base::SocketAddr local;
  // SO_ORIGINAL_DST, else IP6T_SO_ORIGINAL_DST, else `local` (TPROXY).
  base::SocketAddr original_destination;
};

class Listener {
 public:
  virtual ~Listener() = default;
  // nullopt: nothing waiting. EMFILE and friends come as an error of Code::kExhausted after
  // which the listener pauses itself for 100 ms before it tells readiness again.
  virtual base::Result<std::optional<Accepted>> try_accept() = 0;
  virtual void arm_accept(Waiter* waiter) = 0;
  virtual base::SocketAddr local_addr() const = 0;
  // Whether IP_TRANSPARENT could be set (ENABLE_ORIG_SRC auto detection).
  virtual bool transparent() const = 0;
};

// co_await accept(listener): one connection or an error.
async::Task<base::Result<Accepted>> accept(Listener& listener);

// One datagram of a SOCK_SEQPACKET Unix socket with the descriptors it carried.
struct Packet {
  std::string bytes;
  std::vector<base::UniqueFd> fds;
  bool truncated = false;  // MSG_TRUNC or MSG_CTRUNC
};

// A connected SOCK_SEQPACKET socket (ZDS, spec apis section 5.1).
class PacketSocket {
 public:
  virtual ~PacketSocket() = default;
  // nullopt: would block. A packet with no bytes is the end.
  virtual base::Result<std::optional<Packet>> try_receive(size_t bytes_max) = 0;
  // False: would block. `fd` -1: none; it is duplicated by the kernel, not consumed.
  virtual base::Result<bool> try_send(std::string_view bytes, int fd) = 0;
  virtual void arm_receive(Waiter* waiter) = 0;
  virtual void arm_send(Waiter* waiter) = 0;
  // Effective user id of the peer (SO_PEERCRED).
  virtual base::Result<uint32_t> peer_uid() const = 0;
};

class PacketListener {
 public:
  virtual ~PacketListener() = default;
  virtual base::Result<std::unique_ptr<PacketSocket>> try_accept() = 0;  // null: would block
  virtual void arm_accept(Waiter* waiter) = 0;
};

async::Task<base::Result<Packet>> receive(PacketSocket& socket, size_t bytes_max);
async::Task<base::Result<>> send(PacketSocket& socket, std::string bytes, int fd);
async::Task<base::Result<std::unique_ptr<PacketSocket>>> accept(PacketListener& listener);

class Network {
 public:
  virtual ~Network() = default;

  virtual base::Result<std::unique_ptr<Listener>> listen(base::SocketAddr address, ListenOptions options) = 0;
  // Fails with kTimeout at the deadline.
  virtual async::Task<base::Result<std::unique_ptr<ByteStream>>> dial(base::SocketAddr address,
                                                                      DialOptions options,
                                                                      async::Deadline deadline) = 0;
  // Unix stream sockets. Listening removes a stale path first; `mode` is the file mode.
  virtual base::Result<std::unique_ptr<Listener>> listen_unix(std::string path, uint32_t mode) = 0;
  virtual async::Task<base::Result<std::unique_ptr<ByteStream>>> dial_unix(std::string path,
                                                                           async::Deadline deadline) = 0;
  // Unix SOCK_SEQPACKET.
  virtual base::Result<std::unique_ptr<PacketListener>> listen_packet(std::string path, uint32_t mode) = 0;
  virtual base::Result<std::unique_ptr<PacketSocket>> dial_packet(std::string path) = 0;
  // A and AAAA through the process's resolver; kNotFound if there is none.
  virtual async::Task<base::Result<std::vector<base::IpAddr>>> resolve(std::string host,
                                                                       async::Deadline deadline) = 0;
  // Whether `ip` is an address of this machine's in that namespace (null: our own).
  virtual bool has_address(base::IpAddr ip, const NetNsRef& netns) = 0;
  // Wraps a namespace descriptor (kInvalid if it is not one).
  virtual base::Result<NetNsRef> adopt_netns(base::UniqueFd fd) = 0;
};

}  // namespace culvert::io
