// SPDX-License-Identifier: Apache-2.0
#include "cni/zds_server.h"

#include <fmt/format.h>

#include <deque>

#include "net/async/wait.h"

namespace culvert::cni {
namespace {

constexpr std::string_view kTarget = "zds";

}  // namespace

// One message and who waits for its outcome. Shared: the waiter may give up first.
struct ZdsServer::Request {
  Request(async::Loop& loop, std::string message, NetnsRef ns)
      : bytes(std::move(message)), netns(std::move(ns)), done(loop) {}
  std::string bytes;
  NetnsRef netns;  // keeps the descriptor open until it was sent
  async::OneShot<base::Result<>> done;
};

class ZdsServer::Connection final : private io::Waiter {
 public:
  Connection(ZdsServer& owner, std::unique_ptr<io::PacketSocket> peer, uint64_t number)
      : server(owner), id(number), socket_(std::move(peer)), wake_(owner.loop_) {
    server.connections_.push_back(this);
  }
  // However the task ends, waiters are released and the connection leaves the list.
  ~Connection() {
    socket_->arm_receive(nullptr);
    server.drop(*this);
    for (auto& request : queue_)
      request->done.set(base::fail(base::Code::kClosed, "the ztunnel connection was closed"));
    if (current_) current_->done.set(base::fail(base::Code::kClosed, "the ztunnel connection was closed"));
  }

  bool push(std::shared_ptr<Request> request) {
    if (queue_.size() >= kQueueMax) return false;
    queue_.push_back(std::move(request));
    wake_.set();
    return true;
  }

  async::Task<base::Result<>> hello() {
    auto peer = socket_->peer_uid();
    if (!peer) co_return base::fail(std::move(peer.error()).wrap("ask who connected"));
    if (*peer != server.allowed_uid_) {
      co_return base::fail(base::Code::kDenied,
                           fmt::format("user {} may not be a ztunnel of this node", *peer));
    }
    auto packet = co_await async::with_deadline(server.loop_, limit(), "wait for the hello",
                                                io::receive(*socket_, kZdsMessageBytesMax));
    if (!packet) co_return base::fail(packet.error());
    if (packet->bytes.empty()) co_return base::fail(base::Code::kClosed, "closed before its hello");
    if (packet->truncated || !packet->fds.empty())
      co_return base::fail(base::Code::kProtocol, "the hello is too long or carries descriptors");
    co_return check_zds_hello(packet->bytes);
  }

  async::Task<base::Result<>> send_snapshot() {
    auto pods = server.snapshot_();
    if (!pods)
      co_return base::fail(base::Code::kUnavailable, "the pods of this node are not completely known yet");
    for (const ZdsPod& pod : *pods) {
      auto bytes = pod.netns ? encode_zds_add(pod) : encode_zds_keep(pod.uid);
      if (!bytes) {
        server.log_.error(
            kTarget, "pod left out of the snapshot",
            {base::Field::text("uid", pod.uid), base::Field::text("error", bytes.error().message())});
        continue;
      }
      auto refusal = co_await exchange(std::move(*bytes), pod.netns);
      if (!refusal) co_return base::fail(refusal.error());
      if (!refusal->empty()) {
        server.log_.warn(kTarget, "ztunnel did not take a pod of the snapshot",
                         {base::Field::text("uid", pod.uid), base::Field::text("error", *refusal)});
      }
    }
    auto refusal = co_await exchange(encode_zds_snapshot_sent(), nullptr);
    if (!refusal) co_return base::fail(refusal.error());
    server.log_.info(kTarget, "snapshot delivered",
                     {base::Field::number("connection", id), base::Field::number("pods", pods->size())});
    co_return base::Result<>{};
  }

  // Serves updates until the peer goes or breaks the protocol.
  async::Task<base::Result<>> serve() {
    while (true) {
      if (!queue_.empty()) {
        current_ = std::move(queue_.front());
        queue_.pop_front();
        auto refusal = co_await exchange(current_->bytes, current_->netns);
        auto request = std::exchange(current_, nullptr);
        if (!refusal) {
          request->done.set(base::fail(refusal.error()));
          co_return base::fail(refusal.error());
        }
        request->done.set(refusal->empty() ? base::Result<>{}
                                           : base::fail(base::Code::kRefused, "ztunnel: " + *refusal));
        continue;
      }
      // Nothing to say: notice at once when the peer goes.
      auto packet = socket_->try_receive(kZdsMessageBytesMax);
      if (!packet) co_return base::fail(packet.error());
      if (*packet) {
        if ((*packet)->bytes.empty()) co_return base::Result<>{};
        co_return base::fail(base::Code::kProtocol, "ztunnel spoke without being asked");
      }
      wake_.reset();
      socket_->arm_receive(this);
      co_await wake_.wait();
      socket_->arm_receive(nullptr);
    }
  }

  ZdsServer& server;
  const uint64_t id;

 private:
  async::Deadline limit() const { return async::Deadline::in(server.loop_, kIoLimit); }
  void on_ready() override { wake_.set(); }

  // Sends one message and awaits its ack: the proxy's refusal ("" = accepted) or why it failed.
  async::Task<base::Result<std::string>> exchange(std::string bytes, NetnsRef netns) {
    auto sent = co_await async::with_deadline(server.loop_, limit(), "send to ztunnel",
                                              io::send(*socket_, std::move(bytes), netns ? netns->fd() : -1));
    if (!sent) co_return base::fail(sent.error());
    auto packet = co_await async::with_deadline(server.loop_, limit(), "wait for ztunnel's ack",
                                                io::receive(*socket_, kZdsMessageBytesMax));
    if (!packet) co_return base::fail(packet.error());
    if (packet->bytes.empty()) co_return base::fail(base::Code::kClosed, "ztunnel closed the connection");
    if (packet->truncated || !packet->fds.empty())
      co_return base::fail(base::Code::kProtocol, "an ack is too long or carries descriptors");
    co_return parse_zds_ack(packet->bytes);
  }

  std::unique_ptr<io::PacketSocket> socket_;
  async::Event wake_;
  std::deque<std::shared_ptr<Request>> queue_;
  std::shared_ptr<Request> current_;
};

ZdsServer::ZdsServer(async::Loop& loop, base::Log& log, Snapshot snapshot, uint32_t allowed_uid)
    : loop_(loop), log_(log), snapshot_(std::move(snapshot)), allowed_uid_(allowed_uid), scope_(loop) {}

ZdsServer::~ZdsServer() { changed_ = nullptr; }

void ZdsServer::start(io::PacketListener& listener) { scope_.spawn(accept_loop(*this, listener)); }

void ZdsServer::drop(Connection& connection) {
  connections_.remove(&connection);
  if (changed_) changed_();
}

async::Task<void> ZdsServer::accept_loop(ZdsServer& server, io::PacketListener& listener) {
  while (true) {
    auto socket = co_await io::accept(listener);
    if (socket && *socket) {
      server.scope_.spawn(run_connection(server, std::move(*socket)));
    } else if (!socket) {
      server.log_.warn(kTarget, "accepting a ztunnel failed",
                       {base::Field::text("error", socket.error().message())});
    }
    // At most five connections a second: a proxy that fails at once must not spin us.
    co_await async::sleep_for(server.loop_, kAcceptPause);
  }
}

async::Task<void> ZdsServer::run_connection(ZdsServer& server, std::unique_ptr<io::PacketSocket> socket) {
  Connection connection(server, std::move(socket), server.next_id_++);
  server.log_.info(kTarget, "ztunnel connected", {base::Field::number("connection", connection.id)});
  if (server.changed_) server.changed_();
  auto outcome = co_await connection.hello();
  if (outcome) outcome = co_await connection.send_snapshot();
  if (outcome) {
    if (server.changed_) server.changed_();
    outcome = co_await connection.serve();
  }
  const std::string why = outcome ? "closed by ztunnel" : outcome.error().message();
  server.log_.info(kTarget, "ztunnel connection ended",
                   {base::Field::number("connection", connection.id), base::Field::text("reason", why)});
}

async::Task<base::Result<>> ZdsServer::add(ZdsPod pod) {
  if (connections_.empty()) co_return base::fail(base::Code::kUnavailable, "no ztunnel connection");
  auto bytes = encode_zds_add(pod);
  if (!bytes) co_return base::fail(bytes.error());
  auto request = std::make_shared<Request>(loop_, std::move(*bytes), pod.netns);
  if (!connections_.back()->push(request)) {
    co_return base::fail(base::Code::kUnavailable, "the ztunnel connection has too many updates waiting");
  }
  co_await request->done.event().wait();
  co_return request->done.take();
}

async::Task<base::Result<>> ZdsServer::remove(std::string uid) {
  auto bytes = encode_zds_delete(uid);
  if (!bytes) co_return base::fail(bytes.error());
  std::vector<std::shared_ptr<Request>> requests;
  base::Result<> outcome;
  for (Connection* connection : connections_) {
    auto request = std::make_shared<Request>(loop_, *bytes, nullptr);
    if (connection->push(request)) {
      requests.push_back(std::move(request));
    } else {
      outcome = base::fail(base::Code::kUnavailable, "a ztunnel connection has too many updates waiting");
    }
  }
  for (auto& request : requests) {
    co_await request->done.event().wait();
    auto result = request->done.take();
    // A connection that went away has forgotten the pod; the next snapshot does not name it.
    if (!result && result.error().code() != base::Code::kRefused &&
        result.error().code() != base::Code::kClosed)
      outcome = std::move(result);
  }
  co_return outcome;
}

}  // namespace culvert::cni
