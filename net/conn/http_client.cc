// SPDX-License-Identifier: Apache-2.0
#include "net/conn/http_client.h"

#include "net/async/wait.h"

namespace culvert::conn {

using base::fail;
using base::Result;

namespace {

async::Task<Result<wire::H1Message>> converse(io::ByteStream& stream, std::string request,
                                              wire::H1Limits limits) {
  Result<> sent = co_await io::write_all(stream, base::as_bytes(request));
  if (!sent) co_return fail(std::move(sent).error());
  wire::H1Parser parser(wire::H1Parser::Kind::kResponse, limits);
  base::ByteQueue received;
  while (!parser.complete()) {
    Result<size_t> got = co_await io::read_some(stream, received.reserve(4096));
    received.commit(got ? *got : 0);
    if (!got) co_return fail(std::move(got).error());
    if (*got == 0) {
      if (Result<> ended = parser.feed_end(); !ended) co_return fail(std::move(ended).error());
      break;
    }
    Result<size_t> used = parser.feed(received.front());
    if (!used) co_return fail(std::move(used).error());
    received.consume(*used);
  }
  co_return parser.take_message();
}

}  // namespace

async::Task<Result<wire::H1Message>> http_request(async::Loop& loop, io::ByteStream& stream, HttpCall call,
                                                  wire::H1Limits limits, async::Deadline deadline) {
  Result<std::string> request =
      wire::h1_request(call.method, call.target, std::move(call.headers), call.body);
  if (!request) co_return fail(std::move(request).error());
  co_return co_await async::with_deadline(loop, deadline, "http request",
                                          converse(stream, std::move(*request), limits));
}

}  // namespace culvert::conn
