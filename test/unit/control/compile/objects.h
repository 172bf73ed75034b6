// SPDX-License-Identifier: Apache-2.0
// YAML text to a compiled mesh, for tests.
#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "control/compile/compile.h"
#include "mesh/kube/decode.h"
#include "mesh/kube/directory_source.h"

namespace culvert::test {

inline control::Compiled compile_yaml(const std::string& yaml, const control::Compiled* previous = nullptr,
                                      const control::CompileOptions& options = {}) {
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
  return control::compile(*kube::assemble(items, problems), options, previous);
}

}  // namespace culvert::test
