// SPDX-License-Identifier: Apache-2.0
#include "net/uv/uv_socket.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "net/io/pipe.h"
#include "net/uv/sockaddr.h"

namespace culvert::uv {

namespace {

// <linux/netfilter_ipv4.h> and <linux/netfilter_ipv6/ip6_tables.h> clash with <netinet/in.h>.
constexpr int kSoOriginalDst = 80;

constexpr uint32_t kReadEvents = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
constexpr uint32_t kWriteEvents = EPOLLOUT | EPOLLHUP | EPOLLERR;

bool would_block(int number) { return number == EAGAIN || number == EWOULDBLOCK; }

base::SocketAddr original_destination(int fd, const base::SocketAddr& local) {
  KernelAddr address;
  if (getsockopt(fd, SOL_IP, kSoOriginalDst, address.raw(), &address.length) == 0 ||
      (address.length = sizeof address.storage,
       getsockopt(fd, SOL_IPV6, kSoOriginalDst, address.raw(), &address.length) == 0)) {
    return from_kernel(address);
  }
  return local;  // TPROXY, or not redirected at all
}

}  // namespace

UvStream::UvStream(UvLoop& loop, base::UniqueFd fd, base::SocketAddr local, base::SocketAddr peer,
                   bool connected)
    : loop_(loop),
      fd_(std::move(fd)),
      local_(local),
      peer_(peer),
      read_(loop, connected),
      write_(loop, connected) {
  loop_.watch(fd_.get(), *this);
}

UvStream::~UvStream() {
  if (fd_.valid()) loop_.unwatch(fd_.get(), *this);
}

void UvStream::on_events(uint32_t events) {
  if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)) short_read_tells_nothing_ = true;
  if (events & EPOLLPRI) urgent_ = true;
  if (events & kReadEvents) read_.set();
  if (events & kWriteEvents) write_.set();
}

io::IoResult UvStream::try_read(base::ByteSpan into) {
  if (!fd_.valid()) return io::IoResult::failed({base::Code::kClosed, "read after abort"});
  if (!read_.ready()) return io::IoResult::would_block();
  for (;;) {
    ssize_t got = recv(fd_.get(), into.data(), into.size(), 0);
    if (got > 0) {
      // A short read has drained the socket, unless an end, an error or bytes after an urgent one wait behind
      // it.
      if (static_cast<size_t>(got) < into.size() && !short_read_tells_nothing_) read_.clear();
      return io::IoResult::bytes(static_cast<size_t>(got));
    }
    if (got == 0) return io::IoResult::eof();
    if (errno == EINTR) continue;
    if (would_block(errno)) {
      read_.clear();
      return io::IoResult::would_block();
    }
    return io::IoResult::failed(base::Error::from_errno(errno, "read from " + peer_.to_string()));
  }
}

io::IoResult UvStream::try_write(std::span<const iovec> from) {
  if (write_closed_ || !fd_.valid()) {
    return io::IoResult::failed({base::Code::kClosed, "write after shutdown"});
  }
  if (!write_.ready()) return io::IoResult::would_block();
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(from.data());
  message.msg_iovlen = from.size();
  for (;;) {
    ssize_t put = sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
    if (put > 0) return io::IoResult::bytes(static_cast<size_t>(put));
    if (put < 0 && errno == EINTR) continue;
    if (put == 0 || would_block(errno)) {
      write_.clear();
      return io::IoResult::would_block();
    }
    return io::IoResult::failed(base::Error::from_errno(errno, "write to " + peer_.to_string()));
  }
}

io::IoResult UvStream::splice_in(io::SplicePipe& pipe) {
  if (!fd_.valid()) return io::IoResult::failed({base::Code::kClosed, "read after abort"});
  if (!read_.ready()) return io::IoResult::would_block();
  for (;;) {
    ssize_t got = splice(fd_.get(), nullptr, pipe.in(), nullptr, io::SplicePipe::kBytes,
                         SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (got > 0) {
      pipe.entered(static_cast<size_t>(got));
      return io::IoResult::bytes(static_cast<size_t>(got));
    }
    if (got == 0) return io::IoResult::eof();
    if (errno == EINTR) continue;
    if (would_block(errno)) {  // the pipe was empty, so it is the socket
      read_.clear();
      return io::IoResult::would_block();
    }
    return io::IoResult::failed(base::Error::from_errno(errno, "read from " + peer_.to_string()));
  }
}

io::IoResult UvStream::splice_out(io::SplicePipe& pipe) {
  if (write_closed_ || !fd_.valid())
    return io::IoResult::failed({base::Code::kClosed, "write after shutdown"});
  if (!write_.ready()) return io::IoResult::would_block();
  for (;;) {
    ssize_t put =
        splice(pipe.out(), nullptr, fd_.get(), nullptr, pipe.held(), SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (put > 0) {
      pipe.left(static_cast<size_t>(put));
      return io::IoResult::bytes(static_cast<size_t>(put));
    }
    if (put < 0 && errno == EINTR) continue;
    if (put == 0 || would_block(errno)) {
      write_.clear();
      return io::IoResult::would_block();
    }
    return io::IoResult::failed(base::Error::from_errno(errno, "write to " + peer_.to_string()));
  }
}

void UvStream::shutdown_write() {
  if (write_closed_ || !fd_.valid()) return;
  write_closed_ = true;
  ::shutdown(fd_.get(), SHUT_WR);
}

void UvStream::abort() {
  if (!fd_.valid()) return;
  linger now{1, 0};
  setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  loop_.unwatch(fd_.get(), *this);
  fd_.reset();
  // Whoever waits learns of it from the next call.
  read_.set();
  write_.set();
}

base::Result<> UvStream::connect_result() {
  int number = 0;
  socklen_t length = sizeof number;
  getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &number, &length);
  if (number != 0) return base::fail(base::Error::from_errno(number, "connect to " + peer_.to_string()));
  KernelAddr local;
  if (getsockname(fd_.get(), local.raw(), &local.length) == 0) local_ = from_kernel(local);
  return {};
}

UvListener::UvListener(UvLoop& loop, base::UniqueFd fd, base::SocketAddr local, io::ListenOptions options,
                       bool transparent, std::string unlink_path)
    : loop_(loop),
      fd_(std::move(fd)),
      local_(local),
      options_(std::move(options)),
      transparent_(transparent),
      unlink_path_(std::move(unlink_path)),
      accept_(loop, true),
      rest_([this] { accept_.set(); }) {
  loop_.watch(fd_.get(), *this);
}

UvListener::~UvListener() {
  loop_.unwatch(fd_.get(), *this);
  if (!unlink_path_.empty()) ::unlink(unlink_path_.c_str());
}

void UvListener::on_events(uint32_t) {
  if (!rest_.armed()) accept_.set();
}

base::Result<std::optional<io::Accepted>> UvListener::try_accept() {
  if (!accept_.ready()) return std::optional<io::Accepted>();
  for (;;) {
    KernelAddr peer;
    base::UniqueFd fd(accept4(fd_.get(), peer.raw(), &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd.valid()) {
      if (would_block(errno)) {
        accept_.clear();
        return std::optional<io::Accepted>();
      }
      if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
      int number = errno;
      accept_.clear();
      loop_.arm(rest_, loop_.now() + kRestWhenExhausted);
      return base::fail(base::Error::from_errno(number, "accept on " + local_.to_string()));
    }
    KernelAddr local;
    getsockname(fd.get(), local.raw(), &local.length);
    io::Accepted accepted;
    accepted.peer = from_kernel(peer);
    accepted.local = from_kernel(local);
    bool is_tcp = peer.storage.ss_family == AF_INET || peer.storage.ss_family == AF_INET6;
    if (is_tcp) {
      int on = 1;
      setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      accepted.original_destination =
          options_.original_destination ? original_destination(fd.get(), accepted.local) : accepted.local;
    }
    accepted.stream = std::make_unique<UvStream>(loop_, std::move(fd), accepted.local, accepted.peer, true);
    return std::optional<io::Accepted>(std::move(accepted));
  }
}

UvPacketSocket::UvPacketSocket(UvLoop& loop, base::UniqueFd fd)
    : loop_(loop), fd_(std::move(fd)), read_(loop, true), write_(loop, true) {
  loop_.watch(fd_.get(), *this);
}

UvPacketSocket::~UvPacketSocket() { loop_.unwatch(fd_.get(), *this); }

void UvPacketSocket::on_events(uint32_t events) {
  if (events & kReadEvents) read_.set();
  if (events & kWriteEvents) write_.set();
}

base::Result<std::optional<io::Packet>> UvPacketSocket::try_receive(size_t bytes_max) {
  if (!read_.ready()) return std::optional<io::Packet>();
  io::Packet packet;
  packet.bytes.resize(bytes_max);
  iovec vector{packet.bytes.data(), packet.bytes.size()};
  // Room for more descriptors than anyone may send, so that extra ones are seen and closed.
  alignas(cmsghdr) std::array<char, CMSG_SPACE(8 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got;
  do {
    got = recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    if (would_block(errno)) {
      read_.clear();
      return std::optional<io::Packet>();
    }
    return base::fail(base::Error::from_errno(errno, "receive packet"));
  }
  packet.bytes.resize(static_cast<size_t>(got));
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      packet.fds.emplace_back(fd);
    }
  }
  packet.truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  return std::optional<io::Packet>(std::move(packet));
}

base::Result<bool> UvPacketSocket::try_send(std::string_view bytes, int fd) {
  if (!write_.ready()) return false;
  iovec vector{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  ssize_t put;
  do {
    put = sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  } while (put < 0 && errno == EINTR);
  if (put >= 0) return true;
  if (would_block(errno)) {
    write_.clear();
    return false;
  }
  return base::fail(base::Error::from_errno(errno, "send packet"));
}

base::Result<uint32_t> UvPacketSocket::peer_uid() const {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return base::fail(base::Error::from_errno(errno, "ask who the peer is"));
  }
  return peer.uid;
}

UvPacketListener::UvPacketListener(UvLoop& loop, base::UniqueFd fd, std::string unlink_path)
    : loop_(loop),
      fd_(std::move(fd)),
      unlink_path_(std::move(unlink_path)),
      accept_(loop, true),
      rest_([this] { accept_.set(); }) {
  loop_.watch(fd_.get(), *this);
}

UvPacketListener::~UvPacketListener() {
  loop_.unwatch(fd_.get(), *this);
  if (!unlink_path_.empty()) ::unlink(unlink_path_.c_str());
}

void UvPacketListener::on_events(uint32_t) {
  if (!rest_.armed()) accept_.set();
}

base::Result<std::unique_ptr<io::PacketSocket>> UvPacketListener::try_accept() {
  if (!accept_.ready()) return std::unique_ptr<io::PacketSocket>();
  for (;;) {
    base::UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.valid()) return std::make_unique<UvPacketSocket>(loop_, std::move(fd));
    if (errno == EINTR || errno == ECONNABORTED) continue;
    int number = errno;
    accept_.clear();
    if (would_block(number)) return std::unique_ptr<io::PacketSocket>();
    loop_.arm(rest_, loop_.now() + UvListener::kRestWhenExhausted);
    return base::fail(base::Error::from_errno(number, "accept packet connection"));
  }
}

}  // namespace culvert::uv
