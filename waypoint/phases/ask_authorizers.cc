// SPDX-License-Identifier: Apache-2.0
// The phase that asks outside whether a request may pass (spec waypoint section 2.6.6).
//
// | the authorizer                          | the request                                                   |
// |-----------------------------------------|---------------------------------------------------------------|
// | is not known to us                      | is refused: 403                                               |
// | says yes                                | goes on as it changed it                                      |
// | says no                                 | is answered with what it said                                 |
// | cannot be reached, is late, is unclear  | goes on with failOpen, else is refused: statusOnError         |
#include <algorithm>
#include <charconv>
#include <utility>

#include "waypoint/exchange_state.h"
#include "waypoint/headers.h"
#include "waypoint/phases/authorizer.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

namespace {

using base::Code;
using base::fail;
using base::Field;
using base::Result;
using Refused = std::optional<Reply>;

// Counts what one request may hold for an authorizer.
class ShownBytes {
 public:
  ShownBytes(size_t& total, size_t bytes) : total_(total), bytes_(bytes) { total_ += bytes_; }
  ShownBytes(const ShownBytes&) = delete;
  ShownBytes& operator=(const ShownBytes&) = delete;
  ~ShownBytes() { total_ -= bytes_; }
  bool within_bounds() const { return total_ <= Worker::kShownBytesMax; }

 private:
  size_t& total_;
  size_t bytes_;
};

std::optional<uint64_t> announced_length(const wire::Headers& request) {
  const std::string* text = header_of(request, "content-length");
  uint64_t length = 0;
  if (!text) return std::nullopt;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), length);
  if (error != std::errc{} || end != text->data() + text->size()) return std::nullopt;
  return length;
}

void log(Exchange& x, const decide::CustomHit& hit, std::string_view what, std::string_view why) {
  x.worker.log().warn(
      "authorization", what,
      {Field::text("policy", hit.name), Field::text("provider", hit.policy->provider),
       Field::text("reason", std::string(why)), Field::text("src.identity", x.client->identity.to_string())});
}

// Takes in as much of the body as is shown. A reply: there is too much of it.
async::Task<Result<Refused>> take_body(Exchange& x, const model::Authorizer::Body& rule) {
  std::optional<uint64_t> announced = announced_length(x.record.request);
  if (announced && *announced > rule.bytes_max && !rule.partial) co_return replies::payload_too_large();
  size_t wanted = rule.partial ? rule.bytes_max : size_t{rule.bytes_max} + 1;
  if (announced) wanted = std::min<size_t>(wanted, *announced + 1);
  ShownBytes seat(x.worker.shown_bytes(), wanted);
  if (!seat.within_bounds()) co_return replies::overloaded();
  // Whoever waits for it before sending the body waits for us.
  if (header_of(x.record.request, "expect")) {
    x.stream->inform({{":status", "100"}});
    drop_header(x.record.request, "expect");
    drop_header(x.upstream_request, "expect");
  }
  base::Duration patience = x.worker.config().stream_idle_timeout;
  async::Deadline deadline =
      patience.count() > 0 ? async::Deadline::in(x.worker.loop(), patience) : async::Deadline::never();
  Result<> filled =
      co_await async::with_deadline(x.worker.loop(), deadline, "take the body", x.body.fill(wanted));
  if (!filled && filled.error().code() == Code::kTimeout) co_return replies::stream_idle(false);
  if (!filled && x.stream->fault() != wire::Http1Fault::kNone)
    co_return replies::malformed(x.stream->fault());
  if (!filled) co_return fail(std::move(filled).error());
  bool too_long = !rule.partial && x.body.kept().size() > rule.bytes_max;
  co_return too_long ? Refused(replies::payload_too_large()) : Refused();
}

async::Task<Result<CheckAnswer>> ask(Exchange& x, const model::Authorizer& authorizer) {
  Worker& worker = x.worker;
  std::shared_ptr<Cluster> cluster =
      worker.upstreams().find(*x.state, {authorizer.service, authorizer.port, "", ""});
  if (!cluster) co_return fail(Code::kNotFound, "its service has no such port");
  std::string principal = worker.self().identity.to_string();
  CheckInput input{x.record.request,  x.facts,   x.record.version,
                   x.client->address, principal, worker.loop().wall_now()};
  if (authorizer.body && !x.upgrade) {
    input.body_shown = true;
    input.body = std::string_view(x.body.kept()).substr(0, authorizer.body->bytes_max);
    input.partial = !x.body.complete() || x.body.kept().size() > authorizer.body->bytes_max;
  }
  async::Deadline deadline = async::Deadline::in(worker.loop(), authorizer.timeout);
  if (cluster->unresolved()) co_await cluster->resolve(x.state, deadline);
  base::SocketAddr own{worker.self().ip, 0};
  if (!authorizer.http) {
    Result<std::string> message = co_await side_call_grpc(worker.loop(), *cluster, std::string(kCheckPath),
                                                          grpc_check(authorizer, input), own, deadline);
    if (!message) co_return fail(std::move(message).error());
    co_return judge_grpc_check(*message);
  }
  SideRequest request = http_check(authorizer, input);
  model::ServiceRef service = x.state->mesh->service(authorizer.service.ns, authorizer.service.hostname);
  const model::PortMapping* port = service ? service->port(authorizer.port) : nullptr;
  request.http2 = cluster->policy().pool.upgrade == model::PoolLimits::Upgrade::kUpgrade ||
                  (port && (port->app_protocol == model::AppProtocol::kHttp2 ||
                            port->app_protocol == model::AppProtocol::kGrpc));
  request.own = own;
  Result<SideAnswer> answer = co_await side_call(worker.loop(), *cluster, std::move(request), deadline);
  if (!answer) co_return fail(std::move(answer).error());
  co_return judge_http_check(authorizer, *answer);
}

// The path stays: policies have judged it.
void change(Exchange& x, const model::Authorizer& authorizer, const CheckAnswer& answer) {
  x.response_changes.insert(x.response_changes.end(), answer.response.begin(), answer.response.end());
  bool query = !answer.query_removed.empty() || !answer.query_set.empty();
  if (answer.request.empty() && !query) return;
  if (!authorizer.clear_route_cache && !x.unchanged) x.unchanged = {x.record.request, x.query};
  if (authorizer.clear_route_cache) x.unchanged.reset();
  std::string old_query = x.query;
  if (query) {
    std::string edited = edit_query(std::string_view(x.query).substr(x.query.empty() ? 0 : 1), answer);
    x.query = edited.empty() ? "" : "?" + edited;
  }
  for (wire::Headers* headers : {&x.record.request, &x.upstream_request}) {
    if (headers->empty()) continue;  // not made yet
    apply_changes(answer.request, *headers);
    const std::string* path = header_of(*headers, ":path");
    if (query && path && path->ends_with(old_query)) {
      set_header(*headers, ":path", path->substr(0, path->size() - old_query.size()) + x.query);
    }
  }
  gather_facts(x);
}

async::Task<Result<Refused>> ask_one(Exchange& x, const decide::CustomHit& hit,
                                     const model::Authorizer& authorizer) {
  using Asked = Telemetry::Asked;
  if (authorizer.body && !x.upgrade) {
    Result<Refused> refused = co_await take_body(x, *authorizer.body);
    if (!refused || *refused) co_return refused;
  }
  base::TimePoint begun = x.worker.loop().now();
  Result<CheckAnswer> answer = co_await ask(x, authorizer);
  auto tell = [&](std::string_view result) {
    x.worker.telemetry().asked(Asked::kAuthorizer, authorizer.name, result, x.worker.loop().now() - begun);
  };
  if (!answer) {
    tell(authorizer.fail_open ? "error_allowed" : "error");
    if (authorizer.fail_open) {
      log(x, hit, "the authorizer failed and the request passes, as failOpen says", answer.error().message());
      co_return std::nullopt;
    }
    log(x, hit, "refused: the authorizer failed", answer.error().message());
    co_return replies::authorizer_failed(authorizer.status_on_error);
  }
  tell(answer->allowed ? "allowed" : "denied");
  if (answer->allowed) {
    change(x, authorizer, *answer);
    co_return std::nullopt;
  }
  answer->refusal.flag = Flag::kExternalDenied;
  answer->refusal.details = "ext_authz_denied";
  co_return std::move(answer->refusal);
}

}  // namespace

async::Task<Result<Refused>> ask_authorizers(Exchange& x, std::vector<decide::CustomHit> hits) {
  for (const decide::CustomHit& hit : hits) {
    const std::string& name = hit.policy->provider;
    if (x.authorized_by.contains(name)) continue;
    const auto& known = x.l7->guard.authorizers;
    auto found = std::find_if(known.begin(), known.end(),
                              [&](const auto& authorizer) { return authorizer.name == name; });
    Result<Refused> refused = Refused();
    if (found == known.end()) {
      x.worker.telemetry().asked(Telemetry::Asked::kAuthorizer, name, "unknown", base::Duration{0});
      log(x, hit, "refused", "the policy's provider is not known to this waypoint");
      refused = replies::authorizer_failed(403);
    } else {
      refused = co_await ask_one(x, hit, *found);
    }
    if (refused && !*refused) {
      x.authorized_by.insert(name);
      continue;
    }
    if (refused && (*refused)->flag == Flag::kExternalDenied) x.record.denied_by = hit.name;
    co_return refused;
  }
  co_return Refused();
}

}  // namespace culvert::waypoint
