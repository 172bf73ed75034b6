// SPDX-License-Identifier: Apache-2.0
// The ADS server against a hand-driven client: real HTTP/2 and gRPC, virtual time.
#include "control/serve/ads_server.h"

#include <catch2/catch.hpp>

#include "proto/discovery.pb.h"
#include "test/unit/control/serve/compiled.h"
#include "test/unit/control/serve/grpc_world.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
using control::kAddressType;
using control::kAuthorizationType;
using Names = std::set<std::string>;
namespace pbd = ::envoy::service::discovery::v3;

constexpr char kMethod[] = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
constexpr char kNodeId[] = "ztunnel~10.0.0.9~ztunnel-a.istio-system~istio-system.svc.cluster.local";

pbd::DeltaDiscoveryRequest first_request(std::string_view type) {
  pbd::DeltaDiscoveryRequest request;
  request.set_type_url(std::string(type));
  request.mutable_node()->set_id(kNodeId);
  auto& fields = *request.mutable_node()->mutable_metadata()->mutable_fields();
  fields["NAMESPACE"].set_string_value("istio-system");
  fields["NODE_NAME"].set_string_value("node1");
  return request;
}
pbd::DeltaDiscoveryRequest on_demand_request() {
  auto request = first_request(kAddressType);
  request.add_resource_names_subscribe("*");
  request.add_resource_names_unsubscribe("*");
  return request;
}
pbd::DeltaDiscoveryRequest subscribe(std::vector<std::string> names) {
  pbd::DeltaDiscoveryRequest request;
  request.set_type_url(std::string(kAddressType));
  for (auto& name : names) request.add_resource_names_subscribe(std::move(name));
  return request;
}
Names sent(const pbd::DeltaDiscoveryResponse& response) {
  Names out;
  for (const auto& resource : response.resources()) out.insert(resource.name());
  return out;
}
Names removed(const pbd::DeltaDiscoveryResponse& response) {
  return {response.removed_resources().begin(), response.removed_resources().end()};
}

struct World : GrpcWorld {
  control::AdsServer ads{loop, log, authenticator};
  control::CallerIdentity caller{"istio-system", "ztunnel", "node1", "ztunnel-a"};

  World() { ads.register_on(server); }
  ~World() { serving.reset(); }
  void publish(control::Compiled compiled) {
    ads.publish(control::make_snapshot(std::move(compiled), ads.snapshot()));
  }
};

// One ADS stream as a client has it.
struct Client {
  World& world;
  std::unique_ptr<GrpcWorld::Connection> connection;
  std::unique_ptr<conn::GrpcStream> stream;
  std::vector<pbd::DeltaDiscoveryResponse> responses;  // not taken yet
  bool ended = false;
  bool reading = true;
  async::Event read_again;
  async::Scope scope;

  explicit Client(World& in) : Client(in, in.bearer(in.caller)) {}
  Client(World& in, conn::Metadata metadata, io::MemoryPipeOptions pipe = {})
      : world(in), connection(in.connect({}, pipe)), read_again(in.loop), scope(in.loop) {
    stream = connection->client->stream(kMethod, std::move(metadata)).value();
    read_again.set();
    scope.spawn(read(*this));
  }
  static async::Task<void> read(Client& self) {
    for (;;) {
      co_await self.read_again.wait();
      auto message = co_await self.stream->receive();
      if (!message || !*message) break;
      self.responses.emplace_back().ParseFromString(**message);
    }
    self.ended = true;
  }
  void send(const pbd::DeltaDiscoveryRequest& request) {
    scope.spawn(send_bytes(*stream, request.SerializeAsString()));
    world.loop.run_for(10ms);
  }
  static async::Task<void> send_bytes(conn::GrpcStream& stream, std::string bytes) {
    (void)co_await stream.send(std::move(bytes));
  }
  void acknowledge(const pbd::DeltaDiscoveryResponse& response, std::string error = "") {
    pbd::DeltaDiscoveryRequest request;
    request.set_type_url(response.type_url());
    request.set_response_nonce(response.nonce());
    if (!error.empty()) request.mutable_error_detail()->set_message(std::move(error));
    send(request);
  }
  // Everything that has come, acknowledged until nothing more comes.
  std::vector<pbd::DeltaDiscoveryResponse> take() {
    std::vector<pbd::DeltaDiscoveryResponse> out;
    world.loop.run_for(10ms);
    while (!responses.empty()) {
      auto next = std::move(responses.front());
      responses.erase(responses.begin());
      acknowledge(next);
      out.push_back(std::move(next));
    }
    return out;
  }
  pbd::DeltaDiscoveryResponse take_one() {
    auto all = take();
    REQUIRE(all.size() == 1);
    return all.front();
  }
  void open_both() {
    send(first_request(kAddressType));
    send(first_request(kAuthorizationType));
    REQUIRE(take().size() == 2);
  }
};

Workload on_node(Workload workload, std::string_view node) {
  workload.node = node;
  return workload;
}
Workload in_service(Workload workload, std::string_view name) {
  member(workload, name, {{80, 8080}});
  return workload;
}
Service web() { return service("ns", "web.ns.svc", {"240.0.0.1"}, {{80, 8080}}); }

TEST_CASE("both types are answered, even with nothing", "[apis17][apis18]") {
  World world;
  Client client(world);
  client.send(first_request(kAddressType));
  client.send(first_request(kAuthorizationType));
  auto answers = client.take();
  REQUIRE(answers.size() == 2);
  CHECK(answers[0].type_url() == kAddressType);
  CHECK(answers[1].type_url() == kAuthorizationType);
  for (const auto& answer : answers) {
    CHECK(answer.resources().empty());
    CHECK_FALSE(answer.nonce().empty());
  }
}

control::Compiled with_waypoint(std::string waypoint) {
  control::Compiled out;
  model::WaypointService service;
  service.service = {"shop", "api"};
  out.waypoint_services["shop/api"] = std::make_shared<const model::WaypointService>(service);
  model::Backend backend;
  backend.service = service.service;
  out.backends["shop/api"] = std::make_shared<const model::Backend>(backend);
  out.settings = std::make_shared<const model::WaypointSettings>();
  out.waypoints_of["shop/api"] = {std::move(waypoint)};
  return out;
}
pbd::DeltaDiscoveryRequest waypoint_request(std::string_view type, const char* role = "waypoint") {
  auto request = first_request(type);
  request.mutable_node()->set_id(std::string(role) + "~10.0.0.7~way-1.shop~shop.svc.cluster.local");
  request.mutable_node()->clear_metadata();
  return request;
}

TEST_CASE("a waypoint gets the services that are bound to it", "[waypoint-1.10]") {
  World world;
  world.caller = {"shop", "way", "node1", "way-1"};
  world.publish(with_waypoint("shop/way"));
  Client client(world);
  client.send(waypoint_request(xds::kWaypointServiceType));
  auto first = client.take_one();
  CHECK(first.type_url() == xds::kWaypointServiceType);
  CHECK(sent(first) == Names{"shop/api"});
  client.send(waypoint_request(xds::kWaypointSettingsType));
  CHECK(sent(client.take_one()) == Names{"mesh"});

  world.publish(with_waypoint("shop/other"));  // the same resource, for another
  auto gone = client.take_one();
  CHECK(sent(gone).empty());
  CHECK(removed(gone) == Names{"shop/api"});
  world.publish(with_waypoint("shop/third"));
  CHECK(client.take().empty());

  // By name no more than by the wildcard.
  auto asked = waypoint_request(xds::kWaypointServiceType);
  asked.add_resource_names_subscribe("shop/api");
  client.send(asked);
  auto refused = client.take_one();
  CHECK(sent(refused).empty());
  CHECK(removed(refused) == Names{"shop/api"});
  world.publish(with_waypoint("shop/way"));
  CHECK(sent(client.take_one()) == Names{"shop/api"});
}

TEST_CASE("a client's key is told to waypoints of its own namespace; for others the backend refuses",
          "[waypoint-1.10][2.3.5]") {
  World world;
  auto compiled = with_waypoint("shop/way");
  model::Backend backend = *compiled.backends.at("shop/api");
  model::BackendTls& tls = backend.policy.by_port[443].tls.emplace();
  tls.certificate = "chain";
  tls.key = "secret";
  tls.key_owner = "shop";
  compiled.backends["shop/api"] = std::make_shared<const model::Backend>(backend);
  world.publish(compiled);
  std::string own = GENERATE("shop", "other");
  world.caller = {own, "way", "node1", "way-1"};
  Client client(world);
  auto request = waypoint_request(xds::kBackendType);
  request.mutable_node()->set_id("waypoint~10.0.0.7~way-1." + own + "~" + own + ".svc.cluster.local");
  client.send(request);
  auto answer = client.take_one();
  REQUIRE(answer.resources_size() == 1);
  auto told = xds::decode_backend(base::as_bytes(answer.resources(0).resource().value()), "shop/api");
  REQUIRE(told);
  const model::BackendTls& got = *told->policy.by_port.at(443).tls;
  CHECK(got.key == (own == "shop" ? "secret" : ""));
  CHECK(got.broken.empty() == (own == "shop"));
}

TEST_CASE("backends go out before the services that name them", "[waypoint-1.10]") {
  World world;
  world.caller = {"shop", "way", "node1", "way-1"};
  Client client(world);
  client.send(waypoint_request(xds::kWaypointServiceType));
  client.send(waypoint_request(xds::kBackendType));
  client.take();
  world.publish(with_waypoint("shop/way"));
  auto answers = client.take();
  REQUIRE(answers.size() == 2);
  CHECK(answers[0].type_url() == xds::kBackendType);
  CHECK(answers[1].type_url() == xds::kWaypointServiceType);
}

TEST_CASE("a node proxy never sees what waypoints are told") {
  World world;
  world.caller = {"shop", "way", "node1", "way-1"};
  world.publish(with_waypoint("shop/way"));
  Client client(world);
  for (auto type : {xds::kWaypointServiceType, xds::kBackendType, xds::kWaypointSettingsType})
    client.send(waypoint_request(type, "ztunnel"));
  CHECK(client.take().empty());
}

TEST_CASE("a wildcard stream gets what changed and nothing else", "[apis18]") {
  World world;
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}, {}, {policy("ns", "p")}));
  Client client(world);
  auto request = first_request(kAddressType);
  bool star = GENERATE(false, true);
  if (star) request.add_resource_names_subscribe("*");
  client.send(request);
  client.send(first_request(kAuthorizationType));
  auto first = client.take();
  REQUIRE(first.size() == 2);
  CHECK(sent(first[0]) == Names{uid("ns", "a")});
  CHECK(first[0].resources(0).aliases().empty());
  CHECK(first[0].resources(0).resource().type_url() == kAddressType);

  world.publish(
      compiled({pod("ns", "a", {"10.0.0.1"}), pod("ns", "b", {"10.0.0.2"})}, {}, {policy("ns", "p")}));
  auto added = client.take_one();
  CHECK(sent(added) == Names{uid("ns", "b")});
  CHECK(removed(added).empty());

  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}, {}, {policy("ns", "p")}));
  auto gone = client.take_one();
  CHECK(sent(gone).empty());
  CHECK(removed(gone) == Names{uid("ns", "b")});

  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}, {}, {policy("ns", "p")}));
  CHECK(client.take().empty());
}

TEST_CASE("a reconnect costs what changed", "[apis19]") {
  World world;
  world.publish(compiled({pod("ns", "same", {"10.0.0.1"}), pod("ns", "stale", {"10.0.0.2"}),
                          pod("ns", "new", {"10.0.0.3"}), pod("ns", "empty", {"10.0.0.4"})}));
  Client client(world);
  auto request = first_request(kAddressType);
  auto& held = *request.mutable_initial_resource_versions();
  held[uid("ns", "same")] = world.ads.snapshot()->addresses.at(uid("ns", "same"))->version;
  held[uid("ns", "stale")] = "0";
  held[uid("ns", "empty")] = "";
  held[uid("ns", "gone")] = "1";
  client.send(request);
  auto answer = client.take_one();
  CHECK(sent(answer) == Names{uid("ns", "stale"), uid("ns", "new"), uid("ns", "empty")});
  CHECK(removed(answer) == Names{uid("ns", "gone")});
}

TEST_CASE("on demand: silence until asked, and what is asked for is followed", "[apis17]") {
  World world;
  Client client(world);
  client.send(on_demand_request());
  CHECK(client.take_one().resources().empty());

  world.publish(compiled({on_node(pod("ns", "far", {"10.0.0.1"}), "node2")}));
  CHECK(client.take().empty());
  auto near = on_node(pod("ns", "near", {"10.0.0.2"}), "node1");
  world.publish(compiled({on_node(pod("ns", "far", {"10.0.0.1"}), "node2"), near}));
  CHECK(sent(client.take_one()) == Names{uid("ns", "near")});

  client.send(subscribe({"/10.0.0.1"}));
  auto by_ip = client.take_one();
  REQUIRE(sent(by_ip) == Names{uid("ns", "far")});
  CHECK(by_ip.resources(0).aliases(0) == "/10.0.0.1");
  CHECK(removed(by_ip).empty());

  client.send(subscribe({"/10.0.0.7"}));
  CHECK(removed(client.take_one()) == Names{"/10.0.0.7"});
  auto late = on_node(pod("ns", "late", {"10.0.0.7"}), "node2");
  world.publish(compiled({on_node(pod("ns", "far", {"10.0.0.1"}), "node2"), near, late}));
  CHECK(sent(client.take_one()) == Names{uid("ns", "late")});
  world.publish(compiled({on_node(pod("ns", "far", {"10.0.0.1"}), "node2"), near}));
  CHECK(removed(client.take_one()) == Names{uid("ns", "late")});
}

TEST_CASE("on demand: a service brings its pods, and those that leave it", "[apis17]") {
  World world;
  auto member_a = in_service(pod("ns", "a", {"10.0.0.1"}), "ns/web.ns.svc");
  world.publish(compiled({member_a, pod("ns", "b", {"10.0.0.2"})}, {web()}));
  Client client(world);
  client.send(on_demand_request());
  client.take();
  client.send(subscribe({"/240.0.0.1"}));
  CHECK(sent(client.take_one()) == Names{"ns/web.ns.svc", uid("ns", "a")});
  world.publish(compiled({member_a, in_service(pod("ns", "b", {"10.0.0.2"}), "ns/web.ns.svc")}, {web()}));
  CHECK(sent(client.take_one()) == Names{uid("ns", "b")});
  world.publish(compiled(
      {pod("ns", "a", {"10.0.0.1"}), in_service(pod("ns", "b", {"10.0.0.2"}), "ns/web.ns.svc")}, {web()}));
  CHECK(sent(client.take_one()) == Names{uid("ns", "a")});
}

TEST_CASE("on demand: a reconnect keeps its subscriptions", "[apis19]") {
  World world;
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}));
  Client client(world);
  auto request = on_demand_request();
  (*request.mutable_initial_resource_versions())[uid("ns", "a")] =
      world.ads.snapshot()->addresses.at(uid("ns", "a"))->version;
  client.send(request);
  auto answer = client.take_one();
  CHECK(sent(answer).empty());
  CHECK(removed(answer).empty());
  world.publish(compiled({pod("ns", "a", {"10.0.0.5"})}));
  CHECK(sent(client.take_one()) == Names{uid("ns", "a")});
}

TEST_CASE("a name on a wildcard stream is answered, and not kept", "[apis20]") {
  World world;
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"}), pod("ns", "b", {"10.0.0.2"})}));
  Client client(world);
  client.open_both();
  client.send(subscribe({uid("ns", "a"), "/10.0.0.9"}));
  auto answer = client.take_one();
  CHECK(sent(answer) == Names{uid("ns", "a")});
  CHECK(removed(answer) == Names{"/10.0.0.9"});
  // The address of the unknown name comes up: news as any other, by its own name alone.
  world.publish(
      compiled({pod("ns", "a", {"10.0.0.1"}), pod("ns", "b", {"10.0.0.2"}), pod("ns", "c", {"10.0.0.9"})}));
  auto news = client.take_one();
  CHECK(sent(news) == Names{uid("ns", "c")});
  CHECK(removed(news).empty());
}

TEST_CASE("on demand: a name asked for again is answered again", "[apis17]") {
  World world;
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}));
  Client client(world);
  client.send(on_demand_request());
  client.take();
  for (int i = 0; i < 2; ++i) {
    client.send(subscribe({"/10.0.0.1", "/10.0.0.9"}));
    auto answer = client.take_one();
    CHECK(sent(answer) == Names{uid("ns", "a")});
    CHECK(removed(answer) == Names{"/10.0.0.9"});
  }
}

TEST_CASE("on demand: a reconnect that names addresses costs what it does not hold", "[apis19]") {
  World world;
  auto far = pod("ns", "a", {"10.0.0.1"});
  world.publish(compiled({far, pod("ns", "b", {"10.0.0.2"})}));
  Client client(world);
  auto request = on_demand_request();
  auto& held = *request.mutable_initial_resource_versions();
  held[uid("ns", "a")] = world.ads.snapshot()->addresses.at(uid("ns", "a"))->version;
  held["/10.0.0.1"] = "";
  SECTION("all of it is held") {
    client.send(request);
    auto answer = client.take_one();
    CHECK(sent(answer).empty());
    CHECK(removed(answer).empty());
    world.publish(compiled({pod("ns", "a", {"10.0.0.5"}), pod("ns", "c", {"10.0.0.1"})}));
    CHECK(sent(client.take_one()) == Names{uid("ns", "a"), uid("ns", "c")});
  }
  SECTION("one is not, one is nobody's") {
    held["/10.0.0.2"] = "";
    held["/10.0.0.3"] = "";
    client.send(request);
    auto answer = client.take_one();
    CHECK(sent(answer) == Names{uid("ns", "b")});
    CHECK(removed(answer) == Names{"/10.0.0.3"});
  }
  SECTION("one has no version") {
    held[uid("ns", "a")] = "";
    client.send(request);
    CHECK(sent(client.take_one()) == Names{uid("ns", "a")});
  }
}

TEST_CASE("names are bounded", "[apis20]") {
  World world;
  Client client(world);
  bool on_demand = GENERATE(false, true);
  client.send(on_demand ? on_demand_request() : first_request(kAddressType));
  client.take();
  auto code_after = [&](pbd::DeltaDiscoveryRequest request) {
    client.send(request);
    for (int i = 0; i < 100 && !client.ended; ++i) world.loop.run_for(100ms);
    REQUIRE(client.ended);
    return client.stream->status().code;
  };
  SECTION("their number") {
    std::vector<std::string> names;
    for (int i = 0; i <= 200'000; ++i) names.push_back("/" + std::to_string(i));
    CHECK(code_after(subscribe(std::move(names))) == conn::GrpcCode::kResourceExhausted);
  }
  SECTION("their length") {
    CHECK(code_after(subscribe({std::string(1025, 'x')})) == conn::GrpcCode::kInvalidArgument);
  }
  CHECK(world.ads.clients().empty());
}

TEST_CASE("policies go alone, and before the workloads that name them", "[apis21]") {
  World world;
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}));
  Client client(world);
  client.open_both();
  Workload guarded = pod("ns", "a", {"10.0.0.1"});
  guarded.authorization_policies = {"ns/p"};
  world.publish(compiled({guarded}, {}, {policy("ns", "p")}));
  auto on = client.take();
  REQUIRE(on.size() == 2);
  CHECK(on[0].type_url() == kAuthorizationType);
  CHECK(sent(on[0]) == Names{"ns/p"});
  CHECK(on[1].type_url() == kAddressType);
  // The other way round: first the workload lets go.
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}));
  auto off = client.take();
  REQUIRE(off.size() == 2);
  CHECK(off[0].type_url() == kAddressType);
  CHECK(removed(off[1]) == Names{"ns/p"});
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"}), pod("ns", "b", {"10.0.0.2"})}));
  CHECK(client.take_one().type_url() == kAddressType);
}

TEST_CASE("a rejected response is recorded and never sent again", "[apis22]") {
  World world;
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}));
  Client client(world);
  client.send(first_request(kAddressType));
  world.loop.run_for(10ms);
  REQUIRE(client.responses.size() == 1);
  auto answer = std::exchange(client.responses, {}).front();
  client.acknowledge(answer, "ns/a: bad");
  world.loop.run_for(10s);
  CHECK(client.responses.empty());
  auto seen = world.ads.clients();
  REQUIRE(seen.size() == 1);
  REQUIRE(seen[0].types.size() == 1);
  CHECK(seen[0].types[0].rejects == 1);
  CHECK(seen[0].types[0].last_error == "ns/a: bad");
  CHECK(world.ads.counters().rejects == 1);
  world.publish(compiled({pod("ns", "a", {"10.0.0.2"})}));
  CHECK(sent(client.take_one()) == Names{uid("ns", "a")});
}

TEST_CASE("a stale nonce is ignored", "[apis22]") {
  World world;
  Client client(world);
  client.send(first_request(kAddressType));
  client.take();
  auto before = world.ads.clients().at(0).types.at(0);
  pbd::DeltaDiscoveryResponse stale;
  stale.set_type_url(std::string(kAddressType));
  stale.set_nonce("nonsense");
  client.acknowledge(stale, "old news");
  CHECK(client.take().empty());
  auto after = world.ads.clients().at(0).types.at(0);
  CHECK(after.nonce_acked == before.nonce_acked);
  CHECK(after.rejects == 0);
  CHECK(world.ads.counters().stale_nonces == 1);
}

TEST_CASE("unsubscribing does not disturb what was acknowledged", "[apis22]") {
  World world;
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}));
  Client client(world);
  client.send(on_demand_request());
  client.take();
  client.send(subscribe({uid("ns", "a")}));
  client.take();
  auto before = world.ads.clients().at(0).types.at(0);
  pbd::DeltaDiscoveryRequest leave;
  leave.set_type_url(std::string(kAddressType));
  leave.add_resource_names_unsubscribe(uid("ns", "a"));
  client.send(leave);
  CHECK(world.ads.clients().at(0).types.at(0).nonce_acked == before.nonce_acked);
  world.publish(compiled({pod("ns", "a", {"10.0.0.2"})}));
  CHECK(client.take().empty());
}

TEST_CASE("who may not have a stream is told why", "[apis22]") {
  World world;
  auto status_of = [&](conn::Metadata metadata, const pbd::DeltaDiscoveryRequest& request) {
    Client client(world, std::move(metadata));
    client.send(request);
    world.loop.run_for(1s);
    CHECK(client.ended);
    return client.stream->status().code;
  };
  auto good = world.bearer(world.caller);
  SECTION("no node") {
    auto request = first_request(kAddressType);
    request.clear_node();
    CHECK(status_of(good, request) == conn::GrpcCode::kInvalidArgument);
  }
  SECTION("a node id of another shape") {
    for (const char* id :
         {"ztunnel", "ztunnel~x~a.b~c", "thing~10.0.0.1~a.b~c", "~~~", "ztunnel~10.0.0.1~a.b"}) {
      auto request = first_request(kAddressType);
      request.mutable_node()->set_id(id);
      CHECK(status_of(good, request) == conn::GrpcCode::kInvalidArgument);
    }
  }
  SECTION("another namespace") {
    auto request = first_request(kAddressType);
    (*request.mutable_node()->mutable_metadata()->mutable_fields())["NAMESPACE"].set_string_value("other");
    CHECK(status_of(good, request) == conn::GrpcCode::kPermissionDenied);
  }
  SECTION("no token, a bad one") {
    CHECK(status_of({}, first_request(kAddressType)) == conn::GrpcCode::kUnauthenticated);
    CHECK(status_of({{"authorization", "Bearer a.b.c"}}, first_request(kAddressType)) ==
          conn::GrpcCode::kUnauthenticated);
  }
  CHECK(world.ads.clients().empty());
}

TEST_CASE("changes while a response is unacknowledged become one response", "[apis18]") {
  World world;
  Client client(world);
  client.open_both();
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}));
  world.loop.run_for(10ms);
  REQUIRE(client.responses.size() == 1);
  for (int i = 2; i < 50; ++i) {
    world.publish(compiled({pod("ns", "a", {"10.0.0." + std::to_string(i)}), pod("ns", "b", {"10.0.1.1"})}));
    world.loop.run_for(10ms);
  }
  CHECK(client.responses.size() == 1);
  auto answers = client.take();
  REQUIRE(answers.size() == 2);
  CHECK(sent(answers[1]) == Names{uid("ns", "a"), uid("ns", "b")});
}

TEST_CASE("addresses wait for the policies they may name, removals for the addresses", "[apis21]") {
  World world;
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}));
  Client client(world);
  client.open_both();
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}, {}, {policy("ns", "p")}));
  world.loop.run_for(10ms);
  REQUIRE(client.responses.size() == 1);  // not acknowledged yet
  Workload guarded = pod("ns", "a", {"10.0.0.1"});
  guarded.authorization_policies = {"ns/q"};
  world.publish(compiled({guarded}, {}, {policy("ns", "q")}));
  world.loop.run_for(1s);
  CHECK(client.responses.size() == 1);
  auto answers = client.take();
  REQUIRE(answers.size() == 4);
  CHECK(sent(answers[0]) == Names{"ns/p"});
  CHECK(sent(answers[1]) == Names{"ns/q"});
  CHECK(sent(answers[2]) == Names{uid("ns", "a")});
  CHECK(removed(answers[3]) == Names{"ns/p"});
}

TEST_CASE("a policy that comes back before its removal was sent stays", "[apis21]") {
  World world;
  world.publish(compiled({pod("ns", "a", {"10.0.0.1"})}, {}, {policy("ns", "p")}));
  Client client(world);
  client.open_both();
  world.publish(compiled({pod("ns", "a", {"10.0.0.2"})}, {}, {policy("ns", "p")}));
  world.loop.run_for(10ms);
  world.publish(compiled({pod("ns", "a", {"10.0.0.3"})}));
  world.loop.run_for(10ms);
  world.publish(compiled({pod("ns", "a", {"10.0.0.3"})}, {}, {policy("ns", "p")}));
  bool last_is_there = true;
  for (const auto& answer : client.take()) {
    if (answer.type_url() != kAuthorizationType) continue;
    CHECK_FALSE((sent(answer).contains("ns/p") && removed(answer).contains("ns/p")));
    if (removed(answer).contains("ns/p")) last_is_there = false;
    if (sent(answer).contains("ns/p")) last_is_there = true;
  }
  CHECK(last_is_there);
}

}  // namespace
}  // namespace culvert::test
