// SPDX-License-Identifier: Apache-2.0
// /proc/PID/cgroup and /proc/PID/stat of processes that pods control.
#include "cni/proc_scan.h"
#include "net/base/check.h"

using namespace culvert::cni;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto identity = parse_cgroup(text);
  if (identity && *identity) CULVERT_CHECK((*identity)->pod_uid.size() == 36);
  (void)parse_start_time(text);
  return 0;
}
