// SPDX-License-Identifier: Apache-2.0
// The labels of the istio_* series of a request, in upstream's order (spec waypoint section 5.1). Pure.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "waypoint/record.h"

namespace culvert::waypoint {

// Names and values as they are rendered, "unknown" for what is unknown. Values may point into the record and
// into `TrafficLabels` itself.
class TrafficLabels {
 public:
  explicit TrafficLabels(const RequestRecord& record);
  TrafficLabels(const TrafficLabels&) = delete;
  TrafficLabels& operator=(const TrafficLabels&) = delete;

  using List = std::vector<std::pair<std::string_view, std::string_view>>;
  const List& list() const { return list_; }
  // The text between the braces.
  static std::string text(const List& list);

 private:
  std::string_view keep(std::string text);

  std::vector<std::string> kept_;
  List list_;
};

// "0" to "16"; "" where the response was not gRPC's.
std::string grpc_status_of(const RequestRecord& record);
// The first label of a Service's hostname; the whole host of a ServiceEntry.
std::string short_service_name(const model::Service& service);

}  // namespace culvert::waypoint
