// SPDX-License-Identifier: Apache-2.0
#include "waypoint/forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "mesh/decide/match_route.h"
#include "net/async/scope.h"
#include "waypoint/body.h"
#include "waypoint/grpc_messages.h"
#include "waypoint/headers.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

namespace {

using base::Code;
using decide::TryOutcome;

// A connection that was given and had gone is replaced this often within one try.
constexpr int kStaleConnectionsMax = 3;

// One try. Its parts end in the reverse order: the upload, the stream, the seats.
struct Try {
  explicit Try(async::Loop& loop) : upload(loop) {}
  std::optional<HostUse> host;
  std::optional<HttpPool::Lease> lease;
  std::unique_ptr<conn::HttpStream> stream;
  async::Scope upload;
};

// What the upstream gets: the request rewritten and edited, route first, destination after.
void shape_request(Exchange& x) {
  x.upstream_request = x.record.request;
  wire::Headers& headers = x.upstream_request;
  std::string path = x.path, authority;
  auto rewrite = [&](const model::Rewrite& rule) {
    path = decide::edit_path(rule.path, x.match, path);
    if (authority.empty()) authority = rule.authority;
  };
  if (x.route) {
    rewrite(x.route->rewrite);
    x.edit(x.route->request, headers);
  }
  rewrite(x.target->rewrite);
  x.edit(x.target->request, headers);
  if (path != x.path) {
    x.record.original_path = x.path + x.query;
    set_header(headers, "x-envoy-original-path", x.record.original_path);
    set_header(headers, ":path", path + x.query);
  }
  if (!authority.empty()) {
    const std::string* original = header_of(headers, ":authority");
    if (original) set_header(headers, "x-envoy-original-host", *original);
    set_header(headers, ":authority", authority);
  }
  if (!x.record.trace) return;
  const RequestTrace& trace = *x.record.trace;
  if (trace.rule->propagate) inject_trace(trace.context, *trace.rule, headers);
  set_header(headers, "x-envoy-decorator-operation", trace.operation);
}

// Policies bound by selector: they hold for the endpoints they cover, and mean their addresses and ports.
struct Judged {
  bool unknown = false;  // the labels of the endpoint have not come yet
  std::vector<decide::CustomHit> custom;
  decide::HttpVerdict verdict;
};
Judged judge_at(Exchange& x, const Host& host) {
  Judged out;
  if (!x.l7) return out;
  out.unknown = !can_tell(x.l7->guard.policies, *host.workload, *x.state->l7);
  if (out.unknown) return out;
  auto applies = [&](const model::HttpPolicy& policy) {
    return *selects(policy, *host.workload, *x.state->l7);
  };
  decide::HttpRequestFacts facts = x.facts;
  facts.destination = host.address;
  facts.port = host.address.port;
  out.custom = x.custom(applies, facts, true);
  out.verdict = x.judge(applies, facts);
  return out;
}

class Forwarder {
 public:
  Forwarder(Exchange& x, Cluster& cluster)
      : x_(x),
        loop_(x.worker.loop()),
        cluster_(cluster),
        policy_(cluster.policy()),
        retries_(x.route && x.route->retries ? *x.route->retries : x.state->l7->settings().default_retries),
        body_(x.body),
        route_timer_([this] { x_.stop.stop(base::Error(Code::kTimeout, "route timeout")); }),
        idle_timer_([this] { idle_fired(); }),
        watch_(loop_) {
    if (x.upgrade || retries_.attempts == 0) body_.release();
  }

  ~Forwarder() {
    for (const MirrorRef& mirror : mirrors_) mirror->leave();
  }
  Forwarder(const Forwarder&) = delete;
  Forwarder& operator=(const Forwarder&) = delete;

  async::Task<std::optional<Reply>> run();

 private:
  struct Tried {
    TryOutcome outcome;
    wire::Headers response;      // without failure
    std::optional<Reply> reply;  // what a failure is answered with, if it is the last
  };

  static async::Task<void> upload(Forwarder& self, conn::HttpStream& stream);
  async::Task<base::Result<std::optional<Reply>>> attempts();
  async::Task<Tried> try_once();
  async::Task<std::optional<Tried>> connect(HostRef host, async::Deadline deadline, bool http2);
  async::Task<void> deliver(wire::Headers response);
  async::Task<std::optional<Reply>> judge_endpoint(HostRef host);
  wire::Headers request_headers(async::Deadline deadline) const;
  void choose_hash();
  void choose_session();
  void keep_session(wire::Headers& response) const;
  std::string cluster_name() const;
  Tried failed(TryOutcome::Failure failure, Reply reply);
  Tried timed_out();
  Tried broken(const base::Error& error, bool started);
  void idle_fired();
  void progressed() { last_progress_ = loop_.now(); }
  void body_came(base::ByteView bytes);
  void body_complete();
  void start_mirrors();
  Reply stopped_reply();

  Exchange& x_;
  async::Loop& loop_;
  Cluster& cluster_;
  model::TrafficPolicy policy_;
  model::RetryPolicy retries_;
  RequestBody& body_;
  GrpcMessages requests_, responses_;
  PickRequest pick_;
  const model::SessionPersistence* session_rules_ = nullptr;
  std::string session_use_;
  Seat request_seat_;
  std::vector<MirrorRef> mirrors_;
  bool responded_ = false;
  base::TimePoint last_progress_{};
  std::optional<base::TimePoint> route_deadline_;
  std::unique_ptr<Try> try_;
  async::CallTimer route_timer_;
  async::CallTimer idle_timer_;
  async::Scope watch_;
};

// The value that hash balancers go by; a cookie that the client does not have yet is made.
void Forwarder::choose_hash() {
  const std::optional<model::HashPolicy>& hash = policy_.balancer.hash;
  if (!hash) return;
  bool cookie_missing = false;
  pick_.hash = decide::hash_of(*hash, x_.facts, &cookie_missing);
  if (!cookie_missing) return;
  decide::HashCookie made = decide::make_hash_cookie(*hash, x_.worker.rng());
  pick_.hash = made.hash;
  x_.response_cookies.push_back(std::move(made.set_cookie));
}

// What the route says about sessions, or else the service. Only the first try is held to the endpoint.
void Forwarder::choose_session() {
  ClusterKey own = cluster_.key();
  own.host.clear();
  if (x_.route && x_.route->session) {
    session_rules_ = &*x_.route->session;
    session_use_ = x_.route->origin;
  } else if (policy_.session) {
    session_rules_ = &*policy_.session;
    session_use_ = own.service.to_string();
    x_.session = read_session(*session_rules_, x_.facts, x_.state->l7->settings().session_key, session_use_,
                              loop_.wall_now());
  }
  if (x_.session && x_.session->cluster != own) x_.session.reset();
  if (x_.session) pick_.held = x_.session->host;
}

void Forwarder::keep_session(wire::Headers& response) const {
  if (!session_rules_) return;
  base::WallTime now = loop_.wall_now();
  Session told{cluster_.key(), try_->host->host().key, now, now};
  told.cluster.host.clear();
  if (x_.session && x_.session->host == told.host) {
    if (!is_stale(*session_rules_, *x_.session, now)) return;
    told.began = x_.session->began;
  }
  const std::string* scheme = header_of(x_.record.request, "x-forwarded-proto");
  auto header = write_session(*session_rules_, told, x_.state->l7->settings().session_key, session_use_,
                              scheme && *scheme == "https");
  if (header && session_rules_->header) set_header(response, header->first, header->second);
  if (header && !session_rules_->header) response.push_back(std::move(*header));
}

std::string Forwarder::cluster_name() const {
  const ClusterKey& key = cluster_.key();
  bool own = x_.client->addressed.service && key.service == x_.client->addressed.service->key();
  if (!own) return fmt::format("outbound|{}|{}|{}", key.port, key.subset, key.service.hostname.view());
  return fmt::format("inbound-vip|{}|http{}{}|{}", key.port, key.subset.empty() ? "" : "/", key.subset,
                     key.service.hostname.view());
}

void Forwarder::idle_fired() {
  base::Duration patience = x_.worker.config().stream_idle_timeout;
  if (loop_.now() - last_progress_ >= patience) {
    x_.stop.stop(base::Error(Code::kExhausted, "stream idle timeout"));
  } else {
    loop_.arm(idle_timer_, last_progress_ + patience);
  }
}

// The route's clock runs from the end of the request (section 2.1.5).
void Forwarder::body_complete() {
  x_.record.times.request_in = loop_.now();
  for (const MirrorRef& mirror : mirrors_) mirror->end(x_.stream->trailers());
  base::Duration timeout = x_.route ? x_.route->timeout : base::Duration{0};
  if (x_.record.grpc) {
    if (auto asked = grpc_timeout(x_.record.request)) {
      timeout = timeout.count() > 0 ? std::min(timeout, *asked) : *asked;
    }
  }
  if (timeout.count() == 0 || x_.upgrade || responded_) return;
  route_deadline_ = loop_.now() + timeout;
  loop_.arm(route_timer_, *route_deadline_);
}

void Forwarder::start_mirrors() { mirrors_ = x_.worker.mirrors().start(x_); }

void Forwarder::body_came(base::ByteView bytes) {
  for (const MirrorRef& mirror : mirrors_) mirror->feed(bytes);
  if (!x_.record.grpc) return;
  requests_.feed(bytes);
  x_.record.request_messages = requests_.count();
}

async::Task<std::optional<Reply>> Forwarder::run() {
  x_.record.cluster = cluster_name();
  request_seat_ = cluster_.limits().request(policy_.pool);
  if (!request_seat_) co_return replies::overflow();
  progressed();
  if (x_.worker.config().stream_idle_timeout.count() > 0) {
    loop_.arm(idle_timer_, last_progress_ + x_.worker.config().stream_idle_timeout);
  }
  start_mirrors();
  body_.on_bytes([this](base::ByteView bytes) { body_came(bytes); });
  body_.on_complete([this] { body_complete(); });
  choose_hash();
  choose_session();
  pick_.dialled = x_.client->addressed.dialled;
  watch_.spawn(watch_client(x_));
  base::Result<std::optional<Reply>> ended = co_await async::until_stopped(x_.stop, attempts());
  watch_.cancel_all();
  if (ended) co_return std::move(*ended);
  try_.reset();
  Reply reply = stopped_reply();
  if (ended.error().code() == Code::kClosed) {
    x_.record.flags.add(Flag::kDownstreamClosed);
    x_.record.details = "downstream_remote_disconnect";
    co_return std::nullopt;
  }
  if (!responded_) co_return reply;
  // Too late for an answer: what the client has must not look complete.
  if (reply.flag) x_.record.flags.add(*reply.flag);
  x_.record.details = reply.details;
  x_.stream->reset(wire::kH2Cancel);
  co_return std::nullopt;
}

Reply Forwarder::stopped_reply() {
  if (x_.stop.why().code() == Code::kProtocol) return replies::malformed(x_.stream->fault());
  return x_.stop.why().code() == Code::kTimeout ? replies::route_timeout()
                                                : replies::stream_idle(body_.complete());
}

async::Task<base::Result<std::optional<Reply>>> Forwarder::attempts() {
  body_.begins();
  for (uint32_t attempt = 1;; ++attempt) {
    x_.record.attempts = attempt;
    Seat retry_seat;
    Tried tried = co_await try_once();
    bool wanted = decide::should_retry(retries_, tried.outcome);
    bool possible = wanted && body_.replayable() && attempt <= retries_.attempts;
    if (possible) {
      retry_seat = cluster_.limits().retry(policy_);
      if (!retry_seat) {
        x_.record.flags.add(Flag::kUpstreamOverflow);
        possible = false;
      }
    }
    if (!possible) {
      bool exhausted = wanted && retries_.attempts > 0 && attempt > retries_.attempts;
      if (exhausted) x_.record.flags.add(Flag::kRetryLimit);
      if (tried.reply) co_return std::move(tried.reply);
      co_await deliver(std::move(tried.response));
      co_return std::optional<Reply>();
    }
    try_.reset();
    base::Duration wait = decide::retry_backoff(retries_, attempt, x_.worker.rng());
    if (wait.count() > 0) co_await async::sleep_for(loop_, wait);
  }
}

Forwarder::Tried Forwarder::failed(TryOutcome::Failure failure, Reply reply) {
  Tried tried;
  tried.outcome.failure = failure;
  tried.reply = std::move(reply);
  return tried;
}

// The try's time is up, which may be all that was left of the route's.
Forwarder::Tried Forwarder::timed_out() {
  if (route_deadline_ && loop_.now() >= *route_deadline_)
    return failed(TryOutcome::Failure::kNone, replies::route_timeout());
  return failed(TryOutcome::Failure::kTimeout, replies::per_try_timeout());
}

// A connection that broke before the response.
Forwarder::Tried Forwarder::broken(const base::Error& error, bool started) {
  using Failure = TryOutcome::Failure;
  bool retried = x_.record.attempts > 1;
  switch (error.code()) {
    case Code::kTimeout: return timed_out();
    case Code::kRefused:
      return failed(Failure::kRefused, replies::upstream_broken(Flag::kUpstreamReset,
                                                                "remote refused stream reset", "", retried));
    case Code::kReset:
      // HTTP/1 has no resets of its own: its connection has ended.
      if (try_->stream->version() != conn::HttpVersion::k2) break;
      return failed(started ? Failure::kReset : Failure::kResetBeforeRequest,
                    replies::upstream_broken(Flag::kUpstreamReset, "remote reset", "", retried));
    case Code::kProtocol: return failed(Failure::kReset, replies::upstream_protocol_error());
    default: break;
  }
  return failed(started ? Failure::kReset : Failure::kResetBeforeRequest,
                replies::upstream_broken(Flag::kUpstreamClosed, "connection termination", "", retried));
}

async::Task<std::optional<Reply>> Forwarder::judge_endpoint(HostRef host) {
  Judged judged = judge_at(x_, *host);
  if (judged.unknown) co_return replies::no_healthy_upstream();
  if (!judged.custom.empty()) {
    base::Result<std::optional<Reply>> refused = co_await ask_authorizers(x_, std::move(judged.custom));
    if (!refused) co_return replies::malformed(x_.stream->fault());
    if (*refused) co_return std::move(*refused);
    judged = judge_at(x_, *host);  // the request as it is now
  }
  if (judged.verdict.allowed) co_return std::nullopt;
  x_.record.denied_by = judged.verdict.denied_by();
  co_return replies::denied(judged.verdict.decided_by);
}

wire::Headers Forwarder::request_headers(async::Deadline deadline) const {
  wire::Headers headers = x_.upstream_request;
  set_header(headers, "x-envoy-attempt-count", std::to_string(x_.record.attempts));
  if (!deadline.is_never()) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline.when() - loop_.now()).count();
    set_header(headers, "x-envoy-expected-rq-timeout-ms", std::to_string(std::max<int64_t>(0, left)));
  }
  return headers;
}

// A stream on a connection to `host` with the request's head on it, or how that failed.
async::Task<std::optional<Forwarder::Tried>> Forwarder::connect(HostRef host, async::Deadline deadline,
                                                                bool http2) {
  HttpPool& pool = cluster_.pool(host, http2, x_.client->address, x_.client->addressed.dialled);
  std::string last;
  for (int stale = 0; stale < kStaleConnectionsMax; ++stale) {
    std::expected<HttpPool::Lease, UpstreamFailure> lease = co_await pool.acquire(policy_, deadline);
    if (!lease) {
      using Kind = UpstreamFailure::Kind;
      const UpstreamFailure& why = lease.error();
      x_.record.upstream_failure = why.kind == Kind::kOverflow ? "" : why.reason;
      if (why.kind == Kind::kOverflow) co_return failed(TryOutcome::Failure::kNone, replies::overflow());
      if (why.kind == Kind::kConnectTimeout && !deadline.is_never() && loop_.now() >= deadline.when()) {
        co_return timed_out();
      }
      std::string_view reason =
          why.kind == Kind::kConnectTimeout ? "connection timeout" : "remote connection failure";
      co_return failed(
          TryOutcome::Failure::kConnect,
          replies::upstream_broken(Flag::kUpstreamFailure, reason, why.reason, x_.record.attempts > 1));
    }
    try_->lease.emplace(std::move(*lease));
    bool ended = body_.complete() && body_.bytes() == 0;
    base::Result<std::unique_ptr<conn::HttpStream>> stream =
        try_->lease->open(request_headers(deadline), ended && !x_.upgrade);
    if (stream) {
      try_->stream = std::move(*stream);
      co_return std::nullopt;
    }
    last = stream.error().message();
    try_->lease.reset();
    if (stream.error().code() == Code::kInvalid) break;
  }
  x_.record.upstream_failure = last;
  co_return failed(TryOutcome::Failure::kConnect,
                   replies::upstream_broken(Flag::kUpstreamFailure, "remote connection failure", last,
                                            x_.record.attempts > 1));
}

async::Task<void> Forwarder::upload(Forwarder& self, conn::HttpStream& stream) {
  base::Result<> sent = co_await self.body_.send(stream);
  if (!sent) {
    bool malformed = self.x_.stream->fault() != wire::Http1Fault::kNone;
    self.x_.stop.stop(malformed ? base::Error(Code::kProtocol, "the request's body is malformed")
                                : base::Error(Code::kClosed, "the client broke off its request"));
    co_return;
  }
  self.x_.record.times.request_sent = self.loop_.now();
}

async::Task<Forwarder::Tried> Forwarder::try_once() {
  try_ = std::make_unique<Try>(loop_);
  RequestRecord& record = x_.record;
  pick_.other_levels = retries_.other_localities;
  if (!retries_.avoid_tried_hosts) pick_.tried.clear();
  HostRef host = cluster_.pick(pick_);
  pick_.held.clear();
  if (!host) co_return failed(TryOutcome::Failure::kNone, replies::no_healthy_upstream());
  pick_.tried.push_back(host->key);
  record.upstream = host->workload;
  record.upstream_address = host->address;
  if (x_.l7 && !x_.l7->guard.policies.empty()) {
    std::optional<Reply> denied = co_await judge_endpoint(host);
    if (denied) co_return failed(TryOutcome::Failure::kNone, std::move(*denied));
  }
  try_->host.emplace(host);

  async::Deadline deadline = async::Deadline::never();
  if (route_deadline_) deadline = async::Deadline::at(*route_deadline_);
  if (retries_.per_try_timeout.count() > 0) {
    base::TimePoint per_try = loop_.now() + retries_.per_try_timeout;
    if (deadline.is_never() || per_try < deadline.when()) deadline = async::Deadline::at(per_try);
  }
  bool http2 = wants_http2(x_, cluster_.key(), policy_.pool);
  record.upstream_version = http2 ? conn::HttpVersion::k2 : conn::HttpVersion::k11;
  std::optional<Tried> failure = co_await connect(host, deadline, http2);
  if (failure) {
    cluster_.report(*host, {decide::HostOutcome::Kind::kConnectFailure, 0});
    co_return std::move(*failure);
  }
  record.upstream_tls = try_->lease->tunnelled();
  record.upstream_local = try_->lease->local_addr();
  record.times.request_out = loop_.now();
  try_->stream->set_inform([this](const wire::Headers& headers) {
    progressed();
    x_.stream->inform(headers);
  });
  if (body_.complete() && body_.bytes() == 0 && !x_.upgrade) {
    record.times.request_sent = loop_.now();
  } else {
    try_->upload.spawn(upload(*this, *try_->stream));
  }
  base::Result<wire::Headers> response = co_await try_->stream->response(deadline);
  if (!response) {
    record.upstream_failure = response.error().message();
    bool late = response.error().code() == Code::kTimeout;
    cluster_.report(*host,
                    {late ? decide::HostOutcome::Kind::kTimeout : decide::HostOutcome::Kind::kReset, 0});
    co_return broken(response.error(), try_->stream->request_started());
  }
  record.times.response_in = loop_.now();
  progressed();
  Tried tried;
  tried.response = std::move(*response);
  tried.outcome.status = status_of(tried.response);
  if (record.grpc) tried.outcome.grpc_status = grpc_status_in(tried.response);
  tried.outcome.headers = tried.response;
  uint16_t judged = tried.outcome.grpc_status ? decide::http_status_of_grpc(*tried.outcome.grpc_status)
                                              : tried.outcome.status;
  cluster_.report(*host, {decide::HostOutcome::Kind::kResponse, judged});
  co_return tried;
}

async::Task<void> Forwarder::deliver(wire::Headers response) {
  RequestRecord& record = x_.record;
  conn::HttpStream& upstream = *try_->stream;
  responded_ = true;
  body_.release();
  if (x_.upgrade) route_timer_.disarm();
  const std::string* operation = header_of(response, "x-envoy-decorator-operation");
  if (record.trace && operation) record.trace->operation = *operation;
  strip_response(response);
  const std::string& server = x_.state->l7->settings().server_header;
  if (!server.empty()) set_header(response, "server", server);
  auto service_time = std::chrono::duration_cast<std::chrono::milliseconds>(*record.times.response_in -
                                                                            *record.times.request_out);
  set_header(response, "x-envoy-upstream-service-time", std::to_string(service_time.count()));
  apply_changes(x_.response_changes, response);
  for (const auto& [name, value] : x_.response_headers) set_header(response, name, value);
  for (const std::string& cookie : x_.response_cookies) response.emplace_back("set-cookie", cookie);
  keep_session(response);
  decide::charge_later(x_.limits.later, response, loop_.now());
  // Connections that nobody keeps cost nothing.
  if (x_.worker.shared().overload.pressure() >= Overload::Pressure::kSaving) {
    set_header(response, "connection", "close");
  }
  record.status = status_of(response);
  if (x_.route) x_.edit(x_.route->response, response);
  x_.edit(x_.target->response, response);
  record.response = response;
  // An answer that ends with its headers must do so again: gRPC reads a status in them only then.
  conn::RelayBuffer& buffer = x_.worker.buffer();
  io::IoResult first = upstream.try_read(buffer.span());
  bool bare = first.is_eof() && upstream.trailers().empty();
  x_.stream->respond(std::move(response), bare);
  CopyEnd end = CopyEnd::kDone;
  if (!bare) {
    end = co_await copy_body(upstream, *x_.stream, buffer, std::move(first), [this](base::ByteView bytes) {
      progressed();
      if (x_.record.grpc) responses_.feed(bytes);
    });
    x_.record.response_messages = responses_.count();
  }
  record.response_trailers = upstream.trailers();
  conn::HttpCounts counts = upstream.counts();
  record.upstream_bytes_sent = counts.wire_bytes_out;
  record.upstream_bytes_received = counts.wire_bytes_in;
  if (end == CopyEnd::kSourceBroke) {
    bool reset = upstream.version() == conn::HttpVersion::k2 && upstream.reset_code().has_value();
    record.flags.add(reset ? Flag::kUpstreamReset : Flag::kUpstreamClosed);
    record.details = fmt::format("upstream_reset_after_response_started{{{}}}",
                                 reset ? "remote_reset" : "connection_termination");
    x_.stream->reset(wire::kH2InternalError);
    co_return;
  }
  if (end == CopyEnd::kSinkBroke) {
    record.flags.add(Flag::kDownstreamClosed);
    record.details = "downstream_remote_disconnect";
    co_return;
  }
  record.details = "via_upstream";
  co_await io::flush(*x_.stream);
}

}  // namespace

bool wants_http2(const Exchange& x, const ClusterKey& key, const model::PoolLimits& pool) {
  if (pool.upgrade == model::PoolLimits::Upgrade::kUpgrade) return true;
  bool client = x.record.version == conn::HttpVersion::k2;
  if (pool.use_client_protocol) return client;
  model::ServiceRef service = x.state->mesh->service(key.service.ns, key.service.hostname);
  const model::PortMapping* port = service ? service->port(key.port) : nullptr;
  model::AppProtocol protocol = port ? port->app_protocol : model::AppProtocol::kUnknown;
  switch (protocol) {
    case model::AppProtocol::kHttp2:
    case model::AppProtocol::kGrpc: return true;
    case model::AppProtocol::kHttp11: return false;
    default:
      // An upgrade is asked for in the version that every server understands.
      return client && !x.upgrade;
  }
}

bool may_reach(Exchange& x, const Host& host) {
  Judged judged = judge_at(x, host);
  return !judged.unknown && judged.custom.empty() && judged.verdict.allowed;
}

std::optional<ClusterKey> cluster_key(const Exchange& x, const model::RouteTarget& target) {
  ClusterKey key{target.service, target.port, target.subset, ""};
  if (key.port == 0) key.port = x.client->addressed.port;
  model::ServiceRef service = x.state->mesh->service(key.service.ns, key.service.hostname);
  if (!service || !named_by_clients(*service)) return key;
  const std::string* authority = header_of(x.upstream_request, ":authority");
  std::optional<std::string> name =
      name_within(key.service.hostname.view(), authority ? std::string_view(*authority) : std::string_view());
  if (!name) return std::nullopt;
  key.host = std::move(*name);
  return key;
}

async::Task<std::optional<Reply>> forward(Exchange& x) {
  shape_request(x);
  std::optional<ClusterKey> key = cluster_key(x, *x.target);
  if (!key) co_return replies::no_route();
  std::shared_ptr<Cluster> cluster = x.client->addressed.pod && x.target == &x.default_target
                                         ? x.worker.upstreams().pod(x.client->addressed.pod, key->port)
                                         : x.worker.upstreams().find(*x.state, *key);
  if (!cluster) co_return key->host.empty() ? replies::no_cluster() : replies::overflow();
  if (cluster->unresolved()) {
    async::Deadline deadline = async::Deadline::in(x.worker.loop(), cluster->policy().pool.connect_timeout);
    co_await cluster->resolve(x.state, deadline);
  }
  x.record.upstream_failure = cluster->name_problem();
  if (!key->host.empty() && !cluster->name_problem().empty()) co_return replies::dns_failure();
  Forwarder forwarder(x, *cluster);
  std::optional<Reply> reply = co_await forwarder.run();
  co_return reply;
}

}  // namespace culvert::waypoint
