// SPDX-License-Identifier: Apache-2.0
// CPU profiles of our own process for /debug/pprof/profile (spec ztunnel section 10): the kernel samples
// every thread and walks its frame pointers (perf_event_open), so that nothing runs inside the sampled code.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/base/duration.h"
#include "net/base/result.h"

namespace culvert::ztunnel {

class CpuProfiler {
 public:
  static constexpr size_t kRingPages = 256;  // of each thread; samples that find no room are lost

  // Begins to sample all present threads `frequency` times a second of processor time. kUnsupported, in
  // words: the kernel does not allow it.
  static base::Result<std::unique_ptr<CpuProfiler>> start(uint32_t frequency);
  ~CpuProfiler();
  CpuProfiler(const CpuProfiler&) = delete;

  // Ends sampling; a gzipped perftools.profiles.Profile.
  std::string finish(base::Duration sampled);

 private:
  struct Thread;
  explicit CpuProfiler(uint32_t frequency);
  uint32_t frequency_;
  std::vector<std::unique_ptr<Thread>> threads_;
};

// "?seconds=10&frequency=100": 1 to 300 and 1 to 1000. kInvalid otherwise.
struct ProfileRequest {
  uint32_t seconds = 10;
  uint32_t frequency = 100;
};
base::Result<ProfileRequest> parse_profile_request(std::string_view query);

}  // namespace culvert::ztunnel
