// SPDX-License-Identifier: Apache-2.0
// DestinationRules to what waypoints are told about backends (spec waypoint section 2.3). Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "control/compile/credentials.h"
#include "mesh/kube/destination_rule.h"
#include "mesh/kube/mesh_config.h"
#include "mesh/model/backend.h"

namespace culvert::control {

// A host as VirtualServices and DestinationRules write it: a short name belongs to `ns`.
std::string resolve_host(std::string_view host, std::string_view ns, std::string_view cluster_domain);
// "*" and "*.suffix" match; 0: not at all, else the longer the more specific, exact first.
size_t host_rank(std::string_view pattern, std::string_view hostname);
// Whether an object of `owner_ns` is there for `ns`: exportTo of ".", "*" or names; empty: all.
bool exported_to(const std::vector<std::string>& export_to, std::string_view owner_ns, std::string_view ns);

// The rules for one service, of one namespace, oldest first: the first one's policy counts, subsets are
// gathered (section 2.3.1). `mesh` may be null.
model::Backend compile_backend(const model::NamespacedHostname& service,
                               const std::vector<const kube::DestinationRule*>& rules,
                               const kube::MeshConfig* mesh, const Credentials& credentials);

}  // namespace culvert::control
