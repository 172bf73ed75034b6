// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/app_pages.h"

#include <utility>

#include "net/async/wait.h"
#include "net/conn/http_server.h"
#include "ztunnel/app.h"
#include "ztunnel/config_dump.h"
#include "ztunnel/profile.h"

namespace culvert::ztunnel {

namespace {

PageAnswer only(const char* method) {
  return {405, "text/plain; charset=utf-8", std::string("use ") + method + "\n"};
}

constexpr char kIndex[] =
    "<!doctype html><html><head><title>ztunnel</title></head><body><h1>Culvert ztunnel</h1><ul>"
    "<li><a href=\"config_dump\">config_dump</a>: what this proxy knows and does</li>"
    "<li>logging: POST, ?level=info or ?level=target=debug,..., ?reset</li>"
    "<li>quitquitquit: POST, shuts the proxy down</li></ul></body></html>\n";

constexpr char kLoggingHelp[] =
    "usage: POST /logging\t\t\t\t(the present levels)\n"
    "usage: POST /logging?level=<level>\t\t(change the default level: trace, debug, info, warn, error, off)\n"
    "usage: POST /logging?level=<target>=<level>,...\t(change single targets)\n"
    "usage: POST /logging?reset\t\t\t(back to the levels of the start)\n";

}  // namespace

async::Task<PageAnswer> AppPages::admin(PageRequest request) {
  if (request.path == "/") co_return PageAnswer{200, "text/html; charset=utf-8", kIndex};
  if (request.path == "/config_dump") {
    PageAnswer answer = co_await dump();
    co_return answer;
  }
  if (request.path == "/logging") co_return logging(request);
  if (request.path == "/quitquitquit") {
    if (request.method != "POST") co_return only("POST");
    app_.shut_down("asked by /quitquitquit");
    co_return PageAnswer{200, "text/plain; charset=utf-8", "shutdown now\n"};
  }
  if (request.path == "/debug/pprof/profile") {
    PageAnswer answer = co_await profile(std::move(request));
    co_return answer;
  }
  if (request.path.starts_with("/debug/pprof/heap")) {
    co_return PageAnswer{500, "text/plain; charset=utf-8", "heap profiles are not built in\n"};
  }
  co_return PageAnswer{404, "text/plain; charset=utf-8", ""};
}

async::Task<PageAnswer> AppPages::profile(PageRequest request) {
  constexpr char kText[] = "text/plain; charset=utf-8";
  auto asked = parse_profile_request(request.query);
  if (!asked) co_return PageAnswer{400, kText, asked.error().message() + "\n"};
  auto profiler = CpuProfiler::start(asked->frequency);
  if (!profiler) co_return PageAnswer{500, kText, profiler.error().message() + "\n"};
  base::Duration wanted = std::chrono::seconds(asked->seconds);
  co_await async::sleep_for(app_.control_, wanted);
  co_return PageAnswer{200, "application/octet-stream", (*profiler)->finish(wanted)};
}

async::Task<PageAnswer> AppPages::dump() {
  std::vector<observe::ConnTable::Row> connections = co_await app_.fleet_->connections();
  DumpInput input{app_.config_, *app_.store_.view(), app_.certificates_->rows(), {}, std::move(connections)};
  if (app_.inpod_) {
    for (const auto& [uid, pod] : app_.inpod_->state().running()) input.pods.push_back({pod, true});
    for (PodInfo& pod : app_.inpod_->state().pending()) input.pods.push_back({std::move(pod), false});
  }
  co_return PageAnswer{200, "application/json", config_dump(input)};
}

PageAnswer AppPages::logging(const PageRequest& request) {
  if (request.method != "POST") return {405, "text/plain; charset=utf-8", kLoggingHelp};
  base::LineLog& log = app_.parts_.log;
  base::LogFilter filter = log.filter();
  bool changed = false;
  std::string level = conn::query_value(request.query, "level").value_or("");
  if (conn::query_value(request.query, "reset")) {
    auto initial = base::LogFilter::parse(app_.config_.log_filter);
    if (initial) filter = std::move(*initial);
    changed = true;
  }
  if (!level.empty()) {
    if (auto added = filter.add(level); !added) {
      return {400, "text/plain; charset=utf-8", added.error().message() + "\n" + kLoggingHelp};
    }
    changed = true;
  }
  if (changed) log.set_filter(filter);
  return {200, "text/plain; charset=utf-8", "current log level is " + filter.to_string() + "\n"};
}

async::Task<PageAnswer> AppPages::stats(PageRequest request) {
  if (request.path != "/metrics" && request.path != "/stats/prometheus") {
    co_return PageAnswer{404, "text/plain; charset=utf-8", ""};
  }
  co_await app_.fleet_->sync_counters();
  app_.export_xds();
  PageAnswer answer;
  if (request.accept.find("application/openmetrics-text") != std::string::npos) {
    answer.content_type = "application/openmetrics-text;charset=utf-8;version=1.0.0";
  }
  answer.body = app_.metrics_.render();
  co_return answer;
}

PageAnswer AppPages::readiness(const PageRequest& request) const {
  if (request.path != "/healthz/ready") return {404, "text/plain; charset=utf-8", ""};
  if (request.method != "GET") return only("GET");
  std::string pending = app_.readiness().pending_text();
  if (pending.empty()) return {200, "text/plain; charset=utf-8", "ready\n"};
  return {500, "text/plain; charset=utf-8", "not ready, pending: " + pending + "\n"};
}

}  // namespace culvert::ztunnel
