// SPDX-License-Identifier: Apache-2.0
// JwksFetcher: the key sets that RequestAuthentications refer to, fetched here and sent to waypoints within
// their rules (spec waypoint section 2.7). Lives on the control loop.
//
// A waypoint cannot ask for keys, also not for a key id it does not know: whoever rotates keys publishes the
// new one at least `refresh_every` before signing with it. An answer whose Cache-Control: max-age is shorter
// is asked for again after that, but not more often than once a minute. A set that was good stays in force
// while its server is away, and over restarts; tokens of an issuer whose keys were never had are refused.
//
// | an URI is      | what is done                                                             |
// |----------------|--------------------------------------------------------------------------|
// | new, in use    | fetched at once, then every refresh_every                                 |
// | failing        | 7 times again after 1 s, then after 1 min, doubled up to 1 h              |
// | not used       | kept for 7 days, not fetched                                              |
//
// "<issuer>/.well-known/openid-configuration" is read as OIDC discovery: its jwks_uri is fetched.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "control/serve/http_get.h"
#include "net/async/scope.h"
#include "net/async/wait.h"
#include "net/base/log.h"

namespace culvert::control {

struct JwksOptions {
  HttpGetOptions http;
  base::Duration refresh_every = std::chrono::minutes(20);
  size_t uris_max = 1000;
  size_t total_bytes_max = 64 * 1024 * 1024;  // of all sets; one that does not fit is refused
};

class JwksFetcher {
 public:
  static constexpr base::Duration kRefreshMin = std::chrono::minutes(1);
  static constexpr unsigned kQuickRetries = 7;
  static constexpr base::Duration kQuickRetry = std::chrono::seconds(1);
  static constexpr base::Duration kRetryFirst = std::chrono::minutes(1);
  static constexpr base::Duration kRetryMax = std::chrono::hours(1);
  static constexpr base::Duration kUnusedMax = std::chrono::hours(24 * 7);

  // `on_change`: some set is another than before, compile anew. Called from the loop.
  JwksFetcher(async::Loop& loop, io::Network& network, base::Log& log, JwksOptions options,
              std::function<void()> on_change);

  // What save() gave before a restart; an error changes nothing.
  base::Result<> load(std::string_view json);
  std::string save() const;

  // For CompileOptions::jwks: the last good set, "" if there is none yet. Asking keeps it fetched.
  std::string keys(const std::string& uri);
  // Around a compilation: an URI that was not asked for in between is no longer in use.
  void begin_round();
  void end_round();
  // Ends what is under way; idle() is set when nothing is left.
  void shut_down() { tasks_.cancel_all(); }
  async::Event& idle() { return tasks_.idle(); }

  struct Counters {
    uint64_t fetched = 0, failed = 0;
    uint64_t refused = 0;  // URIs beyond uris_max
  };
  const Counters& counters() const { return counters_; }
  // Of those in use.
  size_t uris() const;
  size_t without_keys() const;
  std::string describe() const;  // JSON, for people

 private:
  struct Entry {
    std::string keys;  // the last good set
    std::string error;
    bool asked = false;    // in this round
    bool running = false;  // a task keeps it fetched
    unsigned failures = 0;
    base::TimePoint next{};                       // fetch
    std::optional<base::TimePoint> unused_since;  // none: in use
    std::optional<base::WallTime> fetched_at;     // last success
  };
  struct Fetched {
    std::string keys;
    base::Duration max_age = base::Duration::max();
  };
  async::Task<void> keep(std::string uri);
  async::Task<base::Result<Fetched>> fetch(std::string uri);
  base::Duration take(const std::string& uri, Entry& entry, base::Result<Fetched> got);
  base::Result<> accept(Entry& entry, Fetched& got, const std::string& uri);
  base::Duration retry_after(unsigned failures) const;
  bool make_room();

  async::Loop& loop_;
  io::Network& network_;
  base::Log& log_;
  JwksOptions options_;
  std::function<void()> on_change_;
  std::map<std::string, Entry> entries_;
  size_t total_bytes_ = 0;
  Counters counters_;
  async::Scope tasks_;
};

}  // namespace culvert::control
