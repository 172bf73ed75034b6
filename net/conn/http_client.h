// SPDX-License-Identifier: Apache-2.0
// One HTTP/1.1 request on a fresh stream; the whole answer within limits.
#pragma once

#include <string>

#include "net/async/deadline.h"
#include "net/async/loop.h"
#include "net/io/stream.h"
#include "net/wire/h1.h"

namespace culvert::conn {

struct HttpCall {
  std::string method = "GET";
  std::string target = "/";
  wire::Headers headers;  // `localhost` if it names no host
  std::string body;
};

async::Task<base::Result<wire::H1Message>> http_request(async::Loop& loop, io::ByteStream& stream,
                                                        HttpCall call, wire::H1Limits limits,
                                                        async::Deadline deadline);

}  // namespace culvert::conn
