// SPDX-License-Identifier: Apache-2.0
// NameCache: the addresses of endpoints that are names, as the process's resolver gives them (spec waypoint
// section 2.5). The resolver tells no lifetimes, so that names are looked up again after a fixed time, with
// jitter, as long as somebody asks for them. Data loop.
//
// | an entry                     | who asks for it                                             |
// |------------------------------|-------------------------------------------------------------|
// | has never had an answer      | waits for the lookup that runs, one for all who ask         |
// | is due                       | gets what it has; it is looked up beside                    |
// | has not been used for longer | waits, and gets the last good addresses if the lookup fails |
// | had a lookup that failed     | keeps its last good addresses; is due again soon            |
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/async/scope.h"
#include "net/base/rng.h"
#include "net/io/network.h"

namespace culvert::waypoint {

class NameCache {
 public:
  static constexpr size_t kNamesMax = 4096;    // known at once
  static constexpr size_t kLookupsMax = 64;    // under way at once
  static constexpr size_t kAddressesMax = 64;  // taken of one answer
  static constexpr base::Duration kLookupTimeout = std::chrono::seconds(5);
  static constexpr base::Duration kRetryAfter = std::chrono::seconds(1);

  struct Entry {
    explicit Entry(async::Loop& loop, std::string name) : host(std::move(name)), settled(loop) {}
    std::string host;
    std::vector<base::IpAddr> addresses;  // of the last good answer, in the resolver's order
    uint64_t version = 0;                 // grows when they are others
    std::string problem;                  // of the last lookup; "" none
    std::optional<base::TimePoint> answered;
    base::TimePoint due{};
    bool looking = false;
    async::Event settled;  // no lookup runs
  };
  using EntryRef = std::shared_ptr<Entry>;

  // Answers that lead to `own`, to this machine or to nobody in particular are not believed: a waypoint is
  // no way into itself.
  NameCache(async::Loop& loop, io::Network& network, base::IpAddr own, base::Rng rng)
      : loop_(loop), network_(network), own_(own), rng_(rng), tasks_(loop) {}

  // Forgotten when nobody holds it. Null: too many are known.
  EntryRef entry(const std::string& host);
  // Starts a lookup if one is due; true if the answer should be waited for.
  bool touch(const EntryRef& entry, base::Duration refresh);

 private:
  static async::Task<void> look_up(NameCache& cache, EntryRef entry, base::Duration refresh);

  async::Loop& loop_;
  io::Network& network_;
  base::IpAddr own_;
  base::Rng rng_;
  std::map<std::string, std::weak_ptr<Entry>> entries_;
  async::Scope tasks_;
};

// Whether a waypoint at `own` goes to an address that it was not told of as an endpoint's: not to itself, not
// to this machine, the local link (where clouds keep credentials), groups or nobody.
bool may_dial(const base::IpAddr& ip, const base::IpAddr& own);

// "*.example.com".
bool is_wildcard(std::string_view hostname);
// The name that `authority` ("api.example.com:443", or a server name) has within the wildcard, in lower case;
// nothing: it lies outside or is no name.
std::optional<std::string> name_within(std::string_view wildcard, std::string_view authority);

}  // namespace culvert::waypoint
