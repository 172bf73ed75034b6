// SPDX-License-Identifier: Apache-2.0
// LocalHttp: the agent's small request-and-answer endpoints (/cmdadd, /log, /readyz, /metrics):
// one request per connection, bounded in size and time. Lives on the control loop.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/async/scope.h"
#include "net/base/log.h"
#include "net/io/network.h"

namespace culvert::cni {

struct LocalRequest {
  std::string method;
  std::string path;  // without the query
  std::string body;
};
struct LocalResponse {
  int status = 200;
  std::string body;
  std::string content_type = "text/plain; charset=utf-8";
};

// The request in `bytes`: nullopt while it is incomplete, an error if it never will be one.
base::Result<std::optional<LocalRequest>> parse_local_request(std::string_view bytes);

class LocalHttp {
 public:
  static constexpr size_t kHeadBytesMax = 16 * 1024;
  static constexpr size_t kBodyBytesMax = 1 << 20;
  static constexpr size_t kConnectionsMax = 256;
  static constexpr base::Duration kReadLimit = std::chrono::seconds(5);
  static constexpr base::Duration kAnswerLimit = std::chrono::seconds(15);

  using Handler = std::function<async::Task<LocalResponse>(LocalRequest)>;
  // `root_only`: refuse peers of a Unix socket that are not our own user (SO_PEERCRED).
  LocalHttp(async::Loop& loop, base::Log& log, Handler handler, bool root_only)
      : loop_(loop), log_(log), handler_(std::move(handler)), root_only_(root_only), scope_(loop) {}
  void start(std::unique_ptr<io::Listener> listener);

 private:
  static async::Task<void> accept_loop(LocalHttp& server, io::Listener& listener);
  static async::Task<void> serve(LocalHttp& server, std::unique_ptr<io::ByteStream> stream);
  static async::Task<base::Result<LocalRequest>> read_request(io::ByteStream& stream);
  static async::Task<base::Result<>> exchange(LocalHttp& server, io::ByteStream& stream);

  async::Loop& loop_;
  base::Log& log_;
  Handler handler_;
  bool root_only_;
  std::unique_ptr<io::Listener> listener_;
  async::Scope scope_;
};

}  // namespace culvert::cni
