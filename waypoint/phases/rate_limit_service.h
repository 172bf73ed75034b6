// SPDX-License-Identifier: Apache-2.0
// Rate limit services: what one is asked about a request, and what its answer means (spec waypoint section
// 4.3; envoy.service.ratelimit.v3). Pure; phases/limit.cc carries it out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/decide/rate_limit.h"
#include "net/base/result.h"
#include "waypoint/phases/authorizer.h"

namespace culvert::waypoint {

inline constexpr std::string_view kShouldRateLimitPath =
    "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

// One descriptor for each of `due`, in order:
// | entry                                          | value                                            |
// |------------------------------------------------|--------------------------------------------------|
// | policy                                         | "namespace/name/rule"                            |
// | bound_route                                    | of a policy bound to routes: the route           |
// | source_principal, source_namespace, source_ip, | the rule's key, in order; "-" for what is empty, |
// | method, path, route, header.<name>,            | since services take no empty values              |
// | claim.<name>, query.<name>                     |                                                  |
std::string rate_limit_question(std::string_view domain,
                                std::span<const decide::RateLimitDecision::GlobalCharge> due);

struct RateLimitAnswer {
  std::vector<decide::RateLimitNote> notes;  // of each of `due`
  HeaderChanges request, response;
  std::string body;  // of a refusal
};
// An error: it is no answer, and counts as a failed call.
base::Result<RateLimitAnswer> judge_rate_limit_answer(
    std::string_view message, std::span<const decide::RateLimitDecision::GlobalCharge> due);

}  // namespace culvert::waypoint
