// SPDX-License-Identifier: Apache-2.0
#include "waypoint/mirror.h"

#include <utility>

#include "mesh/decide/match_route.h"
#include "net/io/stream_wait.h"
#include "waypoint/forward.h"
#include "waypoint/headers.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

using base::Code;

Mirror::Mirror(async::Loop& loop, Mirrors& owner, base::Duration patience)
    : loop_(loop), owner_(owner), patience_(patience), changed_(loop), stop_(loop), timer_([this] {
        give_up("timeout");
      }) {}

Mirror::~Mirror() { owner_.bytes_ -= waiting_.size(); }

void Mirror::give_up(std::string_view why) { stop_.stop(base::Error(Code::kExhausted, std::string(why))); }

void Mirror::feed(base::ByteView bytes) {
  if (stop_.stopped()) return;
  if (waiting_.size() + bytes.size() > kBytesMax || owner_.bytes_ + bytes.size() > Mirrors::kBytesMax) {
    return give_up("its buffer is full");
  }
  waiting_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  owner_.bytes_ += bytes.size();
  changed_.pulse();
}

void Mirror::end(const wire::Headers& trailers) {
  ended_ = true;
  trailers_ = trailers;
  loop_.arm(timer_, loop_.now() + patience_);
  changed_.pulse();
}

void Mirror::close() {
  give_up("over");
  owner_.bytes_ -= waiting_.size();
  waiting_ = std::string();
}

void Mirror::leave() {
  if (!ended_) give_up("the request was broken off");
}

// What one copy goes by; nothing of it belongs to the exchange.
struct Mirrors::Copy {
  std::shared_ptr<Cluster> cluster;
  HostRef host;
  model::TrafficPolicy policy;
  wire::Headers headers;
  bool http2 = false;
  base::SocketAddr client, dialled;
  Seat seat;
};

Mirrors::Mirrors(Worker& worker) : worker_(worker), tasks_(worker.loop()) {}

std::vector<MirrorRef> Mirrors::start(Exchange& x) {
  std::vector<MirrorRef> started;
  if (!x.route || x.upgrade) return started;
  for (const model::Mirror& rule : x.route->mirrors) {
    if (!decide::draw(rule.percent, worker_.rng())) continue;
    if (MirrorRef mirror = start_one(x, rule)) {
      started.push_back(std::move(mirror));
    } else {
      ++dropped_;
    }
  }
  return started;
}

MirrorRef Mirrors::start_one(Exchange& x, const model::Mirror& rule) {
  if (tasks_.running() >= kRunningMax || !rule.target.invalid.empty()) return nullptr;
  std::optional<ClusterKey> key = cluster_key(x, rule.target);
  std::shared_ptr<Cluster> cluster = key ? worker_.upstreams().find(*x.state, *key) : nullptr;
  PickRequest pick;
  pick.dialled = x.client->addressed.dialled;
  HostRef host = cluster ? cluster->pick(pick) : nullptr;
  if (!host || !may_reach(x, *host)) return nullptr;
  Seat seat = cluster->limits().request(cluster->policy().pool);
  if (!seat) return nullptr;

  wire::Headers headers = x.upstream_request;
  x.edit(rule.target.request, headers);
  if (const std::string* authority = header_of(headers, ":authority")) {
    set_header(headers, ":authority", shadow_authority(*authority));
  }
  if (x.record.trace && x.record.trace->rule->propagate) {
    TraceContext unsampled = x.record.trace->context;
    unsampled.sampled = unsampled.debug = false;
    inject_trace(unsampled, *x.record.trace->rule, headers);
  }
  bool http2 = wants_http2(x, *key, cluster->policy().pool);
  auto copy =
      std::make_unique<Copy>(Copy{cluster, std::move(host), cluster->policy(), std::move(headers), http2,
                                  x.client->address, x.client->addressed.dialled, std::move(seat)});
  base::Duration patience = x.route->timeout.count() > 0 ? x.route->timeout : Mirror::kPatience;
  auto mirror = std::make_shared<Mirror>(worker_.loop(), *this, patience);
  tasks_.spawn(run(*this, mirror, std::move(copy)));
  return mirror;
}

async::Task<void> Mirrors::run(Mirrors& owner, MirrorRef mirror, std::unique_ptr<Copy> copy) {
  base::Result<> sent = co_await async::until_stopped(mirror->stop_, send(owner.worker_, *mirror, *copy));
  mirror->close();
  ++(sent ? owner.sent_ : owner.dropped_);
  if (sent) co_return;
  owner.worker_.log().debug("mirror", "a copy was given up",
                            {base::Field::text("service", copy->cluster->key().service.to_string()),
                             base::Field::text("reason", sent.error().message())});
}

async::Task<base::Result<>> Mirrors::send(Worker& worker, Mirror& mirror, Copy& copy) {
  HostUse use(copy.host);
  HttpPool& pool = copy.cluster->pool(copy.host, copy.http2, copy.client, copy.dialled);
  auto lease = co_await pool.acquire(copy.policy, async::Deadline::in(worker.loop(), mirror.patience_));
  if (!lease) {
    copy.cluster->report(*copy.host, {decide::HostOutcome::Kind::kConnectFailure, 0});
    co_return base::fail(Code::kRefused, lease.error().reason);
  }
  bool bare = mirror.ended_ && mirror.waiting_.empty() && mirror.trailers_.empty();
  base::Result<std::unique_ptr<conn::HttpStream>> stream = lease->open(std::move(copy.headers), bare);
  if (!stream) co_return base::fail(std::move(stream).error());
  async::Scope uploading(worker.loop());
  if (!bare) uploading.spawn(upload(mirror, **stream));
  base::Result<wire::Headers> response = co_await (*stream)->response(async::Deadline::never());
  if (!response) {
    copy.cluster->report(*copy.host, {decide::HostOutcome::Kind::kReset, 0});
    co_return base::fail(std::move(response).error());
  }
  copy.cluster->report(*copy.host, {decide::HostOutcome::Kind::kResponse, status_of(*response)});
  for (;;) {
    io::IoResult got = (*stream)->try_read(worker.buffer().span());
    if (got.is_would_block()) {
      co_await io::readable(**stream);
      continue;
    }
    if (got.is_error()) co_return base::fail(got.error());
    if (got.is_eof()) break;
  }
  // An answer before the request's end leaves the rest of it unsent.
  co_return base::Result<>{};
}

async::Task<void> Mirrors::upload(Mirror& mirror, conn::HttpStream& stream) {
  for (;;) {
    if (mirror.waiting_.empty()) {
      if (mirror.ended_) break;
      co_await mirror.changed_.wait();
      continue;
    }
    io::IoResult wrote = stream.try_write(base::as_bytes(mirror.waiting_));
    if (wrote.is_would_block()) {
      co_await io::writable(stream);
      continue;
    }
    if (!wrote.ok()) co_return;  // its answer tells why
    mirror.waiting_.erase(0, wrote.count());
    mirror.owner_.bytes_ -= wrote.count();
  }
  if (mirror.trailers_.empty()) {
    stream.shutdown_write();
  } else {
    stream.send_trailers(mirror.trailers_);
  }
}

std::string shadow_authority(std::string_view authority) {
  // An address in brackets has no name to mark.
  if (authority.starts_with('[')) return std::string(authority);
  size_t colon = authority.rfind(':');
  std::string out(authority.substr(0, colon));
  out += "-shadow";
  if (colon != std::string_view::npos) out += authority.substr(colon);
  return out;
}

}  // namespace culvert::waypoint
