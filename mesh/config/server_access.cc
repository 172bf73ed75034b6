// SPDX-License-Identifier: Apache-2.0
#include "mesh/config/server_access.h"

#include <utility>

#include "net/base/ip.h"

namespace culvert::config {

using base::Code;

base::Result<HostAndPort> parse_https_url(std::string_view url, std::string_view variable) {
  auto bad = [&](std::string_view why) {
    return base::fail(Code::kInvalid,
                      std::string(variable) + "=\"" + std::string(url) + "\": " + std::string(why));
  };
  constexpr std::string_view kScheme = "https://";
  if (!url.starts_with(kScheme)) return bad("only https:// is spoken");
  std::string_view rest = url.substr(kScheme.size());
  rest = rest.substr(0, rest.find('/'));
  HostAndPort out;
  if (rest.starts_with('[')) {
    size_t end = rest.find(']');
    if (end == std::string_view::npos) return bad("the bracket is not closed");
    out.host = std::string(rest.substr(1, end - 1));
    rest.remove_prefix(end + 1);
  } else {
    size_t colon = rest.find(':');
    out.host = std::string(rest.substr(0, colon));
    rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon);
  }
  if (out.host.empty()) return bad("no host");
  if (rest.empty()) return out;
  if (!rest.starts_with(':')) return bad("expected :port after the host");
  auto port = base::parse_port(rest.substr(1));
  if (!port || *port == 0) return bad("expected a port from 1 to 65535");
  out.port = *port;
  return out;
}

namespace {

constexpr char kSystemRoots[] = "/etc/ssl/certs/ca-certificates.crt";

std::string trimmed(const std::string& text) {
  constexpr std::string_view kBlank = " \t\r\n";
  size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

}  // namespace

std::function<base::Result<std::string>()> roots_reader(std::string source, FileReader files) {
  return [source = std::move(source), files = std::move(files)]() -> base::Result<std::string> {
    if (source.find("-----BEGIN") != std::string::npos) return source;
    auto text = files(source == "SYSTEM" ? std::string(kSystemRoots) : source);
    if (!text) return base::fail(std::move(text).error().wrap("trusted roots"));
    return text;
  };
}

std::function<base::Result<std::string>()> token_reader(std::string source, FileReader files) {
  return [source = std::move(source), files = std::move(files)]() -> base::Result<std::string> {
    if (source.empty()) return std::string();
    auto text = files(source);
    if (!text && text.error().code() == Code::kNotFound) {
      // A path that is gone must not be sent as a token.
      if (source.find('/') != std::string::npos) return base::fail(std::move(text).error().wrap("token"));
      return trimmed(source);
    }
    if (!text && source.size() > 255) return trimmed(source);  // too long for a path: the token itself
    if (!text) return base::fail(std::move(text).error().wrap("token"));
    std::string token = trimmed(*text);
    if (token.empty()) return base::fail(Code::kInvalid, "token: " + source + " is empty");
    return token;
  };
}

}  // namespace culvert::config
