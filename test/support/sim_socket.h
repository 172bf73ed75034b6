// SPDX-License-Identifier: Apache-2.0
// The sockets of SimNetwork: connections, listeners and packet sockets. Only sim_network.cc and
// sim_socket.cc include this.
#pragma once

#include <array>
#include <deque>

#include "test/support/sim_network.h"

namespace culvert::test {

// A waiter told through a loop job.
class SimWake final : private async::Job {
 public:
  explicit SimWake(async::Loop& loop) : loop_(loop) {}
  ~SimWake() override = default;
  void arm(io::Waiter* waiter, bool ready) {
    waiter_ = waiter;
    if (!waiter_) {
      unqueue();
    } else if (ready) {
      loop_.defer(*this);
    }
  }
  void tell() {
    if (waiter_) loop_.defer(*this);
  }

 private:
  void run() override {
    if (waiter_) std::exchange(waiter_, nullptr)->on_ready();
  }
  async::Loop& loop_;
  io::Waiter* waiter_ = nullptr;
};

class SimNetNs final : public io::NetNs {
 public:
  SimNetNs(SimHost& host, Id id) : host_(host), id_(id) {}
  Id id() const override { return id_; }
  SimHost& host() const { return host_; }

 private:
  SimHost& host_;
  Id id_;
};

struct SimConnection;

// One direction: what is under way in order of arrival, then what waits to be read.
class SimChannel final : public async::Timer {
 public:
  SimChannel(SimNetwork& network, SimConnection& connection, SimHost& from, SimHost& to, SimFlow flow);
  ~SimChannel() override = default;

  enum class Kind : unsigned char { kData, kFin, kReset };
  void send(Kind kind, std::string bytes = {});
  // After a silence.
  void resume();
  size_t room() const;
  bool told_writer_gone() const { return reset_received || fin_received; }

  base::ByteQueue received;
  bool fin_sent = false;
  bool fin_received = false;
  bool reset_received = false;
  bool reader_gone = false;  // what arrives now is answered by a reset
  SimWake readable;
  SimWake writable;

 private:
  friend struct SimConnection;
  struct Segment {
    base::TimePoint due;
    Kind kind;
    std::string bytes;
  };
  void fire() override;
  void deliver(Segment segment);

  SimNetwork& network_;
  SimConnection& connection_;
  SimHost& from_;
  SimHost& to_;
  SimFlow flow_;
  std::deque<Segment> under_way_;
  size_t under_way_bytes_ = 0;
  base::TimePoint last_due_{};
};

struct SimConnection {
  SimConnection(SimNetwork& network, SimHost& dialer, SimHost& server, SimFlow there, SimFlow back)
      : channels{{{network, *this, dialer, server, std::move(there)},
                  {network, *this, server, dialer, std::move(back)}}} {}
  bool touches(const SimHost& host) const { return &channels[0].from_ == &host || &channels[0].to_ == &host; }
  SimChannel& other(const SimChannel& channel) { return channels[&channel == &channels[0] ? 1 : 0]; }

  std::array<SimChannel, 2> channels;  // from the dialer, from the server
};

class SimStream final : public io::ByteStream {
 public:
  SimStream(std::shared_ptr<SimConnection> connection, bool dialer, SimHost& host, size_t fragment_bytes,
            base::SocketAddr local, base::SocketAddr peer);
  ~SimStream() override;
  io::IoResult try_read(base::ByteSpan into) override;
  using ByteStream::try_write;
  io::IoResult try_write(std::span<const iovec> from) override;
  void arm_read(io::Waiter* waiter) override;
  void arm_write(io::Waiter* waiter) override;
  void shutdown_write() override;
  void abort() override;
  base::SocketAddr local_addr() const override { return local_; }
  base::SocketAddr peer_addr() const override { return peer_; }

 private:
  std::shared_ptr<SimConnection> connection_;
  SimChannel& in_;
  SimChannel& out_;
  SimHost& host_;
  size_t fragment_bytes_;
  base::SocketAddr local_, peer_;
  bool aborted_ = false;
};

class SimListener final : public io::Listener {
 public:
  SimListener(SimNetwork& network, SimHost& host, base::SocketAddr local, io::ListenOptions options);
  ~SimListener() override;
  base::Result<std::optional<io::Accepted>> try_accept() override;
  void arm_accept(io::Waiter* waiter) override;
  base::SocketAddr local_addr() const override { return local_; }
  bool transparent() const override { return options_.transparent; }

  bool full() const { return waiting_.size() >= static_cast<size_t>(options_.backlog); }
  void put(io::Accepted accepted);
  bool shares_port() const { return options_.reuse_port; }
  bool takes(const base::SocketAddr& address) const;
  // How well it fits: an exact address before a wildcard.
  bool exact() const { return !local_.ip.is_unspecified(); }
  std::pair<std::string, std::string> unix_key;  // node, path; empty for TCP

 private:
  SimNetwork& network_;
  SimHost& host_;
  base::SocketAddr local_;
  io::ListenOptions options_;
  std::deque<io::Accepted> waiting_;
  SimWake acceptable_;
  async::CallTimer rest_;
};

// Two ends of a SOCK_SEQPACKET connection share this.
struct SimPacketPair {
  explicit SimPacketPair(async::Loop& loop)
      : receivable{SimWake(loop), SimWake(loop)}, sendable{SimWake(loop), SimWake(loop)} {}
  static constexpr size_t kPacketsMax = 16;       // waiting, per direction
  std::array<std::deque<io::Packet>, 2> waiting;  // by receiver
  std::array<bool, 2> gone{};
  std::array<SimWake, 2> receivable;
  std::array<SimWake, 2> sendable;
};

class SimPacketSocket final : public io::PacketSocket {
 public:
  SimPacketSocket(std::shared_ptr<SimPacketPair> pair, size_t me) : pair_(std::move(pair)), me_(me) {}
  ~SimPacketSocket() override;
  base::Result<std::optional<io::Packet>> try_receive(size_t bytes_max) override;
  base::Result<bool> try_send(std::string_view bytes, int fd) override;
  void arm_receive(io::Waiter* waiter) override;
  void arm_send(io::Waiter* waiter) override;
  base::Result<uint32_t> peer_uid() const override { return uint32_t{0}; }

 private:
  std::shared_ptr<SimPacketPair> pair_;
  size_t me_;
};

class SimPacketListener final : public io::PacketListener {
 public:
  SimPacketListener(SimNetwork& network, std::pair<std::string, std::string> key);
  ~SimPacketListener() override;
  base::Result<std::unique_ptr<io::PacketSocket>> try_accept() override;
  void arm_accept(io::Waiter* waiter) override { acceptable_.arm(waiter, !waiting_.empty()); }
  void put(std::unique_ptr<io::PacketSocket> socket);

 private:
  SimNetwork& network_;
  std::pair<std::string, std::string> key_;
  std::deque<std::unique_ptr<io::PacketSocket>> waiting_;
  SimWake acceptable_;
};

}  // namespace culvert::test
