// SPDX-License-Identifier: Apache-2.0
// The resources of a waypoint on the wire (proto/waypoint.proto) and as values (mesh/model/waypoint.h), both
// ways. The bytes are deterministic: equal values give equal bytes in one build.
//
// Decoding refuses a resource as a whole (kInvalid, naming the field) for another version, an enum value we
// do not know, a port above 65535, an expression that does not compile, or a name that is not that of its
// content.
#pragma once

#include <string>
#include <string_view>

#include "mesh/model/waypoint.h"
#include "net/base/bytes.h"
#include "net/base/result.h"

namespace culvert::xds {

inline constexpr std::string_view kWaypointServiceType =
    "type.googleapis.com/culvert.waypoint.v1.WaypointService";
inline constexpr std::string_view kBackendType = "type.googleapis.com/culvert.waypoint.v1.Backend";
inline constexpr std::string_view kWorkloadLabelsType =
    "type.googleapis.com/culvert.waypoint.v1.WorkloadLabels";
inline constexpr std::string_view kWaypointSettingsType =
    "type.googleapis.com/culvert.waypoint.v1.WaypointSettings";
// The only name of a WaypointSettings.
inline constexpr std::string_view kSettingsName = "mesh";

std::string encode(const model::WaypointService& service);
std::string encode(const model::Backend& backend);
std::string encode(const model::WorkloadLabels& labels);
std::string encode(const model::WaypointSettings& settings);

// An empty `xds_name` is not compared.
base::Result<model::WaypointService> decode_waypoint_service(base::ByteView bytes, std::string_view xds_name);
base::Result<model::Backend> decode_backend(base::ByteView bytes, std::string_view xds_name);
base::Result<model::WorkloadLabels> decode_workload_labels(base::ByteView bytes, std::string_view xds_name);
base::Result<model::WaypointSettings> decode_waypoint_settings(base::ByteView bytes,
                                                               std::string_view xds_name);

}  // namespace culvert::xds
