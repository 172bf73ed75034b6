// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/inpod.h"

#include <algorithm>
#include <utility>

namespace culvert::ztunnel {

namespace {
constexpr std::string_view kTarget = "inpod";
using base::Field;

// The agent must be answered, and told that the connection ends.
bool breaks_protocol(const base::Error& error) { return error.code() == base::Code::kProtocol; }
}  // namespace

InpodClient::InpodClient(async::Loop& loop, io::Network& network, base::Log& log,
                         observe::MetricsShard& metrics, base::Rng rng, std::string path, PodStarter& pods)
    : loop_(loop),
      network_(network),
      log_(log),
      metrics_(metrics),
      rng_(rng),
      path_(std::move(path)),
      pods_(pods) {
  changed();
}

void InpodClient::changed() {
  metrics_.cell(observe::families::active_proxies(), "").set(state_.running().size());
  metrics_.cell(observe::families::pending_proxies(), "").set(state_.failures().size());
  if (on_change_) on_change_();
}

async::Task<void> InpodClient::run() {
  base::Duration backoff = kBackoffFirst;
  std::string last_failure;
  for (;;) {
    base::Result<std::unique_ptr<io::PacketSocket>> socket = network_.dial_packet(path_);
    if (socket) {
      log_.info(kTarget, "connected to the node agent", {Field::text("socket", path_)});
      last_failure.clear();
      state_.connected();
      changed();
      base::Result<> ended = co_await converse(**socket);
      if (state_.snapshot_received()) backoff = kBackoffFirst;
      state_.disconnected();
      changed();
      std::string why = ended ? "the node agent closed the connection" : ended.error().message();
      log_.warn(kTarget, "disconnected from the node agent; the pods keep running",
                {Field::text("reason", why)});
    } else if (socket.error().message() != last_failure) {
      last_failure = socket.error().message();
      log_.warn(kTarget, "cannot connect to the node agent; trying again",
                {Field::text("error", last_failure)});
    }
    double jitter = 0.8 + 0.4 * rng_.unit();
    auto pause = std::chrono::duration_cast<base::Duration>(backoff * jitter);
    backoff = std::min(backoff * 2, kBackoffMax);
    co_await async::sleep_for(loop_, pause);
  }
}

async::Task<base::Result<>> InpodClient::converse(io::PacketSocket& socket) {
  base::Result<> greeted = co_await io::send(socket, encode_zds_hello(), -1);
  if (!greeted) co_return base::fail(std::move(greeted).error().wrap("send the hello"));
  async::Deadline retry_at = async::Deadline::in(loop_, kRetryEvery);
  for (;;) {
    async::Deadline wake = state_.failures().empty() ? async::Deadline::never() : retry_at;
    base::Result<io::Packet> packet =
        co_await async::with_deadline(loop_, wake, "receive", io::receive(socket, kZdsPacketMax));
    if (!packet && packet.error().code() == base::Code::kTimeout && wake.passed(loop_.now())) {
      co_await retry_pending();
      retry_at = async::Deadline::in(loop_, kRetryEvery);
      continue;
    }
    if (!packet) co_return base::fail(std::move(packet).error());
    if (packet->bytes.empty() && packet->fds.empty()) co_return base::Result<>{};

    base::Result<> outcome;
    base::Result<ZdsMessage> message = decode_zds(std::move(*packet));
    if (message) {
      bool was_pending = !state_.failures().empty();
      outcome = co_await handle(std::move(*message));
      if (!was_pending) retry_at = async::Deadline::in(loop_, kRetryEvery);
    } else {
      outcome = base::fail(std::move(message).error().wrap("failure to read message "));
    }
    changed();
    std::string answer =
        encode_zds_ack(outcome ? std::string_view{} : std::string_view(outcome.error().message()));
    base::Result<> sent = co_await io::send(socket, std::move(answer), -1);
    if (!sent) co_return base::fail(std::move(sent).error().wrap("answer the node agent"));
    if (!outcome && breaks_protocol(outcome.error())) {
      metrics_.cell(observe::families::zds_protocol_errors(), "").add();
      co_return base::fail(std::move(outcome).error());
    }
  }
}

async::Task<base::Result<>> InpodClient::handle(ZdsMessage message) {
  if (auto* add = std::get_if<ZdsAdd>(&message)) {
    co_return co_await handle_add(std::move(*add));
  }
  if (auto* keep = std::get_if<ZdsKeep>(&message)) co_return state_.keep(keep->uid);
  if (auto* del = std::get_if<ZdsDel>(&message)) {
    log_.info(kTarget, "pod removed", {Field::text("uid", del->uid)});
    if (state_.del(del->uid))
      pods_.stop_pod(del->uid, async::DrainMode::kImmediate, async::Deadline::at(loop_.now()));
    co_return base::Result<>{};
  }
  base::Result<std::vector<std::string>> gone = state_.snapshot_sent();
  if (!gone) co_return base::fail(std::move(gone).error());
  for (const std::string& uid : *gone) {
    log_.info(kTarget, "pod is not in the node agent's snapshot: stopping", {Field::text("uid", uid)});
    pods_.stop_pod(uid, async::DrainMode::kImmediate, async::Deadline::at(loop_.now()));
  }
  log_.info(kTarget, "snapshot complete", {Field::number("pods", state_.running().size())});
  co_return base::Result<>{};
}

async::Task<base::Result<>> InpodClient::handle_add(ZdsAdd add) {
  PodInfo pod{std::move(add.uid), std::move(add.name), nullptr, PodKind::kPod};
  base::Result<io::NetNsRef> netns = network_.adopt_netns(std::move(add.netns));
  if (!netns)
    co_return base::fail(std::move(netns).error().wrap("failure to start proxy : network namespace"));
  pod.netns = std::move(*netns);
  ZdsState::AddAction action = state_.add(pod);
  if (action == ZdsState::AddAction::kNothing) co_return base::Result<>{};
  if (action == ZdsState::AddAction::kReplace) {
    pods_.stop_pod(pod.uid, async::DrainMode::kImmediate, async::Deadline::at(loop_.now()));
  }
  base::Result<> started = co_await start(std::move(pod));
  co_return started;
}

async::Task<base::Result<>> InpodClient::start(PodInfo pod) {
  base::Result<> started = co_await async::with_deadline(loop_, async::Deadline::in(loop_, kAnswerWithin),
                                                         "start the proxy", pods_.start_pod(pod));
  if (started) {
    state_.started(pod);
    metrics_.cell(observe::families::proxies_started(), "").add();
    log_.info(kTarget, "pod added",
              {Field::text("uid", pod.uid), Field::text("name", pod.name.name),
               Field::text("namespace", pod.name.namespace_)});
    co_return base::Result<>{};
  }
  // What may have been bound on some loops is taken down, so that the next try meets no rest of it.
  pods_.stop_pod(pod.uid, async::DrainMode::kImmediate, async::Deadline::at(loop_.now()));
  base::Error error = std::move(started).error().wrap("failure to start proxy ");
  state_.failed(pod, error.message());
  log_.warn(kTarget, "pod is pending; its proxy is tried again every 5 s",
            {Field::text("uid", pod.uid), Field::text("name", pod.name.name),
             Field::text("error", error.message())});
  co_return base::fail(std::move(error));
}

async::Task<void> InpodClient::retry_pending() {
  std::vector<PodInfo> pods = state_.pending();
  for (PodInfo& pod : pods) {
    base::Result<> started = co_await start(std::move(pod));
    (void)started;  // start() has logged and remembered it
  }
  changed();
}

}  // namespace culvert::ztunnel
