// SPDX-License-Identifier: Apache-2.0
// Exchange: what the phases of one request share (exchange.h). Lives in the coroutine that serves it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "mesh/decide/authorize_http.h"
#include "mesh/decide/http_request.h"
#include "mesh/decide/rate_limit.h"
#include "mesh/jwt/authenticate.h"
#include "net/async/stop_signal.h"
#include "net/conn/http_stream.h"
#include "waypoint/body.h"
#include "waypoint/client.h"
#include "waypoint/phases/authorizer.h"
#include "waypoint/record.h"
#include "waypoint/replies.h"
#include "waypoint/session.h"
#include "waypoint/state.h"

namespace culvert::waypoint {

class Worker;

struct Exchange {
  Exchange(Worker& owner, ClientRef who, std::unique_ptr<conn::HttpStream> request);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // Judges by the policies of the addressed service that take part; only with `l7`.
  decide::HttpVerdict judge(std::function<bool(const model::HttpPolicy&)> applies,
                            const decide::HttpRequestFacts& about);
  // The CUSTOM policies of the addressed service that take part and hold. `tokens`: they have been looked at.
  std::vector<decide::CustomHit> custom(std::function<bool(const model::HttpPolicy&)> applies,
                                        const decide::HttpRequestFacts& about, bool tokens);
  // Names our trust domain goes by.
  std::vector<std::string> trust_domains() const;
  void edit(const model::HeaderEdits& edits, wire::Headers& headers);

  Worker& worker;
  ClientRef client;
  std::unique_ptr<conn::HttpStream> stream;
  // The mesh as it was when the request came, to its end.
  MeshStateRef state;
  model::WaypointServiceRef l7;  // null: no longer bound
  RequestRecord record;
  RequestBody body;
  async::StopSignal stop;  // ends waiting for the upstream: the client has gone, the route's time is up

  std::string path;   // normalised
  std::string query;  // with its '?'
  bool upgrade = false;
  bool preflight = false;          // of CORS: carries no token, and is charged no limit
  decide::HttpRequestFacts facts;  // looks into the above
  jwt::VerifiedTokenRef token;     // null: none was shown

  // Authorizers that let it pass; none is asked twice.
  std::set<std::string> authorized_by;
  // What routes go by where an authorizer changed the request and is not to change its route.
  struct Unchanged {
    wire::Headers headers;
    std::string query;
  };
  std::optional<Unchanged> unchanged;

  const model::HttpRoute* route = nullptr;  // null: the default route
  const model::RouteMatch* match = nullptr;
  const model::RouteTarget* target = nullptr;
  model::RouteTarget default_target;
  wire::Headers upstream_request;    // what goes upstream: the request after rewrites and edits
  decide::RateLimitDecision limits;  // what it is charged
  std::optional<Session> session;    // that the request came with, while it is held
  std::vector<std::string> response_cookies;
  wire::Headers response_headers;  // to be added to the answer, whoever gives it
  HeaderChanges response_changes;  // an authorizer's
  bool client_gone = false;        // nobody is there to be answered
};

// Stops waiting for anything when the client goes.
async::Task<void> watch_client(Exchange& x);
// Makes the facts look at the request as it is now.
void gather_facts(Exchange& x);

// Phases with files of their own (phases/).
// One that waits is run under `stop`; an error means that the client broke off.
async::Task<base::Result<std::optional<Reply>>> ask_authorizers(Exchange& x,
                                                                std::vector<decide::CustomHit> hits);
std::optional<Reply> authenticate(Exchange& x);
std::optional<Reply> limit(Exchange& x);
// Asks the services of rules that are counted for all replicas; only with x.limits.global.
async::Task<base::Result<std::optional<Reply>>> limit_globally(Exchange& x);

}  // namespace culvert::waypoint
