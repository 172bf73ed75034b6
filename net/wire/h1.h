// SPDX-License-Identifier: Apache-2.0
// H1Parser: whole HTTP/1 messages within limits, gathered from http1.h and as strict as that. For the small
// servers and clients (admin, metrics, health, plugin socket).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "net/base/bytes.h"
#include "net/base/result.h"
#include "net/wire/http1.h"

namespace culvert::wire {

struct H1Message {
  std::string method;  // requests
  std::string target;  // requests: path and query
  int status = 0;      // responses
  Headers headers;     // names in lower case, values trimmed; without what belongs to one hop
  std::string body;
  bool keep_alive = false;
};

struct H1Limits {
  size_t head_bytes_max = 8 * 1024;
  size_t body_bytes_max = 1024 * 1024;
};

class H1Parser {
 public:
  enum class Kind : unsigned char { kRequest, kResponse };
  H1Parser(Kind kind, H1Limits limits);
  ~H1Parser();
  H1Parser(const H1Parser&) = delete;

  // Takes bytes up to the end of one message; how many were taken. Once complete() it takes nothing until
  // take_message(). Errors: kInvalid (malformed), kExhausted (above a limit).
  base::Result<size_t> feed(base::ByteView bytes);
  // The peer closed: ends a response that is delimited by that.
  base::Result<> feed_end();
  bool complete() const;
  // Something of a message has arrived.
  bool started() const;
  H1Message take_message();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The start line, the headers, Content-Length and Connection, and the body.
std::string h1_response(int status, Headers headers, std::string_view body, bool keep_alive);
// `localhost` where the headers name no host. kInvalid: what HTTP/1 cannot carry.
base::Result<std::string> h1_request(std::string_view method, std::string_view target, Headers headers,
                                     std::string_view body);

}  // namespace culvert::wire
