// SPDX-License-Identifier: Apache-2.0
// HTTP/1.x connections for users' traffic: drivers of net/wire/http1.h over a ByteStream (waypoint spec
// sections 7.2 to 7.6). One exchange at a time; pipelined requests wait in order and unread. An idle
// connection holds no buffer.
//
// A stream may outlive its connection object: dropping the connection breaks the stream.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/async/loop.h"
#include "net/base/rng.h"
#include "net/conn/http_stream.h"

namespace culvert::conn {

struct Http1Options {
  wire::Http1Limits limits;
  size_t send_bytes_max = 256 * 1024;                       // queued before writes would block
  base::Duration stall_timeout = std::chrono::seconds(60);  // a full send buffer without progress; 0: none
  // server
  std::string scheme = "http";  // where the target does not say
  base::Duration head_timeout =
      std::chrono::seconds(60);                         // from the first byte of a head to its end; 0: none
  base::Duration idle_timeout = std::chrono::hours(1);  // between requests; 0: none
  base::Duration linger_timeout = std::chrono::seconds(1);  // for the client to read our last words
  // What is left of a request's body after its answer is read and dropped up to this, else the connection
  // ends.
  size_t unread_body_bytes_max = 64 * 1024;
  uint64_t requests_max = 0;  // then `Connection: close`; 0: no limit
  // A client that closes its sending side before its answer has come has gone: true as Envoy and nginx see
  // it.
  bool half_close_is_gone = true;
};

class Http1ServerCore;
class Http1ClientCore;

class Http1ServerConn {
 public:
  Http1ServerConn(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, Http1Options options);
  ~Http1ServerConn();
  Http1ServerConn(const Http1ServerConn&) = delete;

  // The next request once the one before is over, or null once no more will come. A request that cannot be
  // accepted comes as well, with a fault() to answer.
  async::Task<std::unique_ptr<HttpStream>> accept();
  // Idle: closes. In an exchange: its answer says `Connection: close`.
  void drain();
  void abort();
  // Set once the connection has ended; `error()` is empty for a clean end.
  async::Event& closed();
  const std::optional<base::Error>& error() const;

 private:
  std::shared_ptr<Http1ServerCore> core_;
};

class Http1ClientConn {
 public:
  Http1ClientConn(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, base::Rng rng,
                  Http1Options options);
  ~Http1ClientConn();
  Http1ClientConn(const Http1ClientConn&) = delete;

  // One at a time. kExhausted while an exchange is under way, kRefused once reusable() is false, kInvalid for
  // headers that HTTP/1 cannot carry.
  base::Result<std::unique_ptr<HttpStream>> open(wire::Headers headers, bool end_stream = false);
  // Idle and good for another exchange: the last answer was read to its end, the request was sent to its end,
  // neither side asked to close, and nothing unasked for has arrived.
  bool reusable() const;
  bool busy() const;
  // Requests opened so far.
  uint64_t requests() const;
  void abort();
  async::Event& closed();
  const std::optional<base::Error>& error() const;

 private:
  std::shared_ptr<Http1ClientCore> core_;
};

}  // namespace culvert::conn
