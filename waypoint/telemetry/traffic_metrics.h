// SPDX-License-Identifier: Apache-2.0
// TrafficMetrics: the istio_* series of a waypoint (spec waypoint section 5.1). Written by every data loop,
// rendered on the control loop; a write takes one of several locks for the length of one lookup.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "net/base/duration.h"

namespace culvert::waypoint {

enum class Metric : uint8_t {
  kRequests,
  kDuration,  // milliseconds
  kRequestBytes,
  kResponseBytes,
  kRequestMessages,
  kResponseMessages,
  kTcpOpened,
  kTcpClosed,
  kTcpSent,      // towards the client
  kTcpReceived,  // from the client
};
inline constexpr size_t kMetrics = 10;
// "istio_requests_total"
std::string_view metric_name(Metric metric);

class TrafficMetrics {
 public:
  // Label sets; what comes beyond shares one that says overflow="true".
  static constexpr size_t kSeriesMax = 50'000;
  // A set that was not written for so long is dropped after it has been rendered once more.
  static constexpr base::Duration kIdleMax = std::chrono::hours(1);

  struct Observation {
    Metric metric;
    double value;
  };
  // `labels` is the text between the braces. Any thread.
  void record(std::string_view labels, std::span<const Observation> observations, base::TimePoint now);
  // Prometheus text. One caller at a time.
  std::string render(base::TimePoint now);
  uint64_t overflows() const { return overflows_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kShards = 16;
  static constexpr std::array<double, 19> kBounds{0.5,   1,      5,      10,      25,     50,    100,
                                                  250,   500,    1000,   2500,    5000,   10000, 30000,
                                                  60000, 300000, 600000, 1800000, 3600000};
  struct Histogram {
    std::array<uint64_t, kBounds.size() + 1> counts{};  // not cumulative; the last is +Inf
    double sum = 0;
  };
  static constexpr size_t kHistograms = 3;  // kDuration to kResponseBytes
  struct Series {
    std::array<uint64_t, kMetrics> counters{};  // of a histogram: its count
    std::array<Histogram, kHistograms> histograms{};
    uint32_t touched = 0;  // a bit for each metric
    base::TimePoint used{};
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  struct Shard {
    std::mutex mutex;
    std::unordered_map<std::string, std::unique_ptr<Series>, Hash, std::equal_to<>> series;
  };
  static size_t histogram_of(Metric metric) {
    return static_cast<size_t>(metric) - static_cast<size_t>(Metric::kDuration);
  }
  static bool is_histogram(Metric metric) { return histogram_of(metric) < kHistograms; }

  std::array<Shard, kShards> shards_;
  std::atomic<size_t> count_{0};
  std::atomic<uint64_t> overflows_{0};
};

}  // namespace culvert::waypoint
