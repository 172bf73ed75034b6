// SPDX-License-Identifier: Apache-2.0
// What a waypoint takes from and adds to headers on their way (spec waypoint sections 1.6, 7.3). Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "mesh/model/route.h"
#include "net/base/duration.h"
#include "net/wire/h2.h"

namespace culvert::waypoint {

const std::string* header_of(const wire::Headers& headers, std::string_view name);
void drop_header(wire::Headers& headers, std::string_view name);
// Replaces all of that name.
void set_header(wire::Headers& headers, std::string_view name, std::string value);

// Removes from a request what no client may say: identities, internal headers, retry hints unless
// `keep_hints`.
void strip_request(wire::Headers& request, bool keep_hints);
// And from a response what stays inside the mesh.
void strip_response(wire::Headers& response);

// :status; 0 if there is none.
uint16_t status_of(const wire::Headers& response);
// grpc-status of these headers or trailers.
std::optional<uint32_t> grpc_status_in(const wire::Headers& headers);
// grpc-timeout: "100m", "5S"; nothing if absent or malformed.
std::optional<base::Duration> grpc_timeout(const wire::Headers& request);

// set, then add, then remove. `format` expands %OPERATORS% of a value.
using ValueFormat = std::function<std::string(const std::string&)>;
void apply(const model::HeaderEdits& edits, const ValueFormat& format, wire::Headers& headers);

}  // namespace culvert::waypoint
