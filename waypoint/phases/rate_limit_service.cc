// SPDX-License-Identifier: Apache-2.0
#include "waypoint/phases/rate_limit_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "proto/rls.pb.h"
#include "waypoint/phases/text.h"

namespace culvert::waypoint {

namespace {

using base::Code;
using base::fail;
using Due = std::span<const decide::RateLimitDecision::GlobalCharge>;
namespace pb = envoy::service::ratelimit::v3;

// The compiler lets no other period through for rules that are counted outside.
pb::Unit unit_of(base::Duration per) {
  using std::chrono::hours;
  if (per <= std::chrono::seconds(1)) return pb::SECOND;
  if (per <= std::chrono::minutes(1)) return pb::MINUTE;
  if (per <= hours(1)) return pb::HOUR;
  if (per <= hours(24)) return pb::DAY;
  return per <= hours(24 * 30) ? pb::MONTH : pb::YEAR;
}

std::string key_name(const model::RateLimitKey& key) {
  using Kind = model::RateLimitKey::Kind;
  switch (key.kind) {
    case Kind::kSourcePrincipal: return "source_principal";
    case Kind::kSourceNamespace: return "source_namespace";
    case Kind::kSourceIp: return "source_ip";
    case Kind::kMethod: return "method";
    case Kind::kPath: return "path";
    case Kind::kRoute: return "route";
    case Kind::kHeader: return "header." + key.name;
    case Kind::kClaim: return "claim." + key.name;
    case Kind::kQuery: return "query." + key.name;
  }
  return "unknown";
}

void add_entry(pb::RateLimitDescriptor& out, std::string key, std::string_view value) {
  pb::RateLimitDescriptor::Entry& entry = *out.add_entries();
  entry.set_key(as_utf8(key));
  entry.set_value(value.empty() ? "-" : as_utf8(value));
}

// What the service itself goes by, which may stand in its own configuration.
std::optional<decide::RateLimitNote::Limit> limit_of(const pb::RateLimitResponse::RateLimit& in) {
  using std::chrono::hours;
  base::Duration window{0};
  switch (in.unit()) {
    case pb::RateLimitResponse::RateLimit::LIMIT_SECOND: window = std::chrono::seconds(1); break;
    case pb::RateLimitResponse::RateLimit::LIMIT_MINUTE: window = std::chrono::minutes(1); break;
    case pb::RateLimitResponse::RateLimit::LIMIT_HOUR: window = hours(1); break;
    case pb::RateLimitResponse::RateLimit::LIMIT_DAY: window = hours(24); break;
    case pb::RateLimitResponse::RateLimit::LIMIT_WEEK: window = hours(24 * 7); break;
    case pb::RateLimitResponse::RateLimit::LIMIT_MONTH: window = hours(24 * 30); break;
    case pb::RateLimitResponse::RateLimit::LIMIT_YEAR: window = hours(24 * 365); break;
    default: return std::nullopt;
  }
  return decide::RateLimitNote::Limit{in.requests_per_unit(), window};
}

HeaderChanges changes_of(const auto& headers) {
  HeaderChanges out;
  for (const pb::HeaderValue& header : headers) {
    out.push_back({HeaderChange::How::kAppend, lower_case(header.key()),
                   header.value().empty() ? header.raw_value() : header.value()});
  }
  return out;
}

}  // namespace

std::string rate_limit_question(std::string_view domain, Due due) {
  pb::RateLimitRequest request;
  request.set_domain(as_utf8(domain));
  // Older services know one addend for all.
  bool same = std::all_of(due.begin(), due.end(), [&](const auto& one) { return one.cost == due[0].cost; });
  for (const auto& one : due) {
    pb::RateLimitDescriptor& out = *request.add_descriptors();
    add_entry(out, "policy", fmt::format("{}/{}/{}", one.policy->ns, one.policy->name, one.rule->name));
    if (!one.rule->route.empty()) add_entry(out, "bound_route", one.rule->route);
    for (size_t i = 0; i < one.rule->key.size(); ++i) {
      add_entry(out, key_name(one.rule->key[i]), one.key_parts[i]);
    }
    constexpr uint64_t kMost = UINT32_MAX;
    out.mutable_limit()->set_requests_per_unit(static_cast<uint32_t>(std::min(one.rule->requests, kMost)));
    out.mutable_limit()->set_unit(unit_of(one.rule->per));
    if (!same) out.mutable_hits_addend()->set_value(one.cost);
  }
  if (same && !due.empty())
    request.set_hits_addend(static_cast<uint32_t>(std::min<uint64_t>(due[0].cost, UINT32_MAX)));
  return request.SerializeAsString();
}

base::Result<RateLimitAnswer> judge_rate_limit_answer(std::string_view message, Due due) {
  pb::RateLimitResponse in;
  if (!in.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    return fail(Code::kProtocol, "the answer is no RateLimitResponse");
  }
  if (in.overall_code() != pb::RateLimitResponse::OK &&
      in.overall_code() != pb::RateLimitResponse::OVER_LIMIT) {
    return fail(Code::kProtocol, fmt::format("the answer's overall_code is {}", int(in.overall_code())));
  }
  bool over = in.overall_code() == pb::RateLimitResponse::OVER_LIMIT;
  // Without a word on each, the word on all is on each.
  bool each = static_cast<size_t>(in.statuses_size()) == due.size();
  RateLimitAnswer out;
  for (size_t i = 0; i < due.size(); ++i) {
    decide::RateLimitNote note{due[i].policy, due[i].rule, {}};
    decide::BucketState& state = note.state;
    state.admitted = !over;
    state.remaining = over ? 0 : due[i].rule->requests;
    state.reset = due[i].rule->per;
    if (each) {
      const auto& status = in.statuses(static_cast<int>(i));
      state.admitted = status.code() != pb::RateLimitResponse::OVER_LIMIT;
      state.remaining = status.limit_remaining();
      if (status.has_current_limit()) note.limit = limit_of(status.current_limit());
      if (status.has_duration_until_reset()) {
        const pb::Duration& left = status.duration_until_reset();
        constexpr int64_t kSecondsMax = int64_t{366} * 24 * 3600;
        state.reset = std::chrono::seconds(std::clamp<int64_t>(left.seconds(), 0, kSecondsMax)) +
                      std::chrono::nanoseconds(std::clamp(left.nanos(), 0, 999'999'999));
      }
    }
    if (!state.admitted) state.retry_after = state.reset;
    out.notes.push_back(std::move(note));
  }
  // It refused, and of nothing that we asked: all of it, then.
  bool none =
      std::all_of(out.notes.begin(), out.notes.end(), [](const auto& one) { return one.state.admitted; });
  if (over && none) {
    for (decide::RateLimitNote& note : out.notes) {
      note.state.admitted = false;
      note.state.retry_after = note.state.reset;
    }
  }
  out.request = changes_of(in.request_headers_to_add());
  out.response = changes_of(in.response_headers_to_add());
  out.body = in.raw_body();
  return out;
}

}  // namespace culvert::waypoint
