// SPDX-License-Identifier: Apache-2.0
// http_get: what is behind an http:// or https:// URL that a user wrote, within bounds (spec waypoint section
// 2.7): one deadline, a size, few redirects that stay on their host and never leave TLS, no address that only
// this machine can reach.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "net/async/deadline.h"
#include "net/async/task.h"
#include "net/base/ip.h"
#include "net/io/network.h"
#include "net/wire/h1.h"

namespace culvert::control {

struct Url {
  bool tls = false;
  std::string host;  // name or address, no brackets
  uint16_t port = 0;
  std::string target = "/";  // path and query
  std::string to_string() const;
  bool operator==(const Url&) const = default;
};
// Without user, password and fragment; printable ASCII only.
base::Result<Url> parse_url(std::string_view text);

struct HttpGetOptions {
  // PEM of whom https servers are verified against; read at every call.
  std::function<base::Result<std::string>()> read_roots;
  // Never dialled: loopback and link-local addresses have what is behind them for this machine alone.
  std::vector<base::Cidr> blocked = default_blocked();
  base::Duration timeout = std::chrono::seconds(5);  // names, connections, redirects and all
  size_t body_bytes_max = 1 << 20;
  unsigned redirects_max = 3;
  std::string user_agent = "culvertd";
  static std::vector<base::Cidr> default_blocked();
};

// The answer 200. `options` and what it refers to outlive the task.
async::Task<base::Result<wire::H1Message>> http_get(async::Loop& loop, io::Network& network, Url url,
                                                    const HttpGetOptions& options);

}  // namespace culvert::control
