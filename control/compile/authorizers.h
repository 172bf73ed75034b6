// SPDX-License-Identifier: Apache-2.0
// External authorizers: what CUSTOM policies name, from meshConfig.extensionProviders to what a waypoint asks
// (spec waypoint section 2.6.6). Pure.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "control/compile/guards.h"
#include "mesh/kube/mesh_config.h"

namespace culvert::control {

struct AuthorizerScope {
  const kube::MeshConfig* mesh = nullptr;  // null: none was given
  std::string root_namespace, cluster_domain;
  // A service by host, in a namespace; none: there is no such.
  std::function<std::optional<model::NamespacedHostname>(const std::string& host, const std::string& ns)>
      service;
  std::function<bool(const model::NamespacedHostname& service, uint16_t port)> has_port;
};

// nullopt: nobody can be asked by that name, `complain` has been told why, and what asks for it is refused.
std::optional<model::Authorizer> compile_authorizer(const std::string& name, const AuthorizerScope& scope,
                                                    const Complain& complain);

}  // namespace culvert::control
