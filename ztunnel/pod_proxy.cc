// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/pod_proxy.h"

#include <algorithm>
#include <utility>

#include "ztunnel/connection.h"
#include "ztunnel/inbound.h"
#include "ztunnel/listen.h"
#include "ztunnel/local_path.h"
#include "ztunnel/outbound.h"
#include "ztunnel/passthrough.h"

namespace culvert::ztunnel {

namespace {

hbone::ClientSettings client_settings(const config::ZtunnelConfig& config) {
  hbone::ClientSettings settings;
  settings.stream_window = config.http2_stream_window;
  settings.connection_window = config.http2_connection_window;
  settings.frame_bytes_max = config.http2_frame_size;
  settings.connect_timeout = config.connect_timeout;
  settings.handshake_timeout = config.handshake_timeout;
  settings.tls12 = config.tls12_enabled;
  return settings;
}

hbone::TunnelPoolOptions pool_options(const config::ZtunnelConfig& config) {
  hbone::TunnelPoolOptions options;
  options.streams_max = config.pool_streams_max;
  options.idle_release = config.pool_idle_release;
  return options;
}

// A listener in trouble says so this often.
constexpr base::Duration kAcceptErrorEvery = std::chrono::seconds(5);

}  // namespace

PodProxy::PodProxy(Worker& worker, PodInfo info)
    : worker_(worker),
      info_(std::move(info)),
      drain_(worker.loop()),
      dialer_(
          worker.loop(), worker.network(), [this] { return dial_options(); },
          [this](model::Identity identity, async::Deadline deadline) {
            return worker_.certificates().get(std::move(identity), deadline);
          },
          client_settings(worker.config())),
      pool_(worker.loop(), dialer_, pool_options(worker.config())),
      connections_(worker.loop()),
      acceptors_(worker.loop()) {}

PodProxy::~PodProxy() = default;

PodProxy::Serving::Serving(PodProxy& pod, hbone::TunnelServer& server) : pod_(pod) {
  place_ = pod_.servers_.insert(pod_.servers_.end(), &server);
  if (pod_.drain_.draining()) server.drain();
}

base::Result<std::unique_ptr<PodProxy>> PodProxy::start(Worker& worker, PodInfo info) {
  std::unique_ptr<PodProxy> pod(new PodProxy(worker, std::move(info)));
  CULVERT_TRY(pod->listen(config::kHbonePort, serve_tunnel));
  if (pod->info_.kind != PodKind::kSelf) {
    CULVERT_TRY(pod->listen(config::kPassthroughPort, serve_passthrough));
    CULVERT_TRY(pod->listen(config::kOutboundPort, serve_outbound));
  }
  // Serving starts only once every port is bound: a pod is proxied as a whole or not at all.
  for (Listening& listening : pod->listeners_) {
    pod->acceptors_.spawn(accept_loop(*pod, *listening.listener, listening.serve));
  }
  return pod;
}

io::DialOptions PodProxy::dial_options() const {
  const config::ZtunnelConfig& config = worker_.config();
  io::DialOptions options;
  options.netns = info_.netns;
  if (info_.kind != PodKind::kSelf) options.mark = config.packet_mark;
  if (config.keepalive_enabled) {
    options.keepalive =
        io::Keepalive{config.keepalive_time, config.keepalive_interval, config.keepalive_retries};
    if (config.user_timeout_enabled) {
      options.user_timeout = config.keepalive_time + config.keepalive_retries * config.keepalive_interval;
    }
  }
  return options;
}

bool PodProxy::owns(const base::IpAddr& ip) {
  if (std::ranges::find(owned_, ip) != owned_.end()) return true;
  if (!worker_.network().has_address(ip, info_.netns)) return false;
  owned_.push_back(ip);
  return true;
}

void PodProxy::serve_local(LocalArrival arrival) {
  connections_.spawn(serve_local_stream(*this, std::move(arrival)));
}

io::ListenOptions PodProxy::listen_options(uint16_t port) const {
  const config::ZtunnelConfig& config = worker_.config();
  io::ListenOptions options;
  static_cast<io::SocketOptions&>(options) = dial_options();
  bool self = info_.kind == PodKind::kSelf;
  // Several data loops bind the same ports, so only one loop can do without.
  options.reuse_port = config.port_reuse || config.worker_threads > 1;
  options.migrate_requests = options.reuse_port;
  options.transparent = !self && config.orig_src != config::OrigSrc::kOff;
  options.transparent_required = !self && config.orig_src == config::OrigSrc::kOn;
  options.original_destination = port != config::kHbonePort;
  return options;
}

base::Result<> PodProxy::listen(uint16_t port, Serve serve) {
  const config::ZtunnelConfig& config = worker_.config();
  base::Result<std::unique_ptr<io::Listener>> listener =
      listen_anywhere(worker_.network(), config.ipv6_enabled, port, listen_options(port));
  if (!listener) return base::fail(std::move(listener).error());
  bool wanted = info_.kind != PodKind::kSelf && config.orig_src != config::OrigSrc::kOff;
  spoofs_source_ = wanted && (*listener)->transparent();
  listeners_.push_back({std::move(*listener), serve, port});
  return {};
}

async::Task<void> PodProxy::accept_loop(PodProxy& pod, io::Listener& listener, Serve serve) {
  async::Loop& loop = pod.worker_.loop();
  base::TimePoint say_again = loop.now();
  for (;;) {
    base::Result<io::Accepted> accepted = co_await io::accept(listener);
    if (accepted) {
      pod.connections_.spawn(serve_one(pod, std::move(*accepted), serve));
      continue;
    }
    if (loop.now() >= say_again) {
      say_again = loop.now() + kAcceptErrorEvery;
      pod.worker_.log().error("proxy", "accept failed; trying again",
                              {base::Field::bare("address", listener.local_addr().to_string()),
                               base::Field::text("error", accepted.error().message())});
    }
    // Out of descriptors and the like: others must get the time to end.
    co_await async::sleep_for(loop, std::chrono::milliseconds(100));
  }
}

async::Task<void> PodProxy::serve_one(PodProxy& pod, io::Accepted accepted, Serve serve) {
  co_await serve(pod, std::move(accepted));
}

// What waits in an accept queue would be reset by closing the listener: take it first. What arrives
// between the last accept and the close moves to another listener of the port (tcp_migrate_req).
void PodProxy::close_listeners() {
  for (Listening& listening : listeners_) {
    for (;;) {
      base::Result<std::optional<io::Accepted>> waiting = listening.listener->try_accept();
      if (!waiting || !waiting->has_value()) break;
      connections_.spawn(serve_one(*this, std::move(**waiting), listening.serve));
    }
    listening.listener.reset();
  }
  listeners_.clear();
}

async::Task<void> PodProxy::drain(async::DrainMode mode, async::Deadline deadline) {
  drain_.start(mode, deadline);
  if (mode == async::DrainMode::kGraceful) {
    acceptors_.cancel_all();
    co_await acceptors_.idle().wait();
    close_listeners();
    for (hbone::TunnelServer* server : servers_) server->drain();
    co_await connections_.idle().wait(deadline);
  }
  acceptors_.cancel_all();
  connections_.cancel_all();
  co_await acceptors_.idle().wait();
  co_await connections_.idle().wait();
  listeners_.clear();
}

void PodProxy::view_changed(bool policies_changed) {
  const config::WorkloadName& name = info_.name;
  const model::ViewRef& view = worker_.view();
  model::WorkloadRef present = view->local_workload(name.namespace_, name.name, name.service_account);
  if (!policies_changed && present == judged_with_) return;
  judged_with_ = present;
  size_t stopped = live_.recheck(*view, present);
  if (stopped > 0) worker_.metrics().cell(observe::families::policy_closed(), "").add(stopped);
}

async::Task<base::Result<model::WorkloadRef>> PodProxy::workload() {
  return worker_.local_workload(info_.name, async::Deadline::in(worker_.loop(), kWorkloadWait));
}

async::Task<base::Result<wire::TlsIdentityRef>> PodProxy::certificate(async::Deadline deadline) {
  base::Result<model::WorkloadRef> own = co_await workload();
  if (!own) co_return base::fail(std::move(own).error());
  model::Identity identity{(*own)->trust_domain, info_.name.namespace_, info_.name.service_account};
  base::Result<wire::TlsIdentityRef> found =
      co_await worker_.certificates().get(std::move(identity), deadline);
  co_return found;
}

}  // namespace culvert::ztunnel
