// SPDX-License-Identifier: Apache-2.0
// StateDir: what the embedded control plane keeps between runs: CA, token key, VIPs. Directory 0700, secrets
// 0600, every write atomic (temporary file, fsync, rename).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "net/base/result.h"

namespace culvert::control {

class StateDir {
 public:
  // Creates it if needed.
  static base::Result<StateDir> open(std::string path);
  // Names are relative and may hold one subdirectory. nullopt: there is no such file.
  base::Result<std::optional<std::string>> read(const std::string& name) const;
  base::Result<> write(const std::string& name, std::string_view content, uint32_t mode) const;
  // False if it exists already: of two that race, one wins and the other reads.
  base::Result<bool> create(const std::string& name, std::string_view content, uint32_t mode) const;
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  explicit StateDir(std::string path) : path_(std::move(path)) {}
  base::Result<std::string> write_temporary(const std::string& name, std::string_view content,
                                            uint32_t mode) const;
  std::string path_;
};

}  // namespace culvert::control
