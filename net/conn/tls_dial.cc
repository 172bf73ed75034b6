// SPDX-License-Identifier: Apache-2.0
#include "net/conn/tls_dial.h"

#include "net/conn/tls_stream.h"

namespace culvert::conn {

using base::fail;
using base::Result;

namespace {

// An address written as such needs no resolver, which may be down or know no such family.
async::Task<Result<std::vector<base::IpAddr>>> addresses_of(io::Network& network, std::string host,
                                                            async::Deadline deadline) {
  if (auto literal = base::IpAddr::parse(host)) co_return std::vector<base::IpAddr>{*literal};
  Result<std::vector<base::IpAddr>> found = co_await network.resolve(std::move(host), deadline);
  co_return found;
}

}  // namespace

std::string authority(const std::string& host, uint16_t port) {
  bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

async::Task<Result<std::unique_ptr<io::ByteStream>>> tls_dial(async::Loop& loop, io::Network& network,
                                                              TlsServer server, uint64_t attempt,
                                                              async::Deadline deadline) {
  Result<std::vector<base::IpAddr>> ips = co_await addresses_of(network, server.host, deadline);
  if (!ips) co_return fail(std::move(ips).error());
  if (ips->empty()) co_return fail(base::Code::kNotFound, server.host + " has no address");
  base::SocketAddr address{(*ips)[attempt % ips->size()], server.port};
  io::DialOptions socket;
  socket.keepalive = io::Keepalive{std::chrono::seconds(300), std::chrono::seconds(75), 9};
  async::Deadline connect_by = deadline.earlier(async::Deadline::in(loop, server.connect_timeout));
  Result<std::unique_ptr<io::ByteStream>> tcp = co_await network.dial(address, socket, connect_by);
  if (!tcp) co_return fail(std::move(tcp).error());
  TlsClientOptions options;
  options.identity = std::move(server.trust);
  options.tls.tls12 = server.tls12;
  options.tls.server_names = {server.host};
  if (!server.alternative_host.empty()) options.tls.server_names.push_back(server.alternative_host);
  Result<std::unique_ptr<TlsStream>> tls =
      co_await tls_connect(loop, std::move(*tcp), std::move(options), deadline);
  if (!tls) co_return fail(std::move(tls).error().wrap("TLS with " + address.to_string()));
  if ((*tls)->alpn() != "h2") {
    co_return fail(base::Code::kTls, "the server at " + address.to_string() + " does not speak HTTP/2");
  }
  co_return std::unique_ptr<io::ByteStream>(std::move(*tls));
}

}  // namespace culvert::conn
