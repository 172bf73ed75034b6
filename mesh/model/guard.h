// SPDX-License-Identifier: Apache-2.0
// Guard: who may do what with a service at L7: authorization, tokens, rate limits (spec waypoint
// sections 2.6, 2.7, 4). Plain values.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mesh/model/policy.h"
#include "mesh/model/route.h"
#include "net/base/duration.h"
#include "net/base/ip.h"

namespace culvert::model {

// A list and its not_ twin: any of the first (if there are any), none of the second.
template <class T>
struct Either {
  std::vector<T> any, none;
  bool empty() const { return any.empty() && none.empty(); }
  bool operator==(const Either&) const = default;
};

// The fields of one are ANDed.
struct HttpSource {
  Either<TextMatch> principals;  // without "spiffe://"
  Either<TextMatch> request_principals;
  Either<TextMatch> namespaces;
  Either<TextMatch> trust_domains;
  Either<ServiceAccountMatch> service_accounts;
  Either<base::Cidr> ip_blocks, remote_ip_blocks;
  bool operator==(const HttpSource&) const = default;
};

struct HttpOperation {
  Either<TextMatch> hosts, methods, paths;
  Either<uint16_t> ports;  // of the service
  bool operator==(const HttpOperation&) const = default;
};

struct Condition {
  enum class Key : uint8_t {
    kHeader,    // name
    kSourceIp,  // ranges
    kRemoteIp,  // ranges
    kSourceNamespace,
    kSourcePrincipal,
    kSourceServiceAccount,  // "ns/name"
    kSourceTrustDomain,
    kRequestPrincipal,
    kRequestAudiences,
    kRequestPresenter,
    kRequestClaim,   // path
    kDestinationIp,  // ranges
    kDestinationPort,
    kConnectionSni,
  };
  Key key = Key::kHeader;
  std::string name;               // kHeader, lower case
  std::vector<std::string> path;  // kRequestClaim
  Either<TextMatch> values;
  Either<base::Cidr> ranges;
  // Needs HTTP: an ALLOW rule with it never matches on other streams, a DENY rule goes on without it.
  bool http_only() const {
    return key == Key::kHeader || key == Key::kRemoteIp ||
           (key >= Key::kRequestPrincipal && key <= Key::kRequestClaim);
  }
  bool operator==(const Condition&) const = default;
};

struct HttpRule {
  std::vector<HttpSource> from;   // any; none: everybody
  std::vector<HttpOperation> to;  // any; none: everything
  std::vector<Condition> when;    // all
  bool operator==(const HttpRule&) const = default;
};

// What a policy that was bound by `selector` covers.
using PodSelector = std::optional<LabelMap>;

struct HttpPolicy {
  enum class Action : uint8_t { kAllow, kDeny, kAudit, kCustom };
  std::string ns, name;
  Action action = Action::kAllow;
  bool dry_run = false;
  std::string provider;         // of kCustom
  std::vector<HttpRule> rules;  // any; none: nothing
  // Set: it holds for requests to endpoints in `ns` (any namespace if `selector_everywhere`) with these
  // labels only; unset: for every request to the service.
  PodSelector selector;
  bool selector_everywhere = false;  // a policy of the root namespace
  std::string selector_ns;           // not empty: endpoints of this namespace instead of `ns`
  bool operator==(const HttpPolicy&) const = default;
};

// Who is asked for kCustom policies: an external authorizer (section 2.6.6).
struct Authorizer {
  // What is shown to it of the request's body.
  struct Body {
    uint32_t bytes_max = 0;
    bool partial = false;   // of a longer one the beginning; else it is refused
    bool as_bytes = false;  // gRPC: in raw_body instead of body
    bool operator==(const Body&) const = default;
  };
  std::string name;   // what policies call it
  bool http = false;  // a copy of the request's head; else gRPC, envoy.service.auth.v3
  NamespacedHostname service;
  uint16_t port = 0;
  base::Duration timeout = std::chrono::seconds(600);
  bool fail_open = false;          // a failure lets the request pass
  bool clear_route_cache = false;  // routes match what it made of the request
  uint16_t status_on_error = 403;
  std::optional<Body> body;
  // The rest is of HTTP; names match in lower case.
  std::string path_prefix;
  std::vector<TextMatch> request_headers;                         // shown to it beside those that always are
  std::vector<std::pair<std::string, std::string>> more_headers;  // and with these, lower case
  // Of its answer. The last, if empty, means all.
  std::vector<TextMatch> to_upstream_on_allow, to_client_on_allow, to_client_on_deny;
  bool operator==(const Authorizer&) const = default;
};

struct TokenPlace {
  enum class Kind : uint8_t { kHeader, kParameter, kCookie };
  Kind kind = Kind::kHeader;
  std::string name;    // header in lower case
  std::string prefix;  // of the header's value: "Bearer "
  bool operator==(const TokenPlace&) const = default;
};

struct JwtRule {
  std::string issuer;
  std::vector<std::string> audiences;  // empty: not checked
  std::string jwks;                    // RFC 7517 text; empty: could not be fetched, and tokens are refused
  bool inline_keys = false;            // written by the user: symmetric keys count
  std::vector<TokenPlace> places;      // never empty
  std::string payload_header;          // lower case; "" none
  std::vector<std::pair<std::string, std::string>> claim_headers;  // header, claim path with dots
  bool forward_token = false;
  std::vector<std::string> space_delimited_claims;  // beside scope and permission
  bool operator==(const JwtRule&) const = default;
};

struct RequestAuthentication {
  std::string ns, name;
  std::vector<JwtRule> rules;
  PodSelector selector;  // as in HttpPolicy
  bool selector_everywhere = false;
  bool operator==(const RequestAuthentication&) const = default;
};

struct RateLimitKey {
  enum class Kind : uint8_t {
    kSourcePrincipal,
    kSourceNamespace,
    kSourceIp,
    kMethod,
    kPath,
    kRoute,
    kHeader,
    kClaim,
    kQuery,
  };
  Kind kind = Kind::kSourcePrincipal;
  std::string name;
  bool operator==(const RateLimitKey&) const = default;
};

struct RateLimitRule {
  std::string name;
  std::vector<RouteMatch> matches;  // any; none: all
  std::vector<HttpSource> from;     // any; none: all
  std::vector<RateLimitKey> key;    // empty: one bucket
  uint64_t requests = 0;
  base::Duration per = std::chrono::seconds(1);
  uint64_t burst = 0;
  uint64_t cost = 1;
  std::string cost_header;  // of the response, charged afterwards; "" none
  uint32_t keys_max = 65536;
  std::string route;    // only requests on a route of this name or origin; "" all
  bool global = false;  // counted by the policy's service, by requests and per alone
  bool operator==(const RateLimitRule&) const = default;
};

// Who counts for all replicas (section 4.3): envoy.service.ratelimit.v3.
struct RateLimitService {
  NamespacedHostname service;
  uint16_t port = 0;
  std::string domain;
  base::Duration timeout = std::chrono::milliseconds(20);
  bool deny_on_failure = false;
  bool operator==(const RateLimitService&) const = default;
};

struct RateLimitPolicy {
  enum class HeaderStyle : uint8_t { kStandard, kLegacy, kBoth, kNone };
  std::string ns, name;
  bool shadow = false;
  std::vector<RateLimitRule> rules;
  uint16_t status = 429;
  HeaderStyle headers = HeaderStyle::kStandard;
  uint32_t grpc_status = 8;
  std::optional<RateLimitService> service;  // of rules that are global; none: it is not known
  bool operator==(const RateLimitPolicy&) const = default;
};

struct Guard {
  std::vector<HttpPolicy> policies;  // in the order of section 2.6.1 within an action
  std::vector<RequestAuthentication> authentications;
  std::vector<RateLimitPolicy> rate_limits;
  std::vector<Authorizer> authorizers;  // that kCustom policies name and the mesh knows, each once
  bool operator==(const Guard&) const = default;
};

}  // namespace culvert::model
