// SPDX-License-Identifier: Apache-2.0
// Routes: what a waypoint does with a request or a connection to one of its services (spec waypoint sections
// 2.1, 2.2, 2.4). Plain values, merged and sorted by the control plane: the first route that matches decides.
// Short names, precedence, delegation and ReferenceGrants are resolved before.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mesh/model/text_match.h"
#include "mesh/model/workload.h"
#include "net/base/duration.h"
#include "net/base/ip.h"

namespace culvert::model {

using LabelMap = std::map<std::string, std::string>;

// Requests that show the token of an earlier answer go where that one came from (GEP-1619, gap G9).
struct SessionPersistence {
  std::string name;            // of the cookie, or of the header in lower case
  bool header = false;         // else a cookie
  bool permanent = false;      // the cookie outlives its client's session, until `absolute`
  base::Duration absolute{0};  // since the first answer; 0: for ever
  base::Duration idle{0};      // since the last one; 0: for ever
  bool operator==(const SessionPersistence&) const = default;
};

// Who sends, as far as it is proven: from the peer's certificate and its workload (gap G1).
struct SourceMatch {
  LabelMap labels;             // all of them on the source's pod; empty: any
  std::string ns;              // "" any
  std::vector<base::Cidr> ip;  // any of them; empty: any. Connections only
  bool empty() const { return labels.empty() && ns.empty() && ip.empty(); }
  bool operator==(const SourceMatch&) const = default;
};

struct HeaderMatch {
  std::string name;  // lower case
  TextMatch value;   // against the values joined by ","
  // The negation; an absent header counts as "", except that "present" negates to "absent".
  bool invert = false;
  bool operator==(const HeaderMatch&) const = default;
};

struct QueryMatch {
  std::string name;
  TextMatch value;  // against the first of that name, as written
  bool operator==(const QueryMatch&) const = default;
};

// A claim of a verified token; such a route never matches without one.
struct ClaimMatch {
  std::vector<std::string> path;
  TextMatch value;  // a list: any element
  bool invert = false;
  bool operator==(const ClaimMatch&) const = default;
};

// All that is set must hold.
struct RouteMatch {
  std::string name;
  std::optional<TextMatch> path;  // normalised, without query
  std::optional<TextMatch> method, scheme, authority;
  std::vector<HeaderMatch> headers;
  std::vector<QueryMatch> query;
  std::vector<ClaimMatch> claims;
  SourceMatch source;
  bool grpc = false;  // POST with a gRPC content type only
  bool operator==(const RouteMatch&) const = default;
};

// Applied in this order; names in lower case. Values may hold %OPERATORS% (section 5.4).
struct HeaderEdits {
  std::vector<std::pair<std::string, std::string>> set, add;
  std::vector<std::string> remove;
  bool empty() const { return set.empty() && add.empty() && remove.empty(); }
  bool operator==(const HeaderEdits&) const = default;
};

// How a path changes, for rewrites and redirects.
struct PathEdit {
  enum class Kind : uint8_t {
    kNone,
    kFull,        // the whole path becomes `text`
    kPrefix,      // the matched prefix becomes `text`, byte for byte
    kPathPrefix,  // the matched segments become `text`, with one slash between (Gateway API)
    kRegex,       // every match of `regex` becomes `text`
  };
  Kind kind = Kind::kNone;
  std::string text;
  std::optional<Regex> regex;
  bool operator==(const PathEdit&) const = default;
};

struct Rewrite {
  PathEdit path;
  std::string authority;  // "" unchanged
  bool operator==(const Rewrite&) const = default;
};

// One of the destinations of a route.
struct RouteTarget {
  NamespacedHostname service;
  std::string subset;  // "" all endpoints
  uint16_t port = 0;   // service port; 0: the port the client used
  uint32_t weight = 1;
  HeaderEdits request, response;
  Rewrite rewrite;  // of this destination only
  // A Gateway API reference that may not be used: its share is answered 500 (gRPC: 14). Says why.
  std::string invalid;
  bool operator==(const RouteTarget&) const = default;
};

struct Redirect {
  enum class PortFrom : uint8_t { kUnset, kProtocolDefault, kRequest };
  PathEdit path;
  std::string authority, scheme;
  uint16_t port = 0;
  PortFrom port_from = PortFrom::kUnset;
  uint16_t status = 301;
  bool operator==(const Redirect&) const = default;
};

struct DirectResponse {
  uint16_t status = 200;
  std::string body;
  bool operator==(const DirectResponse&) const = default;
};

// Bits of retryOn (section 2.1.5).
enum RetryOn : uint32_t {
  kRetry5xx = 1 << 0,
  kRetryGatewayError = 1 << 1,
  kRetryReset = 1 << 2,
  kRetryResetBeforeRequest = 1 << 3,
  kRetryConnectFailure = 1 << 4,
  kRetryRefusedStream = 1 << 5,
  kRetry4xx = 1 << 6,
  kRetryStatusCodes = 1 << 7,
  kRetryHeaders = 1 << 8,
  kRetryRateLimited = 1 << 9,
  kRetryGrpcCancelled = 1 << 10,
  kRetryGrpcDeadlineExceeded = 1 << 11,
  kRetryGrpcInternal = 1 << 12,
  kRetryGrpcResourceExhausted = 1 << 13,
  kRetryGrpcUnavailable = 1 << 14,
};

struct RetryPolicy {
  uint32_t attempts = 2;              // beside the first try; 0: none
  base::Duration per_try_timeout{0};  // 0: the route's
  uint32_t on = kRetryConnectFailure | kRetryRefusedStream | kRetryGrpcUnavailable | kRetryGrpcCancelled;
  std::vector<uint16_t> status_codes;         // with kRetryStatusCodes
  std::vector<std::string> response_headers;  // with kRetryHeaders
  base::Duration backoff = std::chrono::milliseconds(25);
  bool avoid_tried_hosts = true;
  bool other_localities = false;
  bool operator==(const RetryPolicy&) const = default;
};

struct FaultInjection {
  base::Duration delay{0};
  double delay_percent = 0;
  uint16_t abort_status = 0;  // 0: none
  std::optional<uint32_t> abort_grpc_status;
  double abort_percent = 0;
  bool operator==(const FaultInjection&) const = default;
};

struct Mirror {
  RouteTarget target;
  double percent = 100;
  bool operator==(const Mirror&) const = default;
};

struct Cors {
  std::vector<TextMatch> origins;  // exact "*": any
  std::vector<std::string> methods, headers, expose;
  std::optional<base::Duration> max_age;
  std::optional<bool> credentials;
  bool forward_unmatched_preflights = true;
  bool operator==(const Cors&) const = default;
};

// Exactly one of: targets, redirect, direct, or `broken`.
struct HttpRoute {
  std::string name;                 // of %ROUTE_NAME%
  std::string origin;               // "VirtualService production/api-service", for people
  std::vector<RouteMatch> matches;  // any; none: everything
  std::vector<RouteTarget> targets;
  std::optional<Redirect> redirect;
  std::optional<DirectResponse> direct;
  std::string broken;  // answered 500; says why
  Rewrite rewrite;
  HeaderEdits request, response;
  base::Duration timeout{0};           // 0: none
  std::optional<RetryPolicy> retries;  // none: the mesh's default
  std::optional<FaultInjection> fault;
  std::vector<Mirror> mirrors;
  std::optional<Cors> cors;
  std::optional<SessionPersistence> session;
  bool operator==(const HttpRoute&) const = default;
};

// A route of connections that are not HTTP, or TLS that is not opened.
struct TcpRoute {
  std::string name;
  std::string origin;
  bool tls = false;                       // looks at the server name
  std::vector<std::string> server_names;  // exact, or "*.suffix"; empty: any
  std::vector<base::Cidr> destinations;   // of the address dialled; empty: any
  SourceMatch source;
  std::vector<RouteTarget> targets;
  bool operator==(const TcpRoute&) const = default;
};

// The routes of one service port. Without `http` (or `tcp`) traffic goes to the service itself; with an
// attached table a request that matches none of it is answered 404.
struct PortRoutes {
  uint16_t port = 0;
  std::optional<std::vector<HttpRoute>> http;
  std::optional<std::vector<TcpRoute>> tcp;
  bool operator==(const PortRoutes&) const = default;
};

struct ServiceRoutes {
  std::vector<PortRoutes> ports;  // sorted; a port that is absent has no routes
  // Consumer routes (gap G2): instead of `ports` for clients of that namespace.
  std::map<std::string, std::vector<PortRoutes>> by_client_namespace;
  bool operator==(const ServiceRoutes&) const = default;
};

}  // namespace culvert::model
