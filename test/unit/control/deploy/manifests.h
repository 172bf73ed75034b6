// SPDX-License-Identifier: Apache-2.0
// YAML text to objects, for tests.
#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "mesh/kube/decode.h"
#include "mesh/kube/directory_source.h"

namespace culvert::test {

inline kube::ObjectsRef objects_of(const std::string& yaml) {
  kube::DecodedFile decoded = kube::decode_manifests(yaml, "test.yaml");
  if (decoded.syntax) FAIL(decoded.syntax->message);
  std::vector<std::shared_ptr<const kube::AnyObject>> items;
  for (auto& document : decoded.documents) {
    for (const auto& problem : document.problems)
      UNSCOPED_INFO(problem.origin.to_string() << " " << problem.message);
    REQUIRE(document.object);
    items.push_back(std::make_shared<const kube::AnyObject>(std::move(*document.object)));
  }
  std::vector<kube::Problem> problems;
  return kube::assemble(items, problems);
}

// A waypoint's Gateway; `more` are further lines of metadata (two spaces) and spec.
inline std::string gateway(const std::string& key, const std::string& metadata = "",
                           const std::string& spec = "") {
  size_t slash = key.find('/');
  return "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  namespace: " +
         key.substr(0, slash) + "\n  name: " + key.substr(slash + 1) + "\n" + metadata +
         "spec:\n  gatewayClassName: istio-waypoint\n" +
         (spec.find("listeners") == std::string::npos
              ? "  listeners: [{name: mesh, port: 15008, protocol: HBONE}]\n"
              : "") +
         spec + "---\n";
}

}  // namespace culvert::test
