// SPDX-License-Identifier: Apache-2.0
// The phase that looks at tokens (spec waypoint section 2.7).
#include "mesh/jwt/authenticate.h"

#include "waypoint/exchange_state.h"
#include "waypoint/headers.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

namespace {

// A RequestAuthentication bound by selector takes part if any endpoint that may answer is covered, or may be:
// which one will is not known yet, and a bad token must not pass by luck.
bool takes_part(const Exchange& x, const jwt::TokenRules::Source& source) {
  if (!source.selector) return true;
  auto covered = [&](const model::Workload& workload) {
    return selects(source, workload, *x.state->l7).value_or(true);
  };
  const Addressed& addressed = x.client->addressed;
  if (addressed.pod) return covered(*addressed.pod);
  for (const model::NamespacedHostname& service : x.worker.compiled(x.l7).reach) {
    for (const model::Endpoint& endpoint : x.state->mesh->endpoints(service)) {
      if (covered(*endpoint.workload)) return true;
    }
  }
  return false;
}

}  // namespace

std::optional<Reply> authenticate(Exchange& x) {
  if (!x.l7 || x.preflight) return std::nullopt;
  const jwt::TokenRules& rules = *x.worker.compiled(x.l7).tokens;
  if (rules.empty()) return std::nullopt;
  jwt::AuthenticateOptions options;
  options.now = x.worker.loop().wall_now();
  options.cache = &x.worker.token_cache();
  options.applies = [&](const jwt::TokenRules::Source& source) { return takes_part(x, source); };
  jwt::AuthenticateOutcome outcome = jwt::authenticate(rules, x.facts, options);
  if (outcome.denial) {
    Reply reply;
    reply.status = outcome.denial->status;
    reply.body = outcome.denial->body;
    reply.details = outcome.denial->details;
    if (!outcome.denial->www_authenticate.empty()) {
      reply.headers.emplace_back("www-authenticate", outcome.denial->www_authenticate);
    }
    return reply;
  }
  x.token = outcome.token;
  if (x.token) x.record.token_principal = x.token->principal();
  std::string query = x.query.empty() ? "" : x.query.substr(1);
  jwt::apply(outcome, x.record.request, query);
  x.query = query.empty() ? "" : "?" + query;
  set_header(x.record.request, ":path", x.path + x.query);
  gather_facts(x);
  return std::nullopt;
}

}  // namespace culvert::waypoint
