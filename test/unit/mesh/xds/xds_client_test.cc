// SPDX-License-Identifier: Apache-2.0
// XdsClient against a scripted control plane: real TLS, HTTP/2 and gRPC over memory pipes, virtual time.
#include "mesh/xds/xds_client.h"

#include <catch2/catch.hpp>
#include <deque>

#include "mesh/xds/from_proto.h"
#include "mesh/xds/to_proto.h"
#include "net/conn/grpc.h"
#include "net/conn/tls_stream.h"
#include "net/io/memory_pipe.h"
#include "net/wire/x509.h"
#include "proto/discovery.pb.h"
#include "test/support/sim_loop.h"
#include "test/unit/mesh/model/build_mesh.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
namespace pbd = ::envoy::service::discovery::v3;
using base::fail;
using base::Result;

constexpr char kMethod[] = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

// The certificate of istiod.example, and its root.
struct Credentials {
  std::string roots;
  wire::TlsIdentityRef server;
  explicit Credentials(base::WallTime now) {
    auto ca_key = wire::PrivateKey::generate_p256().value();
    auto ca = wire::CertSigner::self_signed(ca_key, "cluster.local", now - 1h, now + 24h).value();
    auto key = wire::PrivateKey::generate_p256().value();
    wire::LeafSpec leaf;
    leaf.public_key_der = wire::public_key_der(key).value();
    leaf.dns_sans = {"istiod.example"};
    leaf.not_before = now - 1h;
    leaf.not_after = now + 24h;
    roots = ca.certificate().pem;
    server = wire::TlsIdentity::from_pem(ca.sign(leaf).value(), key.to_pem(), roots).value();
  }
};

// What the control plane does with one stream.
using Script = std::function<async::Task<conn::GrpcStatus>(conn::GrpcCall&)>;

// A network in which one server answers everything; each dial is one new connection to it.
class OneServer final : public io::Network {
 public:
  OneServer(SimLoop& loop, wire::TlsIdentityRef identity)
      : loop_(loop), identity_(std::move(identity)), server_(loop, {}), tasks_(loop) {
    server_.handle(kMethod, [this](conn::GrpcCall& call) {
      ++streams;
      if (const auto* token = call.metadata("authorization")) tokens.push_back(*token);
      return script(call);
    });
  }

  Script script;
  bool reachable = true;
  int dials = 0;
  int streams = 0;
  std::vector<std::string> tokens;
  std::vector<base::IpAddr> addresses{ip("10.0.0.2")};

  async::Task<Result<std::unique_ptr<io::ByteStream>>> dial(base::SocketAddr, io::DialOptions,
                                                            async::Deadline) override {
    ++dials;
    if (!reachable) co_return fail(base::Code::kRefused, "connection refused");
    io::MemoryPipeOptions options;
    options.fragment_bytes = 4096;
    auto pipe = io::make_memory_pipe(loop_, options);
    tasks_.spawn(serve(std::move(pipe.second)));
    co_return std::move(pipe.first);
  }
  async::Task<Result<std::vector<base::IpAddr>>> resolve(std::string, async::Deadline) override {
    co_return addresses;
  }
  void cut() { tasks_.cancel_all(); }
  bool has_address(base::IpAddr, const io::NetNsRef&) override { return false; }

  Result<std::unique_ptr<io::Listener>> listen(base::SocketAddr, io::ListenOptions) override {
    return none();
  }
  Result<std::unique_ptr<io::Listener>> listen_unix(std::string, uint32_t) override { return none(); }
  async::Task<Result<std::unique_ptr<io::ByteStream>>> dial_unix(std::string, async::Deadline) override {
    co_return none();
  }
  Result<std::unique_ptr<io::PacketListener>> listen_packet(std::string, uint32_t) override { return none(); }
  Result<std::unique_ptr<io::PacketSocket>> dial_packet(std::string) override { return none(); }
  Result<io::NetNsRef> adopt_netns(base::UniqueFd) override { return none(); }

 private:
  static std::unexpected<base::Error> none() {
    return fail(base::Code::kUnsupported, "this network only dials");
  }
  async::Task<void> serve(std::unique_ptr<io::ByteStream> lower) {
    conn::TlsServerOptions options;
    options.identity = identity_;
    options.tls.client_certificate_required = false;
    auto secured = co_await conn::tls_accept(loop_, std::move(lower), std::move(options),
                                             async::Deadline::in(loop_, 10s));
    if (!secured) co_return;
    wire::PeerInfo peer = (*secured)->peer();
    co_await server_.serve(*std::move(secured), std::move(peer));
  }
  SimLoop& loop_;
  wire::TlsIdentityRef identity_;
  conn::GrpcServer server_;
  async::Scope tasks_;
};

std::string respond(std::string_view type, std::vector<std::pair<std::string, std::string>> resources,
                    std::vector<std::string> removed = {}) {
  pbd::DeltaDiscoveryResponse response;
  response.set_type_url(std::string(type));
  response.set_nonce("nonce");
  for (auto& [name, bytes] : resources) {
    auto& resource = *response.add_resources();
    resource.set_name(name);
    resource.set_version("v1");
    resource.mutable_resource()->set_type_url(std::string(type));
    resource.mutable_resource()->set_value(bytes);
  }
  for (auto& name : removed) response.add_removed_resources(name);
  return response.SerializeAsString();
}

struct World {
  SimLoop loop;
  Credentials credentials{loop.wall_now()};
  OneServer network{loop, credentials.server};
  base::NullLog log;
  model::MeshStore store{"node"};
  std::vector<pbd::DeltaDiscoveryRequest> requests;  // all the control plane has read
  int ready_calls = 0;
  xds::XdsClientOptions options;
  std::unique_ptr<xds::XdsClient> client;
  std::unique_ptr<async::Scope> scope;

  World() {
    options.host = "istiod.example";
    options.read_roots = [this]() -> Result<std::string> { return credentials.roots; };
    options.read_token = []() -> Result<std::string> { return std::string("secret"); };
    network.script = [this](conn::GrpcCall& call) { return snapshot(call); };
  }
  void start() {
    client = std::make_unique<xds::XdsClient>(
        loop, network, log, base::Rng(1), store.names(), options,
        [this](model::MeshUpdate update) { store.apply(std::move(update)); },
        [this] {
          ++ready_calls;
          // At this moment everything of the first responses can be used.
          CHECK(store.view()->workload_at("", ip("10.0.0.1")));
          CHECK(store.view()->policy("ns/p"));
        });
    scope = std::make_unique<async::Scope>(loop);
    scope->spawn(client->run());
  }
  ~World() {
    scope.reset();
    client.reset();
  }

  // Answers the first request of each type, then listens until the client goes.
  async::Task<conn::GrpcStatus> snapshot(conn::GrpcCall& call) {
    for (;;) {
      auto message = co_await call.receive();
      if (!message || !*message) co_return conn::GrpcStatus{};
      pbd::DeltaDiscoveryRequest request;
      CHECK(request.ParseFromString(**message));
      requests.push_back(request);
      if (!request.response_nonce().empty()) continue;
      std::string answer;
      if (request.type_url() == xds::kAddressType) {
        auto workload = pod("ns", "a", {"10.0.0.1"});
        answer = respond(xds::kAddressType, {{workload.uid.str(), xds::encode_address(workload)}});
      } else {
        model::Policy policy{"ns",  "p", model::PolicyScope::kNamespace, model::PolicyAction::kAllow,
                             false, {}};
        answer = respond(xds::kAuthorizationType, {{"ns/p", xds::encode_authorization(policy)}});
      }
      auto sent = co_await call.send(std::move(answer));
      if (!sent) co_return conn::GrpcStatus{};
    }
  }
};

async::Task<conn::GrpcStatus> refuse(conn::GrpcCall&, conn::GrpcCode code) {
  co_return conn::GrpcStatus{code, "no"};
}
async::Task<conn::GrpcStatus> read_then(conn::GrpcCall& call,
                                        std::vector<pbd::DeltaDiscoveryRequest>& requests,
                                        conn::GrpcStatus status) {
  for (int i = 0; i < 2; ++i) {
    auto message = co_await call.receive();
    if (!message || !*message) co_return status;
    requests.emplace_back().ParseFromString(**message);
  }
  co_return status;
}

}  // namespace

TEST_CASE("from nothing to ready", "[apis1][X1]") {
  World world;
  world.start();
  REQUIRE(world.loop.run_until([&] { return world.client->ready(); }, 1min));
  world.loop.run_for(1s);
  CHECK(world.ready_calls == 1);
  REQUIRE(world.requests.size() == 4);
  CHECK(world.requests[0].type_url() == xds::kAddressType);
  CHECK(world.requests[1].type_url() == xds::kAuthorizationType);
  CHECK(world.requests[2].response_nonce() == "nonce");
  CHECK(world.requests[3].response_nonce() == "nonce");
  CHECK(world.network.tokens == std::vector<std::string>{"Bearer secret"});
  auto stats = world.client->stats();
  CHECK(stats.connected);
  REQUIRE(stats.received.size() == 2);
  for (std::string_view type : {xds::kAddressType, xds::kAuthorizationType}) {
    CHECK(stats.received[std::string(type)].messages == 1);
    CHECK(stats.received[std::string(type)].bytes > 0);
  }
  CHECK(stats.terminations.empty());
  CHECK(stats.resources_accepted == 2);
}

TEST_CASE("the control plane goes and comes back", "[apis4][X1]") {
  World world;
  world.start();
  REQUIRE(world.loop.run_until([&] { return world.client->ready(); }, 1min));
  world.network.reachable = false;
  world.network.cut();
  world.loop.run_for(5min);
  CHECK_FALSE(world.client->stats().connected);
  CHECK(world.client->stats().terminations["ConnectionError"] > 10);
  CHECK(world.client->ready());
  CHECK(world.store.view()->workload_at("", ip("10.0.0.1")));
  // Backoff: from 20 ms to at most 18 s, not a tight loop.
  CHECK(world.network.dials > 15);
  CHECK(world.network.dials < 60);

  world.network.reachable = true;
  size_t before = world.requests.size();
  REQUIRE(world.loop.run_until([&] { return world.client->stats().connected; }, 1min));
  world.loop.run_for(1s);
  REQUIRE(world.requests.size() >= before + 2);
  CHECK(world.requests[before].initial_resource_versions().at("cluster1//Pod/ns/a") == "v1");
  CHECK(world.requests[before + 1].initial_resource_versions().at("ns/p") == "v1");
  CHECK(world.ready_calls == 1);
}

TEST_CASE("refusals are retried with growing pauses", "[apis14]") {
  World world;
  world.network.script = [](conn::GrpcCall& call) { return refuse(call, conn::GrpcCode::kUnauthenticated); };
  world.start();
  world.loop.run_for(60s);
  CHECK(world.network.streams > 8);
  CHECK(world.network.streams < 25);
  CHECK(world.client->stats().connection_failures > 0);
  CHECK(world.client->stats().terminations["ConnectionError"] == world.client->stats().connection_failures);
  CHECK_FALSE(world.client->ready());
}

TEST_CASE("a refused first request comes back without versions", "[apis15]") {
  World world;
  world.start();
  REQUIRE(world.loop.run_until([&] { return world.client->ready(); }, 1min));
  int round = 0;
  std::vector<pbd::DeltaDiscoveryRequest> seen;
  world.network.script = [&](conn::GrpcCall& call) {
    return ++round == 1 ? read_then(call, seen, {conn::GrpcCode::kResourceExhausted, "too large"})
                        : world.snapshot(call);
  };
  world.network.cut();
  size_t before = world.requests.size();
  REQUIRE(world.loop.run_until([&] { return world.requests.size() >= before + 4; }, 1min));
  REQUIRE(seen.size() == 2);
  CHECK(seen[0].initial_resource_versions_size() == 1);
  CHECK(world.requests[before].initial_resource_versions_size() == 0);
  CHECK(world.store.view()->workload_at("", ip("10.0.0.1")));
}

TEST_CASE("a server of another name is not trusted") {
  World world;
  world.options.host = "someone-else.example";
  world.start();
  world.loop.run_for(10s);
  CHECK(world.network.dials > 1);
  CHECK(world.network.streams == 0);

  SECTION("unless the alternative name fits") {
    World other;
    other.options.host = "someone-else.example";
    other.options.alternative_host = "istiod.example";
    other.start();
    CHECK(other.loop.run_until([&] { return other.client->ready(); }, 1min));
  }
}

TEST_CASE("unreadable roots and tokens are failures to connect, retried") {
  World world;
  bool broken = true;
  auto pem = world.credentials.roots;
  world.options.read_roots = [&]() -> Result<std::string> {
    if (broken) return fail(base::Code::kNotFound, "no such file");
    return pem;
  };
  bool token_broken = true;
  world.options.read_token = [&]() -> Result<std::string> {
    if (token_broken) return fail(base::Code::kInvalid, "empty");
    return std::string();
  };
  world.start();
  world.loop.run_for(5s);
  CHECK(world.network.dials == 0);
  broken = false;
  world.loop.run_for(30s);
  CHECK(world.network.dials > 0);
  CHECK(world.network.streams == 0);
  token_broken = false;
  CHECK(world.loop.run_until([&] { return world.client->ready(); }, 1min));
  CHECK(world.network.tokens.empty());  // an empty token is not sent
}

TEST_CASE("bytes that are no response end the stream") {
  World world;
  int round = 0;
  world.network.script = [&](conn::GrpcCall& call) -> async::Task<conn::GrpcStatus> {
    if (++round > 1) return world.snapshot(call);
    return [](conn::GrpcCall& one) -> async::Task<conn::GrpcStatus> {
      auto first = co_await one.receive();
      auto sent = co_await one.send("\xff\xff\xff");
      auto more = co_await one.receive();
      (void)first, (void)sent, (void)more;
      co_return conn::GrpcStatus{};
    }(call);
  };
  world.start();
  CHECK(world.loop.run_until([&] { return world.client->ready(); }, 1min));
  CHECK(round == 2);
}

TEST_CASE("on demand: ask, wait, be told", "[apis2]") {
  World world;
  world.options.delta.on_demand = true;
  world.network.script = [&](conn::GrpcCall& call) -> async::Task<conn::GrpcStatus> {
    return [](World& w, conn::GrpcCall& one) -> async::Task<conn::GrpcStatus> {
      for (;;) {
        auto message = co_await one.receive();
        if (!message || !*message) co_return conn::GrpcStatus{};
        auto& request = w.requests.emplace_back();
        request.ParseFromString(**message);
        if (!request.response_nonce().empty() || request.resource_names_subscribe_size() == 0) continue;
        std::string key = request.resource_names_subscribe(0);
        std::string answer;
        if (key == "/10.0.0.1") {
          auto workload = pod("ns", "a", {"10.0.0.1"});
          pbd::DeltaDiscoveryResponse response;
          response.ParseFromString(
              respond(xds::kAddressType, {{workload.uid.str(), xds::encode_address(workload)}}));
          response.mutable_resources(0)->add_aliases(key);
          answer = response.SerializeAsString();
        } else if (key == "/10.0.0.2") {
          answer = respond(xds::kAddressType, {}, {key});
        } else {
          continue;
        }
        auto sent = co_await one.send(std::move(answer));
        if (!sent) co_return conn::GrpcStatus{};
      }
    }(world, call);
  };
  world.start();
  world.loop.run_for(1s);
  auto demand = [&](std::string key) {
    return world.loop.run(world.client->demand(std::move(key), async::Deadline::in(world.loop, 5s)));
  };
  CHECK(demand("/10.0.0.1"));
  CHECK(world.store.view()->workload_at("", ip("10.0.0.1")));
  CHECK(demand("/10.0.0.2"));        // told that it is nothing
  CHECK(demand("/10.0.0.1"));        // known since
  CHECK_FALSE(demand("/10.0.0.3"));  // never answered: given up
  world.loop.run_for(1s);
  REQUIRE(world.requests.back().resource_names_unsubscribe_size() == 1);
  CHECK(world.requests.back().resource_names_unsubscribe(0) == "/10.0.0.3");
}

TEST_CASE("cancelled at any moment, nothing is left") {
  for (int step = 0; step < 40; ++step) {
    World world;
    world.start();
    world.loop.run_for(step * 1ms);
    world.scope.reset();
    world.client.reset();
    world.loop.run_for(1s);
    world.network.cut();
    world.loop.run_for(1s);
  }
}

}  // namespace culvert::test
