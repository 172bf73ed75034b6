// SPDX-License-Identifier: Apache-2.0
#include "control/serve/http_get.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "net/conn/http_client.h"
#include "net/conn/tls_dial.h"
#include "net/conn/tls_stream.h"

namespace culvert::control {

using base::Code;
using base::fail;
using base::Result;

namespace {

constexpr uint16_t kHttpPort = 80, kHttpsPort = 443;

bool is_blocked(const base::IpAddr& ip, const std::vector<base::Cidr>& blocked) {
  return std::any_of(blocked.begin(), blocked.end(),
                     [&ip](const base::Cidr& range) { return range.contains(ip); });
}

// Those of a name that may be dialled.
async::Task<Result<std::vector<base::IpAddr>>> addresses_of(io::Network& network, std::string host,
                                                            const HttpGetOptions& options,
                                                            async::Deadline deadline) {
  std::vector<base::IpAddr> found;
  if (auto literal = base::IpAddr::parse(host)) {
    found.push_back(*literal);
  } else {
    Result<std::vector<base::IpAddr>> resolved = co_await network.resolve(host, deadline);
    if (!resolved) co_return fail(std::move(resolved).error());
    found = std::move(*resolved);
  }
  if (found.empty()) co_return fail(Code::kNotFound, host + " has no address");
  std::erase_if(found, [&](const base::IpAddr& ip) { return is_blocked(ip, options.blocked); });
  if (found.empty()) {
    co_return fail(Code::kDenied, host + " is at a blocked address (loopback, link-local, --jwks-blocked)");
  }
  co_return found;
}

async::Task<Result<std::unique_ptr<io::ByteStream>>> connect(async::Loop& loop, io::Network& network,
                                                             const Url& url, const HttpGetOptions& options,
                                                             async::Deadline deadline) {
  Result<std::vector<base::IpAddr>> ips = co_await addresses_of(network, url.host, options, deadline);
  if (!ips) co_return fail(std::move(ips).error());
  std::unique_ptr<io::ByteStream> stream;
  base::Error why(Code::kNotFound, "no address");
  for (size_t i = 0; i < ips->size() && !stream; ++i) {
    // One that is silent leaves time for the others.
    auto share = (deadline.when() - loop.now()) / static_cast<int64_t>(ips->size() - i);
    Result<std::unique_ptr<io::ByteStream>> tcp =
        co_await network.dial({(*ips)[i], url.port}, io::DialOptions{}, async::Deadline::in(loop, share));
    if (tcp) {
      stream = std::move(*tcp);
    } else {
      why = std::move(tcp).error();
    }
  }
  if (!stream) co_return fail(std::move(why));
  if (!url.tls) co_return stream;
  Result<std::string> pem = options.read_roots();
  if (!pem) co_return fail(std::move(pem).error());
  Result<wire::TlsIdentityRef> roots = wire::TlsIdentity::roots_only(*pem);
  if (!roots) co_return fail(std::move(roots).error().wrap("trusted roots"));
  conn::TlsClientOptions tls;
  tls.identity = std::move(*roots);
  tls.tls.alpn = {"http/1.1"};
  tls.tls.tls12 = true;
  tls.tls.server_names = {url.host};
  Result<std::unique_ptr<conn::TlsStream>> secured =
      co_await conn::tls_connect(loop, std::move(stream), std::move(tls), deadline);
  if (!secured) co_return fail(std::move(secured).error().wrap("TLS with " + url.host));
  co_return std::unique_ptr<io::ByteStream>(std::move(*secured));
}

// Where a redirect leads; only within the host, and never out of TLS.
Result<Url> follow(const Url& from, const wire::H1Message& answer) {
  const std::string* location = wire::find_header(answer.headers, "location");
  if (!location) return fail(Code::kInvalid, fmt::format("answers {} without a location", answer.status));
  Url to = from;
  if (location->starts_with('/') && !location->starts_with("//")) {
    Result<Url> made = parse_url(Url{from.tls, from.host, from.port, ""}.to_string() + *location);
    if (!made) return fail(std::move(made).error().wrap("redirect"));
    to = std::move(*made);
  } else {
    Result<Url> made = parse_url(*location);
    if (!made) return fail(std::move(made).error().wrap("redirect"));
    to = std::move(*made);
  }
  if (to.host != from.host) return fail(Code::kDenied, "redirects to another host, " + to.host);
  if (from.tls && !to.tls) return fail(Code::kDenied, "redirects from https to http");
  return to;
}

}  // namespace

std::string Url::to_string() const {
  uint16_t usual = tls ? kHttpsPort : kHttpPort;
  bool v6 = host.find(':') != std::string::npos;
  std::string shown = v6 ? "[" + host + "]" : host;
  if (port != usual) shown += ":" + std::to_string(port);
  return (tls ? "https://" : "http://") + shown + target;
}

Result<Url> parse_url(std::string_view text) {
  auto bad = [&](std::string_view why) {
    return fail(Code::kInvalid, fmt::format("URL \"{}\": {}", text, why));
  };
  constexpr size_t kBytesMax = 2048;
  if (text.size() > kBytesMax) return fail(Code::kInvalid, "URL: longer than 2048 bytes");
  bool printable = std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (!printable) return fail(Code::kInvalid, "URL: only printable ASCII may stand in it");
  Url out;
  constexpr std::string_view kHttps = "https://", kHttp = "http://";
  out.tls = text.starts_with(kHttps);
  if (!out.tls && !text.starts_with(kHttp)) return bad("must begin with https:// or http://");
  std::string_view rest = text.substr(out.tls ? kHttps.size() : kHttp.size());
  rest = rest.substr(0, rest.find('#'));
  size_t path = rest.find_first_of("/?");
  if (path != rest.npos) out.target = (rest[path] == '?' ? "/" : "") + std::string(rest.substr(path));
  rest = rest.substr(0, path);
  if (rest.find('@') != rest.npos) return bad("names a user, which is not sent");
  if (rest.starts_with('[')) {
    size_t end = rest.find(']');
    if (end == rest.npos) return bad("the bracket is not closed");
    out.host = rest.substr(1, end - 1);
    if (out.host.find(':') == out.host.npos || !base::IpAddr::parse(out.host))
      return bad("between brackets stands no IPv6 address");
    rest.remove_prefix(end + 1);
  } else {
    out.host = rest.substr(0, rest.find(':'));
    bool good = std::all_of(out.host.begin(), out.host.end(), [](unsigned char c) {
      return std::isalnum(c) || c == '-' || c == '_' || c == '.';
    });
    if (!good) return bad("the host has characters that no name has");
    rest.remove_prefix(out.host.size());
  }
  if (out.host.empty()) return bad("no host");
  out.port = out.tls ? kHttpsPort : kHttpPort;
  if (rest.empty()) return out;
  auto port = base::parse_port(rest.substr(1));
  if (rest.front() != ':' || !port || *port == 0) return bad("expected :port after the host");
  out.port = *port;
  return out;
}

std::vector<base::Cidr> HttpGetOptions::default_blocked() {
  std::vector<base::Cidr> out;
  for (const char* range : {"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/127", "fe80::/10"}) {
    out.push_back(base::Cidr::parse(range).value());
  }
  return out;
}

async::Task<Result<wire::H1Message>> http_get(async::Loop& loop, io::Network& network, Url url,
                                              const HttpGetOptions& options) {
  async::Deadline deadline = async::Deadline::in(loop, options.timeout);
  for (unsigned hop = 0; hop <= options.redirects_max; ++hop) {
    Result<std::unique_ptr<io::ByteStream>> stream = co_await connect(loop, network, url, options, deadline);
    if (!stream) co_return fail(std::move(stream).error());
    conn::HttpCall call;
    call.target = url.target;
    bool usual = url.port == (url.tls ? kHttpsPort : kHttpPort);
    std::string authority = conn::authority(url.host, url.port);
    if (usual) authority.resize(authority.rfind(':'));
    call.headers = {{"host", authority},
                    {"accept", "application/json"},
                    {"user-agent", options.user_agent},
                    {"connection", "close"}};
    wire::H1Limits limits;
    limits.head_bytes_max = 32 * 1024;
    limits.body_bytes_max = options.body_bytes_max;
    Result<wire::H1Message> answer =
        co_await conn::http_request(loop, **stream, std::move(call), limits, deadline);
    if (!answer) co_return fail(std::move(answer).error());
    if (answer->status == 200) co_return answer;
    if (answer->status != 301 && answer->status != 302 && answer->status != 303 && answer->status != 307 &&
        answer->status != 308) {
      co_return fail(Code::kUnavailable, fmt::format("answers {}", answer->status));
    }
    Result<Url> next = follow(url, *answer);
    if (!next) co_return fail(std::move(next).error());
    url = std::move(*next);
  }
  co_return fail(Code::kExhausted, fmt::format("redirects more than {} times", options.redirects_max));
}

}  // namespace culvert::control
