// SPDX-License-Identifier: Apache-2.0
#include "waypoint/phases/authorizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "proto/ext_authz.pb.h"
#include "waypoint/headers.h"
#include "waypoint/phases/text.h"

namespace culvert::waypoint {

namespace {

using base::Code;
using base::fail;
using base::Result;
using How = HeaderChange::How;
namespace pb = envoy::service::auth::v3;

// They frame the message, or belong to one hop, or choose who it is for.
constexpr std::string_view kFixed[] = {"host",
                                       "content-length",
                                       "transfer-encoding",
                                       "connection",
                                       "keep-alive",
                                       "proxy-connection",
                                       "upgrade",
                                       "te",
                                       "trailer",
                                       "expect"};
// Of an answer: ours to say.
constexpr std::string_view kOwn[] = {"date", "server", "x-envoy-upstream-service-time"};
// Shown to every HTTP authorizer.
constexpr std::string_view kAlwaysShown = "authorization";
// Go to the client beside those that headersToDownstreamOnDeny names.
constexpr std::string_view kAlwaysOnDeny[] = {"www-authenticate", "location"};

template <size_t N>
bool among(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool any_of(const std::vector<model::TextMatch>& names, std::string_view name) {
  return std::any_of(names.begin(), names.end(), [&](const auto& one) { return one.matches(name); });
}

// RFC 9110 section 5.6.2, in lower case.
bool good_name(std::string_view name) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !name.empty() && std::all_of(name.begin(), name.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || kMarks.find(c) != kMarks.npos;
  });
}
bool good_value(std::string_view value) {
  return std::all_of(value.begin(), value.end(),
                     [](unsigned char c) { return c == '\t' || (c >= 0x20 && c != 0x7f); });
}

std::string_view text_of(const wire::Headers& headers, std::string_view name) {
  const std::string* found = header_of(headers, name);
  return found ? std::string_view(*found) : std::string_view();
}

std::string_view protocol_of(conn::HttpVersion version) {
  switch (version) {
    case conn::HttpVersion::k10: return "HTTP/1.0";
    case conn::HttpVersion::k11: return "HTTP/1.1";
    case conn::HttpVersion::k2: return "HTTP/2";
  }
  return "";
}

void put(HeaderChanges& out, How how, std::string_view name, std::string_view value) {
  out.push_back({how, lower_case(name), std::string(value)});
}

}  // namespace

void apply_changes(const HeaderChanges& changes, wire::Headers& headers) {
  for (const HeaderChange& change : changes) {
    if (!good_name(change.name) || among(kFixed, change.name) || !good_value(change.value)) continue;
    bool there = header_of(headers, change.name) != nullptr;
    switch (change.how) {
      case How::kSet: set_header(headers, change.name, change.value); break;
      case How::kAppend: headers.emplace_back(change.name, change.value); break;
      case How::kAddIfAbsent:
        if (!there) headers.emplace_back(change.name, change.value);
        break;
      case How::kReplaceIfThere:
        if (there) set_header(headers, change.name, change.value);
        break;
      case How::kRemove: drop_header(headers, change.name); break;
    }
  }
}

// --- HTTP ---

SideRequest http_check(const model::Authorizer& authorizer, const CheckInput& input) {
  SideRequest out;
  out.headers = {{":method", std::string(input.facts.method)},
                 {":scheme", "http"},
                 {":authority", std::string(input.facts.authority)},
                 {":path", authorizer.path_prefix + std::string(text_of(input.request, ":path"))}};
  for (const auto& [name, value] : input.request) {
    if (name.starts_with(':') || among(kFixed, name)) continue;
    if (name != kAlwaysShown && !any_of(authorizer.request_headers, name)) continue;
    out.headers.emplace_back(name, value);
  }
  for (const auto& [name, value] : authorizer.more_headers) {
    if (!among(kFixed, name)) set_header(out.headers, name, value);
  }
  out.headers.emplace_back("content-length", std::to_string(input.body.size()));
  if (input.body_shown) {
    set_header(out.headers, "x-envoy-auth-partial-body", input.partial ? "true" : "false");
  }
  out.body = input.body;
  return out;
}

Result<CheckAnswer> judge_http_check(const model::Authorizer& authorizer, const SideAnswer& answer) {
  uint16_t status = status_of(answer.headers);
  if (status < 200 || status >= 500) {
    return fail(Code::kUnavailable, fmt::format("it answered {}", status));
  }
  CheckAnswer out;
  out.allowed = status == 200;
  if (out.allowed) {
    for (const auto& [name, value] : answer.headers) {
      if (any_of(authorizer.to_upstream_on_allow, name)) put(out.request, How::kSet, name, value);
      if (any_of(authorizer.to_client_on_allow, name)) put(out.response, How::kSet, name, value);
    }
    return out;
  }
  out.refusal.status = status;
  out.refusal.body = answer.body;
  for (const auto& [name, value] : answer.headers) {
    if (name.starts_with(':') || among(kFixed, name) || among(kOwn, name)) continue;
    bool wanted = authorizer.to_client_on_deny.empty() || any_of(authorizer.to_client_on_deny, name) ||
                  among(kAlwaysOnDeny, name);
    if (wanted) out.refusal.headers.emplace_back(name, value);
  }
  return out;
}

// --- gRPC ---

namespace {

void set_address(const base::SocketAddr& from, pb::Address& to) {
  to.mutable_socket_address()->set_address(from.ip.to_string());
  to.mutable_socket_address()->set_port_value(from.port);
}

void set_body(const model::Authorizer& authorizer, const CheckInput& input, pb::HttpRequest& http) {
  if (!input.body_shown) return;
  if (authorizer.body->as_bytes) {
    http.set_raw_body(std::string(input.body));
  } else {
    http.set_body(as_utf8(input.body));
  }
  (*http.mutable_headers())["x-envoy-auth-partial-body"] = input.partial ? "true" : "false";
}

// `lone`: without `append`, the published default of that list.
HeaderChange change_of(const pb::HeaderValueOption& in, How lone) {
  const pb::HeaderValue& header = in.header();
  HeaderChange out{lone, lower_case(header.key()),
                   header.value().empty() ? header.raw_value() : header.value()};
  if (in.has_append()) {
    out.how = in.append().value() ? How::kAppend : How::kSet;
    return out;
  }
  switch (in.append_action()) {
    case pb::HeaderValueOption::ADD_IF_ABSENT: out.how = How::kAddIfAbsent; break;
    case pb::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD: out.how = How::kSet; break;
    case pb::HeaderValueOption::OVERWRITE_IF_EXISTS: out.how = How::kReplaceIfThere; break;
    default: break;
  }
  return out;
}

}  // namespace

std::string grpc_check(const model::Authorizer& authorizer, const CheckInput& input) {
  pb::CheckRequest request;
  pb::AttributeContext& about = *request.mutable_attributes();
  set_address(input.client, *about.mutable_source()->mutable_address());
  if (input.facts.peer) about.mutable_source()->set_principal(as_utf8(input.facts.peer->to_string()));
  set_address(input.facts.destination, *about.mutable_destination()->mutable_address());
  about.mutable_destination()->set_principal(as_utf8(input.own_principal));
  auto since = input.time.time_since_epoch();
  auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  pb::Timestamp& time = *about.mutable_request()->mutable_time();
  time.set_seconds(seconds.count());
  time.set_nanos(
      static_cast<int32_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since - seconds).count()));
  pb::HttpRequest& http = *about.mutable_request()->mutable_http();
  http.set_id(as_utf8(text_of(input.request, "x-request-id")));
  http.set_method(as_utf8(input.facts.method));
  http.set_path(as_utf8(text_of(input.request, ":path")));
  http.set_host(as_utf8(input.facts.authority));
  http.set_scheme(as_utf8(input.facts.scheme));
  http.set_protocol(std::string(protocol_of(input.version)));
  int64_t size = -1;  // not known
  for (const auto& [name, value] : input.request) {
    std::string& slot = (*http.mutable_headers())[as_utf8(name)];
    slot += (slot.empty() ? "" : ",") + as_utf8(value);
  }
  if (input.body_shown && !input.partial) size = static_cast<int64_t>(input.body.size());
  http.set_size(size);
  set_body(authorizer, input, http);
  return request.SerializeAsString();
}

Result<CheckAnswer> judge_grpc_check(std::string_view message) {
  pb::CheckResponse in;
  if (!in.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    return fail(Code::kProtocol, "its answer is no CheckResponse");
  }
  CheckAnswer out;
  // No status is status 0 on this wire.
  out.allowed = in.status().code() == 0;
  if (out.allowed) {
    const pb::OkHttpResponse& ok = in.ok_response();
    for (const auto& one : ok.headers()) out.request.push_back(change_of(one, How::kSet));
    for (const auto& name : ok.headers_to_remove()) put(out.request, How::kRemove, name, "");
    for (const auto& one : ok.response_headers_to_add()) {
      out.response.push_back(change_of(one, How::kAppend));
    }
    for (const auto& name : ok.query_parameters_to_remove()) out.query_removed.push_back(name);
    for (const auto& one : ok.query_parameters_to_set()) out.query_set.emplace_back(one.key(), one.value());
    return out;
  }
  const pb::DeniedHttpResponse& denied = in.denied_response();
  int status = denied.status().code();
  out.refusal.status = status >= 200 && status <= 599 ? static_cast<uint16_t>(status) : 403;
  out.refusal.body = denied.body();
  HeaderChanges changes;
  for (const auto& one : denied.headers()) changes.push_back(change_of(one, How::kSet));
  std::erase_if(changes, [](const HeaderChange& one) { return among(kOwn, one.name); });
  apply_changes(changes, out.refusal.headers);
  return out;
}

std::string edit_query(std::string_view query, const CheckAnswer& answer) {
  auto gone = [&](std::string_view name) {
    auto set = [&](const auto& one) { return one.first == name; };
    return std::find(answer.query_removed.begin(), answer.query_removed.end(), name) !=
               answer.query_removed.end() ||
           std::any_of(answer.query_set.begin(), answer.query_set.end(), set);
  };
  std::string out;
  auto add = [&](std::string_view pair) { out.append(out.empty() ? "" : "&").append(pair); };
  while (!query.empty()) {
    std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    if (!gone(pair.substr(0, pair.find('=')))) add(pair);
  }
  // As they stand in a URL; what cannot stand there is left out.
  auto fits = [](std::string_view text) {
    return std::all_of(text.begin(), text.end(),
                       [](unsigned char c) { return c > 0x20 && c < 0x7f && c != '#'; });
  };
  for (const auto& [name, value] : answer.query_set) {
    if (fits(name) && fits(value)) add(name + "=" + value);
  }
  return out;
}

}  // namespace culvert::waypoint
