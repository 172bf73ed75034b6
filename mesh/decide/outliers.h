// SPDX-License-Identifier: Apache-2.0
// OutlierDetector: which endpoints of a cluster are out because they keep failing (spec waypoint
// section 2.3.4). Pure: the time is an argument. One for a cluster, shared by all loops under its owner's
// lock.
//
// | event                                   | effect                                                     |
// |-----------------------------------------|------------------------------------------------------------|
// | k-th failure in a row, k configured     | ejected at once, if the cluster can spare the host         |
// | success                                 | the host's counters start again                            |
// | sweep, every `interval`                 | whoever has served its time comes back; multipliers decay  |
//
// A host is ejected for base x (times ejected), at most max(300 s, base).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mesh/model/backend.h"
#include "net/base/duration.h"

namespace culvert::decide {

// How a request or a dial ended.
struct HostOutcome {
  enum class Kind : unsigned char { kResponse, kConnectFailure, kReset, kTimeout };
  Kind kind = Kind::kResponse;
  uint16_t status = 0;  // of kResponse; gRPC as the HTTP status it stands for
};

class OutlierDetector {
 public:
  static constexpr base::Duration kEjectionMax = std::chrono::seconds(300);

  struct Change {
    std::string host;
    bool ejected = false;  // else back
    std::string reason;    // "consecutive_5xx", ...
    base::Duration duration{0};
  };

  // The hosts there are; what is known of others is forgotten.
  void set_hosts(const std::vector<std::string>& hosts);
  // Takes an outcome; what it changed.
  std::vector<Change> report(const model::OutlierDetection& rules, const std::string& host,
                             HostOutcome outcome, base::TimePoint now);
  // Due sweeps; cheap when none is.
  std::vector<Change> sweep(const model::OutlierDetection& rules, base::TimePoint now);
  // The rules are gone: everybody comes back.
  std::vector<Change> clear();
  bool ejected(const std::string& host) const;
  size_t ejected_count() const { return ejected_count_; }
  size_t size() const { return hosts_.size(); }

 private:
  struct State {
    uint32_t errors_5xx = 0, gateway_errors = 0, local_errors = 0;
    uint64_t requests = 0;  // of this interval
    uint32_t times = 0;     // the multiplier
    bool ejected = false;
    base::TimePoint back_at{};
  };
  const char* count(const model::OutlierDetection& rules, State& state, HostOutcome outcome);
  bool may_eject(const model::OutlierDetection& rules, const State& state) const;

  std::map<std::string, State> hosts_;
  size_t ejected_count_ = 0;
  std::optional<base::TimePoint> next_sweep_;
};

// As outlier detection counts a gRPC status.
uint16_t http_status_of_grpc(uint32_t grpc_status);

}  // namespace culvert::decide
