// SPDX-License-Identifier: Apache-2.0
// Metrics: counters that data loops bump without a lock, summed when scraped; OpenMetrics text
// with the names and labels of spec ztunnel section 10.
//
// One `MetricsShard` per loop, written by that loop only; `Metrics::render` may run on any loop.
// A label set is resolved to cells once per connection; cells live as long as the registry.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace culvert::observe {

// Written by one thread, read by any.
class Cell {
 public:
  void add(uint64_t count = 1) {
    touched_.store(true, std::memory_order_relaxed);
    value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  // Gauges only.
  void sub(uint64_t count = 1) {
    value_.store(value_.load(std::memory_order_relaxed) - count, std::memory_order_relaxed);
  }
  void set(uint64_t value) {
    touched_.store(true, std::memory_order_relaxed);
    value_.store(value, std::memory_order_relaxed);
  }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }
  bool touched() const { return touched_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
  std::atomic<bool> touched_{false};
};

// The five traffic counters of one label set.
struct TrafficCells {
  Cell opened;
  Cell closed;
  Cell failed;
  Cell received_bytes;  // downstream to upstream
  Cell sent_bytes;      // upstream to downstream
};

enum class Kind : unsigned char { kCounter, kGauge };

// A family outside the traffic set: name as exposed without "_total", help without "(unstable)".
struct Family {
  std::string name;
  std::string help;
  Kind kind = Kind::kCounter;
  bool unstable = true;
  auto operator<=>(const Family&) const = default;
};

class MetricsShard {
 public:
  // Label sets per shard; beyond it connections share one set whose labels say "overflow".
  static constexpr size_t kTrafficSetsMax = 50'000;
  // Samples of all other families per shard.
  static constexpr size_t kSamplesMax = 50'000;

  // `labels` is the text between the braces (see labels.h).
  TrafficCells& traffic(const std::string& labels);
  // One sample of another family; `labels` may be "".
  Cell& cell(const Family& family, const std::string& labels);

 private:
  friend class Metrics;
  // Taken by the owning loop when a new label set appears or is looked up, and by a scrape.
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::unique_ptr<TrafficCells>> traffic_;
  std::vector<std::pair<Family, std::unordered_map<std::string, std::unique_ptr<Cell>>>> families_;
  size_t samples_ = 0;
};

class Metrics {
 public:
  // The shard stays valid as long as the registry. Thread safe.
  MetricsShard& add_shard();
  // A value read at scrape time (process_open_fds). Register before the first scrape.
  void add_gauge(Family family, std::function<uint64_t()> read);
  // OpenMetrics text ending in "# EOF\n". Families without samples are left out. Thread safe.
  std::string render() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<MetricsShard>> shards_;
  std::vector<std::pair<Family, std::function<uint64_t()>>> gauges_;
};

// Appends key="value" with OpenMetrics escaping, a comma before it unless first.
void append_label(std::string& labels, std::string_view key, std::string_view value);

// The families of section 10 besides traffic.
namespace families {
Family tcp_sockets_open();
Family on_demand_dns();
Family xds_connection_terminations();
Family xds_messages();
Family xds_message_bytes();
Family build_info();
Family active_proxies();
Family pending_proxies();
Family proxies_started();
Family proxies_stopped();
Family zds_protocol_errors();
Family policy_closed();
Family local_connections();
Family process_open_fds();
Family process_max_fds();
}  // namespace families

}  // namespace culvert::observe
