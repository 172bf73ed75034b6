// SPDX-License-Identifier: Apache-2.0
#include "mesh/observe/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace culvert::observe {

void append_label(std::string& labels, std::string_view key, std::string_view value) {
  if (!labels.empty()) labels += ',';
  labels += key;
  labels += "=\"";
  for (char c : value) {
    switch (c) {
      case '\\': labels += "\\\\"; break;
      case '"': labels += "\\\""; break;
      case '\n': labels += "\\n"; break;
      default: labels += c;
    }
  }
  labels += '"';
}

TrafficCells& MetricsShard::traffic(const std::string& labels) {
  std::lock_guard lock(mutex_);
  auto found = traffic_.find(labels);
  if (found == traffic_.end()) {
    static const std::string kOverflow = "reporter=\"overflow\"";
    const std::string& key = traffic_.size() < kTrafficSetsMax ? labels : kOverflow;
    found = traffic_.try_emplace(key).first;
    if (!found->second) found->second = std::make_unique<TrafficCells>();
  }
  return *found->second;
}

Cell& MetricsShard::cell(const Family& family, const std::string& labels) {
  std::lock_guard lock(mutex_);
  auto known = std::find_if(families_.begin(), families_.end(),
                            [&](const auto& entry) { return entry.first.name == family.name; });
  if (known == families_.end()) {
    families_.emplace_back();
    known = std::prev(families_.end());
    known->first = family;
  }
  auto found = known->second.find(labels);
  if (found == known->second.end()) {
    static const std::string kOverflow = "overflow=\"true\"";
    const std::string& key = samples_ < kSamplesMax ? labels : kOverflow;
    found = known->second.try_emplace(key).first;
    if (!found->second) {
      found->second = std::make_unique<Cell>();
      ++samples_;
    }
  }
  return *found->second;
}

MetricsShard& Metrics::add_shard() {
  std::lock_guard lock(mutex_);
  shards_.push_back(std::make_unique<MetricsShard>());
  return *shards_.back();
}

void Metrics::add_gauge(Family family, std::function<uint64_t()> read) {
  std::lock_guard lock(mutex_);
  gauges_.emplace_back(std::move(family), std::move(read));
}

namespace {

using Samples = std::map<std::string, uint64_t>;

struct TrafficFamily {
  const char* name;
  const char* help;
  Cell TrafficCells::* cell;
};
constexpr TrafficFamily kTrafficFamilies[] = {
    {"istio_tcp_connections_opened",
     "Connections accepted for proxying, counted before the upstream is dialled", &TrafficCells::opened},
    {"istio_tcp_connections_closed", "Connections that have ended", &TrafficCells::closed},
    {"istio_tcp_received_bytes", "Bytes carried from the client to the server",
     &TrafficCells::received_bytes},
    {"istio_tcp_sent_bytes", "Bytes carried from the server to the client", &TrafficCells::sent_bytes},
    {"istio_tcp_connections_failed", "Connections that have ended with an error (unstable)",
     &TrafficCells::failed},
};

void write_family(std::string& out, const Family& family, const Samples& samples) {
  if (samples.empty()) return;
  bool counter = family.kind == Kind::kCounter;
  out += fmt::format("# HELP {} {}{}.\n# TYPE {} {}\n", family.name, family.help,
                     family.unstable ? " (unstable)" : "", family.name, counter ? "counter" : "gauge");
  for (const auto& [labels, value] : samples) {
    out += family.name;
    if (counter) out += "_total";
    if (!labels.empty()) out.append("{").append(labels).append("}");
    out.append(" ").append(fmt::format_int(value).str()).append("\n");
  }
}

}  // namespace

std::string Metrics::render() const {
  std::map<std::string, Samples> traffic;
  std::map<std::string, std::pair<Family, Samples>> others;
  std::lock_guard lock(mutex_);
  for (const auto& shard : shards_) {
    std::lock_guard shard_lock(shard->mutex_);
    for (const auto& [labels, cells] : shard->traffic_) {
      for (const TrafficFamily& family : kTrafficFamilies) {
        const Cell& cell = cells.get()->*family.cell;
        if (cell.touched()) traffic[family.name][labels] += cell.value();
      }
    }
    for (const auto& [family, cells] : shard->families_) {
      auto& [known, samples] = others.try_emplace(family.name, family, Samples{}).first->second;
      for (const auto& [labels, cell] : cells) {
        if (cell->touched()) samples[labels] += cell->value();
      }
    }
  }
  for (const auto& [family, read] : gauges_) others[family.name] = {family, Samples{{"", read()}}};
  std::string out;
  for (const TrafficFamily& family : kTrafficFamilies) {
    write_family(out, Family{family.name, family.help, Kind::kCounter, false}, traffic[family.name]);
  }
  for (const auto& [name, entry] : others) write_family(out, entry.first, entry.second);
  out += "# EOF\n";
  return out;
}

namespace families {

Family tcp_sockets_open() {
  return {"istio_tcp_sockets_open", "Accepted sockets now open", Kind::kGauge, true};
}
Family on_demand_dns() {
  return {"istio_on_demand_dns", "Host names of workloads resolved for a connection"};
}
Family xds_connection_terminations() {
  return {"istio_xds_connection_terminations", "Ends of the stream to the control plane, by reason"};
}
Family xds_messages() { return {"istio_xds_message", "Responses received from the control plane"}; }
Family xds_message_bytes() {
  return {"istio_xds_message_bytes", "Bytes of resources received from the control plane"};
}
Family build_info() { return {"istio_build", "Version of this component", Kind::kGauge, false}; }
Family active_proxies() {
  return {"workload_manager_active_proxy_count", "Pods that are proxied now", Kind::kGauge, true};
}
Family pending_proxies() {
  return {"workload_manager_pending_proxy_count", "Pods whose proxy could not be started yet", Kind::kGauge,
          true};
}
Family proxies_started() { return {"workload_manager_proxies_started", "Pod proxies started"}; }
Family proxies_stopped() { return {"workload_manager_proxies_stopped", "Pod proxies stopped"}; }
Family zds_protocol_errors() {
  return {"culvert_zds_protocol_errors", "Messages of the node agent that broke the protocol"};
}
Family policy_closed() {
  return {"culvert_connections_closed_by_policy", "Live connections closed because a policy changed"};
}
Family local_connections() {
  return {"culvert_local_connections", "Connections between two pods of this node, joined without a tunnel"};
}
Family process_open_fds() { return {"process_open_fds", "Open file descriptors", Kind::kGauge, false}; }
Family process_max_fds() {
  return {"process_max_fds", "Limit of open file descriptors", Kind::kGauge, false};
}

}  // namespace families

}  // namespace culvert::observe
