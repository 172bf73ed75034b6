// SPDX-License-Identifier: Apache-2.0
// The ZDS server against scripted proxies (Z1-Z9).
#include <fcntl.h>

#include <catch2/catch.hpp>
#include <deque>

#include "cni/zds_server.h"
#include "net/async/wait.h"
#include "proto/zds.pb.h"
#include "test/support/sim_loop.h"

using namespace culvert;
using namespace culvert::cni;
namespace zds = istio::workload::zds;

namespace {

// The two ends of one connection; the server's end is a PacketSocket, the proxy's end this object.
struct Wire {
  std::deque<io::Packet> to_server;
  std::vector<zds::WorkloadRequest> to_proxy;
  std::vector<int> fds;  // -1: none
  bool closed = false;   // the server let go of it
  bool proxy_gone = false;
  uint32_t uid = 0;
  io::Waiter* reader = nullptr;

  void say(std::string bytes) {
    to_server.push_back({std::move(bytes), {}, false});
    wake();
  }
  void hello() {
    zds::ZdsHello hello;
    hello.set_version(zds::V1);
    say(hello.SerializeAsString());
  }
  void ack(const std::string& error = "") {
    zds::WorkloadResponse response;
    response.mutable_ack()->set_error(error);
    say(response.SerializeAsString());
  }
  void leave() {
    proxy_gone = true;
    wake();
  }
  void wake() {
    if (auto* waiter = std::exchange(reader, nullptr)) waiter->on_ready();
  }
};

class FakeSocket final : public io::PacketSocket {
 public:
  explicit FakeSocket(std::shared_ptr<Wire> wire) : wire_(std::move(wire)) {}
  ~FakeSocket() override { wire_->closed = true; }
  base::Result<std::optional<io::Packet>> try_receive(size_t) override {
    if (!wire_->to_server.empty()) {
      io::Packet packet = std::move(wire_->to_server.front());
      wire_->to_server.pop_front();
      return std::optional<io::Packet>(std::move(packet));
    }
    if (wire_->proxy_gone) return std::optional<io::Packet>(io::Packet{});
    return std::optional<io::Packet>();
  }
  base::Result<bool> try_send(std::string_view bytes, int fd) override {
    if (wire_->proxy_gone) return base::fail(base::Code::kReset, "broken pipe");
    zds::WorkloadRequest request;
    REQUIRE(request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    wire_->to_proxy.push_back(request);
    wire_->fds.push_back(fd);
    return true;
  }
  void arm_receive(io::Waiter* waiter) override {
    wire_->reader = waiter;
    if (waiter && (!wire_->to_server.empty() || wire_->proxy_gone)) wire_->wake();
  }
  void arm_send(io::Waiter*) override {}
  base::Result<uint32_t> peer_uid() const override { return wire_->uid; }

 private:
  std::shared_ptr<Wire> wire_;
};

class FakeListener final : public io::PacketListener {
 public:
  base::Result<std::unique_ptr<io::PacketSocket>> try_accept() override {
    if (waiting.empty()) return std::unique_ptr<io::PacketSocket>();
    auto wire = waiting.front();
    waiting.pop_front();
    ++accepted;
    return std::unique_ptr<io::PacketSocket>(std::make_unique<FakeSocket>(wire));
  }
  void arm_accept(io::Waiter* waiter) override { waiter_ = waiter; }
  std::shared_ptr<Wire> connect(uint32_t uid = 0) {
    auto wire = std::make_shared<Wire>();
    wire->uid = uid;
    waiting.push_back(wire);
    if (auto* waiter = std::exchange(waiter_, nullptr)) waiter->on_ready();
    return wire;
  }
  std::deque<std::shared_ptr<Wire>> waiting;
  int accepted = 0;

 private:
  io::Waiter* waiter_ = nullptr;
};

NetnsRef own_netns() { return *Netns::open("/proc/self/ns/net"); }

struct World {
  test::SimLoop loop;
  base::NullLog log;
  std::optional<std::vector<ZdsPod>> pods = std::vector<ZdsPod>{};
  FakeListener listener;
  ZdsServer server{loop, log, [this] { return pods; }};
  async::Scope scope{loop};
  std::vector<base::Result<>> results;

  World() { server.start(listener); }
  void step(int milliseconds = 1) { loop.run_for(std::chrono::milliseconds(milliseconds)); }
  std::shared_ptr<Wire> proxy() {
    auto wire = listener.connect();
    step(250);
    wire->hello();
    step();
    return wire;
  }
  std::shared_ptr<Wire> synced() {
    auto wire = proxy();
    wire->ack();
    step();
    return wire;
  }
  static async::Task<void> do_add(World& world, ZdsPod pod) {
    auto result = co_await world.server.add(std::move(pod));
    world.results.push_back(std::move(result));
  }
  static async::Task<void> do_remove(World& world, std::string uid) {
    auto result = co_await world.server.remove(std::move(uid));
    world.results.push_back(std::move(result));
  }
  void add(const std::string& uid) {
    scope.spawn(do_add(*this, {uid, "name", "ns", "sa", own_netns()}));
    step();
  }
  void remove(const std::string& uid) {
    scope.spawn(do_remove(*this, uid));
    step();
  }
};

}  // namespace

TEST_CASE("snapshot with descriptor and Keep, then SnapshotSent, one ack each", "[Z1][Z2]") {
  World world;
  auto netns = own_netns();
  world.pods =
      std::vector<ZdsPod>{{"u1", "web", "prod", "web-sa", netns}, {"u2", "api", "prod", "api-sa", nullptr}};
  auto proxy = world.proxy();
  REQUIRE(proxy->to_proxy.size() == 1);
  CHECK(proxy->to_proxy[0].add().uid() == "u1");
  CHECK(proxy->to_proxy[0].add().workload_info().namespace_() == "prod");
  CHECK(proxy->fds[0] == netns->fd());
  proxy->ack();
  world.step();
  REQUIRE(proxy->to_proxy.size() == 2);
  CHECK(proxy->to_proxy[1].keep().uid() == "u2");
  CHECK(proxy->fds[1] == -1);
  proxy->ack("cannot");
  world.step();
  REQUIRE(proxy->to_proxy.size() == 3);
  CHECK(proxy->to_proxy[2].has_snapshot_sent());
  proxy->ack();
  world.step(60'000);
  CHECK(world.server.connected() == 1);
  CHECK_FALSE(proxy->closed);
}

TEST_CASE("an incomplete restore list never ends in SnapshotSent", "[D5]") {
  World world;
  world.pods = std::nullopt;
  auto proxy = world.proxy();
  CHECK(proxy->closed);
  CHECK(proxy->to_proxy.empty());
}

TEST_CASE("a proxy that dies leaves the list", "[Z3]") {
  for (int stage = 0; stage < 4; ++stage) {
    World world;
    world.pods = std::vector<ZdsPod>{{"u1", "web", "prod", "sa", own_netns()}};
    auto wire = world.listener.connect();
    world.step(250);
    CHECK(world.server.connected() == 1);
    if (stage > 0) wire->hello();
    world.step();
    if (stage > 1) wire->ack();
    world.step();
    if (stage > 2) wire->ack();
    world.step();
    wire->leave();
    world.step();
    INFO(stage);
    CHECK(world.server.connected() == 0);
    CHECK(wire->closed);
  }
}

TEST_CASE("adds go to the newest, deletes to all", "[Z4]") {
  World world;
  auto first = world.synced();
  auto second = world.synced();
  world.add("u1");
  CHECK(first->to_proxy.size() == 1);
  REQUIRE(second->to_proxy.size() == 2);
  second->ack();
  world.step();
  REQUIRE(world.results.size() == 1);
  CHECK(world.results[0]);
  world.remove("u1");
  CHECK(first->to_proxy.back().del().uid() == "u1");
  CHECK(second->to_proxy.back().del().uid() == "u1");
  first->ack();
  second->leave();
  world.step();
  REQUIRE(world.results.size() == 2);
  CHECK(world.results[1]);
  world.add("u2");
  CHECK(first->to_proxy.back().add().uid() == "u2");
}

TEST_CASE("a nack fails the add and keeps the connection", "[Z5]") {
  World world;
  auto proxy = world.synced();
  world.add("u1");
  proxy->ack("ports are taken");
  world.step();
  REQUIRE(world.results.size() == 1);
  CHECK(world.results[0].error().code() == base::Code::kRefused);
  CHECK(world.results[0].error().message().find("ports are taken") != std::string::npos);
  CHECK_FALSE(proxy->closed);
}

TEST_CASE("without a proxy an add fails at once, a delete is done", "[Z3]") {
  World world;
  world.add("u1");
  REQUIRE(world.results.size() == 1);
  CHECK(world.results[0].error().message() == "no ztunnel connection");
  world.remove("u1");
  CHECK(world.results[1]);
}

TEST_CASE("updates during the snapshot wait their turn; a death releases them", "[Z6]") {
  World world;
  world.pods = std::vector<ZdsPod>{{"u1", "web", "prod", "sa", own_netns()}};
  auto proxy = world.proxy();
  world.add("u2");
  world.remove("u3");
  CHECK(proxy->to_proxy.size() == 1);
  proxy->leave();
  world.step();
  REQUIRE(world.results.size() == 2);
  CHECK_FALSE(world.results[0]);
}

TEST_CASE("more than five connections a second wait", "[Z7]") {
  World world;
  std::vector<std::shared_ptr<Wire>> wires;
  for (int i = 0; i < 20; ++i) wires.push_back(world.listener.connect());
  world.step(1000);
  CHECK(world.listener.accepted <= 7);
  world.step(5000);
  CHECK(world.listener.accepted == 20);
}

TEST_CASE("a missing ack ends the connection, so a late one is nobody's", "[Z8]") {
  World world;
  auto proxy = world.synced();
  world.add("u1");
  world.step(5100);
  REQUIRE(world.results.size() == 1);
  CHECK(world.results[0].error().code() == base::Code::kTimeout);
  CHECK(proxy->closed);
  CHECK(world.server.connected() == 0);
}

TEST_CASE("messages of 1024 bytes and more are refused", "[Z9]") {
  ZdsPod pod{std::string(36, 'u'), std::string(253, 'n'), std::string(63, 's'), std::string(253, 'a'),
             nullptr};
  CHECK(encode_zds_add(pod)->size() <= 640);
  pod.name = std::string(1000, 'n');
  CHECK_FALSE(encode_zds_add(pod));
  CHECK_FALSE(encode_zds_keep(std::string(1100, 'u')));
}

TEST_CASE("strangers and chatterers are shown out") {
  World world;
  auto stranger = world.listener.connect(1000);
  world.step(250);
  CHECK(stranger->closed);
  auto garbage = world.listener.connect();
  world.step(250);
  garbage->say("\xff\xff\xff");
  world.step();
  CHECK(garbage->closed);
  auto silent = world.listener.connect();
  world.step(5400);
  CHECK(silent->closed);
  auto chatterer = world.synced();
  chatterer->ack();
  world.step();
  CHECK(chatterer->closed);
}
