// SPDX-License-Identifier: Apache-2.0
// HttpServer: HTTP/1.1 for admin, metrics, health and the plugin's Unix socket (spec ztunnel section 10).
// Whole messages within limits; not for users' traffic.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "net/async/loop.h"
#include "net/async/scope.h"
#include "net/base/log.h"
#include "net/io/network.h"
#include "net/wire/h1.h"

namespace culvert::conn {

struct HttpRequest {
  std::string method;
  std::string path;   // before '?', percent-decoding is left to the handler
  std::string query;  // after '?', raw
  wire::Headers headers;
  std::string body;
  base::SocketAddr peer;  // 0.0.0.0:0 on a Unix socket

  const std::string* header(std::string_view name) const { return wire::find_header(headers, name); }
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "text/plain; charset=utf-8";
  wire::Headers headers;
};

// The value of `name` in a query string, percent-decoded; nullopt if absent. "a&b=" gives "" for both.
std::optional<std::string> query_value(std::string_view query, std::string_view name);

// A handler runs to its end even if its client goes away; it is cancelled only when the server is destroyed.
using HttpHandler = std::function<async::Task<HttpResponse>(HttpRequest)>;

struct HttpServerOptions {
  base::Duration head_timeout = std::chrono::seconds(2);    // from the first byte of a request to its end
  base::Duration idle_timeout = std::chrono::seconds(60);   // between requests
  base::Duration write_timeout = std::chrono::seconds(30);  // for the client to take one answer
  base::Duration linger_timeout = std::chrono::seconds(1);  // for the client to read our last words and close
  size_t connections_max = 1024;                            // more are closed at once
  wire::H1Limits limits;
};

class HttpServer {
 public:
  HttpServer(async::Loop& loop, std::unique_ptr<io::Listener> listener, HttpHandler handler, base::Log& log,
             HttpServerOptions options = {});

  // Accepts until drained or destroyed.
  async::Task<void> run();
  // Stops accepting; idle connections close, requests under way are answered and then theirs. run() ends
  // after that.
  void drain();
  base::SocketAddr local_addr() const { return local_; }

  // Longer bodies are compressed for clients that take gzip.
  static constexpr size_t kCompressBytesMin = 1024;

 private:
  async::Task<void> serve(std::unique_ptr<io::ByteStream> stream);
  async::Task<bool> wait_for_request(io::ByteStream& stream);
  async::Task<base::Result<bool>> serve_one(io::ByteStream& stream, wire::H1Parser& parser,
                                            base::ByteQueue& rest);

  async::Loop& loop_;
  std::unique_ptr<io::Listener> listener_;
  base::SocketAddr local_;
  HttpHandler handler_;
  base::Log& log_;
  HttpServerOptions options_;
  async::Event draining_;
  std::set<async::Event*> idle_;  // what wakes each connection that waits for a request
  async::Scope acceptor_;
  async::Scope connections_;
  async::Task<void> accept_loop();
};

}  // namespace culvert::conn
