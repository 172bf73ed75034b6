// SPDX-License-Identifier: Apache-2.0
// UvStream, UvListener, UvPacketSocket: kernel sockets on a UvLoop, non-blocking, edge-triggered.
//
// Each direction remembers whether it may be ready; a call that hits EAGAIN clears it, the next
// edge sets it again. Arming a direction that may be ready wakes through a job, so a waiter is
// always called from the loop.
#pragma once

#include <sys/epoll.h>

#include <memory>

#include "net/async/loop.h"
#include "net/base/unique_fd.h"
#include "net/io/network.h"
#include "net/uv/uv_loop.h"

namespace culvert::uv {

// One armed waiter of one direction.
class Readiness final : private async::Job {
 public:
  explicit Readiness(async::Loop& loop, bool ready) : loop_(loop), ready_(ready) {}
  ~Readiness() override = default;

  bool ready() const { return ready_; }
  void clear() { ready_ = false; }
  void set() {
    ready_ = true;
    if (waiter_) loop_.defer(*this);
  }
  void arm(io::Waiter* waiter) {
    waiter_ = waiter;
    if (!waiter_) {
      unqueue();
    } else if (ready_) {
      loop_.defer(*this);
    }
  }

 private:
  void run() override {
    if (waiter_) std::exchange(waiter_, nullptr)->on_ready();
  }
  async::Loop& loop_;
  io::Waiter* waiter_ = nullptr;
  bool ready_;
};

class UvStream final : public io::ByteStream, private FdWatch {
 public:
  // Takes a non-blocking connected (or connecting: `connected` false) stream socket.
  UvStream(UvLoop& loop, base::UniqueFd fd, base::SocketAddr local, base::SocketAddr peer, bool connected);
  ~UvStream() override;

  io::IoResult try_read(base::ByteSpan into) override;
  io::IoResult try_write(std::span<const iovec> from) override;
  void arm_read(io::Waiter* waiter) override { read_.arm(waiter); }
  void arm_write(io::Waiter* waiter) override { write_.arm(waiter); }
  void shutdown_write() override;
  void abort() override;
  base::SocketAddr local_addr() const override { return local_; }
  base::SocketAddr peer_addr() const override { return peer_; }
  int splice_fd() const override { return fd_.get(); }
  // splice(2) stops for good at an urgent byte, which recv(2) leaves out.
  bool can_splice() const override { return fd_.valid() && !urgent_; }
  io::IoResult splice_in(io::SplicePipe& pipe) override;
  io::IoResult splice_out(io::SplicePipe& pipe) override;

  int fd() const { return fd_.get(); }
  // The outcome of a non-blocking connect once the socket became writable.
  base::Result<> connect_result();

 private:
  void on_events(uint32_t events) override;

  UvLoop& loop_;
  base::UniqueFd fd_;
  base::SocketAddr local_;
  base::SocketAddr peer_;
  Readiness read_;
  Readiness write_;
  bool short_read_tells_nothing_ = false;  // an end or urgent data is queued: a short read is not "drained"
  bool urgent_ = false;                    // has been seen on this stream
  bool write_closed_ = false;
};

class UvListener final : public io::Listener, private FdWatch {
 public:
  // After EMFILE and friends the listener rests, or it would spin (spec ztunnel section 13.7).
  static constexpr base::Duration kRestWhenExhausted = std::chrono::milliseconds(100);

  // `fd` is bound and listening. A non-empty `unlink_path` is removed on destruction.
  UvListener(UvLoop& loop, base::UniqueFd fd, base::SocketAddr local, io::ListenOptions options,
             bool transparent, std::string unlink_path);
  ~UvListener() override;

  base::Result<std::optional<io::Accepted>> try_accept() override;
  void arm_accept(io::Waiter* waiter) override { accept_.arm(waiter); }
  base::SocketAddr local_addr() const override { return local_; }
  bool transparent() const override { return transparent_; }

 private:
  void on_events(uint32_t events) override;

  UvLoop& loop_;
  base::UniqueFd fd_;
  base::SocketAddr local_;
  io::ListenOptions options_;
  bool transparent_;
  std::string unlink_path_;
  Readiness accept_;
  async::CallTimer rest_;
};

class UvPacketSocket final : public io::PacketSocket, private FdWatch {
 public:
  UvPacketSocket(UvLoop& loop, base::UniqueFd fd);
  ~UvPacketSocket();
  base::Result<std::optional<io::Packet>> try_receive(size_t bytes_max) override;
  base::Result<bool> try_send(std::string_view bytes, int fd) override;
  void arm_receive(io::Waiter* waiter) override { read_.arm(waiter); }
  void arm_send(io::Waiter* waiter) override { write_.arm(waiter); }
  base::Result<uint32_t> peer_uid() const override;

 private:
  void on_events(uint32_t events) override;
  UvLoop& loop_;
  base::UniqueFd fd_;
  Readiness read_;
  Readiness write_;
};

class UvPacketListener final : public io::PacketListener, private FdWatch {
 public:
  UvPacketListener(UvLoop& loop, base::UniqueFd fd, std::string unlink_path);
  ~UvPacketListener();
  base::Result<std::unique_ptr<io::PacketSocket>> try_accept() override;
  void arm_accept(io::Waiter* waiter) override { accept_.arm(waiter); }

 private:
  void on_events(uint32_t events) override;
  UvLoop& loop_;
  base::UniqueFd fd_;
  std::string unlink_path_;
  Readiness accept_;
  async::CallTimer rest_;
};

}  // namespace culvert::uv
