// SPDX-License-Identifier: Apache-2.0
#include "mesh/xds/xds_client.h"

#include <map>
#include <unordered_set>

#include "mesh/xds/from_proto.h"
#include "net/async/queue.h"
#include "net/async/scope.h"
#include "net/async/wait.h"
#include "net/conn/grpc.h"
#include "net/conn/http2_conn.h"
#include "net/conn/tls_dial.h"
#include "net/wire/tls.h"

namespace culvert::xds {
namespace {

constexpr std::string_view kTarget = "xds";  // of log lines
constexpr std::string_view kMethod =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
// A snapshot of a large mesh must not crawl through the default windows (spec apis section 7).
constexpr uint32_t kStreamWindowBytes = 8 * 1024 * 1024;
constexpr uint32_t kConnectionWindowBytes = 16 * 1024 * 1024;

// One stream to the control plane, while it lives.
struct Session {
  Session(async::Loop& loop, std::unique_ptr<conn::GrpcStream> opened, size_t outbox_max)
      : stream(std::move(opened)), outbox(loop, outbox_max), sender(loop) {}
  std::unique_ptr<conn::GrpcStream> stream;
  async::BoundedQueue<std::string> outbox;
  async::Scope sender;
};

// Makes the session known to `demand` exactly as long as it lives, also when the task is cancelled.
class Registered {
 public:
  Registered(Session*& slot, Session& session) : slot_(slot) { slot_ = &session; }
  ~Registered() { slot_ = nullptr; }
  Registered(const Registered&) = delete;

 private:
  Session*& slot_;
};

async::Task<void> send_all(Session& session) {
  for (;;) {
    auto message = co_await session.outbox.pop();
    if (!message) co_return;
    auto sent = co_await session.stream->send(*std::move(message));
    // The receiving side learns of the same end and reports it.
    if (!sent) co_return;
  }
}

}  // namespace

class XdsClient::Impl {
 public:
  Impl(async::Loop& loop, io::Network& network, base::Log& log, base::Rng rng, model::NamePool& names,
       XdsClientOptions options, Apply apply, Ready on_ready)
      : loop_(loop),
        network_(network),
        log_(log),
        rng_(rng),
        names_(names),
        options_(std::move(options)),
        apply_(std::move(apply)),
        on_ready_(std::move(on_ready)),
        machine_(options_.delta) {}

  async::Task<void> run();
  async::Task<bool> demand(std::string key, async::Deadline deadline);

  Stats stats_;
  bool ready_ = false;

 private:
  struct Waiters {
    explicit Waiters(async::Loop& loop) : answered(loop) {}
    async::Event answered;
    size_t count = 0;
  };

  async::Task<base::Result<std::unique_ptr<io::ByteStream>>> connect();
  base::Result<conn::Metadata> metadata() const;
  async::Task<StreamEnd> run_stream(std::unique_ptr<io::ByteStream> lower);
  async::Task<base::Result<>> exchange(Session& session);
  base::Result<> take_response(Session& session, const std::string& message);
  void report_rejects(const DeltaXds::Outcome& outcome);
  void wake_waiters(const std::vector<std::string>& answered);
  StreamEnd judge(const Session& session, const base::Result<>& result);
  StreamEnd failed_to_open(const base::Error& error);

  async::Loop& loop_;
  io::Network& network_;
  base::Log& log_;
  base::Rng rng_;
  model::NamePool& names_;
  XdsClientOptions options_;
  Apply apply_;
  Ready on_ready_;
  DeltaXds machine_;
  XdsBackoff backoff_;
  uint64_t attempts_ = 0;
  base::TimePoint opened_at_{};
  Session* session_ = nullptr;  // while a stream is open
  // On demand: who waits for which key, and which keys have had their answer.
  std::map<std::string, std::shared_ptr<Waiters>, std::less<>> waiters_;
  std::unordered_set<std::string> answered_;
};

async::Task<void> XdsClient::Impl::run() {
  for (;;) {
    opened_at_ = loop_.now();
    auto lower = co_await connect();
    StreamEnd end = StreamEnd::kFailedToOpen;
    if (lower) {
      opened_at_ = loop_.now();
      end = co_await run_stream(*std::move(lower));
    } else {
      failed_to_open(lower.error());
    }
    base::Duration wait = backoff_.after(end, loop_.now() - opened_at_, rng_);
    if (wait > base::Duration::zero()) co_await async::sleep_for(loop_, wait);
  }
}

async::Task<base::Result<std::unique_ptr<io::ByteStream>>> XdsClient::Impl::connect() {
  auto deadline = async::Deadline::in(loop_, options_.open_timeout);
  auto pem = options_.read_roots();
  if (!pem) co_return base::fail(std::move(pem).error().wrap("roots of the control plane"));
  auto roots = wire::TlsIdentity::roots_only(*pem);
  if (!roots) co_return base::fail(std::move(roots).error().wrap("roots of the control plane"));
  conn::TlsServer server{.host = options_.host,
                         .port = options_.port,
                         .alternative_host = options_.alternative_host,
                         .tls12 = options_.tls12,
                         .trust = *std::move(roots),
                         .connect_timeout = options_.connect_timeout};
  auto secured = co_await conn::tls_dial(loop_, network_, std::move(server), ++attempts_, deadline);
  co_return secured;
}

base::Result<conn::Metadata> XdsClient::Impl::metadata() const {
  conn::Metadata metadata;
  if (options_.read_token) {
    auto token = options_.read_token();
    if (!token) return base::fail(std::move(token).error().wrap("token for the control plane"));
    if (!token->empty()) {
      metadata.emplace_back("authorization", "Bearer " + *token);
      metadata.emplace_back("clusterid", options_.cluster_id);
    }
  }
  metadata.insert(metadata.end(), options_.headers.begin(), options_.headers.end());
  return metadata;
}

StreamEnd XdsClient::Impl::failed_to_open(const base::Error& error) {
  ++stats_.connection_failures;
  ++stats_.terminations[std::string(to_string(StreamEnd::kFailedToOpen))];
  log_.warn(kTarget, "no connection to the control plane, will try again",
            {base::Field::text("server", options_.host), base::Field::text("error", error.message())});
  return StreamEnd::kFailedToOpen;
}

async::Task<StreamEnd> XdsClient::Impl::run_stream(std::unique_ptr<io::ByteStream> lower) {
  auto headers = metadata();
  if (!headers) co_return failed_to_open(headers.error());
  conn::Http2Options http2;
  http2.settings.stream_window_bytes = kStreamWindowBytes;
  http2.settings.connection_window_bytes = kConnectionWindowBytes;
  http2.ping_every = options_.ping_interval;
  http2.ping_timeout = options_.ping_timeout;
  conn::Http2Conn connection(loop_, std::move(lower), wire::H2Engine::Role::kClient, http2);
  conn::GrpcClient client(loop_, connection, conn::authority(options_.host, options_.port),
                          options_.message_bytes_max);
  auto stream = client.stream(std::string(kMethod), *std::move(headers));
  if (!stream) co_return failed_to_open(stream.error());

  Session session(loop_, *std::move(stream), options_.outbox_messages_max);
  Registered registered(session_, session);
  auto result = co_await exchange(session);
  stats_.connected = false;
  co_return judge(session, result);
}

// Requests out, responses in, until the stream ends.
async::Task<base::Result<>> XdsClient::Impl::exchange(Session& session) {
  for (auto& request : machine_.start_stream()) {
    auto sent = co_await session.stream->send(std::move(request));
    if (!sent) break;  // why, stands in the status that receive() finds
  }
  for (const auto& error : machine_.metadata_errors()) {
    log_.warn(kTarget, "node metadata left out", {base::Field::text("error", error)});
  }
  session.sender.spawn(send_all(session));
  for (;;) {
    auto message = co_await session.stream->receive();
    if (!message) co_return base::fail(std::move(message).error());
    if (!*message) co_return base::Result<>();
    auto taken = take_response(session, **message);
    if (!taken) {
      session.stream->cancel();
      co_return base::fail(std::move(taken).error());
    }
  }
}

base::Result<> XdsClient::Impl::take_response(Session& session, const std::string& message) {
  if (!stats_.connected) {
    // Servers say nothing before their first message: only now is the stream known to be open.
    stats_.connected = true;
    ++stats_.connections;
    log_.info(kTarget, "connected to the control plane", {base::Field::text("server", options_.host)});
  }
  auto outcome = machine_.on_response(base::as_bytes(message), names_);
  if (!outcome) return base::fail(std::move(outcome).error());
  // Types we never asked for share the empty name: a peer must not make labels.
  Stats::Received& received = stats_.received[std::string(outcome->type_url)];
  ++received.messages;
  received.bytes += outcome->resource_bytes;
  stats_.resources_accepted += outcome->accepted;
  stats_.resources_rejected += outcome->rejected.size();
  report_rejects(*outcome);
  log_.debug(
      kTarget, "received",
      {base::Field::text("type", std::string(outcome->type_url)),
       base::Field::number("accepted", outcome->accepted), base::Field::number("removed", outcome->removed),
       base::Field::number("bytes", message.size())});
  std::string reply = std::move(outcome->reply);
  apply_(std::move(outcome->update));
  if (options_.apply_waypoint) options_.apply_waypoint(std::move(outcome->waypoint));
  machine_.applied(*outcome);
  wake_waiters(outcome->answered);
  if (!session.outbox.try_push(std::move(reply))) {
    return base::fail(base::Code::kExhausted, "the control plane does not read what we answer");
  }
  if (!ready_ && machine_.ready()) {
    ready_ = true;
    if (on_ready_) on_ready_();
  }
  return {};
}

void XdsClient::Impl::report_rejects(const DeltaXds::Outcome& outcome) {
  constexpr size_t kLoggedMax = 20;
  for (size_t i = 0; i < outcome.rejected.size() && i < kLoggedMax; ++i) {
    log_.warn(kTarget, "resource rejected",
              {base::Field::text("name", outcome.rejected[i].name),
               base::Field::text("reason", outcome.rejected[i].reason)});
  }
  if (outcome.rejected.size() > kLoggedMax) {
    log_.warn(kTarget, "more resources rejected",
              {base::Field::number("count", outcome.rejected.size() - kLoggedMax)});
  }
}

StreamEnd XdsClient::Impl::judge(const Session& session, const base::Result<>& result) {
  const conn::GrpcStatus& status = session.stream->status();
  StreamEnd end = StreamEnd::kRefused;
  std::string reason;
  if (!result && status.ok()) {
    reason = result.error().message();
    // Our own side gave up on a peer that breaks rules, or the connection broke: not a clean end.
    end = StreamEnd::kRefused;
  } else {
    reason =
        std::string(conn::to_string(status.code)) + (status.message.empty() ? "" : ": " + status.message);
    end = classify_stream_end(static_cast<int>(status.code), status.message);
    if (status.code == conn::GrpcCode::kResourceExhausted) machine_.forget_versions_once();
    if (session.stream->trailers_only() && !status.ok()) end = StreamEnd::kFailedToOpen;
  }
  if (end == StreamEnd::kFailedToOpen) ++stats_.connection_failures;
  ++stats_.terminations[std::string(to_string(end))];
  log_.warn(kTarget, "stream to the control plane ended, will try again",
            {base::Field::text("server", options_.host), base::Field::text("reason", reason)});
  return end;
}

void XdsClient::Impl::wake_waiters(const std::vector<std::string>& answered) {
  if (!options_.delta.on_demand) return;
  for (const auto& name : answered) {
    if (answered_.size() < options_.delta.on_demand_names_max) answered_.insert(name);
    if (auto found = waiters_.find(name); found != waiters_.end()) {
      found->second->answered.set();
      waiters_.erase(found);
    }
  }
}

async::Task<bool> XdsClient::Impl::demand(std::string key, async::Deadline deadline) {
  auto request = machine_.demand(key);
  if (!request && answered_.contains(key)) co_return true;  // what it is was said before, and is pushed since
  if (request && session_) session_->outbox.try_push(*std::move(request));
  auto& slot = waiters_[key];
  if (!slot) slot = std::make_shared<Waiters>(loop_);
  std::shared_ptr<Waiters> mine = slot;
  ++mine->count;
  bool answered = co_await mine->answered.wait(deadline);
  --mine->count;
  if (!answered && mine->count == 0) {
    // Nobody waits any more: give the name up, so that a later demand asks anew.
    waiters_.erase(key);
    answered_.erase(key);
    auto give_up = machine_.undemand(key);
    if (give_up && session_) session_->outbox.try_push(*std::move(give_up));
  }
  co_return answered;
}

XdsClient::XdsClient(async::Loop& loop, io::Network& network, base::Log& log, base::Rng rng,
                     model::NamePool& names, XdsClientOptions options, Apply apply, Ready on_ready)
    : impl_(std::make_unique<Impl>(loop, network, log, rng, names, std::move(options), std::move(apply),
                                   std::move(on_ready))) {}
XdsClient::~XdsClient() = default;
async::Task<void> XdsClient::run() { return impl_->run(); }
async::Task<bool> XdsClient::demand(std::string key, async::Deadline deadline) {
  return impl_->demand(std::move(key), deadline);
}
bool XdsClient::ready() const { return impl_->ready_; }
XdsClient::Stats XdsClient::stats() const { return impl_->stats_; }

}  // namespace culvert::xds
