// SPDX-License-Identifier: Apache-2.0
#include "test/support/sim_socket.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

namespace culvert::test {

using base::Code;
using base::fail;
using base::Result;
using io::IoResult;

SimChannel::SimChannel(SimNetwork& network, SimConnection& connection, SimHost& from, SimHost& to,
                       SimFlow flow)
    : readable(network.loop_),
      writable(network.loop_),
      network_(network),
      connection_(connection),
      from_(from),
      to_(to),
      flow_(std::move(flow)) {}

size_t SimChannel::room() const {
  size_t used = under_way_bytes_ + received.size();
  size_t limit = network_.options_.buffer_bytes;
  return limit - std::min(limit, used);
}

void SimChannel::send(Kind kind, std::string bytes) {
  base::TimePoint due =
      network_.loop_.now() + (&from_ == &to_ ? base::Duration(0) : network_.options_.latency);
  due = std::max(due, last_due_ + network_.options_.segment_gap);
  last_due_ = due;
  under_way_bytes_ += bytes.size();
  under_way_.push_back({due, kind, std::move(bytes)});
  if (under_way_.size() == 1) network_.loop_.arm(*this, due);
}

void SimChannel::resume() {
  if (!under_way_.empty() && !armed()) network_.loop_.arm(*this, under_way_.front().due);
}

void SimChannel::fire() {
  if (from_.silent_ || to_.silent_) return;
  if (&from_ != &to_ && !(from_.attached_ && to_.attached_)) {
    // The namesake of a pod that went away knows no such connection; a free address answers nothing.
    SimHost* namesake = network_.find_host(flow_.to.ip);
    if (from_.attached_ && namesake) connection_.other(*this).deliver({{}, Kind::kReset, {}});
    return;
  }
  while (!under_way_.empty() && under_way_.front().due <= network_.loop_.now()) {
    Segment segment = std::move(under_way_.front());
    under_way_.pop_front();
    under_way_bytes_ -= segment.bytes.size();
    deliver(std::move(segment));
  }
  if (!under_way_.empty()) network_.loop_.arm(*this, under_way_.front().due);
}

void SimChannel::deliver(Segment segment) {
  if (reset_received) return;
  switch (segment.kind) {
    case Kind::kData:
      network_.delivered(flow_, base::as_bytes(segment.bytes));
      if (reader_gone) {
        connection_.other(*this).send(Kind::kReset);
        writable.tell();
        return;
      }
      received.append(segment.bytes);
      break;
    case Kind::kFin: fin_received = true; break;
    case Kind::kReset:
      reset_received = true;
      // Whoever reads here writes on the other channel.
      connection_.other(*this).writable.tell();
      break;
  }
  readable.tell();
}

SimStream::SimStream(std::shared_ptr<SimConnection> connection, bool dialer, SimHost& host,
                     size_t fragment_bytes, base::SocketAddr local, base::SocketAddr peer)
    : connection_(std::move(connection)),
      in_(connection_->channels[dialer ? 1 : 0]),
      out_(connection_->channels[dialer ? 0 : 1]),
      host_(host),
      fragment_bytes_(fragment_bytes),
      local_(local),
      peer_(peer) {
  host_.open_streams_++;
}

SimStream::~SimStream() {
  host_.open_streams_--;
  in_.readable.arm(nullptr, false);
  out_.writable.arm(nullptr, false);
  if (aborted_) return;
  // As close(2): unread input resets the peer, otherwise it sees an end.
  bool unread = !in_.received.empty();
  in_.reader_gone = true;
  in_.received.clear();
  if (unread) {
    out_.send(SimChannel::Kind::kReset);
  } else if (!out_.fin_sent) {
    out_.send(SimChannel::Kind::kFin);
  }
}

IoResult SimStream::try_read(base::ByteSpan into) {
  if (aborted_) return IoResult::failed({Code::kClosed, "read after abort"});
  if (!in_.received.empty()) {
    size_t got = in_.received.read(into.first(std::min(into.size(), fragment_bytes_)));
    in_.writable.tell();
    return IoResult::bytes(got);
  }
  if (in_.reset_received) {
    return IoResult::failed(
        {Code::kReset, "read from " + peer_.to_string() + ": the peer reset the connection"});
  }
  return in_.fin_received ? IoResult::eof() : IoResult::would_block();
}

IoResult SimStream::try_write(std::span<const iovec> from) {
  if (aborted_ || out_.fin_sent) return IoResult::failed({Code::kClosed, "write after shutdown"});
  if (in_.reset_received) {
    return IoResult::failed(
        {Code::kReset, "write to " + peer_.to_string() + ": the peer reset the connection"});
  }
  size_t room = std::min(out_.room(), fragment_bytes_);
  if (room == 0) return IoResult::would_block();
  std::string segment;
  for (const iovec& part : from) {
    segment.append(static_cast<const char*>(part.iov_base), std::min(room - segment.size(), part.iov_len));
    if (segment.size() == room) break;
  }
  size_t put = segment.size();
  out_.send(SimChannel::Kind::kData, std::move(segment));
  return IoResult::bytes(put);
}

void SimStream::arm_read(io::Waiter* waiter) {
  in_.readable.arm(waiter, aborted_ || !in_.received.empty() || in_.told_writer_gone());
}

void SimStream::arm_write(io::Waiter* waiter) {
  out_.writable.arm(waiter, aborted_ || out_.fin_sent || in_.reset_received || out_.room() > 0);
}

void SimStream::shutdown_write() {
  if (aborted_ || out_.fin_sent) return;
  out_.fin_sent = true;
  out_.send(SimChannel::Kind::kFin);
}

void SimStream::abort() {
  if (aborted_) return;
  aborted_ = true;
  in_.reader_gone = true;
  in_.received.clear();
  out_.send(SimChannel::Kind::kReset);
  in_.readable.tell();
  out_.writable.tell();
}

SimListener::SimListener(SimNetwork& network, SimHost& host, base::SocketAddr local,
                         io::ListenOptions options)
    : network_(network),
      host_(host),
      local_(local),
      options_(std::move(options)),
      acceptable_(network.loop_),
      rest_([this] { acceptable_.tell(); }) {}

SimListener::~SimListener() {
  std::erase(host_.listeners_, this);
  if (!unix_key.second.empty()) network_.unix_listeners_.erase(unix_key);
  // tcp_migrate_req: what waits moves to another listener of the port; without it the kernel resets it.
  auto heir = std::find_if(host_.listeners_.begin(), host_.listeners_.end(), [&](SimListener* one) {
    return options_.migrate_requests && one->local_ == local_ && one->shares_port();
  });
  for (io::Accepted& accepted : waiting_) {
    if (heir != host_.listeners_.end()) {
      (*heir)->put(std::move(accepted));
    } else {
      accepted.stream->abort();
    }
  }
}

bool SimListener::takes(const base::SocketAddr& address) const {
  if (address.port != local_.port) return false;
  if (!local_.ip.is_unspecified()) return local_.ip == address.ip;
  return local_.ip.is_v6() || address.ip.is_v4();  // [::] is dual-stack
}

void SimListener::put(io::Accepted accepted) {
  waiting_.push_back(std::move(accepted));
  if (!rest_.armed()) acceptable_.tell();
}

Result<std::optional<io::Accepted>> SimListener::try_accept() {
  if (waiting_.empty() || rest_.armed()) return std::optional<io::Accepted>();
  if (host_.failing_accepts > 0) {
    host_.failing_accepts--;
    network_.loop_.arm(rest_, network_.loop_.now() + std::chrono::milliseconds(100));
    return fail(base::Error::from_errno(EMFILE, "accept on " + local_.to_string()));
  }
  io::Accepted accepted = std::move(waiting_.front());
  waiting_.pop_front();
  return std::optional<io::Accepted>(std::move(accepted));
}

void SimListener::arm_accept(io::Waiter* waiter) {
  acceptable_.arm(waiter, !waiting_.empty() && !rest_.armed());
}

SimPacketSocket::~SimPacketSocket() {
  pair_->gone[me_] = true;
  pair_->receivable[me_].arm(nullptr, false);
  pair_->sendable[me_].arm(nullptr, false);
  pair_->receivable[1 - me_].tell();
  pair_->sendable[1 - me_].tell();
}

Result<std::optional<io::Packet>> SimPacketSocket::try_receive(size_t bytes_max) {
  std::deque<io::Packet>& waiting = pair_->waiting[me_];
  if (waiting.empty()) {
    if (pair_->gone[1 - me_]) return std::optional<io::Packet>(io::Packet{});
    return std::optional<io::Packet>();
  }
  io::Packet packet = std::move(waiting.front());
  waiting.pop_front();
  if (packet.bytes.size() > bytes_max) {
    packet.bytes.resize(bytes_max);
    packet.truncated = true;
  }
  pair_->sendable[1 - me_].tell();
  return std::optional<io::Packet>(std::move(packet));
}

Result<bool> SimPacketSocket::try_send(std::string_view bytes, int fd) {
  if (pair_->gone[1 - me_]) return fail(Code::kReset, "send packet: the peer is gone");
  std::deque<io::Packet>& waiting = pair_->waiting[1 - me_];
  if (waiting.size() >= SimPacketPair::kPacketsMax) return false;
  io::Packet packet;
  packet.bytes = bytes;
  if (fd >= 0) packet.fds.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  waiting.push_back(std::move(packet));
  pair_->receivable[1 - me_].tell();
  return true;
}

void SimPacketSocket::arm_receive(io::Waiter* waiter) {
  pair_->receivable[me_].arm(waiter, !pair_->waiting[me_].empty() || pair_->gone[1 - me_]);
}

void SimPacketSocket::arm_send(io::Waiter* waiter) {
  bool ready = pair_->gone[1 - me_] || pair_->waiting[1 - me_].size() < SimPacketPair::kPacketsMax;
  pair_->sendable[me_].arm(waiter, ready);
}

SimPacketListener::SimPacketListener(SimNetwork& network, std::pair<std::string, std::string> key)
    : network_(network), key_(std::move(key)), acceptable_(network.loop_) {
  network_.packet_listeners_[key_] = this;
}

SimPacketListener::~SimPacketListener() {
  auto mine = network_.packet_listeners_.find(key_);
  if (mine != network_.packet_listeners_.end() && mine->second == this)
    network_.packet_listeners_.erase(mine);
}

Result<std::unique_ptr<io::PacketSocket>> SimPacketListener::try_accept() {
  if (waiting_.empty()) return std::unique_ptr<io::PacketSocket>();
  std::unique_ptr<io::PacketSocket> socket = std::move(waiting_.front());
  waiting_.pop_front();
  return socket;
}

void SimPacketListener::put(std::unique_ptr<io::PacketSocket> socket) {
  waiting_.push_back(std::move(socket));
  acceptable_.tell();
}

}  // namespace culvert::test
