// SPDX-License-Identifier: Apache-2.0
// External authorizers: what one is asked about a request, and what its answer means (spec waypoint section
// 2.6.6). Pure; phases/ask_authorizers.cc carries it out.
//
// | answer, HTTP        | answer, gRPC                    | means |
// |---------------------|---------------------------------|----------------------------------------------------|
// | 200                 | status 0                        | may pass, with the changes it asks for | |
// another below 500   | another status                  | refused, with its own status, headers and body | |
// 5xx, none, no HTTP  | none, not understood            | failed: failOpen decides, else statusOnError |
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/decide/http_request.h"
#include "mesh/model/guard.h"
#include "net/base/result.h"
#include "waypoint/replies.h"
#include "waypoint/upstream/side_call.h"

namespace culvert::waypoint {

// What a question is made of; looks into the exchange.
struct CheckInput {
  const wire::Headers& request;  // as it would go on
  const decide::HttpRequestFacts& facts;
  conn::HttpVersion version = conn::HttpVersion::k11;
  base::SocketAddr client;
  std::string_view own_principal;  // "spiffe://..." of the waypoint
  base::WallTime time{};
  std::string_view body;  // as much as the authorizer is shown
  bool partial = false;   // there is more
  bool body_shown = false;
};

// A change to headers.
struct HeaderChange {
  enum class How : unsigned char { kSet, kAppend, kAddIfAbsent, kReplaceIfThere, kRemove };
  How how = How::kSet;
  std::string name, value;
  bool operator==(const HeaderChange&) const = default;
};
using HeaderChanges = std::vector<HeaderChange>;
// What frames or routes a message is not to be changed: such names and everything malformed is left out.
void apply_changes(const HeaderChanges& changes, wire::Headers& headers);

struct CheckAnswer {
  bool allowed = false;
  HeaderChanges request, response;
  // Of the query: removed, then set.
  std::vector<std::string> query_removed;
  std::vector<std::pair<std::string, std::string>> query_set;
  Reply refusal;  // not allowed
};

SideRequest http_check(const model::Authorizer& authorizer, const CheckInput& input);
// An error: it failed.
base::Result<CheckAnswer> judge_http_check(const model::Authorizer& authorizer, const SideAnswer& answer);

inline constexpr std::string_view kCheckPath = "/envoy.service.auth.v3.Authorization/Check";
std::string grpc_check(const model::Authorizer& authorizer, const CheckInput& input);
base::Result<CheckAnswer> judge_grpc_check(std::string_view message);

// `query` without "?".
std::string edit_query(std::string_view query, const CheckAnswer& answer);

}  // namespace culvert::waypoint
