// SPDX-License-Identifier: Apache-2.0
// The agent's view of the manifest directory: this node's Pods and all Namespaces, from
// mesh/kube's DirectorySource, read again as soon as something changes there.
#pragma once

#include <memory>
#include <string>

#include "cni/program.h"
#include "mesh/kube/objects.h"

namespace culvert::cni {

// Pure: what the agent needs of a set of objects. Unusable addresses are left out.
Cluster cluster_of(const kube::Objects& objects, const std::string& node);

std::unique_ptr<PodSource> make_directory_pods(async::Loop& loop, base::Log& log, std::string directory,
                                               std::string node);

}  // namespace culvert::cni
