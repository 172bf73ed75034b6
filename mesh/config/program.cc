// SPDX-License-Identifier: Apache-2.0
#include "mesh/config/program.h"

#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

namespace culvert::config {

base::Result<> raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return base::fail(base::Error::from_errno(errno, "read RLIMIT_NOFILE"));
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
    return base::fail(base::Error::from_errno(errno, "raise RLIMIT_NOFILE"));
  return {};
}

base::Result<std::unique_ptr<base::LineLog>> make_log(const std::string& filter_text, bool json,
                                                      base::LineLog::Sink sink) {
  auto filter = base::LogFilter::parse(filter_text);
  if (!filter) return base::fail(std::move(filter).error().wrap("RUST_LOG"));
  auto format = json ? base::LogFormat::kJson : base::LogFormat::kPlain;
  auto clock = [] { return std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now()); };
  return std::make_unique<base::LineLog>(std::move(*filter), format, clock, std::move(sink));
}

uint64_t random_seed() {
  uint64_t seed = 0;
  if (::getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = static_cast<uint64_t>(::getpid());
  return seed;
}

}  // namespace culvert::config
