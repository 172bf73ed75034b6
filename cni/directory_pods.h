// SPDX-License-Identifier: Apache-2.0
// The agent's view of the manifest directory: this node's Pods and all Namespaces, from
// mesh/kube's DirectorySource.
#pragma once

#include <memory>
#include <string>

#include "cni/program.h"

namespace culvert::cni {

std::unique_ptr<PodSource> make_directory_pods(async::Loop& loop, base::Log& log, std::string directory, std::string node);

}  // namespace culvert::cni
