// SPDX-License-Identifier: Apache-2.0
// The tunnel pool on a virtual clock, with tunnels that do what the test says (spec ztunnel 3.5, P1 to P7).
#include "mesh/hbone/tunnel_pool.h"

#include <catch2/catch.hpp>

#include "test/support/sim_loop.h"

using namespace culvert;
using namespace culvert::hbone;

namespace {

struct FakeTunnel;
struct FakeStream final : io::ByteStream {
  io::IoResult try_read(base::ByteSpan) override { return io::IoResult::eof(); }
  io::IoResult try_write(std::span<const iovec>) override { return io::IoResult::would_block(); }
  void arm_read(io::Waiter*) override {}
  void arm_write(io::Waiter*) override {}
  void shutdown_write() override {}
  void abort() override {}
  base::SocketAddr local_addr() const override { return {}; }
  base::SocketAddr peer_addr() const override { return {}; }
};

struct World;
struct FakeTunnel final : Tunnel {
  FakeTunnel(World& world_, async::Loop& loop);
  ~FakeTunnel() override;
  async::Task<base::Result<ConnectReply>> connect(HeaderList headers, async::Deadline deadline) override;
  bool usable() const override { return usable_ && !closed_.is_set(); }
  size_t peer_streams_max() const override { return peer_max; }
  void drain() override {
    usable_ = false;
    drained = true;
  }
  void abort() override {
    usable_ = false;
    closed_.set();
  }
  async::Event& closed() override { return closed_; }
  const model::Identity& peer_identity() const override { return peer; }

  World& world;
  async::Event closed_;
  model::Identity peer;
  bool usable_ = true;
  bool drained = false;
  size_t peer_max = 1000;
  std::optional<base::Error> refuse;
};

struct World final : TunnelDialer {
  async::Task<std::expected<std::unique_ptr<Tunnel>, OpenError>> dial(TunnelKey) override {
    ++dials;
    ++dialing;
    most_dialing = std::max(most_dialing, dialing);
    co_await async::sleep_for(loop, dial_time);
    --dialing;
    if (fail_dials > 0) {
      --fail_dials;
      co_return std::unexpected(OpenError{base::Error(base::Code::kRefused, "refused"), Stage::kConnect});
    }
    auto tunnel = std::make_unique<FakeTunnel>(*this, loop);
    tunnel->peer_max = peer_max;
    tunnel->refuse = refuse_all;
    tunnels.push_back(tunnel.get());
    co_return tunnel;
  }
  test::SimLoop loop;
  base::Duration dial_time = std::chrono::milliseconds(5);
  int dials = 0, dialing = 0, most_dialing = 0, fail_dials = 0, alive = 0;
  size_t peer_max = 1000;
  std::optional<base::Error> refuse_all;
  std::vector<FakeTunnel*> tunnels;
};

FakeTunnel::FakeTunnel(World& world_, async::Loop& loop) : world(world_), closed_(loop) { ++world.alive; }
FakeTunnel::~FakeTunnel() { --world.alive; }
async::Task<base::Result<ConnectReply>> FakeTunnel::connect(HeaderList, async::Deadline) {
  co_await async::sleep_for(world.loop, std::chrono::milliseconds(1));
  if (refuse) co_return base::fail(*refuse);
  ConnectReply reply;
  reply.status = 200;
  reply.stream = std::make_unique<FakeStream>();
  co_return reply;
}

TunnelKey key(int number = 1) {
  TunnelKey key;
  key.source = *model::Identity::parse("spiffe://td/ns/a/sa/b");
  key.hop = {base::IpAddr::v4(10, 0, 0, static_cast<uint8_t>(number)), 15008};
  return key;
}

using Opened = std::expected<TunnelStream, OpenError>;
// Clients that hold their streams until they are told to let go.
struct Clients {
  explicit Clients(World& world_, TunnelPool& pool_) : world(world_), pool(pool_), scope(world_.loop) {}
  static async::Task<void> one(Clients& self, TunnelKey key, base::Duration patience) {
    async::Deadline deadline = async::Deadline::in(self.world.loop, patience);
    Opened opened = co_await self.pool.open(std::move(key), {}, deadline);
    if (opened)
      self.streams.push_back(std::make_unique<TunnelStream>(std::move(*opened)));
    else
      self.errors.push_back(opened.error());
  }
  void open(TunnelKey which, int count, base::Duration patience = std::chrono::seconds(30)) {
    for (int i = 0; i < count; ++i) scope.spawn(one(*this, which, patience));
  }
  void settle() { world.loop.run_for(std::chrono::seconds(1)); }
  World& world;
  TunnelPool& pool;
  std::vector<std::unique_ptr<TunnelStream>> streams;
  std::vector<OpenError> errors;
  async::Scope scope;
};

}  // namespace

TEST_CASE("two concurrent clients share one tunnel, later ones reuse it, the pool's end closes it", "[P1]") {
  World world;
  auto pool = std::make_unique<TunnelPool>(world.loop, world, TunnelPoolOptions{});
  {
    Clients clients(world, *pool);
    clients.open(key(), 2);
    clients.settle();
    CHECK(clients.streams.size() == 2);
    CHECK(world.dials == 1);
    clients.streams.clear();
    clients.open(key(), 1);
    clients.settle();
    CHECK(world.dials == 1);
    CHECK(pool->stats().streams == 3);
  }
  pool.reset();
  world.loop.run_ready();
  CHECK(world.alive == 0);
}

TEST_CASE("a stream may outlive its pool", "[P8]") {
  World world;
  auto pool = std::make_unique<TunnelPool>(world.loop, world, TunnelPoolOptions{});
  std::vector<std::unique_ptr<TunnelStream>> kept;
  {
    Clients clients(world, *pool);
    clients.open(key(), 1);
    clients.settle();
    kept = std::move(clients.streams);
  }
  pool.reset();
  kept.clear();
  CHECK(world.alive == 0);
}

TEST_CASE("distinct keys have distinct tunnels, in every part of the key", "[P2]") {
  World world;
  TunnelPool pool(world.loop, world, {});
  Clients clients(world, pool);
  std::vector<TunnelKey> keys(6, key());
  keys[1].source.service_account = "other";
  keys[2].allowed.push_back(keys[0].source);
  keys[3].hop.port = 1;
  keys[4].source_ip = base::IpAddr::v4(1, 1, 1, 1);
  keys[5].destination_uid = "another pod under the same address";
  for (const auto& k : keys) clients.open(k, 1);
  clients.settle();
  CHECK(world.dials == 6);
}

TEST_CASE("streams per tunnel are bounded, and full tunnels come back", "[P3]") {
  World world;
  TunnelPool pool(world.loop, world, {.streams_max = 2});
  Clients clients(world, pool);
  clients.open(key(), 4);
  clients.settle();
  CHECK(world.dials == 2);
  clients.open(key(), 5);
  clients.settle();
  CHECK(world.dials == 5);
  clients.streams.clear();
  clients.open(key(), 10);
  clients.settle();
  CHECK(world.dials == 5);
  CHECK(clients.streams.size() == 10);
}

TEST_CASE("after GOAWAY the next call dials anew, streams go on", "[P4]") {
  World world;
  TunnelPool pool(world.loop, world, {});
  Clients clients(world, pool);
  clients.open(key(), 1);
  clients.settle();
  world.tunnels[0]->usable_ = false;
  clients.open(key(), 1);
  clients.settle();
  CHECK(world.dials == 2);
  CHECK(clients.streams.size() == 2);
}

TEST_CASE("one stream per tunnel works", "[P5]") {
  World world;
  TunnelPool pool(world.loop, world, {.streams_max = 1});
  Clients clients(world, pool);
  clients.open(key(), 3);
  clients.settle();
  CHECK(world.dials == 3);
  CHECK(clients.streams.size() == 3);
  clients.streams.clear();
  clients.open(key(), 3);
  clients.settle();
  CHECK(world.dials == 3);
}

TEST_CASE("many streams, many keys, many clients", "[P6]") {
  World world;
  TunnelPool pool(world.loop, world, {});
  Clients clients(world, pool);
  clients.open(key(), 100);
  clients.settle();
  CHECK(world.dials == 1);
  for (int i = 2; i < 102; ++i) clients.open(key(i), 1);
  clients.settle();
  CHECK(world.dials == 101);
  for (int i = 0; i < 300; ++i) clients.open(key(200 + i % 3), 1);
  clients.settle();
  CHECK(world.dials == 104);
  CHECK(clients.streams.size() == 500);
}

TEST_CASE("idle tunnels go at their time, busy ones stay", "[P7]") {
  World world;
  TunnelPool pool(world.loop, world, {.idle_release = std::chrono::seconds(10)});
  Clients clients(world, pool);
  clients.open(key(1), 1);
  clients.open(key(2), 1);
  clients.settle();
  clients.streams.erase(clients.streams.begin());
  world.loop.run_for(std::chrono::seconds(9));
  CHECK(pool.stats().tunnels == 2);
  world.loop.run_for(std::chrono::seconds(2));
  CHECK(pool.stats().tunnels == 1);
  CHECK(pool.stats().idle_releases == 1);
  CHECK(world.tunnels[0]->drained);
  CHECK_FALSE(world.tunnels[1]->drained);
  world.loop.run_for(std::chrono::hours(1));
  CHECK(pool.stats().tunnels == 1);
}

TEST_CASE("a failed dial reaches every waiter, and the next caller dials anew") {
  World world;
  world.fail_dials = 1;
  TunnelPool pool(world.loop, world, {});
  Clients clients(world, pool);
  clients.open(key(), 50);
  clients.settle();
  CHECK(world.dials == 1);
  CHECK(clients.errors.size() == 50);
  CHECK(clients.errors[0].stage == Stage::kConnect);
  clients.open(key(), 1);
  clients.settle();
  CHECK(world.dials == 2);
  CHECK(clients.streams.size() == 1);
}

TEST_CASE("a black hole costs one deadline, not one per waiter; dials are bounded") {
  World world;
  world.dial_time = std::chrono::seconds(10);
  world.fail_dials = 1000;
  TunnelPool pool(world.loop, world, {.streams_max = 10, .parallel_dials_max = 4});
  Clients clients(world, pool);
  clients.open(key(), 100);
  world.loop.run_for(std::chrono::seconds(11));
  CHECK(clients.errors.size() == 40);
  CHECK(world.most_dialing == 4);
  world.loop.run_for(std::chrono::seconds(30));
  CHECK(clients.errors.size() == 100);
}

TEST_CASE("the peer's own limit counts") {
  World world;
  world.peer_max = 3;
  TunnelPool pool(world.loop, world, {});
  Clients clients(world, pool);
  clients.open(key(), 9);
  clients.settle();
  CHECK(clients.streams.size() == 9);
  CHECK(world.dials == 3);
  world.peer_max = 0;
  clients.open(key(2), 1);
  world.loop.run_for(std::chrono::seconds(40));
  REQUIRE(clients.errors.size() == 1);
}

TEST_CASE("a pooled tunnel that died is replaced; a peer that refuses all is not dialled forever") {
  World world;
  TunnelPool pool(world.loop, world, {});
  Clients clients(world, pool);
  clients.open(key(), 1);
  clients.settle();
  clients.streams.clear();
  world.tunnels[0]->refuse = base::Error(base::Code::kClosed, "connection gone");
  clients.open(key(), 1);
  clients.settle();
  CHECK(clients.streams.size() == 1);
  world.refuse_all = base::Error(base::Code::kRefused, "REFUSED_STREAM");
  int before = world.dials;
  clients.open(key(7), 1);
  clients.settle();
  CHECK(clients.errors.size() == 1);
  CHECK(world.dials - before <= 4);
}

TEST_CASE("waiters that go away leave no trace") {
  World world;
  TunnelPool pool(world.loop, world, {.idle_release = std::chrono::seconds(10)});
  {
    Clients clients(world, pool);
    clients.open(key(), 5);
  }
  world.loop.run_for(std::chrono::seconds(5));
  CHECK(pool.stats().tunnels == 1);
  world.loop.run_for(std::chrono::seconds(10));
  CHECK(pool.stats().tunnels == 0);
}

TEST_CASE("evicted tunnels take no new streams; a peer's close frees the tunnel") {
  World world;
  TunnelPool pool(world.loop, world, {});
  Clients clients(world, pool);
  clients.open(key(), 1);
  clients.settle();
  pool.evict([](const TunnelKey& k) { return k == key(); });
  CHECK(pool.stats().tunnels == 0);
  clients.open(key(), 1);
  clients.settle();
  CHECK(world.dials == 2);
  CHECK(world.alive == 2);
  clients.streams.clear();
  world.tunnels[0]->closed_.set();
  world.tunnels[1]->closed_.set();
  clients.settle();
  CHECK(world.alive == 0);
}

TEST_CASE("idle tunnels are bounded, the longest idle goes first") {
  World world;
  TunnelPool pool(world.loop, world, {.idle_tunnels_max = 2});
  Clients clients(world, pool);
  for (int i = 1; i <= 3; ++i) clients.open(key(i), 1);
  clients.settle();
  clients.streams.clear();
  clients.settle();
  CHECK(pool.stats().tunnels == 2);
}
