// SPDX-License-Identifier: Apache-2.0
// RateLimitPolicies to what a waypoint charges (spec waypoint section 4). Pure.
//
// A part of a rule that cannot be read never makes it weaker: the rule then holds for every request.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "control/compile/guards.h"
#include "mesh/kube/l7_policies.h"

namespace culvert::control {

struct RateLimitScope {
  // Names or origins of the routes the policy is bound to, each with buckets of its own; empty: the service.
  std::vector<std::string> routes;
  // A service by name, in the policy's namespace if `ns` is ""; none: there is no such.
  std::function<std::optional<model::NamespacedHostname>(const std::string& name, const std::string& ns)>
      service;
  std::function<bool(const model::NamespacedHostname& service, uint16_t port)> has_port;
  uint32_t replicas = 1;  // ready ones of the waypoint; rules with share: Divided get their part
};

model::RateLimitPolicy compile_rate_limit_policy(const kube::RateLimitPolicy& policy,
                                                 const RateLimitScope& scope, const Complain& complain);

}  // namespace culvert::control
