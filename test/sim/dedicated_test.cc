// SPDX-License-Identifier: Apache-2.0
// Dedicated mode: one proxy for the host it runs on, configured by a local file (spec ztunnel sections 1 and
// 11).
#include <catch2/catch.hpp>

#include "net/io/stream_wait.h"
#include "test/support/sim_loop.h"
#include "test/support/sim_network.h"
#include "ztunnel/app.h"

namespace culvert::test {
namespace {

using base::Result;
using namespace std::chrono_literals;

constexpr char kMesh[] = R"(
workloads:
- uid: vm
  name: vm
  namespace: shop
  serviceAccount: vm
  workloadIps: [10.0.0.1]
  node: n1
  services: {}
services: []
policies: []
)";

struct Vm {
  Vm() {
    host.redirect = {.outbound = 15001, .inbound = 15006};
    listener = std::move(*elsewhere->listen({base::IpAddr::any_v6(), 80}, {}));
  }
  ~Vm() {
    tasks.reset();
    app.reset();
    loop.run_ready();
  }

  void start() {
    config::Environment environment({{"PROXY_MODE", "dedicated"},
                                     {"PROXY_WORKLOAD_INFO", "shop/vm/vm"},
                                     {"LOCAL_XDS", kMesh},
                                     {"XDS_ADDRESS", ""},
                                     {"FAKE_CA", "true"},
                                     {"PACKET_MARK", "1337"},
                                     {"ISTIO_META_DNS_CAPTURE", "false"}});
    auto no_files = [](const std::string& path) -> Result<std::string> {
      return base::fail(base::Code::kNotFound, path);
    };
    auto config = config::load_ztunnel_config(environment, no_files, 1);
    if (!config) FAIL(config.error().message());
    app = std::make_unique<ztunnel::App>(
        std::move(*config),
        ztunnel::AppParts{{loop, *network}, {{loop, *network}}, log, no_files, 5, nullptr});
    tasks->spawn(run(*this));
    loop.run_for(1s);
  }
  static async::Task<void> run(Vm& vm) {
    vm.ended = co_await vm.app->run();
    vm.over = true;
  }
  // A connection of an application on this host to the server elsewhere.
  std::unique_ptr<io::ByteStream> connect() {
    auto stream =
        loop.run(network->dial(*base::SocketAddr::parse("10.0.0.9:80"), {}, async::Deadline::in(loop, 5s)));
    return stream ? std::move(*stream) : nullptr;
  }
  // The server's end of the newest connection.
  std::unique_ptr<io::ByteStream> accepted() {
    loop.run_for(100ms);
    auto got = listener->try_accept();
    REQUIRE(got.has_value());
    return *got ? std::move((*got)->stream) : nullptr;
  }
  std::string read(io::ByteStream& stream) {
    loop.run_for(100ms);
    uint8_t block[100];
    io::IoResult got = stream.try_read(block);
    return got.ok()       ? std::string(base::as_text(base::ByteView(block).first(got.count())))
           : got.is_eof() ? "(eof)"
                          : "";
  }

  SimLoop loop;
  SimNetwork sim{loop};
  SimHost& host = sim.add_host("vm", "n1", {*base::IpAddr::parse("10.0.0.1")});
  SimHost& other = sim.add_host("other", "n2", {*base::IpAddr::parse("10.0.0.9")});
  std::unique_ptr<io::Network> network = sim.process(host);
  std::unique_ptr<io::Network> elsewhere = sim.process(other);
  std::unique_ptr<io::Listener> listener;
  base::LineLog log{*base::LogFilter::parse("off"), base::LogFormat::kPlain,
                    [this] { return loop.wall_now(); }, [](std::string) {}};
  std::unique_ptr<ztunnel::App> app;
  std::unique_ptr<async::Scope> tasks = std::make_unique<async::Scope>(loop);
  Result<> ended;
  bool over = false;
};

}  // namespace

TEST_CASE("a dedicated proxy carries its host's connections and drains", "[sim][E9][E5]") {
  Vm vm;
  vm.start();
  REQUIRE(vm.app->readiness().pending_text().empty());
  std::unique_ptr<io::ByteStream> client = vm.connect();
  REQUIRE(client);
  std::unique_ptr<io::ByteStream> server = vm.accepted();
  REQUIRE(server);
  CHECK(client->try_write(base::as_bytes("hello")).ok());
  CHECK(vm.read(*server) == "hello");

  // Draining: what is open goes on, nothing new comes in, and it waits for the last one.
  vm.app->shut_down("test");
  vm.loop.run_for(1s);
  CHECK_FALSE(vm.over);
  CHECK(server->try_write(base::as_bytes("still here")).ok());
  CHECK(vm.read(*client) == "still here");
  CHECK(vm.connect() == nullptr);
  client->shutdown_write();
  server->shutdown_write();
  vm.loop.run_for(1s);
  CHECK(vm.over);
  CHECK(vm.ended.has_value());
}

TEST_CASE("a drain ends by its deadline", "[sim][E9]") {
  Vm vm;
  vm.start();
  std::unique_ptr<io::ByteStream> client = vm.connect();
  REQUIRE(client);
  std::unique_ptr<io::ByteStream> server = vm.accepted();
  base::Duration deadline = vm.app->config().drain_deadline;
  vm.app->shut_down("test");
  vm.loop.run_for(deadline - 1s);
  CHECK_FALSE(vm.over);
  vm.loop.run_for(3s);
  CHECK(vm.over);
  CHECK(vm.read(*client) != "");  // its end was told
}

TEST_CASE("a port that is taken stops the start, in words", "[sim][E9]") {
  for (uint16_t port : {15001, 15006, 15008, 15000, 15020, 15021}) {
    Vm vm;
    base::IpAddr ip = port == 15000 ? base::IpAddr::loopback_v4() : base::IpAddr::any_v6();
    auto taken = vm.network->listen({ip, port}, {});
    REQUIRE(taken.has_value());
    vm.start();
    INFO("port " << port);
    REQUIRE(vm.over);
    REQUIRE_FALSE(vm.ended.has_value());
    CHECK_THAT(vm.ended.error().message(), Catch::Contains(std::to_string(port)));
  }
}

}  // namespace culvert::test
