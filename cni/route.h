// SPDX-License-Identifier: Apache-2.0
// The policy route of an enrolled pod, by rtnetlink in the calling thread's network namespace
// (spec cni 3.2): replies to connections that ztunnel opened with a client's address come back
// to it. Each family stands alone; what exists already, or is already gone, is success. Blocking.
#pragma once

#include <cstdint>

#include "net/base/result.h"

namespace culvert::cni {

inline constexpr uint32_t kRouteTable = 100;
inline constexpr uint32_t kRulePriority = 32764;

base::Result<> add_pod_routes(bool ipv6);
// Always both families: IPv6 may have been on when they were added.
base::Result<> remove_pod_routes();

}  // namespace culvert::cni
