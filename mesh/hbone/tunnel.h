// SPDX-License-Identifier: Apache-2.0
// Tunnel: one mTLS + HTTP/2 connection that carries CONNECT streams, as the pool sees it. `H2Tunnel`
// (h2_tunnel.h) is the real one; tests bring their own. Lives on one data loop.
#pragma once

#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mesh/hbone/connect_headers.h"
#include "mesh/model/identity.h"
#include "net/async/deadline.h"
#include "net/async/task.h"
#include "net/async/wait.h"
#include "net/base/result.h"
#include "net/io/stream.h"

namespace culvert::hbone {

// Everything that makes two connections interchangeable (spec ztunnel section 3.5). Two keys are
// the same tunnel only if all of it is equal; the hash merely finds the bucket.
struct TunnelKey {
  model::Identity source;                // whose certificate we show
  std::vector<model::Identity> allowed;  // whom we accept, in order
  base::SocketAddr hop;                  // where we dial
  base::IpAddr source_ip;                // the pod's address
  // The workload behind `hop`: a pod that took over a deleted pod's address never meets its tunnels.
  std::string destination_uid;
  bool operator==(const TunnelKey&) const = default;
};

// Where opening a stream failed; the caller turns it into a response flag (section 2.7).
enum class Stage : unsigned char { kIdentity, kConnect, kConnectTimeout, kTls, kHttp2 };

struct OpenError {
  base::Error error;
  Stage stage;
};

// The answer to a CONNECT, and the stream if it was a 200.
struct ConnectReply {
  uint16_t status = 0;
  HeaderList headers;
  std::unique_ptr<io::ByteStream> stream;  // null unless status is 200
};

class Tunnel {
 public:
  // Drops everything at once.
  virtual ~Tunnel() = default;
  // Sends a CONNECT and waits for the answer. kClosed or kRefused: the peer has not looked at it.
  virtual async::Task<base::Result<ConnectReply>> connect(HeaderList headers, async::Deadline deadline) = 0;
  // Takes new streams: neither closed nor told to go away.
  virtual bool usable() const = 0;
  // What the peer's SETTINGS allow, as far as known.
  virtual size_t peer_streams_max() const = 0;
  // GOAWAY, and an end when the last stream has gone.
  virtual void drain() = 0;
  // Ends all streams now; they read an error.
  virtual void abort() = 0;
  // Set when the connection has gone.
  virtual async::Event& closed() = 0;
  // The identity the peer has proven.
  virtual const model::Identity& peer_identity() const = 0;
};

class TunnelDialer {
 public:
  virtual ~TunnelDialer() = default;
  // Connects, shakes hands and checks the peer; has its own deadlines.
  virtual async::Task<std::expected<std::unique_ptr<Tunnel>, OpenError>> dial(TunnelKey key) = 0;
};

}  // namespace culvert::hbone

template <>
struct std::hash<culvert::hbone::TunnelKey> {
  size_t operator()(const culvert::hbone::TunnelKey& key) const noexcept;
};
