// SPDX-License-Identifier: Apache-2.0
#include "test/support/sim_network.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "net/async/wait.h"
#include "net/base/check.h"
#include "test/support/sim_socket.h"

namespace culvert::test {

using async::Deadline;
using async::Task;
using base::Code;
using base::fail;
using base::IpAddr;
using base::Result;
using base::SocketAddr;

namespace {

// A SYN that got no answer is sent again.
constexpr base::Duration kRetry = std::chrono::seconds(1);

bool has(const std::vector<IpAddr>& ips, const IpAddr& ip) {
  return std::find(ips.begin(), ips.end(), ip) != ips.end();
}

}  // namespace

// The view of one process.
class SimProcess final : public io::Network {
 public:
  SimProcess(SimNetwork& network, SimHost& home) : network_(network), home_(home) {}

  Result<std::unique_ptr<io::Listener>> listen(SocketAddr address, io::ListenOptions options) override;
  Task<Result<std::unique_ptr<io::ByteStream>>> dial(SocketAddr address, io::DialOptions options,
                                                     Deadline deadline) override;
  Result<std::unique_ptr<io::Listener>> listen_unix(std::string path, uint32_t mode) override;
  Task<Result<std::unique_ptr<io::ByteStream>>> dial_unix(std::string path, Deadline deadline) override;
  Result<std::unique_ptr<io::PacketListener>> listen_packet(std::string path, uint32_t mode) override;
  Result<std::unique_ptr<io::PacketSocket>> dial_packet(std::string path) override;
  Task<Result<std::vector<IpAddr>>> resolve(std::string host, Deadline deadline) override;
  bool has_address(IpAddr ip, const io::NetNsRef& netns) override {
    const SimHost& host = netns ? *network_.host_of(*netns) : home_;
    return std::find(host.ips_.begin(), host.ips_.end(), ip) != host.ips_.end();
  }
  Result<io::NetNsRef> adopt_netns(base::UniqueFd fd) override;

 private:
  // Where a connection really goes.
  struct Route {
    SimHost* to = nullptr;  // null: nobody answers
    SocketAddr deliver;
    SocketAddr original;
  };
  SimHost& host_for(const io::SocketOptions& options) const {
    return options.netns ? *network_.host_of(*options.netns) : home_;
  }
  Route route(SimHost& from, const io::DialOptions& options, const SocketAddr& source,
              const SocketAddr& to) const;
  Result<SocketAddr> source_for(SimHost& from, const io::DialOptions& options, const SocketAddr& to) const;
  SimListener* pick(SimHost& host, const SocketAddr& address) const;
  // The dialer's end; the server's end waits at the listener.
  std::unique_ptr<io::ByteStream> connect(SimHost& from, SimHost& to, SimListener& listener,
                                          const Route& route, const SocketAddr& source,
                                          const SocketAddr& asked, uint32_t mark);

  SimNetwork& network_;
  SimHost& home_;
};

Result<std::unique_ptr<io::Listener>> SimProcess::listen(SocketAddr address, io::ListenOptions options) {
  SimHost& host = host_for(options);
  if (address.port == 0) address.port = host.next_port_++;
  for (SimListener* other : host.listeners_) {
    bool overlap = other->local_addr().port == address.port &&
                   (other->local_addr().ip == address.ip || address.ip.is_unspecified() || !other->exact());
    if (overlap && !(options.reuse_port && other->shares_port())) {
      return fail(base::Error::from_errno(EADDRINUSE, "listen on " + address.to_string() + ": bind"));
    }
  }
  auto listener = std::make_unique<SimListener>(network_, host, address, std::move(options));
  host.listeners_.push_back(listener.get());
  return listener;
}

SimProcess::Route SimProcess::route(SimHost& from, const io::DialOptions& options, const SocketAddr& source,
                                    const SocketAddr& to) const {
  bool loopback = to.ip.is_loopback();
  if (from.redirect.outbound != 0 && options.mark == 0 && !loopback) {
    IpAddr local = to.ip.is_v6() ? IpAddr::loopback_v6() : IpAddr::loopback_v4();
    return {&from, {local, from.redirect.outbound}, to};
  }
  SimHost* host = loopback || has(from.ips_, to.ip) ? &from : network_.find_host(to.ip);
  bool captured = host && host != &from && host->redirect.inbound != 0 && to.port != host->redirect.tunnel &&
                  !has(host->redirect.exempt_sources, source.ip);
  if (captured) return {host, {to.ip, host->redirect.inbound}, to};
  return {host, to, to};
}

Result<SocketAddr> SimProcess::source_for(SimHost& from, const io::DialOptions& options,
                                          const SocketAddr& to) const {
  uint16_t port = from.next_port_++;
  if (from.next_port_ == 0) from.next_port_ = 32768;
  if (options.spoof_source) return SocketAddr{*options.spoof_source, port};
  if (to.ip.is_loopback()) return SocketAddr{to.ip, port};
  for (const IpAddr& ip : from.ips_) {
    if (ip.is_v6() == to.ip.is_v6()) return SocketAddr{ip, port};
  }
  return fail(base::Error::from_errno(ENETUNREACH, "dial " + to.to_string() + ": connect"));
}

SimListener* SimProcess::pick(SimHost& host, const SocketAddr& address) const {
  std::vector<SimListener*> exact, wild;
  for (SimListener* one : host.listeners_) {
    if (one->takes(address)) (one->exact() ? exact : wild).push_back(one);
  }
  std::vector<SimListener*>& fitting = exact.empty() ? wild : exact;
  return fitting.empty() ? nullptr : fitting[network_.next_connection_ % fitting.size()];
}

std::unique_ptr<io::ByteStream> SimProcess::connect(SimHost& from, SimHost& to, SimListener& listener,
                                                    const Route& route, const SocketAddr& source,
                                                    const SocketAddr& asked, uint32_t mark) {
  SimFlow there{network_.next_connection_++,
                from.name_,
                to.name_,
                from.node_,
                to.node_,
                source,
                route.original,
                true,
                mark};
  SimFlow back = there;
  std::swap(back.from_host, back.to_host);
  std::swap(back.from_node, back.to_node);
  std::swap(back.from, back.to);
  back.from_dialer = false;
  auto connection = std::make_shared<SimConnection>(network_, from, to, std::move(there), std::move(back));
  network_.connections_.push_back(connection);
  size_t fragment = network_.options_.fragment_bytes;
  io::Accepted accepted;
  accepted.stream = std::make_unique<SimStream>(connection, false, to, fragment, route.deliver, source);
  accepted.peer = source;
  accepted.local = route.deliver;
  accepted.original_destination = route.original;
  listener.put(std::move(accepted));
  return std::make_unique<SimStream>(std::move(connection), true, from, fragment, source, asked);
}

Task<Result<std::unique_ptr<io::ByteStream>>> SimProcess::dial(SocketAddr address, io::DialOptions options,
                                                               Deadline deadline) {
  SimHost& from = host_for(options);
  Result<SocketAddr> source = source_for(from, options, address);
  if (!source) co_return fail(std::move(source).error());
  async::Loop& loop = network_.loop_;
  for (;;) {
    Route target = route(from, options, *source, address);
    base::Duration latency = target.to == &from ? base::Duration(0) : network_.options_.latency;
    co_await async::sleep_until(loop, Deadline::in(loop, latency).earlier(deadline));
    if (deadline.passed(loop.now())) break;
    bool reachable = target.to && (target.to == &from || (from.attached_ && target.to->attached_)) &&
                     !from.silent_ && !target.to->silent_;
    SimListener* listener = reachable ? pick(*target.to, target.deliver) : nullptr;
    if (reachable && !listener) {
      co_await async::sleep_for(loop, latency);
      co_return fail(base::Error::from_errno(ECONNREFUSED, "dial " + address.to_string() + ": connect"));
    }
    if (listener && !listener->full()) {
      std::unique_ptr<io::ByteStream> stream =
          connect(from, *target.to, *listener, target, *source, address, options.mark);
      co_await async::sleep_for(loop, latency);
      co_return stream;
    }
    co_await async::sleep_until(loop, Deadline::in(loop, kRetry).earlier(deadline));
    if (deadline.passed(loop.now())) break;
  }
  co_return fail(Code::kTimeout, "dial " + address.to_string() + ": connect: deadline passed");
}

Result<std::unique_ptr<io::Listener>> SimProcess::listen_unix(std::string path, uint32_t) {
  auto listener = std::make_unique<SimListener>(network_, home_, SocketAddr{}, io::ListenOptions{});
  listener->unix_key = {home_.node_, std::move(path)};
  network_.unix_listeners_[listener->unix_key] = listener.get();
  return listener;
}

Task<Result<std::unique_ptr<io::ByteStream>>> SimProcess::dial_unix(std::string path, Deadline) {
  auto found = network_.unix_listeners_.find({home_.node_, path});
  if (found == network_.unix_listeners_.end() || found->second->full()) {
    co_return fail(base::Error::from_errno(ECONNREFUSED, "connect to " + path));
  }
  Route target{&home_, {}, {}};
  co_return connect(home_, home_, *found->second, target, {}, {}, 0);
}

Result<std::unique_ptr<io::PacketListener>> SimProcess::listen_packet(std::string path, uint32_t) {
  return std::make_unique<SimPacketListener>(network_, std::make_pair(home_.node_, std::move(path)));
}

Result<std::unique_ptr<io::PacketSocket>> SimProcess::dial_packet(std::string path) {
  auto found = network_.packet_listeners_.find({home_.node_, path});
  if (found == network_.packet_listeners_.end()) {
    return fail(base::Error::from_errno(ECONNREFUSED, "connect to " + path));
  }
  auto pair = std::make_shared<SimPacketPair>(network_.loop_);
  found->second->put(std::make_unique<SimPacketSocket>(pair, 1));
  return std::make_unique<SimPacketSocket>(pair, 0);
}

Task<Result<std::vector<IpAddr>>> SimProcess::resolve(std::string host, Deadline deadline) {
  if (Result<IpAddr> literal = IpAddr::parse(host); literal) co_return std::vector<IpAddr>{*literal};
  async::Loop& loop = network_.loop_;
  co_await async::sleep_until(loop, Deadline::in(loop, network_.options_.latency).earlier(deadline));
  while (network_.resolver_silent && !deadline.passed(loop.now())) {
    co_await async::sleep_until(loop, Deadline::in(loop, kRetry).earlier(deadline));
  }
  if (deadline.passed(loop.now())) {
    co_return fail(Code::kTimeout, "resolve " + host + ": the name server did not answer in time");
  }
  auto found = network_.names.find(host);
  if (found == network_.names.end()) co_return fail(Code::kNotFound, "resolve " + host + ": no such name");
  co_return found->second;
}

Result<io::NetNsRef> SimProcess::adopt_netns(base::UniqueFd fd) {
  struct stat info;
  if (fstat(fd.get(), &info) == 0) {
    for (const auto& host : network_.hosts_) {
      if (host->netns_->id() == io::NetNs::Id{info.st_dev, info.st_ino}) return host->netns_;
    }
  }
  return fail(Code::kInvalid, "the descriptor is not a network namespace");
}

base::UniqueFd SimHost::open_netns() const {
  return base::UniqueFd(fcntl(netns_file_.get(), F_DUPFD_CLOEXEC, 0));
}

void SimHost::set_silent(bool silent) {
  silent_ = silent;
  if (silent) return;
  for (const auto& weak : network_->connections_) {
    std::shared_ptr<SimConnection> connection = weak.lock();
    if (!connection || !connection->touches(*this)) continue;
    for (SimChannel& channel : connection->channels) channel.resume();
  }
}

SimNetwork::SimNetwork(async::Loop& loop, SimOptions options) : loop_(loop), options_(options) {}
SimNetwork::~SimNetwork() = default;

SimHost& SimNetwork::add_host(std::string name, std::string node, std::vector<IpAddr> ips) {
  auto host = std::make_unique<SimHost>();
  // A file of memory stands for the namespace: it has an inode of its own and travels as a descriptor.
  host->netns_file_.reset(memfd_create(name.c_str(), MFD_CLOEXEC));
  struct stat info;
  CULVERT_CHECK(fstat(host->netns_file_.get(), &info) == 0);
  host->netns_ = std::make_shared<SimNetNs>(*host, io::NetNs::Id{info.st_dev, info.st_ino});
  host->name_ = std::move(name);
  host->node_ = std::move(node);
  host->ips_ = std::move(ips);
  host->network_ = this;
  hosts_.push_back(std::move(host));
  return *hosts_.back();
}

void SimNetwork::remove_host(SimHost& host) { host.attached_ = false; }

SimHost* SimNetwork::find_host(const IpAddr& ip) const {
  for (const auto& host : hosts_) {
    if (host->attached_ && has(host->ips_, ip)) return host.get();
  }
  return nullptr;
}

SimHost* SimNetwork::host_of(const io::NetNs& netns) const {
  auto* known = dynamic_cast<const SimNetNs*>(&netns);
  CULVERT_CHECK(known != nullptr);
  return &known->host();
}

std::unique_ptr<io::Network> SimNetwork::process(SimHost& home) {
  return std::make_unique<SimProcess>(*this, home);
}

void SimNetwork::reset_connections(SimHost& host) {
  for (const auto& weak : connections_) {
    std::shared_ptr<SimConnection> connection = weak.lock();
    if (!connection || !connection->touches(host)) continue;
    for (SimChannel& channel : connection->channels) channel.send(SimChannel::Kind::kReset);
  }
}

void SimNetwork::note(uint64_t value) { trace_hash_ = (trace_hash_ ^ value) * 0x100000001b3; }

void SimNetwork::delivered(const SimFlow& flow, base::ByteView bytes) {
  bytes_delivered_ += bytes.size();
  note(static_cast<uint64_t>(loop_.now().time_since_epoch().count()));
  note(flow.connection * 2 + (flow.from_dialer ? 1 : 0));
  for (uint8_t byte : bytes) note(byte);
  if (tap_) tap_(flow, bytes);
  if (connections_.size() > 1000) {
    std::erase_if(connections_, [](const std::weak_ptr<SimConnection>& weak) { return weak.expired(); });
  }
}

size_t SimNetwork::open_streams() const {
  size_t all = 0;
  for (const auto& host : hosts_) all += host->open_streams_;
  return all;
}

}  // namespace culvert::test
