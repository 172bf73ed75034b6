// SPDX-License-Identifier: Apache-2.0
// The simulated network itself: what worlds built on it rely on.
#include <catch2/catch.hpp>
#include <string>

#include "net/async/scope.h"
#include "net/io/stream_wait.h"
#include "test/support/sim_loop.h"
#include "test/support/sim_network.h"

namespace culvert::test {
namespace {

using async::Deadline;
using async::Task;
using base::Code;
using base::IpAddr;
using base::Result;
using base::SocketAddr;

using Dialed = Result<std::unique_ptr<io::ByteStream>>;

struct World {
  World()
      : network(loop),
        pod_a(network.add_host("a", "n1", {*IpAddr::parse("10.0.1.1"), *IpAddr::parse("fd00::1")})),
        pod_b(network.add_host("b", "n2", {*IpAddr::parse("10.0.2.1"), *IpAddr::parse("fd00::2")})),
        app_a(network.process(pod_a)),
        app_b(network.process(pod_b)) {}
  Deadline in(int seconds) { return Deadline::in(loop, std::chrono::seconds(seconds)); }
  Dialed dial(io::Network& from, const char* to, io::DialOptions options = {}, int seconds = 10) {
    return loop.run(from.dial(*SocketAddr::parse(to), std::move(options), in(seconds)));
  }
  std::unique_ptr<io::Listener> listen(io::Network& on, const char* at, io::ListenOptions options = {}) {
    Result<std::unique_ptr<io::Listener>> listener = on.listen(*SocketAddr::parse(at), std::move(options));
    REQUIRE(listener.has_value());
    return std::move(*listener);
  }
  std::optional<io::Accepted> accepted(io::Listener& listener) {
    Result<std::optional<io::Accepted>> got = listener.try_accept();
    REQUIRE(got.has_value());
    return std::move(*got);
  }
  std::string read(io::ByteStream& stream) {
    uint8_t block[100];
    io::IoResult got = stream.try_read(block);
    return got.ok() ? std::string(base::as_text(base::ByteView(block).first(got.count())))
                    : std::string(got.is_eof()     ? "(eof)"
                                  : got.is_error() ? "(error)"
                                                   : "(nothing)");
  }

  SimLoop loop;
  SimNetwork network;
  SimHost& pod_a;
  SimHost& pod_b;
  std::unique_ptr<io::Network> app_a, app_b;
};

}  // namespace

TEST_CASE("a dial takes a round trip, is refused, or ends at its deadline", "[sim]") {
  World world;
  std::unique_ptr<io::Listener> listener = world.listen(*world.app_b, "[::]:80");
  base::TimePoint before = world.loop.now();
  Dialed stream = world.dial(*world.app_a, "10.0.2.1:80");
  REQUIRE(stream.has_value());
  CHECK(world.loop.now() - before == std::chrono::microseconds(400));
  std::optional<io::Accepted> accepted = world.accepted(*listener);
  REQUIRE(accepted);
  CHECK(accepted->peer == (*stream)->local_addr());
  CHECK(accepted->peer.ip == world.pod_a.ips()[0]);
  CHECK(world.dial(*world.app_a, "[fd00::2]:80").has_value());
  Dialed refused = world.dial(*world.app_a, "10.0.2.1:81");
  REQUIRE(!refused.has_value());
  CHECK(refused.error().code() == Code::kRefused);
  Dialed nobody = world.dial(*world.app_a, "10.9.9.9:80", {}, 3);
  REQUIRE(!nobody.has_value());
  CHECK(nobody.error().code() == Code::kTimeout);
  world.pod_b.set_silent(true);
  CHECK(world.dial(*world.app_a, "10.0.2.1:80", {}, 3).error().code() == Code::kTimeout);
}

TEST_CASE("silence holds bytes back and gives them out afterwards", "[sim]") {
  World world;
  std::unique_ptr<io::Listener> listener = world.listen(*world.app_b, "0.0.0.0:80");
  Dialed stream = world.dial(*world.app_a, "10.0.2.1:80");
  REQUIRE(stream.has_value());
  std::optional<io::Accepted> accepted = world.accepted(*listener);
  world.pod_b.set_silent(true);
  CHECK((*stream)->try_write(base::as_bytes("hello")).ok());
  world.loop.run_for(std::chrono::seconds(60));
  CHECK(world.read(*accepted->stream) == "(nothing)");
  world.pod_b.set_silent(false);
  world.loop.run_for(std::chrono::seconds(1));
  CHECK(world.read(*accepted->stream) == "hello");
}

TEST_CASE("captured pods: redirects, marks, tunnels and probes", "[sim]") {
  World world;
  for (SimHost* pod : {&world.pod_a, &world.pod_b}) {
    pod->redirect = {
        .outbound = 15001, .inbound = 15006, .exempt_sources = {*IpAddr::parse("169.254.7.127")}};
  }
  std::unique_ptr<io::Listener> outbound = world.listen(*world.app_a, "[::]:15001");
  std::unique_ptr<io::Listener> inbound = world.listen(*world.app_b, "[::]:15006");
  std::unique_ptr<io::Listener> tunnel = world.listen(*world.app_b, "[::]:15008");
  std::unique_ptr<io::Listener> app = world.listen(*world.app_b, "[::]:80");
  // An app's dial lands on the outbound port of its own pod and knows where it wanted to go.
  CHECK(world.dial(*world.app_a, "10.0.2.1:80").has_value());
  std::optional<io::Accepted> got = world.accepted(*outbound);
  REQUIRE(got);
  CHECK(got->original_destination == *SocketAddr::parse("10.0.2.1:80"));
  // A marked socket leaves, is plaintext to the other pod, and lands on its inbound port.
  CHECK(world.dial(*world.app_a, "10.0.2.1:80", {{.mark = 1337}}).has_value());
  got = world.accepted(*inbound);
  REQUIRE(got);
  CHECK(got->original_destination == *SocketAddr::parse("10.0.2.1:80"));
  CHECK(world.dial(*world.app_a, "10.0.2.1:15008", {{.mark = 1337}}).has_value());
  CHECK(world.accepted(*tunnel).has_value());
  // A proxy in another namespace dials from inside the pod, with the client's address, and reaches the app.
  SimHost& node = world.network.add_host("node", "n2", {*IpAddr::parse("192.168.0.2")});
  std::unique_ptr<io::Network> proxy = world.network.process(node);
  Result<io::NetNsRef> netns = proxy->adopt_netns(world.pod_b.open_netns());
  REQUIRE(netns.has_value());
  CHECK((*netns)->id() == world.pod_b.netns()->id());
  io::DialOptions options{{.netns = *netns, .mark = 1337}};
  options.spoof_source = world.pod_a.ips()[0];
  CHECK(world.dial(*proxy, "10.0.2.1:80", options).has_value());
  got = world.accepted(*app);
  REQUIRE(got);
  CHECK(got->peer.ip == world.pod_a.ips()[0]);
  // A probe of the node is not captured.
  options = {};
  options.spoof_source = *IpAddr::parse("169.254.7.127");
  CHECK(world.dial(*proxy, "10.0.2.1:80", options).has_value());
  CHECK(world.accepted(*app).has_value());
}

TEST_CASE("an address that changed hands answers with a reset, never with another's bytes", "[sim]") {
  World world;
  std::unique_ptr<io::Listener> listener = world.listen(*world.app_b, "[::]:80");
  Dialed stream = world.dial(*world.app_a, "10.0.2.1:80");
  std::optional<io::Accepted> accepted = world.accepted(*listener);
  world.network.remove_host(world.pod_b);
  CHECK((*stream)->try_write(base::as_bytes("secret")).ok());
  bool taken = GENERATE(false, true);
  std::string seen;
  world.network.set_tap([&](const SimFlow&, base::ByteView bytes) { seen += base::as_text(bytes); });
  if (taken) world.network.add_host("c", "n2", {*IpAddr::parse("10.0.2.1")});
  world.loop.run_for(std::chrono::seconds(60));
  CHECK(world.read(**stream) == (taken ? "(error)" : "(nothing)"));
  CHECK(world.read(*accepted->stream) == "(nothing)");
  CHECK(seen.empty());
}

TEST_CASE("a listener that goes hands its queue on or resets it", "[sim]") {
  World world;
  bool migrate = GENERATE(true, false);
  io::ListenOptions options;
  options.reuse_port = true;
  options.migrate_requests = migrate;
  std::unique_ptr<io::Listener> old_one = world.listen(*world.app_b, "[::]:80", options);
  Dialed stream = world.dial(*world.app_a, "10.0.2.1:80");
  REQUIRE(stream.has_value());
  std::unique_ptr<io::Listener> new_one = world.listen(*world.app_b, "[::]:80", options);
  old_one.reset();
  world.loop.run_for(std::chrono::seconds(1));
  CHECK(world.accepted(*new_one).has_value() == migrate);
  world.loop.run_for(std::chrono::seconds(1));
  CHECK(world.read(**stream) == (migrate ? "(eof)" : "(error)"));  // the temporary above was dropped
}

TEST_CASE("descriptors that run out pause a listener", "[sim]") {
  World world;
  std::unique_ptr<io::Listener> listener = world.listen(*world.app_b, "[::]:80");
  world.pod_b.failing_accepts = 1;
  Dialed stream = world.dial(*world.app_a, "10.0.2.1:80");
  Result<std::optional<io::Accepted>> got = listener->try_accept();
  REQUIRE(!got.has_value());
  CHECK(got.error().code() == Code::kExhausted);
  CHECK(!world.accepted(*listener).has_value());
  base::TimePoint before = world.loop.now();
  CHECK(world.loop.run(io::accept(*listener)).has_value());
  CHECK(world.loop.now() - before <= std::chrono::milliseconds(100));
}

TEST_CASE("packet sockets carry descriptors", "[sim]") {
  World world;
  SimHost& node = world.network.add_host("node", "n1", {*IpAddr::parse("192.168.0.1")});
  std::unique_ptr<io::Network> agent = world.network.process(node), proxy = world.network.process(node);
  CHECK(!proxy->dial_packet("/zds").has_value());
  Result<std::unique_ptr<io::PacketListener>> listener = agent->listen_packet("/zds", 0600);
  Result<std::unique_ptr<io::PacketSocket>> client = proxy->dial_packet("/zds");
  REQUIRE(client.has_value());
  Result<std::unique_ptr<io::PacketSocket>> server = world.loop.run(io::accept(**listener));
  REQUIRE(server.has_value());
  base::UniqueFd fd = world.pod_a.open_netns();
  CHECK(world.loop.run(io::send(**server, "add", fd.get())).has_value());
  Result<io::Packet> packet = world.loop.run(io::receive(**client, 100));
  REQUIRE(packet.has_value());
  CHECK(packet->bytes == "add");
  REQUIRE(packet->fds.size() == 1);
  CHECK((*proxy->adopt_netns(std::move(packet->fds[0])))->id() == world.pod_a.netns()->id());
  CHECK(!proxy->adopt_netns(base::UniqueFd()).has_value());
  server->reset();
  CHECK(world.loop.run(io::receive(**client, 100))->bytes.empty());
}

TEST_CASE("names", "[sim]") {
  World world;
  world.network.names["istiod"] = {*IpAddr::parse("10.0.0.9")};
  CHECK(world.loop.run(world.app_a->resolve("istiod", world.in(5)))->size() == 1);
  CHECK(world.loop.run(world.app_a->resolve("nobody", world.in(5))).error().code() == Code::kNotFound);
  world.network.resolver_silent = true;
  CHECK(world.loop.run(world.app_a->resolve("istiod", world.in(5))).error().code() == Code::kTimeout);
}

TEST_CASE("the same day twice leaves the same trace", "[sim]") {
  auto day = [](const char* words) {
    World world;
    std::unique_ptr<io::Listener> listener = world.listen(*world.app_b, "[::]:80");
    Dialed stream = world.dial(*world.app_a, "10.0.2.1:80");
    std::optional<io::Accepted> accepted = world.accepted(*listener);
    (void)(*stream)->try_write(base::as_bytes(words));
    world.loop.run_for(std::chrono::seconds(1));
    return world.network.trace_hash();
  };
  CHECK(day("same") == day("same"));
  CHECK(day("same") != day("other"));
}

}  // namespace culvert::test
