// SPDX-License-Identifier: Apache-2.0
// SpanExporter: takes the spans of all data loops and gives them in batches to their collectors (spec
// waypoint section 5.5). Lives on the control loop; `finished` is for every loop and never waits. A span that
// finds no room is dropped and counted: requests come before what is told about them.
//
// | a batch leaves         | and then                                                                   |
// |------------------------|----------------------------------------------------------------------------|
// | when it is full        | it was taken, or refused for good                                          |
// | kBatchWait after its   | it is sent again after a growing wait, kAttemptsMax times in all; meanwhile |
// | first span             | spans wait behind it                                                       |
#pragma once

#include <atomic>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "net/async/scope.h"
#include "waypoint/telemetry/span.h"
#include "waypoint/telemetry/span_collector.h"

namespace culvert::waypoint {

class SpanExporter {
 public:
  static constexpr size_t kQueuedMax = 4096;   // spans of the process, those being sent too
  static constexpr size_t kWaitingMax = 2048;  // of one collector
  static constexpr size_t kBatchMax = 512;
  static constexpr base::Duration kBatchWait = std::chrono::seconds(1);
  static constexpr unsigned kAttemptsMax = 5;
  static constexpr base::Duration kBackoffMin = std::chrono::seconds(1);
  static constexpr base::Duration kBackoffMax = std::chrono::seconds(30);
  static constexpr size_t kCollectorsMax = 16;
  // A collector nobody has sent anything to for so long is forgotten.
  static constexpr base::Duration kIdleMax = std::chrono::minutes(10);

  struct Counts {
    std::atomic<uint64_t> sent{0};            // taken by a collector
    std::atomic<uint64_t> dropped_full{0};    // no room
    std::atomic<uint64_t> dropped_failed{0};  // no attempt succeeded
    std::atomic<uint64_t> rejected{0};        // by the collector
    std::atomic<uint64_t> exports{0};         // attempts
    std::atomic<uint64_t> export_failures{0};
  };

  struct Parts {
    async::Loop& loop;
    io::Network& network;
    base::Log& log;
    SharedClusters& clusters;
    const Self& self;
    std::string cluster_domain;
    SpanSource source;
    hbone::IdentitySource identities;
    std::function<base::Result<std::string>()> system_roots;
    base::Rng rng;
  };

  explicit SpanExporter(Parts parts);
  ~SpanExporter();
  SpanExporter(const SpanExporter&) = delete;
  SpanExporter& operator=(const SpanExporter&) = delete;

  // Any thread. What is not traced, not sampled or not to be reported is none of our business.
  void finished(const RequestRecord& record);

  // --- control loop ---
  void set_state(MeshStateRef state);
  // Sends what is queued without waiting for more; ends when nothing is left or the deadline comes. What
  // finishes later is dropped.
  async::Task<void> close(async::Deadline deadline);
  const Counts& counts() const { return counts_; }
  size_t queued() const { return queued_.load(std::memory_order_relaxed); }
  // Prometheus text; any thread.
  std::string render_metrics() const;

 private:
  using RuleRef = std::shared_ptr<const model::TraceRule>;
  struct Item {
    Span span;
    RuleRef rule;
  };
  // Between threads; outlives the exporter in calls that were posted.
  struct Inbox {
    std::mutex mutex;
    std::vector<Item> items;
    SpanExporter* owner = nullptr;  // control loop
  };
  struct Channel;

  void take_inbox();
  void take(Item item);
  Channel* channel_for(const RuleRef& rule);
  void release(size_t spans) { queued_.fetch_sub(spans, std::memory_order_relaxed); }
  static async::Task<void> run(SpanExporter& exporter, Channel& channel);
  async::Task<void> deliver(Channel& channel, std::vector<Span> batch);
  void told(Channel& channel, const SpanDelivery& delivery, size_t spans);
  std::string encode(const model::TraceRule& rule, const std::vector<Span>& batch) const;

  async::Loop& loop_;
  base::Log& log_;
  SpanSource source_;
  Dialer dialer_;
  Upstreams upstreams_;
  SpanCollector::Parts collector_parts_;
  base::Rng rng_;
  MeshStateRef state_ = std::make_shared<MeshState>();
  Counts counts_;
  std::atomic<size_t> queued_{0};
  std::shared_ptr<Inbox> inbox_;
  std::list<Channel> channels_;
  bool closing_ = false;
  // Last, so that tasks end before what they use.
  async::Scope tasks_;
};

}  // namespace culvert::waypoint
