// SPDX-License-Identifier: Apache-2.0
// Replies the waypoint originates, byte for byte as clients and dashboards know them (spec waypoint section
// 6). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "net/wire/http1.h"
#include "waypoint/record.h"

namespace culvert::waypoint {

struct Reply {
  uint16_t status = 503;
  std::string body;  // and grpc-message
  std::optional<Flag> flag;
  std::string details;                  // response_code_details
  wire::Headers headers;                // beside content-type, content-length, server, date
  std::optional<uint32_t> grpc_status;  // where the table of section 6 does not hold
  bool close = false;                   // the connection is not to be trusted any more
};

namespace replies {
Reply no_route();
Reply no_cluster();
Reply invalid_backend();
Reply no_healthy_upstream();
Reply dns_failure();
// `reason`: "remote connection failure", "connection timeout", "connection termination", "remote reset", ...
Reply upstream_broken(Flag flag, std::string_view reason, std::string_view transport_failure, bool retried);
Reply upstream_protocol_error();
Reply overflow();
Reply route_timeout();
Reply per_try_timeout();
Reply denied(std::string_view policy);  // "" no policy allowed it
Reply payload_too_large();
// The external authorizer could not be asked, or its answer not be understood.
Reply authorizer_failed(uint16_t status);
Reply rate_limited();  // by our own count; the headers are the decision's
Reply rate_limited_globally();
Reply rate_limit_service_failed();
Reply fault_abort(uint16_t status, std::optional<uint32_t> grpc_status);
Reply malformed(wire::Http1Fault fault);
Reply bad_path();
Reply upgrade_refused();
Reply method_refused();
Reply stream_idle(bool request_complete);
Reply overloaded();
}  // namespace replies

// What goes to the client.
struct RenderedReply {
  wire::Headers headers;
  std::string body;
};
// `server` "": no such header. `now` for the date. HEAD gets no body; gRPC gets 200 and the status in headers
// (trailers-only).
RenderedReply render(const Reply& reply, bool grpc, bool head, std::string_view server, base::WallTime now);

// gRPC status of an HTTP status (section 6).
uint32_t grpc_status_of(uint16_t http_status);
// "Mon, 23 Nov 2026 10:00:00 GMT".
std::string http_date(base::WallTime time);

}  // namespace culvert::waypoint
