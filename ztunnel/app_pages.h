// SPDX-License-Identifier: Apache-2.0
// AppPages: what the HTTP ports answer (spec ztunnel sections 8.4 and 10), apart from how it is carried.
// admin and stats on the control loop, readiness on a data loop.
#pragma once

#include <string>

#include "net/async/task.h"

namespace culvert::ztunnel {

class App;

struct PageRequest {
  std::string method;
  std::string path;    // without the query
  std::string query;   // after '?', "" if none
  std::string accept;  // the Accept header
};

struct PageAnswer {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

class AppPages {
 public:
  explicit AppPages(App& app) : app_(app) {}
  // 15000: /, /config_dump, /logging, /quitquitquit.
  async::Task<PageAnswer> admin(PageRequest request);
  // 15020: /metrics, /stats/prometheus.
  async::Task<PageAnswer> stats(PageRequest request);
  // 15021: /healthz/ready. Thread safe.
  PageAnswer readiness(const PageRequest& request) const;

 private:
  async::Task<PageAnswer> dump();
  // Answers after as many seconds as were asked for.
  async::Task<PageAnswer> profile(PageRequest request);
  PageAnswer logging(const PageRequest& request);

  App& app_;
};

}  // namespace culvert::ztunnel
