// SPDX-License-Identifier: Apache-2.0
#include "net/uv/uv_network.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <cstring>

#include "net/async/wait.h"
#include "net/io/stream_wait.h"
#include "net/uv/sockaddr.h"
#include "net/uv/uv_socket.h"

namespace culvert::uv {

namespace {

using base::Code;
using base::Error;
using base::fail;
using base::Result;

bool set_int(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

// What every socket gets. Only the mark matters enough to fail: without it our own packets
// would be captured again.
Result<> apply_common(int fd, const io::SocketOptions& options) {
  if (options.mark != 0 && !set_int(fd, SOL_SOCKET, SO_MARK, static_cast<int>(options.mark))) {
    return fail(Error::from_errno(errno, "set the packet mark (needs NET_ADMIN)"));
  }
  auto seconds = [](base::Duration d) {
    return static_cast<int>(std::chrono::duration_cast<std::chrono::seconds>(d).count());
  };
  if (options.keepalive) {
    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds(options.keepalive->idle));
    set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, seconds(options.keepalive->interval));
    set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, options.keepalive->probes);
  }
  if (options.user_timeout > base::Duration::zero()) {
    set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
            static_cast<int>(
                std::chrono::duration_cast<std::chrono::milliseconds>(options.user_timeout).count()));
  }
  return {};
}

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Code::kInvalid, "socket path \"" + path + "\" must have 1 to 107 characters");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';  // abstract, as in ss(8)
  return address;
}

socklen_t unix_length(const std::string& path) {
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (path[0] == '@' ? 0 : 1));
}

Result<base::UniqueFd> listen_unix_socket(const std::string& path, int type, uint32_t mode) {
  Result<sockaddr_un> address = unix_address(path);
  if (!address) return fail(std::move(address).error());
  base::UniqueFd fd(socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail(Error::from_errno(errno, "create Unix socket"));
  struct stat info;
  if (path[0] != '@' && lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) ::unlink(path.c_str());
  // The mode is set before listen: nobody can connect in between with wider rights.
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&*address), unix_length(path)) != 0) {
    return fail(Error::from_errno(errno, "bind " + path));
  }
  if (path[0] != '@' && ::chmod(path.c_str(), mode) != 0)
    return fail(Error::from_errno(errno, "chmod " + path));
  if (::listen(fd.get(), 128) != 0) return fail(Error::from_errno(errno, "listen on " + path));
  return fd;
}

Result<base::UniqueFd> connect_unix_socket(const std::string& path, int type) {
  Result<sockaddr_un> address = unix_address(path);
  if (!address) return fail(std::move(address).error());
  base::UniqueFd fd(socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail(Error::from_errno(errno, "create Unix socket"));
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&*address), unix_length(path)) != 0) {
    return fail(Error::from_errno(errno, "connect to " + path));
  }
  return fd;
}

std::string path_to_unlink(const std::string& path) { return path[0] == '@' ? std::string() : path; }

Result<> spoof(int fd, const base::IpAddr& source) {
  bool v6 = source.is_v6();
  bool allowed = v6 ? set_int(fd, SOL_IPV6, IPV6_TRANSPARENT, 1) && set_int(fd, SOL_IPV6, IPV6_FREEBIND, 1)
                    : set_int(fd, SOL_IP, IP_TRANSPARENT, 1) && set_int(fd, SOL_IP, IP_FREEBIND, 1);
  if (!allowed) return fail(Error::from_errno(errno, "allow a foreign source address"));
  KernelAddr address = to_kernel({source, 0});
  if (::bind(fd, address.raw(), address.length) != 0) {
    return fail(Error::from_errno(errno, "bind source address " + source.to_string()));
  }
  return {};
}

async::Task<Result<bool>> wait_writable(io::ByteStream& stream) {
  co_await io::writable(stream);
  co_return true;
}

// In the namespace the calling thread is in.
void migrate_requests() {
  base::UniqueFd file(::open("/proc/sys/net/ipv4/tcp_migrate_req", O_WRONLY | O_CLOEXEC));
  if (file.valid()) (void)!::write(file.get(), "1", 1);
}

}  // namespace

Result<std::unique_ptr<UvNetwork>> UvNetwork::create(UvLoop& loop) {
  Result<HomeNetNs> home = HomeNetNs::open();
  if (!home) return fail(std::move(home).error());
  return std::unique_ptr<UvNetwork>(new UvNetwork(loop, std::move(*home)));
}

Result<std::unique_ptr<io::Listener>> UvNetwork::listen(base::SocketAddr address, io::ListenOptions options) {
  base::UniqueFd fd;
  bool transparent = false;
  auto open = [&]() -> Result<> {
    int family = address.ip.is_v6() ? AF_INET6 : AF_INET;
    fd.reset(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return fail(Error::from_errno(errno, "create socket"));
    set_int(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (family == AF_INET6) set_int(fd.get(), SOL_IPV6, IPV6_V6ONLY, address.ip.is_unspecified() ? 0 : 1);
    if (options.reuse_port && !set_int(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1)) {
      return fail(Error::from_errno(errno, "share the port (SO_REUSEPORT)"));
    }
    CULVERT_TRY(apply_common(fd.get(), options));
    if (options.migrate_requests) migrate_requests();
    if (options.transparent) {
      transparent = set_int(fd.get(), SOL_IP, IP_TRANSPARENT, 1);
      if (!transparent && options.transparent_required) {
        return fail(Error::from_errno(errno, "set IP_TRANSPARENT (needs NET_ADMIN)"));
      }
    }
    KernelAddr bound = to_kernel(address);
    if (::bind(fd.get(), bound.raw(), bound.length) != 0) return fail(Error::from_errno(errno, "bind"));
    if (::listen(fd.get(), options.backlog) != 0) return fail(Error::from_errno(errno, "listen"));
    return {};
  };
  if (Result<> opened = home_.run_in(options.netns.get(), open); !opened) {
    return fail(std::move(opened).error().wrap("listen on " + address.to_string()));
  }
  KernelAddr local;
  getsockname(fd.get(), local.raw(), &local.length);
  return std::make_unique<UvListener>(loop_, std::move(fd), from_kernel(local), std::move(options),
                                      transparent, std::string());
}

async::Task<Result<std::unique_ptr<io::ByteStream>>> UvNetwork::dial(base::SocketAddr address,
                                                                     io::DialOptions options,
                                                                     async::Deadline deadline) {
  base::UniqueFd fd;
  auto open = [&]() -> Result<> {
    // The family follows the source where one is asked for (spec ztunnel section 5).
    bool v6 = options.spoof_source ? options.spoof_source->is_v6() : address.ip.is_v6();
    int family = v6 ? AF_INET6 : AF_INET;
    fd.reset(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return fail(Error::from_errno(errno, "create socket"));
    set_int(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    CULVERT_TRY(apply_common(fd.get(), options));
    if (options.spoof_source) {
      CULVERT_TRY(spoof(fd.get(), *options.spoof_source));
    }
    KernelAddr remote = to_kernel(address, family);
    if (::connect(fd.get(), remote.raw(), remote.length) != 0 && errno != EINPROGRESS) {
      return fail(Error::from_errno(errno, "connect"));
    }
    return {};
  };
  if (Result<> opened = home_.run_in(options.netns.get(), open); !opened) {
    co_return fail(std::move(opened).error().wrap("dial " + address.to_string()));
  }
  auto stream = std::make_unique<UvStream>(loop_, std::move(fd), base::SocketAddr{}, address, false);
  Result<bool> connected = co_await async::with_deadline(loop_, deadline, "connect", wait_writable(*stream));
  if (!connected) co_return fail(std::move(connected).error().wrap("dial " + address.to_string()));
  if (Result<> outcome = stream->connect_result(); !outcome) co_return fail(std::move(outcome).error());
  co_return std::unique_ptr<io::ByteStream>(std::move(stream));
}

bool UvNetwork::has_address(base::IpAddr ip, const io::NetNsRef& netns) {
  bool own = false;
  auto ask = [&]() -> Result<> {
    int family = ip.is_v6() ? AF_INET6 : AF_INET;
    base::UniqueFd fd(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    KernelAddr remote = to_kernel({ip, 9}, family), local;
    // Nothing is sent. The kernel speaks to an address of its own from that very address; a bind would also
    // succeed for foreign ones where ip_nonlocal_bind is set.
    if (!fd.valid() || ::connect(fd.get(), remote.raw(), remote.length) != 0 ||
        getsockname(fd.get(), local.raw(), &local.length) != 0) {
      return fail(Error::from_errno(errno, "ask for a route"));
    }
    own = from_kernel(local).ip == ip;
    return {};
  };
  return home_.run_in(netns.get(), ask).has_value() && own;
}

Result<std::unique_ptr<io::Listener>> UvNetwork::listen_unix(std::string path, uint32_t mode) {
  Result<base::UniqueFd> fd = listen_unix_socket(path, SOCK_STREAM, mode);
  if (!fd) return fail(std::move(fd).error());
  return std::make_unique<UvListener>(loop_, std::move(*fd), base::SocketAddr{}, io::ListenOptions{}, false,
                                      path_to_unlink(path));
}

async::Task<Result<std::unique_ptr<io::ByteStream>>> UvNetwork::dial_unix(std::string path, async::Deadline) {
  // A Unix connect never waits: it succeeds, is refused, or the backlog is full (EAGAIN).
  Result<base::UniqueFd> fd = connect_unix_socket(path, SOCK_STREAM);
  if (!fd) co_return fail(std::move(fd).error());
  co_return std::unique_ptr<io::ByteStream>(
      std::make_unique<UvStream>(loop_, std::move(*fd), base::SocketAddr{}, base::SocketAddr{}, true));
}

Result<std::unique_ptr<io::PacketListener>> UvNetwork::listen_packet(std::string path, uint32_t mode) {
  Result<base::UniqueFd> fd = listen_unix_socket(path, SOCK_SEQPACKET, mode);
  if (!fd) return fail(std::move(fd).error());
  return std::make_unique<UvPacketListener>(loop_, std::move(*fd), path_to_unlink(path));
}

Result<std::unique_ptr<io::PacketSocket>> UvNetwork::dial_packet(std::string path) {
  Result<base::UniqueFd> fd = connect_unix_socket(path, SOCK_SEQPACKET);
  if (!fd) return fail(std::move(fd).error());
  return std::make_unique<UvPacketSocket>(loop_, std::move(*fd));
}

namespace {

// Owned by libuv until the answer comes; `answer` is cleared by a waiter that gave up.
struct Lookup {
  uv_getaddrinfo_t request{};
  std::shared_ptr<async::OneShot<Result<std::vector<base::IpAddr>>>> answer;
  std::string host;
};

void on_resolved(uv_getaddrinfo_t* request, int status, addrinfo* found) {
  std::unique_ptr<Lookup> lookup(static_cast<Lookup*>(request->data));
  std::vector<base::IpAddr> ips;
  for (addrinfo* entry = found; entry; entry = entry->ai_next) {
    KernelAddr address;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    ips.push_back(from_kernel(address).ip);
  }
  uv_freeaddrinfo(found);
  if (status == 0 && !ips.empty()) {
    lookup->answer->set(std::move(ips));
  } else {
    bool unknown = status == UV_EAI_NONAME || status == UV_EAI_NODATA || status == 0;
    lookup->answer->set(
        fail(unknown ? Code::kNotFound : Code::kUnavailable,
             "resolve " + lookup->host + ": " + (status == 0 ? "no addresses" : uv_strerror(status))));
  }
}

}  // namespace

async::Task<Result<std::vector<base::IpAddr>>> UvNetwork::resolve(std::string host,
                                                                  async::Deadline deadline) {
  if (Result<base::IpAddr> literal = base::IpAddr::parse(host); literal) {
    co_return std::vector<base::IpAddr>{*literal};
  }
  auto lookup = std::make_unique<Lookup>();
  auto answer = std::make_shared<async::OneShot<Result<std::vector<base::IpAddr>>>>(loop_);
  lookup->answer = answer;
  lookup->host = host;
  lookup->request.data = lookup.get();
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  int started = uv_getaddrinfo(loop_.raw(), &lookup->request, on_resolved, host.c_str(), nullptr, &hints);
  if (started != 0) co_return fail(Code::kUnavailable, "resolve " + host + ": " + uv_strerror(started));
  loop_.libuv_used();
  (void)lookup.release();
  bool answered = co_await answer->event().wait(deadline);
  if (!answered)
    co_return fail(Code::kTimeout, "resolve " + host + ": the name server did not answer in time");
  co_return answer->take();
}

}  // namespace culvert::uv
