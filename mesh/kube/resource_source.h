// SPDX-License-Identifier: Apache-2.0
// ResourceSource: where objects come from: a directory of manifests (directory_source.h), later an API
// server. Lives on the control loop.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mesh/kube/objects.h"

namespace culvert::kube {

// Something a user wrote that cannot be used as written.
struct Problem {
  Origin origin;
  std::string object;   // "Service production/web", or empty
  std::string message;  // what is wrong and what to write instead
  bool kept_last_good = false;
};

class ResourceSource {
 public:
  virtual ~ResourceSource() = default;
  // The newest consistent set; empty before the first.
  virtual ObjectsRef objects() const = 0;
  // True once the whole of the source has been read.
  virtual bool synced() const = 0;
  // What is wrong at present.
  virtual const std::vector<Problem>& problems() const = 0;
  // Called after objects() or problems() changed.
  virtual void on_change(std::function<void()> call) = 0;
};

}  // namespace culvert::kube
