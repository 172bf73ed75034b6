// SPDX-License-Identifier: Apache-2.0
// H2TunnelDialer: TCP, mutual TLS and HTTP/2 to an HBONE peer (spec ztunnel section 3). Lives on one
// data loop.
#pragma once

#include <functional>
#include <memory>

#include "mesh/hbone/tunnel.h"
#include "net/async/loop.h"
#include "net/io/network.h"
#include "net/wire/tls.h"

namespace culvert::hbone {

struct ClientSettings {
  uint32_t stream_window = 4 * 1024 * 1024;       // what a fast stream's window grows to
  uint32_t connection_window = 16 * 1024 * 1024;  // also bounds the growth of all streams together
  uint32_t frame_bytes_max = 1024 * 1024;
  uint32_t header_bytes_max = 16384;
  base::Duration ping_every = std::chrono::seconds(10);
  base::Duration ping_timeout = std::chrono::seconds(20);
  base::Duration connect_timeout = std::chrono::seconds(10);
  base::Duration handshake_timeout = std::chrono::seconds(10);
  bool tls12 = false;
};

// The peer must prove one of the identities the plan allows (section 3.1): exactly, in whole.
base::Result<> check_server(const std::vector<std::string>& uri_sans,
                            const std::vector<model::Identity>& allowed);

// The certificate to show as `identity`.
using IdentitySource = std::function<async::Task<base::Result<std::shared_ptr<const wire::TlsIdentity>>>(
    model::Identity identity, async::Deadline deadline)>;

class H2TunnelDialer final : public TunnelDialer {
 public:
  // `socket` is asked at every dial.
  H2TunnelDialer(async::Loop& loop, io::Network& network, std::function<io::DialOptions()> socket,
                 IdentitySource identities, ClientSettings settings);
  async::Task<std::expected<std::unique_ptr<Tunnel>, OpenError>> dial(TunnelKey key) override;

 private:
  async::Loop& loop_;
  io::Network& network_;
  std::function<io::DialOptions()> socket_;
  IdentitySource identities_;
  ClientSettings settings_;
};

}  // namespace culvert::hbone
