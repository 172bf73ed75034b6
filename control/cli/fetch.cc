// SPDX-License-Identifier: Apache-2.0
#include "control/cli/fetch.h"

#include <fmt/format.h>

#include "net/async/scope.h"
#include "net/conn/http_client.h"
#include "net/uv/uv_network.h"

namespace culvert::control {

using base::Code;
using base::fail;
using base::Result;

namespace {

async::Task<Result<std::string>> get(uv::UvLoop& loop, io::Network& network, std::string host_port,
                                     std::string path, async::Deadline deadline) {
  std::vector<base::SocketAddr> targets;
  if (Result<base::SocketAddr> literal = base::SocketAddr::parse(host_port)) {
    targets.push_back(*literal);
  } else {
    size_t colon = host_port.rfind(':');
    Result<uint16_t> port = base::parse_port(colon == host_port.npos ? "" : host_port.substr(colon + 1));
    if (!port || colon == 0) co_return fail(Code::kInvalid, "\"" + host_port + "\" is not host:port");
    Result<std::vector<base::IpAddr>> found = co_await network.resolve(host_port.substr(0, colon), deadline);
    if (!found) co_return fail(std::move(found).error());
    for (const base::IpAddr& ip : *found) targets.push_back({ip, *port});
  }
  base::Error last(Code::kNotFound, "no address for " + host_port);
  for (const base::SocketAddr& target : targets) {
    Result<std::unique_ptr<io::ByteStream>> stream = co_await network.dial(target, {}, deadline);
    if (!stream) {
      last = std::move(stream).error();
      continue;
    }
    conn::HttpCall call{"GET", path, {{"host", host_port}, {"accept", "application/json"}}, ""};
    wire::H1Limits limits;
    limits.body_bytes_max = kFetchBytesMax;
    Result<wire::H1Message> answer =
        co_await conn::http_request(loop, **stream, std::move(call), limits, deadline);
    if (!answer) co_return fail(std::move(answer).error());
    if (answer->status != 200) {
      co_return fail(Code::kUnavailable, fmt::format("{} answered {}", path, answer->status));
    }
    co_return std::move(answer->body);
  }
  co_return fail(std::move(last));
}

async::Task<void> run(uv::UvLoop& loop, async::Task<Result<std::string>> task, Result<std::string>& out) {
  out = co_await std::move(task);
  loop.stop();
}

}  // namespace

Result<std::string> fetch(const std::string& host_port, const std::string& path, base::Duration timeout) {
  uv::UvLoop loop;
  Result<std::unique_ptr<uv::UvNetwork>> network = uv::UvNetwork::create(loop);
  if (!network) return fail(std::move(network).error());
  Result<std::string> out;
  async::Scope scope(loop);
  scope.spawn(run(loop, get(loop, **network, host_port, path, async::Deadline::in(loop, timeout)), out));
  loop.run();
  if (!out) return fail(std::move(out).error().wrap("ask " + host_port));
  return out;
}

}  // namespace culvert::control
