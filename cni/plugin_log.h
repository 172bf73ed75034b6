// SPDX-License-Identifier: Apache-2.0
// The plugin's log: JSON lines on stderr and in <run_dir>/istio-cni.log (10 MB, one older file),
// and once at exit a batch to the agent's log socket (spec cni 5). stdout belongs to the protocol.
#pragma once

#include <string>
#include <vector>

#include "net/base/log.h"

namespace culvert::cni {

class PluginLog final : public base::Log {
 public:
  using Log::write;
  static constexpr size_t kFileBytesMax = 10'000'000;
  static constexpr size_t kLinesMax = 1000;  // kept for the socket

  void configure(std::string run_dir, const std::string& level);
  bool enabled(base::Level level, std::string_view target) const override;
  void write(base::Level level, std::string_view target, std::string_view message,
             std::span<const base::Field> fields) override;
  // Sends what was logged; failures are ignored: a log must not fail a pod.
  void flush();

 private:
  void append_to_file(const std::string& line);
  std::string run_dir_;
  base::Level level_ = base::Level::kInfo;
  std::vector<std::string> lines_;
};

}  // namespace culvert::cni
