// SPDX-License-Identifier: Apache-2.0
// Fields that several kinds share, from a Cursor. Private to mesh/kube.
#pragma once

#include <utility>

#include "mesh/kube/cursor.h"
#include "mesh/kube/gateway_routes.h"

namespace culvert::kube {

// "1h30m", "100ms", "1.5s"; a number needs its unit.
std::optional<base::Duration> decode_duration(const Cursor& at);
base::Duration decode_duration(const Cursor& at, base::Duration fallback);
double decode_number(const Cursor& at, double low, double high, double fallback);
std::optional<bool> decode_flag(const Cursor& at);
uint32_t decode_count(const Cursor& at, uint32_t fallback = 0, uint32_t high = UINT32_MAX);
// 1 to 65535; 0: absent.
uint16_t decode_port(const Cursor& at);
// A text that must be there and not be empty.
std::string decode_needed(const Cursor& map, const std::string& key);
// A host name, or with `wildcard` also "*" and "*.name".
std::string decode_host(const Cursor& at, bool wildcard);
std::string decode_header_name(const Cursor& at);
void check_header_name(const Cursor& at, const std::string& name);
void check_header_value(const Cursor& at, const std::string& value);
// Compiles it once; false if that was refused.
bool check_regex(const Cursor& at, const std::string& pattern);
base::Result<std::string> decode_base64(std::string_view text);

StringMatch decode_string_match(const Cursor& at, bool may_be_present = false);
// Istio's {request, response}.headers form: maps to set and add, names to remove.
HeaderEdits decode_header_edits(const Cursor& at);
// Absent is not the same as empty.
std::optional<Labels> decode_match_labels(const Cursor& selector);
// targetRef and targetRefs of an Istio policy, which exclude `selector`.
std::vector<TargetRef> decode_target_refs(const Cursor& spec);
// One, of our policies and of the Gateway API's.
TargetRef decode_target_ref(const Cursor& ref);
std::vector<std::string> decode_export_to(const Cursor& at);

// "10.0.0.0/8", or one address.
void check_subnet(const Cursor& at, const std::string& text);
// By name or number (decode_virtual_service.cc).
int decode_grpc_status(const Cursor& at);
HttpRetries decode_retries(const Cursor& at);
// Of MeshConfig too (decode_telemetry.cc).
std::map<std::string, CustomTag> decode_custom_tags(const Cursor& at);
// Of MeshConfig too (decode_destination_rule.cc).
void check_cookie_part(const Cursor& at, const std::string& text);
TcpKeepalive decode_keepalive(const Cursor& at);
LocalityLb decode_locality_lb(const Cursor& at);

// Of the Gateway API (decode_gateway_api.cc).
HttpRouteMatch decode_http_route_match(const Cursor& at);
BackendObject decode_backend_ref(const Cursor& at);
SessionPersistence decode_session(const Cursor& at);

// One of the names of `choices`; absent: `fallback`.
template <class T>
T decode_choice(const Cursor& at, T fallback, std::initializer_list<std::pair<std::string_view, T>> choices) {
  if (at.absent()) return fallback;
  std::string text = at.text();
  std::string known;
  for (const auto& [name, value] : choices) {
    if (name == text) return value;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  at.fail("\"" + text + "\" must be one of: " + known);
  return fallback;
}

}  // namespace culvert::kube
