// SPDX-License-Identifier: Apache-2.0
#include "mesh/xds/delta_xds.h"

#include <catch2/catch.hpp>

#include "mesh/xds/from_proto.h"
#include "mesh/xds/to_proto.h"
#include "proto/discovery.pb.h"
#include "proto/workload.pb.h"
#include "test/unit/mesh/model/build_mesh.h"

namespace culvert::test {
namespace {

namespace pbd = ::envoy::service::discovery::v3;
using xds::DeltaXds;
using xds::DeltaXdsOptions;
using xds::kAddressType;
using xds::kAuthorizationType;
using xds::StreamEnd;

pbd::DeltaDiscoveryRequest request_of(const std::string& bytes) {
  pbd::DeltaDiscoveryRequest request;
  REQUIRE(request.ParseFromString(bytes));
  return request;
}

struct Response {
  pbd::DeltaDiscoveryResponse message;
  explicit Response(std::string_view type, std::string nonce = "n1") {
    message.set_type_url(std::string(type));
    message.set_nonce(std::move(nonce));
  }
  Response& add(std::string name, std::string version, std::string bytes) {
    auto& resource = *message.add_resources();
    resource.set_name(std::move(name));
    resource.set_version(std::move(version));
    resource.mutable_resource()->set_type_url(message.type_url());
    resource.mutable_resource()->set_value(std::move(bytes));
    return *this;
  }
  Response& add(const model::Workload& workload, std::string version = "1") {
    return add(workload.uid.str(), std::move(version), xds::encode_address(workload));
  }
  Response& remove(std::string name) {
    message.add_removed_resources(std::move(name));
    return *this;
  }
};

// DeltaXds with a store behind it, as the driver has it.
struct Client {
  model::MeshStore store{"node"};
  DeltaXds machine;
  explicit Client(DeltaXdsOptions options = {}) : machine(std::move(options)) {}
  DeltaXds::Outcome feed(const Response& response) {
    std::string bytes = response.message.SerializeAsString();
    auto outcome = machine.on_response(base::as_bytes(bytes), store.names());
    REQUIRE(outcome);
    store.apply(outcome->update);
    machine.applied(*outcome);
    return *std::move(outcome);
  }
};

}  // namespace

TEST_CASE("first requests: wildcard, Address then Authorization", "[apis2][X1]") {
  DeltaXdsOptions options;
  options.node.id = xds::ztunnel_node_id("", "pod", "ns");
  options.node.metadata = {{"NAME", "pod"}, {"CLUSTER_ID", "first"}, {"CLUSTER_ID", "c1"}};
  DeltaXds machine(options);
  auto requests = machine.start_stream();
  REQUIRE(requests.size() == 2);
  auto address = request_of(requests[0]), policies = request_of(requests[1]);
  CHECK(address.type_url() == kAddressType);
  CHECK(policies.type_url() == kAuthorizationType);
  for (const auto& request : {address, policies}) {
    CHECK(request.resource_names_subscribe_size() == 0);
    CHECK(request.resource_names_unsubscribe_size() == 0);
    CHECK(request.initial_resource_versions_size() == 0);
    CHECK(request.response_nonce().empty());
    CHECK(request.node().id() == "ztunnel~1.1.1.1~pod.ns~ns.svc.cluster.local");
    CHECK(request.node().metadata().fields().at("CLUSTER_ID").string_value() == "c1");
  }
}

TEST_CASE("on demand subscribes to and drops everything at once", "[apis2]") {
  DeltaXdsOptions options;
  options.on_demand = true;
  DeltaXds machine(options);
  auto requests = machine.start_stream();
  auto address = request_of(requests[0]), policies = request_of(requests[1]);
  REQUIRE(address.resource_names_subscribe_size() == 1);
  CHECK(address.resource_names_subscribe(0) == "*");
  CHECK(address.resource_names_unsubscribe(0) == "*");
  CHECK(policies.resource_names_subscribe_size() == 0);
  CHECK(machine.pending_types() == std::vector<std::string>{std::string(kAuthorizationType)});

  auto demand = machine.demand("/10.0.0.1");
  REQUIRE(demand);
  CHECK(request_of(*demand).resource_names_subscribe(0) == "/10.0.0.1");
  CHECK_FALSE(machine.demand("/10.0.0.1"));
  // A new stream asks for it again, as something wanted and not held.
  CHECK(request_of(machine.start_stream()[0]).initial_resource_versions().at("/10.0.0.1").empty());
  REQUIRE(machine.undemand("/10.0.0.1"));
  CHECK_FALSE(machine.undemand("/10.0.0.1"));
}

TEST_CASE("on demand names are bounded, the least recently used goes") {
  DeltaXdsOptions options;
  options.on_demand = true;
  options.on_demand_names_max = 2;
  DeltaXds machine(options);
  machine.demand("a");
  machine.demand("b");
  machine.demand("a");
  auto request = request_of(*machine.demand("c"));
  REQUIRE(request.resource_names_unsubscribe_size() == 1);
  CHECK(request.resource_names_unsubscribe(0) == "b");
}

TEST_CASE("ready only after both types were applied", "[apis1][X1]") {
  Client client;
  client.machine.start_stream();
  CHECK_FALSE(client.machine.ready());
  client.feed(Response(kAddressType).add(pod("ns", "a", {"10.0.0.1"})));
  CHECK_FALSE(client.machine.ready());
  CHECK(client.machine.pending_types() == std::vector<std::string>{std::string(kAuthorizationType)});
  client.feed(Response(kAuthorizationType));
  CHECK(client.machine.ready());
  CHECK(client.store.view()->workload_at("", ip("10.0.0.1")));
}

TEST_CASE("one bad resource rejects only itself", "[apis3][R21][X1]") {
  Client client;
  client.machine.start_stream();
  auto good = pod("ns", "good", {"10.0.0.1"});
  auto outcome = client.feed(Response(kAddressType, "nonce-7").add(good, "v1").add("bad", "v1", "\xff\xff"));
  auto reply = request_of(outcome.reply);
  CHECK(reply.type_url() == kAddressType);
  CHECK(reply.response_nonce() == "nonce-7");
  REQUIRE(reply.has_error_detail());
  CHECK(reply.error_detail().code() == 0);
  CHECK(reply.error_detail().message() == "bad: not a serialized istio.workload.Address");
  CHECK_FALSE(reply.has_node());
  CHECK(reply.resource_names_subscribe_size() == 0);
  CHECK(client.store.view()->workload(good.uid));
  // Received, though in part: readiness does not hang on a resource the server will never send again.
  client.feed(Response(kAuthorizationType));
  CHECK(client.machine.ready());
  CHECK(client.machine.rejected_total() == 1);

  auto requests = client.machine.start_stream();
  auto versions = request_of(requests[0]).initial_resource_versions();
  CHECK(versions.size() == 1);
  CHECK(versions.at(good.uid) == "v1");
  CHECK(request_of(requests[1]).initial_resource_versions_size() == 0);
}

TEST_CASE("a good response is acknowledged plainly", "[apis1]") {
  Client client;
  client.machine.start_stream();
  auto outcome = client.feed(Response(kAuthorizationType, "n2"));
  auto reply = request_of(outcome.reply);
  CHECK(reply.response_nonce() == "n2");
  CHECK_FALSE(reply.has_error_detail());
  CHECK(reply.type_url() == kAuthorizationType);
}

TEST_CASE("a rejected update keeps the version that is held", "[apis3]") {
  Client client;
  client.machine.start_stream();
  auto workload = pod("ns", "a", {"10.0.0.1"});
  client.feed(Response(kAddressType).add(workload, "v1"));
  client.feed(Response(kAddressType).add(workload.uid.str(), "v2", "\xff"));
  CHECK(client.store.view()->workload(workload.uid));
  CHECK(request_of(client.machine.start_stream()[0]).initial_resource_versions().at(workload.uid.str()) ==
        "v1");
}

TEST_CASE("state outlives the stream; the next one may remove", "[apis4][X1]") {
  Client client;
  client.machine.start_stream();
  auto workload = pod("ns", "a", {"10.0.0.1"});
  client.feed(Response(kAddressType).add(workload));
  client.machine.start_stream();
  CHECK(client.store.view()->workload(workload.uid));
  auto outcome = client.feed(Response(kAddressType).remove(workload.uid.str()));
  CHECK(outcome.removed == 1);
  CHECK_FALSE(client.store.view()->workload(workload.uid));
  CHECK(client.machine.held(kAddressType) == 0);
}

TEST_CASE("removing what is unknown does nothing", "[apis9]") {
  Client client;
  client.machine.start_stream();
  auto outcome = client.feed(Response(kAddressType).remove("/invalid").remove("a/b/c/d").remove(""));
  CHECK(outcome.removed == 0);
  CHECK_FALSE(request_of(outcome.reply).has_error_detail());
}

TEST_CASE("a large response is applied before anybody is answered", "[apis5]") {
  bool on_demand = GENERATE(false, true);
  DeltaXdsOptions options;
  options.on_demand = on_demand;
  Client client(options);
  client.machine.start_stream();
  Response response(kAddressType);
  for (int i = 0; i < 10000; ++i) {
    auto workload = pod("ns", "p" + std::to_string(i), {});
    workload.addresses = {base::IpAddr::v4(10, 1, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i))};
    response.add(workload);
  }
  response.message.mutable_resources(9999)->add_aliases("/10.1.39.15");
  auto outcome = client.feed(response);
  CHECK(outcome.accepted == 10000);
  CHECK(client.store.view()->workload_count() == 10000);
  CHECK(client.store.stats().updates == 1);
  // Nobody waits for a name without on-demand; with it the name and its alias both count as answered.
  CHECK(outcome.answered.size() == (on_demand ? 10001 : 0));
  if (on_demand) CHECK(outcome.answered.back() == "/10.1.39.15");
}

TEST_CASE("wrong types are rejected", "[apis3]") {
  Client client;
  client.machine.start_stream();
  auto unknown = client.feed(Response("type.googleapis.com/istio.workload.Workload"));
  CHECK(request_of(unknown.reply).has_error_detail());
  CHECK(unknown.type_url.empty());

  auto workload = pod("ns", "a", {"10.0.0.1"});
  Response mixed(kAddressType);
  mixed.add(workload);
  mixed.message.mutable_resources(0)->mutable_resource()->set_type_url(std::string(kAuthorizationType));
  CHECK(client.feed(mixed).rejected.size() == 1);

  std::string junk = "\xff\xff\xff";
  CHECK_FALSE(client.machine.on_response(base::as_bytes(junk), client.store.names()));
}

TEST_CASE("a first request too large goes without versions and sweeps", "[apis15]") {
  DeltaXdsOptions options;
  options.first_request_bytes_max = 2000;
  Client client(options);
  client.machine.start_stream();
  Response everything(kAddressType);
  std::vector<model::Workload> workloads;
  for (int i = 0; i < 100; ++i) workloads.push_back(pod("ns", "p" + std::to_string(i), {}));
  for (const auto& workload : workloads) everything.add(workload);
  client.feed(everything);

  CHECK(request_of(client.machine.start_stream()[0]).initial_resource_versions_size() == 0);
  Response rest(kAddressType);
  rest.add(workloads[1]).add(workloads[2].uid.str(), "2", "\xff");
  auto outcome = client.feed(rest);
  CHECK(outcome.removed == 98);
  CHECK(client.store.view()->workload_count() == 2);
  // Named but unreadable is not gone.
  CHECK(client.store.view()->workload(workloads[2].uid));
  // Only the first response is everything.
  client.feed(Response(kAddressType).add(workloads[3]));
  CHECK(client.store.view()->workload_count() == 3);
}

TEST_CASE("a refused first request is repeated without versions once", "[apis15]") {
  Client client;
  client.machine.start_stream();
  client.feed(Response(kAddressType).add(pod("ns", "a", {})));
  client.machine.forget_versions_once();
  CHECK(request_of(client.machine.start_stream()[0]).initial_resource_versions_size() == 0);
  CHECK(request_of(client.machine.start_stream()[0]).initial_resource_versions_size() == 1);
}

TEST_CASE("JSON metadata becomes typed values", "[apis14][X1]") {
  DeltaXdsOptions options;
  options.node.metadata = {{"TEXT", "\"a\"", true},     {"NUMBER", "1.5", true},
                           {"TRUTH", "true", true},     {"NOTHING", "null", true},
                           {"LIST", "[1,\"b\"]", true}, {"OBJECT", "{\"k\":{\"n\":1}}", true},
                           {"BROKEN", "{", true},       {"PLAIN", "{", false}};
  DeltaXds machine(options);
  auto first = request_of(machine.start_stream()[0]);
  const auto& fields = first.node().metadata().fields();
  CHECK(fields.at("TEXT").string_value() == "a");
  CHECK(fields.at("NUMBER").number_value() == 1.5);
  CHECK(fields.at("TRUTH").bool_value());
  CHECK(fields.at("NOTHING").kind_case() == google::protobuf::Value::kNullValue);
  CHECK(fields.at("LIST").list_value().values(1).string_value() == "b");
  CHECK(fields.at("OBJECT").struct_value().fields().at("k").struct_value().fields().at("n").number_value() ==
        1);
  CHECK(fields.at("PLAIN").string_value() == "{");
  CHECK(fields.count("BROKEN") == 0);
  CHECK(machine.metadata_errors() == std::vector<std::string>{"BROKEN is not JSON"});
}

TEST_CASE("how streams end", "[apis14]") {
  CHECK(xds::classify_stream_end(0, "") == StreamEnd::kClean);
  CHECK(xds::classify_stream_end(1, "") == StreamEnd::kRecycled);
  CHECK(xds::classify_stream_end(2, "anything") == StreamEnd::kRecycled);
  CHECK(xds::classify_stream_end(4, "") == StreamEnd::kRecycled);
  CHECK(xds::classify_stream_end(14, "transport is closing") == StreamEnd::kRecycled);
  CHECK(xds::classify_stream_end(14, "code: received prior goaway: NO_ERROR") == StreamEnd::kRecycled);
  CHECK(xds::classify_stream_end(14, "connection refused") == StreamEnd::kRefused);
  CHECK(xds::classify_stream_end(16, "") == StreamEnd::kRefused);
  CHECK(xds::classify_stream_end(8, "") == StreamEnd::kRefused);

  CHECK(xds::to_string(StreamEnd::kFailedToOpen) == "ConnectionError");
  CHECK(xds::to_string(StreamEnd::kRecycled) == "Reconnect");
  CHECK(xds::to_string(StreamEnd::kRefused) == "Error");
  CHECK(xds::to_string(StreamEnd::kClean) == "Complete");
}

TEST_CASE("backoff doubles from ten milliseconds to fifteen seconds", "[apis14]") {
  using namespace std::chrono_literals;
  base::Rng rng(1);
  xds::XdsBackoff backoff;
  auto near = [](base::Duration wait, base::Duration nominal) {
    return wait >= nominal * 8 / 10 && wait <= nominal * 12 / 10;
  };
  base::Duration nominal = 20ms;
  for (int i = 0; i < 15; ++i) {
    CHECK(near(backoff.after(StreamEnd::kFailedToOpen, 0s, rng), nominal));
    nominal = std::min<base::Duration>(15s, nominal * 2);
  }
  CHECK(nominal == 15s);
  CHECK(near(backoff.after(StreamEnd::kRecycled, 5s, rng), 10ms));
  CHECK(near(backoff.after(StreamEnd::kRefused, 5s, rng), 20ms));
  // A stream that lived long starts anew.
  for (int i = 0; i < 15; ++i) (void)backoff.after(StreamEnd::kRefused, 0s, rng);
  CHECK(near(backoff.after(StreamEnd::kRefused, 61s, rng), 20ms));
  CHECK(backoff.after(StreamEnd::kClean, 5s, rng) == 0s);
  // A server that ends every stream at once is not asked in a tight loop.
  CHECK(backoff.after(StreamEnd::kClean, 0s, rng) > 0s);
}

}  // namespace culvert::test
