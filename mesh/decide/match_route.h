// SPDX-License-Identifier: Apache-2.0
// Routing: which route takes a request or a connection, where it goes, and what becomes of its path (spec
// waypoint sections 2.1 to 2.4). Pure; chance is an argument.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "mesh/decide/http_request.h"
#include "mesh/model/route.h"
#include "net/base/rng.h"

namespace culvert::decide {

// Every field of one match.
bool matches(const model::RouteMatch& match, const HttpRequestFacts& facts);
bool matches(const model::SourceMatch& source, const HttpRequestFacts& facts);

struct RouteHit {
  const model::HttpRoute* route = nullptr;   // null: none
  const model::RouteMatch* match = nullptr;  // null for a route without matches
};
// The first route of which any match holds.
RouteHit match_http_route(std::span<const model::HttpRoute> routes, const HttpRequestFacts& facts);

// The first route for a connection; TLS routes only if `facts.sni` counts (`tls`). Of several server names
// that match, the most specific route wins.
const model::TcpRoute* match_tcp_route(std::span<const model::TcpRoute> routes, const HttpRequestFacts& facts,
                                       bool tls);

// One draw by weight; a single target always. Null: all weights are zero, or there is none.
const model::RouteTarget* pick_target(std::span<const model::RouteTarget> targets, base::Rng& rng);

// The path after a rewrite; `match` is what the route was hit by. `path` comes without query.
std::string edit_path(const model::PathEdit& edit, const model::RouteMatch* match, std::string_view path);

// The Location of a redirect.
std::string redirect_location(const model::Redirect& redirect, const model::RouteMatch* match,
                              const HttpRequestFacts& facts);

// A percentage as a coin.
bool draw(double percent, base::Rng& rng);

// How one try ended, as far as a retry policy asks.
struct TryOutcome {
  enum class Failure : unsigned char {
    kNone,                // there was a response
    kConnect,             // no connection
    kRefused,             // REFUSED_STREAM, or GOAWAY before it
    kResetBeforeRequest,  // broke before a byte of the request had left
    kReset,               // broke before the response
    kTimeout,             // the per-try timeout
  };
  Failure failure = Failure::kNone;
  uint16_t status = 0;
  std::optional<uint32_t> grpc_status;  // of a trailers-only response
  HeaderSpan headers;
};
bool should_retry(const model::RetryPolicy& policy, const TryOutcome& outcome);
// Before the n-th retry, n from 1: uniform in [0, min((2^n - 1) B, 10 B)).
base::Duration retry_backoff(const model::RetryPolicy& policy, uint32_t retry, base::Rng& rng);

struct CorsDecision {
  bool preflight_answer = false;  // answer 200 with `headers`; nothing goes upstream
  std::vector<std::pair<std::string, std::string>> headers;  // for the answer, or to be added to the response
};
CorsDecision decide_cors(const model::Cors& cors, const HttpRequestFacts& facts);

}  // namespace culvert::decide
