// SPDX-License-Identifier: Apache-2.0
// tls_dial: resolve, connect and shake hands with a named server that speaks HTTP/2 (the control plane).
#pragma once

#include <memory>
#include <string>

#include "net/async/deadline.h"
#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/io/network.h"
#include "net/wire/tls.h"

namespace culvert::conn {

struct TlsServer {
  std::string host;  // name or address
  uint16_t port = 0;
  std::string alternative_host;  // accepted in the certificate if `host` is not; empty: none
  bool tls12 = false;
  wire::TlsIdentityRef trust;  // roots_only, or an identity to show
  base::Duration connect_timeout = std::chrono::seconds(5);
};

// `attempt` picks among the server's addresses, so that successive attempts try the next one.
async::Task<base::Result<std::unique_ptr<io::ByteStream>>> tls_dial(async::Loop& loop, io::Network& network,
                                                                    TlsServer server, uint64_t attempt,
                                                                    async::Deadline deadline);

// "host:port" with brackets around an IPv6 address.
std::string authority(const std::string& host, uint16_t port);

}  // namespace culvert::conn
