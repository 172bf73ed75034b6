// SPDX-License-Identifier: Apache-2.0
// Environment: a snapshot of the process environment, and typed reads whose errors name the
// variable. Read once at start by one thread (spec ztunnel section 11).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/base/duration.h"
#include "net/base/result.h"

namespace culvert::config {

class Environment {
 public:
  Environment() = default;
  explicit Environment(std::map<std::string, std::string> values) : values_(std::move(values)) {}
  // `block` is the array main() received; entries without '=' are skipped.
  static Environment from_block(char** block);

  // nullopt: not set. A variable set to "" is present.
  std::optional<std::string> get(std::string_view name) const;
  std::string get_or(std::string_view name, std::string_view fallback) const;
  bool has(std::string_view name) const { return get(name).has_value(); }

  // Exactly "true" or "false".
  base::Result<bool> boolean(std::string_view name, bool fallback) const;
  base::Result<base::Duration> duration(std::string_view name, base::Duration fallback) const;
  // A decimal number of at most `limit`; nullopt if unset.
  base::Result<std::optional<uint64_t>> number(std::string_view name, uint64_t limit) const;
  base::Result<uint64_t> number_or(std::string_view name, uint64_t fallback, uint64_t limit) const;

  // Every variable that starts with `prefix`, with the prefix removed, in name order.
  std::map<std::string, std::string> with_prefix(std::string_view prefix) const;

 private:
  std::map<std::string, std::string> values_;
};

// How configuration reads files: kNotFound if the file does not exist. Programs pass
// `read_file_from_disk`, tests a table.
using FileReader = std::function<base::Result<std::string>(const std::string& path)>;
base::Result<std::string> read_file_from_disk(const std::string& path);

}  // namespace culvert::config
