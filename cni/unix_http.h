// SPDX-License-Identifier: Apache-2.0
// One blocking HTTP/1.1 POST over a Unix stream socket, for the short-lived plugin process.
#pragma once

#include <string>

#include "cni/plugin.h"
#include "net/base/duration.h"
#include "net/base/result.h"

namespace culvert::cni {

// `limit` bounds the whole exchange. The answer's body is cut at 1 MiB.
base::Result<HttpAnswer> post_unix(const std::string& socket_path, const std::string& target,
                                   const std::string& body, base::Duration limit);

// Status and body of a complete or cut answer.
base::Result<HttpAnswer> parse_http_answer(std::string_view bytes);

}  // namespace culvert::cni
