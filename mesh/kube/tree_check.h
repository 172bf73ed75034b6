// SPDX-License-Identifier: Apache-2.0
// TreeCheck: what is refused in any YAML before a field of it is read. Private to mesh/kube.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "mesh/kube/yaml_tree.h"

namespace culvert::kube {

// Walks a document once, aliases expanded.
class TreeCheck {
 public:
  explicit TreeCheck(size_t nodes_max) : left_(nodes_max) {}

  // False: an alias bomb, or too deep.
  bool walk(const YamlValue& value, int depth_left);
  struct Fault {
    std::string message;
    int line = 0;
  };
  // The first thing of which nobody can tell what was meant.
  const std::optional<Fault>& fault() const { return fault_; }

 private:
  void check_key(const YamlValue& key, std::set<std::string_view>& keys);
  void find(std::string message, const YamlValue& at);

  size_t left_;
  std::optional<Fault> fault_;
};

}  // namespace culvert::kube
