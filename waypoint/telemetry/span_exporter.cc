// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/span_exporter.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "waypoint/telemetry/span_encoding.h"

namespace culvert::waypoint {

using base::Field;
using Kind = SpanDelivery::Kind;
using Protocol = model::TraceRule::Protocol;

// One collector with what waits for it.
struct SpanExporter::Channel {
  Channel(async::Loop& loop, SpanCollector::Parts& parts, RuleRef rule)
      : collector(parts, std::move(rule)), some(loop), enough(loop) {}
  SpanCollector collector;
  std::deque<Span> waiting;
  async::Event some;    // spans wait
  async::Event enough;  // a whole batch, or the last
  size_t under_way = 0;
  bool in_trouble = false;
};

SpanExporter::SpanExporter(Parts parts)
    : loop_(parts.loop),
      log_(parts.log),
      source_(std::move(parts.source)),
      dialer_(parts.loop, parts.network, parts.self, std::move(parts.identities),
              std::move(parts.system_roots), parts.rng.fork()),
      upstreams_(parts.loop, parts.log, dialer_, parts.clusters, parts.self, parts.rng.fork()),
      collector_parts_{parts.loop, parts.network, parts.self,      std::move(parts.cluster_domain),
                       dialer_,    upstreams_,    parts.rng.fork()},
      rng_(parts.rng.fork()),
      inbox_(std::make_shared<Inbox>()),
      tasks_(parts.loop) {
  inbox_->owner = this;
}

SpanExporter::~SpanExporter() { inbox_->owner = nullptr; }

void SpanExporter::finished(const RequestRecord& record) {
  if (!record.trace || !record.trace->context.sampled) return;
  const model::TraceRule& rule = *record.trace->rule;
  if (rule.disabled || rule.protocol == Protocol::kNone) return;
  if (queued_.fetch_add(1, std::memory_order_relaxed) >= kQueuedMax) {
    release(1);
    counts_.dropped_full.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  Item item{make_span(record, source_), record.trace->rule};
  bool first = false;
  {
    std::lock_guard lock(inbox_->mutex);
    first = inbox_->items.empty();
    inbox_->items.push_back(std::move(item));
  }
  if (!first) return;
  loop_.post([inbox = inbox_] {
    if (inbox->owner) inbox->owner->take_inbox();
  });
}

void SpanExporter::take_inbox() {
  std::vector<Item> items;
  {
    std::lock_guard lock(inbox_->mutex);
    items.swap(inbox_->items);
  }
  for (Item& item : items) take(std::move(item));
}

void SpanExporter::take(Item item) {
  Channel* channel = closing_ ? nullptr : channel_for(item.rule);
  if (!channel || channel->waiting.size() >= kWaitingMax) {
    release(1);
    counts_.dropped_full.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  channel->waiting.push_back(std::move(item.span));
  channel->some.set();
  if (channel->waiting.size() >= kBatchMax) channel->enough.set();
}

SpanExporter::Channel* SpanExporter::channel_for(const RuleRef& rule) {
  for (Channel& channel : channels_) {
    if (channel.collector.serves(*rule)) return &channel;
  }
  if (channels_.size() >= kCollectorsMax) return nullptr;
  Channel& made = channels_.emplace_back(loop_, collector_parts_, rule);
  tasks_.spawn(run(*this, made));
  return &made;
}

async::Task<void> SpanExporter::run(SpanExporter& exporter, Channel& channel) {
  for (;;) {
    if (channel.waiting.empty()) {
      if (exporter.closing_) break;
      channel.some.reset();
      bool woken = co_await channel.some.wait(async::Deadline::in(exporter.loop_, kIdleMax));
      if (!woken && channel.waiting.empty()) break;
      continue;
    }
    channel.enough.reset();
    if (channel.waiting.size() < kBatchMax && !exporter.closing_) {
      co_await channel.enough.wait(async::Deadline::in(exporter.loop_, kBatchWait));
    }
    auto end =
        channel.waiting.begin() + static_cast<std::ptrdiff_t>(std::min(kBatchMax, channel.waiting.size()));
    std::vector<Span> batch(std::make_move_iterator(channel.waiting.begin()), std::make_move_iterator(end));
    channel.waiting.erase(channel.waiting.begin(), end);
    co_await exporter.deliver(channel, std::move(batch));
  }
  exporter.channels_.remove_if([&channel](const Channel& other) { return &other == &channel; });
}

async::Task<void> SpanExporter::deliver(Channel& channel, std::vector<Span> batch) {
  const size_t count = channel.under_way = batch.size();
  const std::string body = encode(channel.collector.rule(), batch);
  batch.clear();
  SpanDelivery delivery;
  base::Duration backoff = kBackoffMin;
  for (unsigned attempt = 1;; ++attempt) {
    counts_.exports.fetch_add(1, std::memory_order_relaxed);
    delivery = co_await channel.collector.send(state_, body);
    if (delivery.kind == Kind::kTaken) break;
    counts_.export_failures.fetch_add(1, std::memory_order_relaxed);
    if (delivery.kind == Kind::kRefused || attempt == kAttemptsMax) break;
    // Half of it is chance, so that waypoints do not come back together.
    base::Duration wait =
        backoff / 2 +
        base::Duration(static_cast<int64_t>(rng_.below(static_cast<uint64_t>(backoff.count() / 2))));
    co_await async::sleep_for(loop_, std::max(wait, delivery.wait));
    backoff = std::min(backoff * 2, kBackoffMax);
  }
  channel.under_way = 0;
  release(count);
  told(channel, delivery, count);
}

// Trouble is said once, and its end.
void SpanExporter::told(Channel& channel, const SpanDelivery& delivery, size_t spans) {
  const model::TraceRule& rule = channel.collector.rule();
  std::string where = fmt::format("{}:{}", rule.host, rule.port);
  uint64_t rejected = delivery.kind == Kind::kRefused ? spans : std::min<uint64_t>(delivery.rejected, spans);
  bool lost = delivery.kind == Kind::kLater;
  counts_.rejected.fetch_add(rejected, std::memory_order_relaxed);
  counts_.dropped_failed.fetch_add(lost ? spans : 0, std::memory_order_relaxed);
  counts_.sent.fetch_add(lost ? 0 : spans - rejected, std::memory_order_relaxed);
  bool trouble = lost || rejected > 0;
  if (trouble == std::exchange(channel.in_trouble, trouble)) return;
  if (trouble) {
    log_.warn("trace", "a collector does not take spans; said once until it does",
              {Field::text("collector", where), Field::text("error", delivery.reason),
               Field::number("spans", spans)});
  } else {
    log_.info("trace", "the collector takes spans again", {Field::text("collector", where)});
  }
}

std::string SpanExporter::encode(const model::TraceRule& rule, const std::vector<Span>& batch) const {
  return rule.protocol == Protocol::kZipkin ? zipkin_json(batch, source_) : otlp_request(batch, source_);
}

void SpanExporter::set_state(MeshStateRef state) {
  state_ = std::move(state);
  const Self& self = collector_parts_.self;
  model::WorkloadRef own = state_->mesh->workload_at(self.network, self.ip);
  if (own) dialer_.set_own(hbone::Baggage::of(*own));
}

async::Task<void> SpanExporter::close(async::Deadline deadline) {
  take_inbox();
  closing_ = true;
  for (Channel& channel : channels_) {
    channel.some.set();
    channel.enough.set();
  }
  bool ended = co_await tasks_.idle().wait(deadline);
  if (!ended) {
    tasks_.cancel_all();
    co_await tasks_.idle().wait();
  }
  for (const Channel& channel : channels_) {
    size_t lost = channel.waiting.size() + channel.under_way;
    counts_.dropped_failed.fetch_add(lost, std::memory_order_relaxed);
    release(lost);
  }
  channels_.clear();
}

std::string SpanExporter::render_metrics() const {
  std::string out;
  auto family = [&out](const char* name, const char* type, const char* help) {
    out += fmt::format("# HELP mesh_waypoint_{0} {2}\n# TYPE mesh_waypoint_{0} {1}\n", name, type, help);
  };
  auto sample = [&out](const char* name, const char* labels, uint64_t value) {
    out += fmt::format("mesh_waypoint_{}{} {}\n", name, labels, value);
  };
  auto value = [](const std::atomic<uint64_t>& count) { return count.load(std::memory_order_relaxed); };
  family("spans_sent_total", "counter", "Spans that collectors have taken.");
  sample("spans_sent_total", "", value(counts_.sent));
  family("spans_dropped_total", "counter", "Spans that no collector has, by reason.");
  sample("spans_dropped_total", "{reason=\"queue_full\"}", value(counts_.dropped_full));
  sample("spans_dropped_total", "{reason=\"collector_unreachable\"}", value(counts_.dropped_failed));
  sample("spans_dropped_total", "{reason=\"rejected\"}", value(counts_.rejected));
  family("span_exports_total", "counter", "Attempts to send a batch of spans.");
  sample("span_exports_total", "", value(counts_.exports));
  family("span_export_failures_total", "counter", "Attempts that failed.");
  sample("span_export_failures_total", "", value(counts_.export_failures));
  family("spans_queued", "gauge", "Spans that wait or are being sent.");
  sample("spans_queued", "", queued());
  return out;
}

}  // namespace culvert::waypoint
