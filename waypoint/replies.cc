// SPDX-License-Identifier: Apache-2.0
#include "waypoint/replies.h"

#include <fmt/format.h>

#include <chrono>

#include "net/wire/grpc_frame.h"

namespace culvert::waypoint {

namespace replies {

namespace {

Reply plain(uint16_t status, std::string body, std::optional<Flag> flag, std::string details) {
  Reply reply;
  reply.status = status;
  reply.body = std::move(body);
  reply.flag = flag;
  reply.details = std::move(details);
  return reply;
}

constexpr std::string_view kUpstreamError = "upstream connect error or disconnect/reset before headers. ";

}  // namespace

Reply no_route() { return plain(404, "", Flag::kNoRoute, "route_not_found"); }
Reply no_cluster() { return plain(503, "", Flag::kNoCluster, "cluster_not_found"); }
Reply no_healthy_upstream() {
  return plain(503, "no healthy upstream", Flag::kNoHealthyUpstream, "no_healthy_upstream");
}
Reply dns_failure() {
  return plain(503, "DNS resolution failure", Flag::kDnsFailure, "dns_resolution_failure");
}

Reply invalid_backend() {
  Reply reply = plain(500, "", std::nullopt, "direct_response");
  reply.grpc_status = 14;  // gap G10
  return reply;
}

Reply upstream_broken(Flag flag, std::string_view reason, std::string_view transport_failure, bool retried) {
  std::string body(kUpstreamError);
  body += retried ? "retried and the latest reset reason: " : "reset reason: ";
  body += reason;
  std::string details = fmt::format("upstream_reset_before_response_started{{{}", reason);
  if (!transport_failure.empty()) {
    body += fmt::format(", transport failure reason: {}", transport_failure);
    details += fmt::format("|{}", transport_failure);
  }
  details += "}";
  for (char& c : details) c = c == ' ' ? '_' : c;
  return plain(503, std::move(body), flag, std::move(details));
}

Reply upstream_protocol_error() {
  Reply reply = upstream_broken(Flag::kUpstreamProtocol, "protocol error", "", false);
  reply.status = 502;
  return reply;
}

Reply overflow() {
  Reply reply = upstream_broken(Flag::kUpstreamOverflow, "overflow", "", false);
  reply.headers.emplace_back("x-envoy-overloaded", "true");
  return reply;
}

Reply route_timeout() {
  return plain(504, "upstream request timeout", Flag::kUpstreamTimeout, "upstream_response_timeout");
}
Reply per_try_timeout() {
  return plain(504, "upstream request timeout", Flag::kUpstreamTimeout, "upstream_per_try_timeout");
}
Reply denied(std::string_view policy) {
  return plain(403, "RBAC: access denied", std::nullopt,
               fmt::format("rbac_access_denied_matched_policy[{}]", policy.empty() ? "none" : policy));
}
Reply payload_too_large() {
  return plain(413, "Payload Too Large", std::nullopt, "request_payload_too_large");
}
Reply authorizer_failed(uint16_t status) {
  return plain(status, "", Flag::kExternalDenied, "ext_authz_error");
}
Reply rate_limited() { return plain(429, "local_rate_limited", Flag::kRateLimited, "local_rate_limited"); }
Reply rate_limited_globally() { return plain(429, "", Flag::kRateLimited, "request_rate_limited"); }
Reply rate_limit_service_failed() {
  Reply reply = plain(503, "", Flag::kRateLimitService, "rate_limiter_error");
  reply.headers.emplace_back("retry-after", "1");
  return reply;
}

Reply fault_abort(uint16_t status, std::optional<uint32_t> grpc_status) {
  Reply reply = plain(status, "fault filter abort", Flag::kFaultInjected, "fault_filter_abort");
  reply.grpc_status = grpc_status;
  return reply;
}

Reply malformed(wire::Http1Fault fault) {
  uint16_t status = static_cast<uint16_t>(wire::status_for(fault));
  std::string_view body;
  switch (status) {
    case 400: body = "Bad Request"; break;
    case 408: body = "request header timeout"; break;
    case 426: body = "Upgrade Required"; break;
    case 431: body = "Request Header Fields Too Large"; break;
    default: break;
  }
  Reply reply = plain(status, std::string(body), Flag::kDownstreamProtocol, std::string(to_string(fault)));
  if (status == 426) reply.details = "low_version";
  if (status == 408) reply.details = "request_header_timeout";
  if (status == 408 || status == 417 || status == 426) reply.flag.reset();
  reply.close = true;
  return reply;
}

Reply bad_path() { return plain(400, "", std::nullopt, "path_normalization_failed"); }
Reply upgrade_refused() { return plain(403, "", std::nullopt, "upgrade_failed"); }
Reply method_refused() { return plain(405, "", std::nullopt, "method_not_allowed"); }
Reply stream_idle(bool request_complete) {
  return plain(request_complete ? 504 : 408, "stream timeout", Flag::kStreamIdle, "stream_idle_timeout");
}
Reply overloaded() {
  Reply reply = plain(503, "envoy overloaded", Flag::kOverload, "overload");
  reply.close = true;  // the next one may find another replica
  return reply;
}

}  // namespace replies

uint32_t grpc_status_of(uint16_t http_status) {
  switch (http_status) {
    case 400: return 13;
    case 401: return 16;
    case 403: return 7;
    case 404: return 12;
    case 429:
    case 502:
    case 503:
    case 504: return 14;
    default: return 2;
  }
}

std::string http_date(base::WallTime time) {
  auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  auto day = std::chrono::floor<std::chrono::days>(seconds);
  std::chrono::year_month_day date(day);
  std::chrono::hh_mm_ss clock(seconds - day);
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[std::chrono::weekday(day).c_encoding()],
                     unsigned(date.day()), kMonths[unsigned(date.month()) - 1], int(date.year()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

RenderedReply render(const Reply& reply, bool grpc, bool head, std::string_view server, base::WallTime now) {
  RenderedReply out;
  wire::Headers& headers = out.headers;
  headers.emplace_back(":status", grpc ? "200" : std::to_string(reply.status));
  bool typed = wire::find_header(reply.headers, "content-type") != nullptr;
  if (grpc) {
    headers.emplace_back("content-type", "application/grpc");
    headers.emplace_back("grpc-status",
                         std::to_string(reply.grpc_status.value_or(grpc_status_of(reply.status))));
    if (!reply.body.empty()) headers.emplace_back("grpc-message", wire::grpc_percent_encode(reply.body));
  } else {
    headers.emplace_back("content-length", std::to_string(reply.body.size()));
    if (!reply.body.empty() && !typed) headers.emplace_back("content-type", "text/plain");
    if (!head) out.body = reply.body;
  }
  for (const auto& header : reply.headers) {
    if (!grpc || header.first != "content-type") headers.push_back(header);
  }
  if (!server.empty()) headers.emplace_back("server", server);
  headers.emplace_back("date", http_date(now));
  if (reply.close) headers.emplace_back("connection", "close");
  return out;
}

}  // namespace culvert::waypoint
