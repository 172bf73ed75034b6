// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/control_plane.h"

#include <utility>

#include "net/base/ip.h"

namespace culvert::ztunnel {

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

std::function<base::Result<std::string>()> roots_reader(std::string source, config::FileReader files) {
  return [source = std::move(source), files = std::move(files)]() -> base::Result<std::string> {
    if (source.find("-----BEGIN") != std::string::npos) return source;
    auto text = files(source == "SYSTEM" ? std::string(kSystemRoots) : source);
    if (!text) return base::fail(std::move(text).error().wrap("trusted roots"));
    return text;
  };
}

std::function<base::Result<std::string>()> token_reader(std::string source, config::FileReader files) {
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

base::Result<xds::XdsClientOptions> xds_options(const config::ZtunnelConfig& config,
                                                const config::FileReader& files) {
  auto address = parse_https_url(config.xds_address, "XDS_ADDRESS");
  if (!address) return base::fail(std::move(address).error());
  xds::XdsClientOptions options;
  options.host = std::move(address->host);
  options.port = address->port;
  options.alternative_host = config.alt_xds_hostname;
  options.tls12 = config.tls12_enabled;
  options.read_roots = roots_reader(config.xds_root_ca, files);
  options.read_token = token_reader(config.auth_token, files);
  options.cluster_id = config.cluster_id;
  options.headers.assign(config.xds_headers.begin(), config.xds_headers.end());
  options.delta.on_demand = config.xds_on_demand;
  options.delta.node.id = xds::ztunnel_node_id(config.instance_ip, config.pod_name, config.pod_namespace);
  auto& metadata = options.delta.node.metadata;
  metadata.push_back({"NAME", config.pod_name});
  metadata.push_back({"NAMESPACE", config.pod_namespace});
  metadata.push_back({"INSTANCE_IPS", config.instance_ip});
  metadata.push_back({"NODE_NAME", config.node_name});
  for (const auto& [key, value] : config.proxy_metadata) metadata.push_back({key, value});
  for (const auto& [key, value] : config.json_metadata) metadata.push_back({key, value, true});
  return options;
}

}  // namespace culvert::ztunnel
