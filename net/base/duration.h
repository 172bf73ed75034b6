// SPDX-License-Identifier: Apache-2.0
// Time as values. Nothing here reads a clock: `now` comes from a Loop (design section 6.9).
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "net/base/result.h"

namespace culvert::base {

using Duration = std::chrono::nanoseconds;

// Tag for the loop's monotonic clock; it has no now() on purpose.
struct MonoClock {
  using rep = Duration::rep;
  using period = Duration::period;
  using duration = Duration;
  using time_point = std::chrono::time_point<MonoClock, Duration>;
  static constexpr bool is_steady = true;
};
using TimePoint = MonoClock::time_point;

// Calendar time (certificates, logs).
using WallTime = std::chrono::sys_time<Duration>;

// "250ms", "5m", "1m30s", "24h"; a bare number is seconds (spec ztunnel section 11).
Result<Duration> parse_duration(std::string_view text);
// Largest unit that keeps it readable: "13ms", "1.5s", "2m0s".
std::string format_duration(Duration duration);
// "2026-08-20T12:00:00.123456Z"; digits 0 (seconds), 3 or 6.
std::string format_rfc3339(WallTime time, int fraction_digits);

}  // namespace culvert::base
