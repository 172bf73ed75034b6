// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/outliers.h"

#include <algorithm>

namespace culvert::decide {

namespace {

bool counts_as_error(const model::OutlierDetection& rules, uint16_t status) {
  if (rules.error_codes.empty()) return status >= 500;
  return std::any_of(rules.error_codes.begin(), rules.error_codes.end(),
                     [&](const auto& range) { return status >= range.first && status <= range.second; });
}

bool gateway_error(uint16_t status) { return status >= 502 && status <= 504; }

}  // namespace

void OutlierDetector::set_hosts(const std::vector<std::string>& hosts) {
  std::map<std::string, State> kept;
  ejected_count_ = 0;
  for (const std::string& host : hosts) {
    auto known = hosts_.find(host);
    auto placed = kept.emplace(host, known == hosts_.end() ? State{} : known->second);
    if (placed.second && placed.first->second.ejected) ++ejected_count_;
  }
  hosts_ = std::move(kept);
}

// One host of a small service may always go, or it could never lose a bad one (gap G13); the last never.
bool OutlierDetector::may_eject(const model::OutlierDetection& rules, const State& state) const {
  if (state.ejected || state.requests < rules.request_volume_min) return false;
  uint64_t percent = rules.ejection_percent_max == 0 ? 10 : rules.ejection_percent_max;
  return (ejected_count_ + 1) * 100 <= percent * hosts_.size() || (ejected_count_ == 0 && hosts_.size() >= 2);
}

// Counts an outcome; the limit it reached, or null.
const char* OutlierDetector::count(const model::OutlierDetection& rules, State& state, HostOutcome outcome) {
  ++state.requests;
  bool local = outcome.kind != HostOutcome::Kind::kResponse;
  if (local && rules.split_local_errors) {
    ++state.local_errors;
    bool reached =
        rules.consecutive_local_errors != 0 && state.local_errors >= rules.consecutive_local_errors;
    return reached ? "consecutive_local_origin_failure" : nullptr;
  }
  // An answer proves that the host can be reached.
  if (!local) state.local_errors = 0;
  state.errors_5xx = local || counts_as_error(rules, outcome.status) ? state.errors_5xx + 1 : 0;
  state.gateway_errors = local || gateway_error(outcome.status) ? state.gateway_errors + 1 : 0;
  if (rules.consecutive_5xx != 0 && state.errors_5xx >= rules.consecutive_5xx) return "consecutive_5xx";
  if (rules.consecutive_gateway_errors != 0 && state.gateway_errors >= rules.consecutive_gateway_errors) {
    return "consecutive_gateway_failure";
  }
  return nullptr;
}

std::vector<OutlierDetector::Change> OutlierDetector::report(const model::OutlierDetection& rules,
                                                             const std::string& host, HostOutcome outcome,
                                                             base::TimePoint now) {
  std::vector<Change> changes = sweep(rules, now);
  auto found = hosts_.find(host);
  if (found == hosts_.end()) return changes;
  State& state = found->second;
  const char* reason = count(rules, state, outcome);
  if (!reason || !may_eject(rules, state)) return changes;
  state.ejected = true;
  ++ejected_count_;
  state.errors_5xx = state.gateway_errors = state.local_errors = 0;
  base::Duration longest = std::max(kEjectionMax, rules.base_ejection_time);
  // The multiplier stops where it has no effect any more, so that a host that heals is soon trusted again.
  if (rules.base_ejection_time * state.times < longest) ++state.times;
  base::Duration duration = std::min(longest, rules.base_ejection_time * state.times);
  state.back_at = now + duration;
  changes.push_back({host, true, reason, duration});
  return changes;
}

std::vector<OutlierDetector::Change> OutlierDetector::sweep(const model::OutlierDetection& rules,
                                                            base::TimePoint now) {
  std::vector<Change> changes;
  base::Duration interval = std::max<base::Duration>(rules.interval, std::chrono::milliseconds(1));
  if (!next_sweep_ || *next_sweep_ > now + interval) next_sweep_ = now + interval;
  if (now < *next_sweep_) return changes;
  // Sweeps that nobody asked for in time are not made up for, except that a healthy host is forgiven each.
  auto due = static_cast<uint64_t>((now - *next_sweep_) / interval) + 1;
  *next_sweep_ += interval * static_cast<int64_t>(due);
  for (auto& [host, state] : hosts_) {
    state.requests = 0;
    if (!state.ejected) {
      state.times -= static_cast<uint32_t>(std::min<uint64_t>(state.times, due));
      continue;
    }
    if (now < state.back_at) continue;
    state.ejected = false;
    --ejected_count_;
    state.errors_5xx = state.gateway_errors = state.local_errors = 0;
    changes.push_back({host, false, "", base::Duration{0}});
  }
  return changes;
}

std::vector<OutlierDetector::Change> OutlierDetector::clear() {
  std::vector<Change> changes;
  for (auto& [host, state] : hosts_) {
    if (state.ejected) changes.push_back({host, false, "", base::Duration{0}});
    state = {};
  }
  ejected_count_ = 0;
  next_sweep_.reset();
  return changes;
}

bool OutlierDetector::ejected(const std::string& host) const {
  auto found = hosts_.find(host);
  return found != hosts_.end() && found->second.ejected;
}

uint16_t http_status_of_grpc(uint32_t grpc_status) {
  switch (grpc_status) {
    case 0: return 200;
    case 1: return 499;
    case 3:
    case 9:
    case 11: return 400;
    case 4: return 504;
    case 5: return 404;
    case 6:
    case 10: return 409;
    case 7: return 403;
    case 8: return 429;
    case 12: return 501;
    case 14: return 503;
    case 16: return 401;
    default: return 500;
  }
}

}  // namespace culvert::decide
