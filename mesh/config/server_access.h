// SPDX-License-Identifier: Apache-2.0
// How a program reaches the control plane: the address, whom to trust, the token (spec ztunnel section 11).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "mesh/config/environment.h"
#include "net/base/result.h"

namespace culvert::config {

struct HostAndPort {
  std::string host;
  uint16_t port = 443;
};
// "https://host:port", "https://[::1]:15012"; only https.
base::Result<HostAndPort> parse_https_url(std::string_view url, std::string_view variable);

// `source`: a path, PEM text, or SYSTEM. Read again at every call.
std::function<base::Result<std::string>()> roots_reader(std::string source, FileReader files);
// `source`: a path, a token, or "" (no token). Read again and trimmed at every call; an empty file is an
// error.
std::function<base::Result<std::string>()> token_reader(std::string source, FileReader files);

}  // namespace culvert::config
