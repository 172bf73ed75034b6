// SPDX-License-Identifier: Apache-2.0
// YAML text as a tree of values that know their line. Private to mesh/kube.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace culvert::kube {

struct YamlValue {
  enum class Kind : unsigned char { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 0;      // 1-based
  std::string text;  // of a scalar
  std::vector<const YamlValue*> items;
  std::vector<std::pair<const YamlValue*, const YamlValue*>> fields;  // as written, doubles included

  // The value of the first such key, or null.
  const YamlValue* find(std::string_view key) const;
};

struct YamlError {
  int line = 0;  // 1-based; 0: unknown
  std::string message;
};

struct YamlLimits {
  int depth_max = 64;
  size_t values_max = 2'000'000;  // of one document, aliases not expanded
};

// Calls `each` with the root of one document after the other, valid during the call, until it returns false.
// An alias is the value it names, shared: a tree of aliases can be far larger walked than stored.
// An error ends the reading; documents before it have been given.
std::optional<YamlError> read_yaml(std::string_view text, const YamlLimits& limits,
                                   const std::function<bool(const YamlValue& root)>& each);

}  // namespace culvert::kube
