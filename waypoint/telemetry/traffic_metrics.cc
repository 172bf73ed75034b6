// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/traffic_metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <vector>

namespace culvert::waypoint {

namespace {

constexpr std::string_view kOverflow = "reporter=\"waypoint\",overflow=\"true\"";

struct Name {
  std::string_view name, help;
};
constexpr Name kNames[kMetrics] = {
    {"istio_requests_total", "Requests, at the end of their stream."},
    {"istio_request_duration_milliseconds", "From the first byte in to the last byte out."},
    {"istio_request_bytes", "Headers and bodies of requests."},
    {"istio_response_bytes", "Headers and bodies of responses."},
    {"istio_request_messages_total", "gRPC messages from clients."},
    {"istio_response_messages_total", "gRPC messages to clients."},
    {"istio_tcp_connections_opened_total", "TCP streams opened."},
    {"istio_tcp_connections_closed_total", "TCP streams ended."},
    {"istio_tcp_sent_bytes_total", "Bytes of TCP streams towards the client."},
    {"istio_tcp_received_bytes_total", "Bytes of TCP streams from the client."},
};

}  // namespace

std::string_view metric_name(Metric metric) { return kNames[static_cast<size_t>(metric)].name; }

void TrafficMetrics::record(std::string_view labels, std::span<const Observation> observations,
                            base::TimePoint now) {
  Shard& shard = shards_[Hash{}(labels) % kShards];
  std::unique_lock lock(shard.mutex);
  auto found = shard.series.find(labels);
  if (found == shard.series.end()) {
    if (count_.load(std::memory_order_relaxed) >= kSeriesMax && labels != kOverflow) {
      lock.unlock();
      overflows_.fetch_add(1, std::memory_order_relaxed);
      return record(kOverflow, observations, now);
    }
    count_.fetch_add(1, std::memory_order_relaxed);
    found = shard.series.emplace(std::string(labels), std::make_unique<Series>()).first;
  }
  Series& series = *found->second;
  series.used = std::max(series.used, now);
  for (const Observation& one : observations) {
    size_t index = static_cast<size_t>(one.metric);
    series.touched |= 1u << index;
    if (!is_histogram(one.metric)) {
      series.counters[index] += static_cast<uint64_t>(one.value);
      continue;
    }
    Histogram& histogram = series.histograms[histogram_of(one.metric)];
    auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), one.value);
    ++histogram.counts[static_cast<size_t>(bound - kBounds.begin())];
    histogram.sum += one.value;
    ++series.counters[index];
  }
}

std::string TrafficMetrics::render(base::TimePoint now) {
  struct Row {
    std::string labels;
    Series values;
  };
  std::vector<Row> rows;
  for (Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    for (auto it = shard.series.begin(); it != shard.series.end();) {
      rows.push_back({it->first, *it->second});
      if (now - it->second->used < kIdleMax) {
        ++it;
        continue;
      }
      it = shard.series.erase(it);
      count_.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  std::string out;
  auto to = std::back_inserter(out);
  for (size_t index = 0; index < kMetrics; ++index) {
    const auto& [name, help] = kNames[index];
    Metric metric = static_cast<Metric>(index);
    bool told = false;
    for (const Row& row : rows) {
      if ((row.values.touched >> index & 1u) == 0) continue;
      if (!std::exchange(told, true)) {
        fmt::format_to(to, "# HELP {} {}\n# TYPE {} {}\n", name, help, name,
                       is_histogram(metric) ? "histogram" : "counter");
      }
      if (!is_histogram(metric)) {
        fmt::format_to(to, "{}{{{}}} {}\n", name, row.labels, row.values.counters[index]);
        continue;
      }
      const Histogram& histogram = row.values.histograms[histogram_of(metric)];
      uint64_t below = 0;
      for (size_t i = 0; i < kBounds.size(); ++i) {
        below += histogram.counts[i];
        fmt::format_to(to, "{}_bucket{{{},le=\"{:.{}f}\"}} {}\n", name, row.labels, kBounds[i],
                       kBounds[i] < 1 ? 1 : 0, below);
      }
      fmt::format_to(to, "{0}_bucket{{{1},le=\"+Inf\"}} {2}\n{0}_sum{{{1}}} {3}\n{0}_count{{{1}}} {2}\n",
                     name, row.labels, row.values.counters[index], histogram.sum);
    }
  }
  return out;
}

}  // namespace culvert::waypoint
