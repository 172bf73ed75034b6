// SPDX-License-Identifier: Apache-2.0
// How the configuration becomes the options of the xDS and CA clients (spec apis section 3.2, 3.7, 4.1).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "mesh/config/ztunnel_config.h"
#include "mesh/xds/xds_client.h"
#include "net/base/result.h"

namespace culvert::ztunnel {

struct HostAndPort {
  std::string host;
  uint16_t port = 443;
};
// "https://host:port", "https://[::1]:15012"; only https.
base::Result<HostAndPort> parse_https_url(std::string_view url, std::string_view variable);

// `source`: a path, PEM text, or SYSTEM. Read again at every call.
std::function<base::Result<std::string>()> roots_reader(std::string source, config::FileReader files);
// `source`: a path, a token, or "" (no token). Read again and trimmed at every call; an empty file is an
// error.
std::function<base::Result<std::string>()> token_reader(std::string source, config::FileReader files);

base::Result<xds::XdsClientOptions> xds_options(const config::ZtunnelConfig& config,
                                                const config::FileReader& files);

}  // namespace culvert::ztunnel
