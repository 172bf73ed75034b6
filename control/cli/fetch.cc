// SPDX-License-Identifier: Apache-2.0
#include "control/cli/fetch.h"

#include <fmt/format.h>

#include "net/conn/http_client.h"

namespace culvert::control {

using base::Code;
using base::fail;
using base::Result;

namespace {

async::Task<Result<std::string>> get(async::Loop& loop, io::Network& network, std::string host_port,
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
    if (!answer) co_return fail(std::move(answer).error().wrap("ask " + host_port));
    if (answer->status != 200) {
      co_return fail(Code::kUnavailable,
                     fmt::format("{} answered {} to {}", host_port, answer->status, path));
    }
    co_return std::move(answer->body);
  }
  co_return fail(std::move(last));
}

}  // namespace

async::Task<Result<std::string>> fetch(async::Loop& loop, io::Network& network, std::string host_port,
                                       std::string path, base::Duration timeout) {
  async::Deadline deadline = async::Deadline::in(loop, timeout);
  co_return co_await get(loop, network, std::move(host_port), std::move(path), deadline);
}

}  // namespace culvert::control
