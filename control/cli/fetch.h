// SPDX-License-Identifier: Apache-2.0
// One HTTP GET for a command: resolves, connects, reads the whole answer, with a deadline.
#pragma once

#include <string>

#include "net/async/task.h"
#include "net/base/duration.h"
#include "net/base/result.h"
#include "net/io/network.h"

namespace culvert::control {

inline constexpr size_t kFetchBytesMax = 512 * 1024 * 1024;  // a dump of the largest mesh

// `host_port` as "127.0.0.1:15000", "[::1]:15000" or "name:15000". An answer that is not 200 is an error.
async::Task<base::Result<std::string>> fetch(async::Loop& loop, io::Network& network, std::string host_port,
                                             std::string path,
                                             base::Duration timeout = std::chrono::seconds(10));

}  // namespace culvert::control
