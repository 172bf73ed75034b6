// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/servers.h"

#include <list>
#include <utility>

#include "net/async/scope.h"
#include "net/conn/http_server.h"
#include "ztunnel/listen.h"

namespace culvert::ztunnel {

namespace {

// Answers in flight get this long at the end.
constexpr base::Duration kStopWithin = std::chrono::seconds(2);

PageRequest page_request(conn::HttpRequest request) {
  PageRequest page;
  if (const std::string* accept = request.header("accept")) page.accept = *accept;
  page.method = std::move(request.method);
  page.path = std::move(request.path);
  page.query = std::move(request.query);
  return page;
}

conn::HttpResponse response(PageAnswer answer) {
  conn::HttpResponse out;
  out.status = answer.status;
  out.content_type = std::move(answer.content_type);
  out.body = std::move(answer.body);
  return out;
}

async::Task<conn::HttpResponse> serve_admin(AppPages& pages, conn::HttpRequest request) {
  PageAnswer answer = co_await pages.admin(page_request(std::move(request)));
  co_return response(std::move(answer));
}
async::Task<conn::HttpResponse> serve_stats(AppPages& pages, conn::HttpRequest request) {
  PageAnswer answer = co_await pages.stats(page_request(std::move(request)));
  co_return response(std::move(answer));
}
async::Task<conn::HttpResponse> serve_readiness(AppPages& pages, conn::HttpRequest request) {
  co_return response(pages.readiness(page_request(std::move(request))));
}

// The servers of one loop; made, used and destroyed on it.
class LoopServers {
 public:
  LoopServers(async::Loop& loop, io::Network& network, base::Log& log)
      : loop_(loop), network_(network), log_(log), tasks_(loop) {}

  // `local`: only this address, else every address.
  base::Result<> add(const char* what, std::optional<base::IpAddr> local, bool ipv6, uint16_t port,
                     conn::HttpHandler handler) {
    auto listener = local ? network_.listen({*local, port}, {}) : listen_anywhere(network_, ipv6, port, {});
    if (!listener) return base::fail(std::move(listener).error().wrap(what));
    servers_.push_back(
        std::make_unique<conn::HttpServer>(loop_, std::move(*listener), std::move(handler), log_));
    tasks_.spawn(servers_.back()->run());
    return {};
  }
  async::Task<void> stop() {
    for (auto& server : servers_) server->drain();
    co_await tasks_.idle().wait(async::Deadline::in(loop_, kStopWithin));
    tasks_.cancel_all();
    co_await tasks_.idle().wait();
    servers_.clear();
  }

 private:
  async::Loop& loop_;
  io::Network& network_;
  base::Log& log_;
  std::list<std::unique_ptr<conn::HttpServer>> servers_;
  async::Scope tasks_;
};

}  // namespace

class Servers::Impl {
 public:
  Impl(const config::ZtunnelConfig& config, base::Log& log, AppPages& pages)
      : config_(config), log_(log), pages_(pages) {}

  async::Task<base::Result<>> start(async::Loop& control, io::Network& control_network, async::Loop& data,
                                    io::Network& data_network) {
    data_ = &data;
    control_ = &control;
    auto bound = std::make_shared<async::OneShot<base::Result<>>>(control);
    data.post([this, &control, &data, &data_network, bound] {
      base::Result<> result = start_readiness(data, data_network);
      control.post([bound, result] { bound->set(result); });
    });
    co_await bound->event().wait();
    base::Result<> ready = bound->take();
    if (!ready) co_return ready;
    on_control_ = std::make_unique<LoopServers>(control, control_network, log_);
    co_return start_control();
  }

  async::Task<void> stop() {
    if (on_control_) {
      co_await on_control_->stop();
      on_control_.reset();
    }
    if (!data_) co_return;
    auto stopped = std::make_shared<async::Event>(*control_);
    data_->post([this, stopped, control = control_] {
      ending_ = std::make_unique<async::Scope>(*data_);
      ending_->spawn(stop_readiness(*this, stopped, *control));
    });
    co_await stopped->wait();
  }

 private:
  base::Result<> start_readiness(async::Loop& data, io::Network& network) {
    on_data_ = std::make_unique<LoopServers>(data, network, log_);
    return on_data_->add(
        "readiness", std::nullopt, config_.ipv6_enabled, config_.readiness_port,
        [&pages = pages_](conn::HttpRequest request) { return serve_readiness(pages, std::move(request)); });
  }
  static async::Task<void> stop_readiness(Impl& self, std::shared_ptr<async::Event> stopped,
                                          async::Loop& control) {
    if (self.on_data_) co_await self.on_data_->stop();
    control.post([stopped] { stopped->set(); });
  }
  base::Result<> start_control() {
    auto admin = [&pages = pages_](conn::HttpRequest request) {
      return serve_admin(pages, std::move(request));
    };
    auto stats = [&pages = pages_](conn::HttpRequest request) {
      return serve_stats(pages, std::move(request));
    };
    CULVERT_TRY(on_control_->add("admin", base::IpAddr::loopback_v4(), false, config_.admin_port, admin));
    if (config_.ipv6_enabled) {
      auto v6 = on_control_->add("admin", base::IpAddr::loopback_v6(), true, config_.admin_port, admin);
      // A machine without IPv6 still has its IPv4 port.
      if (!v6) log_.warn("admin", "no IPv6 admin port", {base::Field::text("error", v6.error().message())});
    }
    return on_control_->add("stats", std::nullopt, config_.ipv6_enabled, config_.stats_port, stats);
  }

  const config::ZtunnelConfig& config_;
  base::Log& log_;
  AppPages& pages_;
  async::Loop* control_ = nullptr;
  async::Loop* data_ = nullptr;
  std::unique_ptr<LoopServers> on_control_;
  std::unique_ptr<LoopServers> on_data_;
  std::unique_ptr<async::Scope> ending_;
};

Servers::Servers(const config::ZtunnelConfig& config, base::Log& log, AppPages& pages)
    : impl_(std::make_unique<Impl>(config, log, pages)) {}
Servers::~Servers() = default;

async::Task<base::Result<>> Servers::start(async::Loop& control, io::Network& control_network,
                                           async::Loop& data, io::Network& data_network) {
  return impl_->start(control, control_network, data, data_network);
}
async::Task<void> Servers::stop() { return impl_->stop(); }

}  // namespace culvert::ztunnel
