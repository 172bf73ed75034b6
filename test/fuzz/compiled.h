// SPDX-License-Identifier: Apache-2.0
// What must hold of whatever was compiled: no proxy refuses what we made of a user's text, and reads it as we
// meant it.
#pragma once

#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "control/compile/compile.h"
#include "mesh/kube/decode.h"
#include "mesh/kube/directory_source.h"
#include "mesh/xds/from_proto.h"
#include "mesh/xds/to_proto.h"
#include "mesh/xds/waypoint_proto.h"

namespace culvert::fuzz {

inline kube::ObjectsRef read_manifests(std::string_view text) {
  kube::DecodeLimits limits;
  limits.nodes_max = 10'000;  // an alias bomb ends quickly
  kube::DecodedFile file = kube::decode_manifests(text, "fuzz.yaml", limits);
  std::vector<std::shared_ptr<const kube::AnyObject>> items;
  for (kube::Decoded& document : file.documents) {
    // An object, or the reason why there is none.
    if (document.object.has_value() == !document.problems.empty()) std::abort();
    if (document.object) {
      items.push_back(std::make_shared<const kube::AnyObject>(std::move(*document.object)));
    }
  }
  std::vector<kube::Problem> problems;
  return kube::assemble(items, problems);
}

inline void check_accepted(const control::Compiled& compiled) {
  model::NamePool names;
  for (const auto& [name, workload] : compiled.workloads) {
    if (!xds::decode_address(base::as_bytes(xds::encode_address(*workload)), name, names)) std::abort();
  }
  for (const auto& [name, service] : compiled.services) {
    if (!xds::decode_address(base::as_bytes(xds::encode_address(*service)), name, names)) std::abort();
  }
  for (const auto& [name, policy] : compiled.policies) {
    auto again = xds::decode_authorization(base::as_bytes(xds::encode_authorization(*policy)), name, names);
    if (!again || *again != *policy) std::abort();
  }
  for (const auto& [name, service] : compiled.waypoint_services) {
    auto again = xds::decode_waypoint_service(base::as_bytes(xds::encode(*service)), name);
    if (!again || *again != *service) std::abort();
  }
  for (const auto& [name, backend] : compiled.backends) {
    auto again = xds::decode_backend(base::as_bytes(xds::encode(*backend)), name);
    if (!again || *again != *backend) std::abort();
  }
  for (const auto& [name, labels] : compiled.workload_labels) {
    auto again = xds::decode_workload_labels(base::as_bytes(xds::encode(*labels)), name);
    if (!again || *again != *labels) std::abort();
  }
  if (compiled.settings) {
    auto again =
        xds::decode_waypoint_settings(base::as_bytes(xds::encode(*compiled.settings)), xds::kSettingsName);
    if (!again || *again != *compiled.settings) std::abort();
  }
}

}  // namespace culvert::fuzz
