// SPDX-License-Identifier: Apache-2.0
// Short ways to write down what a compilation gives.
#pragma once

#include "control/compile/compile.h"
#include "test/unit/mesh/model/build_mesh.h"

namespace culvert::test {

inline std::string uid(std::string_view ns, std::string_view name) {
  return "cluster1//Pod/" + std::string(ns) + "/" + std::string(name);
}

inline model::Policy policy(std::string_view ns, std::string_view name) {
  model::Policy result;
  result.ns = ns;
  result.name = name;
  result.scope = model::PolicyScope::kNamespace;
  return result;
}

inline control::Compiled compiled(std::vector<Workload> workloads, std::vector<Service> services = {},
                                  std::vector<model::Policy> policies = {}) {
  control::Compiled out;
  for (auto& one : workloads) out.workloads[one.uid.str()] = std::make_shared<const Workload>(one);
  for (auto& one : services) {
    out.services[one.ns.str() + "/" + one.hostname.str()] = std::make_shared<const Service>(one);
  }
  for (auto& one : policies) out.policies[one.key()] = std::make_shared<const model::Policy>(one);
  return out;
}

}  // namespace culvert::test
