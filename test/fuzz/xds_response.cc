// SPDX-License-Identifier: Apache-2.0
// What a control plane may send. The first byte says what the rest is: a whole response, one Address, or one
// Authorization (wrapped into a response under a fitting name, so that it gets past the outer decoder).
#include <cstdint>
#include <cstdlib>
#include <string>
#include <variant>

#include "mesh/model/store.h"
#include "mesh/xds/delta_xds.h"
#include "mesh/xds/from_proto.h"
#include "mesh/xds/to_proto.h"
#include "proto/discovery.pb.h"

using namespace culvert;

namespace {

// What we accepted we can also say, and then accept the same.
void check_address(base::ByteView bytes, model::NamePool& names) {
  auto first = xds::decode_address(bytes, "", names);
  if (!first) return;
  std::string again = std::visit([](const auto& value) { return xds::encode_address(value); }, *first);
  auto second = xds::decode_address(base::as_bytes(again), "", names);
  if (!second || second->index() != first->index()) abort();
  if (std::visit([](const auto& value) { return xds::encode_address(value); }, *second) != again) abort();
}

void check_policy(base::ByteView bytes, model::NamePool& names) {
  auto first = xds::decode_authorization(bytes, "", names);
  if (!first) return;
  auto second = xds::decode_authorization(base::as_bytes(xds::encode_authorization(*first)), "", names);
  if (!second || *second != *first) abort();
}

std::string wrap(std::string_view type, std::string name, base::ByteView bytes) {
  envoy::service::discovery::v3::DeltaDiscoveryResponse response;
  response.set_type_url(std::string(type));
  auto& resource = *response.add_resources();
  resource.set_name(std::move(name));
  resource.mutable_resource()->set_type_url(std::string(type));
  resource.mutable_resource()->set_value(std::string(base::as_text(bytes)));
  response.add_removed_resources("ns/removed");
  return response.SerializeAsString();
}

void feed(const std::string& message) {
  model::MeshStore store("node");
  xds::DeltaXds machine({});
  machine.start_stream();
  for (int round = 0; round < 2; ++round) {
    auto outcome = machine.on_response(base::as_bytes(message), store.names());
    if (!outcome) return;
    envoy::service::discovery::v3::DeltaDiscoveryRequest reply;
    if (!reply.ParseFromString(outcome->reply)) abort();
    if (reply.has_error_detail() != !outcome->rejected.empty()) abort();
    store.apply(std::move(outcome->update));
    machine.applied(*outcome);
    machine.forget_versions_once();
    for (const auto& request : machine.start_stream()) {
      if (!reply.ParseFromString(request)) abort();
    }
  }
  // Everything can be taken out again, and nothing is left in any index.
  model::MeshUpdate gone;
  gone.removed_addresses = store.address_names();
  gone.removed_policies = store.policy_names();
  bool odd_names = false;  // a service whose hostname holds a slash cannot be named for removal
  store.view()->each_service([&](const model::ServiceRef& s) {
    odd_names |= !model::NamespacedHostname::parse(s->key().to_string());
  });
  store.apply(std::move(gone));
  if (!odd_names && (store.view()->workload_count() || store.view()->service_count())) abort();
  if (store.view()->policy_count()) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  base::ByteView rest(data + 1, size - 1);
  model::NamePool names;
  switch (data[0] % 3) {
    case 0: feed(std::string(base::as_text(rest))); break;
    case 1: {
      check_address(rest, names);
      auto address = xds::decode_address(rest, "", names);
      if (!address) break;
      const auto* workload = std::get_if<model::Workload>(&*address);
      feed(wrap(xds::kAddressType,
                workload ? workload->uid.str() : std::get<model::Service>(*address).key().to_string(), rest));
      break;
    }
    default: {
      check_policy(rest, names);
      auto policy = xds::decode_authorization(rest, "", names);
      if (policy) feed(wrap(xds::kAuthorizationType, policy->key(), rest));
    }
  }
  return 0;
}
