// SPDX-License-Identifier: Apache-2.0
// RecordAttributes: the names that expressions of Telemetry objects may use, answered from a finished request
// (spec waypoint section 2.9). Names are Envoy's; source.* and destination.* know workloads too.
#pragma once

#include "mesh/decide/expression.h"
#include "waypoint/record.h"
#include "waypoint/state.h"

namespace culvert::waypoint {

class RecordAttributes final : public decide::Attributes {
 public:
  // Both must outlive it.
  RecordAttributes(const RequestRecord& record, const MeshState& state) : record_(record), state_(state) {}
  decide::ExpressionValue attribute(std::span<const std::string> path) const override;

 private:
  using Value = decide::ExpressionValue;
  Value request(std::string_view name) const;
  Value response(std::string_view name) const;
  Value connection(std::string_view name) const;
  Value upstream(std::string_view name) const;
  Value party(const model::Workload* workload, const std::optional<base::SocketAddr>& address,
              std::span<const std::string> path) const;

  const RequestRecord& record_;
  const MeshState& state_;
};

}  // namespace culvert::waypoint
