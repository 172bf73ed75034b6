// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/profile.h"

#include <catch2/catch.hpp>
#include <cmath>

namespace culvert::ztunnel {

TEST_CASE("what may be asked of a profile", "[X3]") {
  CHECK(parse_profile_request("")->seconds == 10);
  CHECK(parse_profile_request("")->frequency == 100);
  CHECK(parse_profile_request("seconds=300&frequency=1000")->seconds == 300);
  for (const char* bad :
       {"seconds=0", "seconds=301", "frequency=0", "frequency=1001", "seconds=x", "seconds=1x", "seconds="}) {
    CHECK_FALSE(parse_profile_request(bad).has_value());
  }
}

TEST_CASE("our own threads are sampled, or the kernel's refusal is told", "[X3]") {
  auto profiler = CpuProfiler::start(1000);
  if (!profiler) {
    CHECK(profiler.error().message().find("perf_event_open") != std::string::npos);
    return;
  }
  double sum = 0;
  for (int i = 0; i < 20'000'000; ++i) sum += std::sqrt(static_cast<double>(i));
  CHECK(sum > 0);
  std::string profile = (*profiler)->finish(std::chrono::seconds(1));
  REQUIRE(profile.size() > 20);
  CHECK(profile.substr(0, 2) == "\x1f\x8b");
}

}  // namespace culvert::ztunnel
