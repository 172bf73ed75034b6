// SPDX-License-Identifier: Apache-2.0
#include "waypoint/exchange.h"

#include <utility>

#include "mesh/decide/authorize_http.h"
#include "mesh/decide/http_path.h"
#include "mesh/decide/match_route.h"
#include "net/async/stop_signal.h"
#include "waypoint/exchange_state.h"
#include "waypoint/forward.h"
#include "waypoint/headers.h"
#include "waypoint/telemetry/span.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

namespace {

using base::Code;

// A span of our own for the request, if the service's are traced.
void trace(Exchange& x) {
  using Protocol = model::TraceRule::Protocol;
  if (!x.l7 || !x.l7->telemetry.trace || x.l7->telemetry.trace->protocol == Protocol::kNone) return;
  // The rule lives as long as the service that holds it.
  RequestTrace& made = x.record.trace.emplace();
  made.rule = std::shared_ptr<const model::TraceRule>(x.l7, &*x.l7->telemetry.trace);
  made.context = begin_trace(*made.rule, x.record.request, x.worker.rng());
  made.operation = span_operation(x.client->addressed);
}

// --- receive: nothing after this sees what the client sent as it sent it ---
std::optional<Reply> receive(Exchange& x) {
  conn::HttpStream& stream = *x.stream;
  RequestRecord& record = x.record;
  record.version = stream.version();
  record.request = stream.headers();
  if (stream.fault() != wire::Http1Fault::kNone) return replies::malformed(stream.fault());
  wire::Headers& headers = record.request;
  const std::string* method = header_of(headers, ":method");
  const std::string* upgrade = conn::upgrade_of(headers);
  if (!method || *method == "TRACE" || (*method == "CONNECT" && !upgrade)) return replies::method_refused();
  if (upgrade && *upgrade != "websocket") return replies::upgrade_refused();
  x.upgrade = upgrade != nullptr;
  x.preflight = *method == "OPTIONS" && header_of(headers, "origin") &&
                header_of(headers, "access-control-request-method");

  const std::string* target = header_of(headers, ":path");
  auto path = decide::normalize_path(target ? *target : "", x.state->l7->settings().paths);
  if (!path || (path->path == "*" && *method != "OPTIONS")) return replies::bad_path();
  x.path = std::move(path->path);
  x.query = std::move(path->query);
  set_header(headers, ":path", x.path + x.query);

  if (x.l7) {
    for (const std::string& name : jwt::reserved_headers(*x.worker.compiled(x.l7).tokens)) {
      drop_header(headers, name);
    }
  }
  strip_request(headers, x.state->l7->settings().client_retry_hints);
  if (x.worker.config().tell_client_identity) {
    set_header(headers, "x-forwarded-client-cert",
               "By=" + x.worker.self().identity.to_string() + ";URI=" + x.client->identity.to_string());
  }
  const std::string* scheme = header_of(headers, "x-forwarded-proto");
  if (!scheme || (*scheme != "http" && *scheme != "https")) set_header(headers, "x-forwarded-proto", "http");
  if (!header_of(headers, "x-request-id")) {
    headers.emplace_back("x-request-id", make_request_id(x.worker.rng()));
  }
  trace(x);
  record.grpc = decide::is_grpc(headers);
  return std::nullopt;
}

// --- authorize outside: CUSTOM policies, before anybody looks at tokens (section 1.9); those of selectors
// follow at the pick ---
std::vector<decide::CustomHit> asked_outside(Exchange& x) {
  if (!x.l7 || x.l7->guard.policies.empty()) return {};
  return x.custom([](const model::HttpPolicy& policy) { return !policy.selector; }, x.facts, false);
}

// A phase that waits, until the client goes.
async::Task<std::optional<Reply>> wait_for(Exchange& x,
                                           async::Task<base::Result<std::optional<Reply>>> phase) {
  async::Scope watch(x.worker.loop());
  watch.spawn(watch_client(x));
  base::Result<std::optional<Reply>> ended = co_await async::until_stopped(x.stop, std::move(phase));
  watch.cancel_all();
  if (ended) co_return std::move(*ended);
  x.client_gone = true;
  x.record.flags.add(Flag::kDownstreamClosed);
  x.record.details = "downstream_remote_disconnect";
  co_return std::nullopt;
}

// --- authorize: the policies that hold whichever endpoint is chosen; those of selectors follow at the pick
// ---
std::optional<Reply> authorize(Exchange& x) {
  if (!x.l7 || x.l7->guard.policies.empty()) return std::nullopt;
  decide::HttpVerdict verdict =
      x.judge([](const model::HttpPolicy& policy) { return !policy.selector; }, x.facts);
  if (verdict.allowed) return std::nullopt;
  x.record.denied_by = verdict.denied_by();
  return replies::denied(verdict.decided_by);
}

// --- route ---
std::optional<Reply> route(Exchange& x) {
  const Addressed& addressed = x.client->addressed;
  // Of a wildcard the client's own word says which name is meant, and it has to be one of them (section 1.4).
  bool named = addressed.service && named_by_clients(*addressed.service);
  if (named && !name_within(addressed.service->hostname.view(), x.facts.authority))
    return replies::no_route();
  const model::PortRoutes* routes = x.l7 ? x.l7->port(addressed.port, x.client->identity.ns.view()) : nullptr;
  if (!routes || !routes->http) {
    x.target = &x.default_target;
    x.record.route_name = "default";
    return std::nullopt;
  }
  decide::HttpRequestFacts facts = x.facts;
  if (x.unchanged && !x.token) {
    facts.headers = x.unchanged->headers;
    facts.query = std::string_view(x.unchanged->query).substr(x.unchanged->query.empty() ? 0 : 1);
  }
  decide::RouteHit hit = decide::match_http_route(*routes->http, facts);
  if (!hit.route) return replies::no_route();
  x.route = hit.route;
  x.match = hit.match;
  x.record.route_name = hit.route->name;
  x.record.route_origin = hit.route->origin;
  if (hit.match && !hit.match->name.empty()) x.record.route_name += "." + hit.match->name;
  if (x.record.trace) x.record.trace->operation = span_operation(*hit.route, hit.match, addressed.port);
  if (!hit.route->broken.empty()) {
    x.worker.log().debug("route", "a broken route was hit", {base::Field::text("reason", hit.route->broken)});
    return replies::invalid_backend();
  }
  return std::nullopt;
}

// The destination that the request's session is with, if the route still has it: it goes before the weights.
const model::RouteTarget* held_target(Exchange& x) {
  if (!x.route->session) return nullptr;
  x.session = read_session(*x.route->session, x.facts, x.state->l7->settings().session_key, x.route->origin,
                           x.worker.loop().wall_now());
  if (!x.session) return nullptr;
  const ClusterKey& to = x.session->cluster;
  for (const model::RouteTarget& target : x.route->targets) {
    uint16_t port = target.port == 0 ? x.client->addressed.port : target.port;
    if (target.service == to.service && port == to.port && target.subset == to.subset) return &target;
  }
  x.session.reset();
  return nullptr;
}

// --- shape: answers that need no upstream ---
std::optional<Reply> shape(Exchange& x) {
  if (!x.route) return std::nullopt;
  const model::HttpRoute& chosen = *x.route;
  if (chosen.cors) {
    decide::CorsDecision cors = decide::decide_cors(*chosen.cors, x.facts);
    if (cors.preflight_answer) {
      Reply reply;
      reply.status = 200;
      reply.headers = std::move(cors.headers);
      return reply;
    }
    x.response_headers.insert(x.response_headers.end(), cors.headers.begin(), cors.headers.end());
  }
  if (chosen.redirect) {
    Reply reply;
    reply.status = chosen.redirect->status;
    reply.details = "direct_response";
    reply.headers.emplace_back("location", decide::redirect_location(*chosen.redirect, x.match, x.facts));
    return reply;
  }
  if (chosen.direct) {
    Reply reply;
    reply.status = chosen.direct->status;
    reply.body = chosen.direct->body;
    reply.details = "direct_response";
    return reply;
  }
  x.target = held_target(x);
  if (!x.target) x.target = decide::pick_target(chosen.targets, x.worker.rng());
  if (!x.target) return replies::invalid_backend();
  if (!x.target->invalid.empty()) return replies::invalid_backend();
  return std::nullopt;
}

std::optional<Reply> inject_abort(Exchange& x) {
  const model::FaultInjection& fault = *x.route->fault;
  bool asked = fault.abort_status != 0 || fault.abort_grpc_status;
  if (!asked || !decide::draw(fault.abort_percent, x.worker.rng())) return std::nullopt;
  return replies::fault_abort(fault.abort_status != 0 ? fault.abort_status : 200, fault.abort_grpc_status);
}

std::optional<Reply> take_in(Exchange& x) {
  if (auto reply = receive(x)) return reply;
  gather_facts(x);
  return std::nullopt;
}

// The phases that never wait, in order; the first answer ends them.
std::optional<Reply> decide_without_waiting(Exchange& x) {
  for (auto phase : {authenticate, authorize, route, limit}) {
    if (auto reply = phase(x)) return reply;
  }
  return std::nullopt;
}

}  // namespace

async::Task<void> watch_client(Exchange& x) {
  co_await x.stream->gone().wait();
  x.stop.stop(base::Error(Code::kClosed, "the client has gone"));
}

void gather_facts(Exchange& x) {
  const wire::Headers& headers = x.record.request;
  const Client& client = *x.client;
  auto view = [&](std::string_view name) {
    const std::string* found = header_of(headers, name);
    return found ? std::string_view(*found) : std::string_view();
  };
  decide::HttpRequestFacts& facts = x.facts;
  facts.method = conn::shown_method(headers);
  facts.scheme = view("x-forwarded-proto");
  facts.authority = view(":authority");
  facts.path = x.path;
  facts.query = std::string_view(x.query).substr(x.query.empty() ? 0 : 1);
  facts.headers = headers;
  facts.grpc = x.record.grpc;
  facts.peer = &client.identity;
  if (client.workload) facts.source_labels = &x.state->l7->labels(client.workload->uid);
  facts.source_ip = client.address.ip;
  facts.remote_ip =
      decide::remote_address(headers, x.state->l7->settings().trusted_proxies, client.address.ip);
  facts.destination = client.addressed.dialled;
  facts.port = client.addressed.port;
  if (x.token) x.token->tell(facts);
}

Exchange::Exchange(Worker& owner, ClientRef who, std::unique_ptr<conn::HttpStream> request)
    : worker(owner),
      client(std::move(who)),
      stream(std::move(request)),
      state(owner.state()),
      body(*stream, owner.buffer()),
      stop(owner.loop()) {
  record.client = client;
  record.times.start = worker.loop().now();
  record.times.start_wall = worker.loop().wall_now();
  // The newest rules, not those of the time when the tunnel was opened.
  if (client->addressed.l7) l7 = state->l7->service(client->addressed.l7->service);
  if (client->addressed.service) default_target.service = client->addressed.service->key();
  default_target.port = client->addressed.port;
}

std::vector<std::string> Exchange::trust_domains() const {
  std::vector<std::string> domains = state->l7->settings().trust_domain_aliases;
  domains.push_back(worker.self().identity.trust_domain.str());
  return domains;
}

decide::HttpVerdict Exchange::judge(std::function<bool(const model::HttpPolicy&)> applies,
                                    const decide::HttpRequestFacts& about) {
  decide::AuthorizeHttpOptions options;
  std::vector<std::string> domains = trust_domains();
  options.trust_domains = domains;
  options.applies = std::move(applies);
  decide::HttpVerdict verdict = decide::authorize_http(l7->guard.policies, about, options);
  for (const std::string& policy : verdict.dry_run) {
    worker.log().info("authorization", "dry run: the policy would have decided",
                      {base::Field::text("policy", policy),
                       base::Field::text("src.identity", client->identity.to_string())});
  }
  return verdict;
}

std::vector<decide::CustomHit> Exchange::custom(std::function<bool(const model::HttpPolicy&)> applies,
                                                const decide::HttpRequestFacts& about, bool tokens) {
  decide::AuthorizeHttpOptions options;
  std::vector<std::string> domains = trust_domains();
  options.trust_domains = domains;
  options.applies = std::move(applies);
  options.tokens = tokens;
  return decide::custom_policies(l7->guard.policies, about, options);
}

async::Task<void> answer(Exchange& x, Reply reply) {
  RequestRecord& record = x.record;
  if (reply.flag) record.flags.add(*reply.flag);
  if (record.details.empty()) record.details = reply.details;
  bool head = x.facts.method == "HEAD";
  reply.headers.insert(reply.headers.end(), x.response_headers.begin(), x.response_headers.end());
  RenderedReply out =
      render(reply, record.grpc, head, x.state->l7->settings().server_header, x.worker.loop().wall_now());
  apply_changes(x.response_changes, out.headers);
  if (x.route && (x.route->direct || x.route->redirect)) x.edit(x.route->response, out.headers);
  record.status = record.grpc ? 200 : reply.status;
  record.response = out.headers;
  x.stream->respond(std::move(out.headers), out.body.empty());
  if (!out.body.empty()) {
    base::Result<> written = co_await io::write_all(*x.stream, base::as_bytes(out.body));
    if (!written) {
      record.flags.add(Flag::kDownstreamClosed);
      co_return;
    }
    x.stream->shutdown_write();
  }
  async::Deadline deadline = async::Deadline::in(x.worker.loop(), std::chrono::seconds(60));
  base::Result<> flushed =
      co_await async::with_deadline(x.worker.loop(), deadline, "send the answer", io::flush(*x.stream));
  if (!flushed) record.flags.add(Flag::kDownstreamClosed);
}

void Exchange::edit(const model::HeaderEdits& edits, wire::Headers& headers) {
  if (edits.empty()) return;
  apply(edits, [this](const std::string& value) { return worker.format(value, record); }, headers);
}

namespace {

// Looks at no more of the request than its answer needs.
Reply refuse_overloaded(Exchange& x) {
  x.worker.say_overloaded();
  x.record.version = x.stream->version();
  x.record.request = x.stream->headers();
  x.record.grpc = decide::is_grpc(x.record.request);
  x.facts.method = conn::shown_method(x.record.request);
  return replies::overloaded();
}

}  // namespace

async::Task<void> serve_exchange(Worker& worker, ClientRef client, std::unique_ptr<conn::HttpStream> stream) {
  Exchange x(worker, std::move(client), std::move(stream));
  Overload::Seat seat = worker.shared().overload.request(x.client->requests);
  std::optional<Reply> reply = seat ? take_in(x) : refuse_overloaded(x);
  if (!reply) {
    std::vector<decide::CustomHit> hits = asked_outside(x);
    if (!hits.empty()) reply = co_await wait_for(x, ask_authorizers(x, std::move(hits)));
  }
  if (!reply && !x.client_gone) reply = decide_without_waiting(x);
  if (!reply && !x.limits.global.empty()) reply = co_await wait_for(x, limit_globally(x));
  if (!reply && !x.client_gone) reply = shape(x);
  if (!reply && !x.client_gone && x.route && x.route->fault) {
    const model::FaultInjection& fault = *x.route->fault;
    if (fault.delay.count() > 0 && decide::draw(fault.delay_percent, worker.rng())) {
      x.record.flags.add(Flag::kDelayInjected);
      co_await x.stream->gone().wait(async::Deadline::in(worker.loop(), fault.delay));
    }
    reply = inject_abort(x);
  }
  if (!reply && !x.client_gone) reply = co_await forward(x);
  if (reply) co_await answer(x, std::move(*reply));
  x.record.counts = x.stream->counts();
  x.record.times.end = worker.loop().now();
  worker.telemetry().finished(x.record, x.l7 ? worker.compiled(x.l7).telemetry.get() : nullptr, *x.state);
}

}  // namespace culvert::waypoint
