// SPDX-License-Identifier: Apache-2.0
// Manifests, from the text to what the proxies are sent.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "control/compile/compile.h"
#include "mesh/kube/decode.h"
#include "mesh/kube/directory_source.h"
#include "mesh/xds/from_proto.h"
#include "mesh/xds/to_proto.h"

using namespace culvert;

namespace {

// A proxy must not refuse what we made of a user's text.
void check_accepted(const control::Compiled& compiled) {
  model::NamePool names;
  for (const auto& [name, workload] : compiled.workloads) {
    if (!xds::decode_address(base::as_bytes(xds::encode_address(*workload)), name, names)) abort();
  }
  for (const auto& [name, service] : compiled.services) {
    if (!xds::decode_address(base::as_bytes(xds::encode_address(*service)), name, names)) abort();
  }
  for (const auto& [name, policy] : compiled.policies) {
    auto again = xds::decode_authorization(base::as_bytes(xds::encode_authorization(*policy)), name, names);
    if (!again || *again != *policy) abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kube::DecodeLimits limits;
  limits.nodes_max = 10'000;  // an alias bomb ends quickly
  kube::DecodedFile file =
      kube::decode_manifests({reinterpret_cast<const char*>(data), size}, "fuzz.yaml", limits);
  std::vector<std::shared_ptr<const kube::AnyObject>> items;
  for (kube::Decoded& document : file.documents) {
    // An object, or the reason why there is none.
    if (document.object.has_value() == !document.problems.empty()) abort();
    if (document.object) {
      items.push_back(std::make_shared<const kube::AnyObject>(std::move(*document.object)));
    }
  }
  std::vector<kube::Problem> problems;
  kube::ObjectsRef objects = kube::assemble(items, problems);
  control::Compiled first = control::compile(*objects, {});
  check_accepted(first);
  control::Compiled second = control::compile(*objects, {}, &first);
  if (first.policies.size() != second.policies.size()) abort();
  return 0;
}
