// SPDX-License-Identifier: Apache-2.0
// Dialer: a byte stream to one endpoint, through HBONE where it speaks that, with TLS and a PROXY header
// inside where the traffic policy says so, and a CONNECT inside of that (spec waypoint R1.6 to R1.10, 2.3.5).
// Data loop.
#pragma once

#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mesh/hbone/h2_tunnel.h"
#include "mesh/hbone/tunnel_pool.h"
#include "mesh/model/backend.h"
#include "net/io/network.h"
#include "waypoint/resolve.h"

namespace culvert::waypoint {

struct UpstreamFailure {
  enum class Kind : unsigned char {
    kConnect,  // nobody there, refused, TLS failed, the tunnel was not granted
    kConnectTimeout,
    kOverflow,  // our own bound
    kPolicy,    // the backend's own configuration forbids it
  };
  Kind kind = Kind::kConnect;
  std::string reason;
};

// Where to and how.
struct DialTarget {
  model::WorkloadRef workload;
  base::SocketAddr address;              // of the application
  std::vector<base::SocketAddr> others;  // the same elsewhere: whichever answers first
  // ALPN of a TLS inside.
  bool http2 = false;
  bool raw = false;  // no HTTP at all
  std::string host;  // default server name of a TLS inside
  // What a PROXY header says.
  base::SocketAddr client;
  base::SocketAddr dialled;
};

struct Dialled {
  std::unique_ptr<io::ByteStream> stream;
  bool tunnelled = false;
};

class Dialer {
 public:
  // `self` outlives it. `system_roots` is asked when a backend's TLS names no roots of its own.
  Dialer(async::Loop& loop, io::Network& network, const Self& self, hbone::IdentitySource identities,
         std::function<base::Result<std::string>()> system_roots, base::Rng rng);

  async::Task<std::expected<Dialled, UpstreamFailure>> dial(DialTarget target, model::TrafficPolicy policy);
  // Who we say we are towards endpoints.
  void set_own(hbone::Baggage baggage) { baggage_ = std::move(baggage); }
  io::Network& network() { return network_; }
  hbone::TunnelPool& tunnels() { return tunnels_; }

 private:
  // Connected, with the PROXY header and the TLS that the policy asks for.
  async::Task<std::expected<Dialled, UpstreamFailure>> secure(DialTarget target, model::TrafficPolicy policy,
                                                              async::Deadline deadline);
  static async::Task<base::Result<>> ask_tunnel(io::ByteStream& stream, std::string authority);
  base::Result<wire::TlsIdentityRef> trust(const model::BackendTls& tls);
  async::Task<std::expected<Dialled, UpstreamFailure>> connect(DialTarget target, model::PoolLimits pool,
                                                               async::Deadline deadline);
  // RFC 8305: the next address gets its chance when the one before has failed or taken kHeadStart.
  static constexpr base::Duration kHeadStart = std::chrono::milliseconds(250);
  struct Race;
  static async::Task<void> run_in(Race& race, base::SocketAddr address);
  async::Task<base::Result<std::unique_ptr<io::ByteStream>>> race(std::vector<base::SocketAddr> addresses,
                                                                  io::DialOptions options,
                                                                  async::Deadline deadline);
  async::Task<std::expected<Dialled, UpstreamFailure>> connect_tunnel(DialTarget target,
                                                                      async::Deadline deadline);

  async::Loop& loop_;
  io::Network& network_;
  const Self& self_;
  base::Rng rng_;
  std::function<base::Result<std::string>()> read_system_roots_;
  // Parsed trust by the texts it came from.
  static constexpr size_t kTrustsMax = 256;
  std::map<std::string, wire::TlsIdentityRef> trusts_;
  hbone::Baggage baggage_;
  hbone::H2TunnelDialer tunnel_dialer_;
  hbone::TunnelPool tunnels_;
};

}  // namespace culvert::waypoint
