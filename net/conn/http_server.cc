// SPDX-License-Identifier: Apache-2.0
#include "net/conn/http_server.h"

#include <array>
#include <charconv>

#include "net/async/wait.h"
#include "net/wire/gzip.h"

namespace culvert::conn {

using base::Code;
using base::fail;
using base::Result;

namespace {

std::string percent_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr == text.data() + i + 3) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

int status_for(const base::Error& error) {
  if (error.code() == Code::kExhausted) return 413;
  if (error.code() == Code::kTimeout) return 408;
  return 400;
}

// A connection between two requests: woken by its stream or, through the set, by a drain.
class IdleConnection final : private io::Waiter {
 public:
  IdleConnection(std::set<async::Event*>& all, io::ByteStream& stream, async::Event& woken)
      : all_(all), stream_(stream), woken_(woken) {
    all_.insert(&woken_);
    stream_.arm_read(this);
  }
  ~IdleConnection() {
    stream_.arm_read(nullptr);
    all_.erase(&woken_);
  }

 private:
  void on_ready() override { woken_.set(); }
  std::set<async::Event*>& all_;
  io::ByteStream& stream_;
  async::Event& woken_;
};

async::Task<Result<>> read_and_drop(io::ByteStream& stream) {
  std::array<uint8_t, 4096> ignored;
  for (;;) {
    Result<size_t> got = co_await io::read_some(stream, ignored);
    if (!got || *got == 0) co_return Result<>{};
  }
}

// Gathers one request; false: the client closed between requests.
async::Task<Result<bool>> read_request(io::ByteStream& stream, wire::H1Parser& parser,
                                       base::ByteQueue& rest) {
  while (!parser.complete()) {
    while (!rest.empty() && !parser.complete()) {
      Result<size_t> used = parser.feed(rest.front());
      if (!used) co_return fail(std::move(used).error());
      rest.consume(*used);
    }
    if (parser.complete()) break;
    Result<size_t> got = co_await io::read_some(stream, rest.reserve(4096));
    rest.commit(got ? *got : 0);
    if (!got) co_return fail(std::move(got).error());
    if (*got == 0) {
      if (!parser.started()) co_return false;
      co_return fail(Code::kClosed, "the client closed inside a request");
    }
  }
  co_return true;
}

}  // namespace

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    size_t end = query.find('&');
    std::string_view pair = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view{} : query.substr(end + 1);
    size_t equals = pair.find('=');
    if (percent_decode(pair.substr(0, equals)) != name) continue;
    return equals == std::string_view::npos ? std::string() : percent_decode(pair.substr(equals + 1));
  }
  return std::nullopt;
}

HttpServer::HttpServer(async::Loop& loop, std::unique_ptr<io::Listener> listener, HttpHandler handler,
                       base::Log& log, HttpServerOptions options)
    : loop_(loop),
      listener_(std::move(listener)),
      local_(listener_->local_addr()),
      handler_(std::move(handler)),
      log_(log),
      options_(options),
      draining_(loop),
      acceptor_(loop),
      connections_(loop) {}

async::Task<void> HttpServer::accept_loop() {
  for (;;) {
    Result<io::Accepted> accepted = co_await io::accept(*listener_);
    if (!accepted) {
      log_.warn("http", accepted.error().message());
      continue;
    }
    if (connections_.running() >= options_.connections_max) continue;
    connections_.spawn(serve(std::move(accepted->stream)));
  }
}

async::Task<void> HttpServer::run() {
  acceptor_.spawn(accept_loop());
  co_await draining_.wait();
  acceptor_.cancel_all();
  co_await acceptor_.idle().wait();
  listener_.reset();
  co_await connections_.idle().wait();
}

void HttpServer::drain() {
  draining_.set();
  for (async::Event* waiting : idle_) waiting->set();
}

async::Task<void> HttpServer::serve(std::unique_ptr<io::ByteStream> stream) {
  wire::H1Parser parser(wire::H1Parser::Kind::kRequest, options_.limits);
  base::ByteQueue rest;
  for (;;) {
    Result<bool> again = co_await serve_one(*stream, parser, rest);
    if (again && *again) continue;
    if (!again && again.error().code() != Code::kReset && again.error().code() != Code::kClosed) {
      std::string refusal =
          wire::h1_response(status_for(again.error()), {{"content-type", "text/plain; charset=utf-8"}},
                            again.error().message() + "\n", false);
      (void)co_await async::with_deadline(loop_, async::Deadline::in(loop_, options_.write_timeout), "answer",
                                          io::write_all(*stream, base::as_bytes(refusal)));
    }
    break;
  }
  stream->shutdown_write();
  // A socket closed with unread input resets its peer, which may then never read our answer.
  (void)co_await async::with_deadline(loop_, async::Deadline::in(loop_, options_.linger_timeout), "close",
                                      read_and_drop(*stream));
}

// False: the client stayed idle for too long, or the server drains. An end is for read_request to find.
async::Task<bool> HttpServer::wait_for_request(io::ByteStream& stream) {
  if (draining_.is_set()) co_return false;
  async::Event woken(loop_);
  IdleConnection idle(idle_, stream, woken);
  bool in_time = co_await woken.wait(async::Deadline::in(loop_, options_.idle_timeout));
  co_return in_time && !draining_.is_set();
}

async::Task<Result<bool>> HttpServer::serve_one(io::ByteStream& stream, wire::H1Parser& parser,
                                                base::ByteQueue& rest) {
  if (rest.empty()) {
    // Between requests a client may be idle for longer than it may dawdle inside one.
    bool more = co_await wait_for_request(stream);
    if (!more) co_return false;
  }
  Result<bool> arrived =
      co_await async::with_deadline(loop_, async::Deadline::in(loop_, options_.head_timeout), "request",
                                    read_request(stream, parser, rest));
  if (!arrived) co_return fail(std::move(arrived).error());
  if (!*arrived) co_return false;
  wire::H1Message message = parser.take_message();
  bool keep_alive = message.keep_alive && !draining_.is_set();
  bool is_head = message.method == "HEAD";
  size_t question = message.target.find('?');
  HttpRequest request{message.method,
                      message.target.substr(0, question),
                      question == std::string::npos ? std::string() : message.target.substr(question + 1),
                      std::move(message.headers),
                      std::move(message.body),
                      stream.peer_addr()};
  const std::string* encodings = wire::find_header(request.headers, "accept-encoding");
  bool compress = encodings && wire::accepts_gzip(*encodings);
  HttpResponse response = co_await handler_(std::move(request));
  if (compress && response.body.size() >= kCompressBytesMin) {
    std::string packed = wire::gzip(response.body);
    if (!packed.empty()) {
      response.body = std::move(packed);
      response.headers.emplace_back("content-encoding", "gzip");
    }
  }
  response.headers.insert(response.headers.begin(), {"content-type", response.content_type});
  std::string bytes = wire::h1_response(response.status, std::move(response.headers), response.body,
                                        keep_alive && !draining_.is_set());
  if (is_head) bytes.resize(bytes.size() - response.body.size());
  Result<> written = co_await async::with_deadline(loop_, async::Deadline::in(loop_, options_.write_timeout),
                                                   "answer", io::write_all(stream, base::as_bytes(bytes)));
  if (!written) co_return false;  // there is nobody left to tell
  co_return keep_alive && !draining_.is_set();
}

}  // namespace culvert::conn
