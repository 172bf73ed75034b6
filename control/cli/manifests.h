// SPDX-License-Identifier: Apache-2.0
// Manifests from files and directories, for commands that work without a control plane.
#pragma once

#include <string>
#include <vector>

#include "mesh/kube/objects.h"
#include "mesh/kube/resource_source.h"
#include "net/base/result.h"

namespace culvert::control {

struct Manifests {
  kube::ObjectsRef objects;
  std::vector<kube::Problem> problems;  // what could not be used as written
};

// `paths`: files, or directories with all below them. An error: a path cannot be read, or there is no
// manifest.
base::Result<Manifests> read_manifests(const std::vector<std::string>& paths);

}  // namespace culvert::control
