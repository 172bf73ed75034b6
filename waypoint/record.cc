// SPDX-License-Identifier: Apache-2.0
#include "waypoint/record.h"

namespace culvert::waypoint {

namespace {

struct FlagName {
  Flag flag;
  const char* code;
  const char* name;
};
constexpr FlagName kFlags[] = {
    {Flag::kNoHealthyUpstream, "UH", "NoHealthyUpstream"},
    {Flag::kUpstreamFailure, "UF", "UpstreamConnectionFailure"},
    {Flag::kUpstreamOverflow, "UO", "UpstreamOverflow"},
    {Flag::kNoRoute, "NR", "NoRouteFound"},
    {Flag::kRetryLimit, "URX", "UpstreamRetryLimitExceeded"},
    {Flag::kNoCluster, "NC", "NoClusterFound"},
    {Flag::kDurationTimeout, "DT", "DurationTimeout"},
    {Flag::kDownstreamClosed, "DC", "DownstreamConnectionTermination"},
    {Flag::kUpstreamTimeout, "UT", "UpstreamRequestTimeout"},
    {Flag::kLocalReset, "LR", "LocalReset"},
    {Flag::kUpstreamReset, "UR", "UpstreamRemoteReset"},
    {Flag::kUpstreamClosed, "UC", "UpstreamConnectionTermination"},
    {Flag::kDelayInjected, "DI", "DelayInjected"},
    {Flag::kFaultInjected, "FI", "FaultInjected"},
    {Flag::kRateLimited, "RL", "RateLimited"},
    {Flag::kRateLimitService, "RLSE", "RateLimitServiceError"},
    {Flag::kExternalDenied, "UAEX", "UnauthorizedExternalService"},
    {Flag::kStreamIdle, "SI", "StreamIdleTimeout"},
    {Flag::kDownstreamProtocol, "DPE", "DownstreamProtocolError"},
    {Flag::kUpstreamProtocol, "UPE", "UpstreamProtocolError"},
    {Flag::kUpstreamDuration, "UMSDR", "UpstreamMaxStreamDurationReached"},
    {Flag::kOverload, "OM", "OverloadManagerTerminated"},
    {Flag::kDnsFailure, "DF", "DnsResolutionFailed"},
    {Flag::kDownstreamReset, "DR", "DownstreamRemoteReset"},
};

std::string joined(const Flags& flags, const char* FlagName::* text) {
  std::string out;
  for (const FlagName& entry : kFlags) {
    if (!flags.has(entry.flag)) continue;
    if (!out.empty()) out += ',';
    out += entry.*text;
  }
  return out.empty() ? "-" : out;
}

}  // namespace

std::string Flags::short_text() const { return joined(*this, &FlagName::code); }
std::string Flags::long_text() const { return joined(*this, &FlagName::name); }

}  // namespace culvert::waypoint
