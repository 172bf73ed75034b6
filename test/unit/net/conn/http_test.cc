// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <deque>
#include <string>

#include "net/async/scope.h"
#include "net/conn/http_client.h"
#include "net/conn/http_server.h"
#include "net/io/memory_pipe.h"
#include "net/io/stream_wait.h"
#include "test/support/sim_loop.h"

namespace culvert::conn {
namespace {

using async::Task;
using base::Result;

// Hands out what the test puts in.
class HandListener final : public io::Listener {
 public:
  explicit HandListener(async::Loop& loop) : job_([this] { tell(); }), loop_(loop) {}
  void put(std::unique_ptr<io::ByteStream> stream) {
    waiting_.push_back(std::move(stream));
    loop_.defer(job_);
  }
  Result<std::optional<io::Accepted>> try_accept() override {
    if (waiting_.empty()) return std::optional<io::Accepted>();
    io::Accepted accepted;
    accepted.stream = std::move(waiting_.front());
    waiting_.pop_front();
    return std::optional<io::Accepted>(std::move(accepted));
  }
  void arm_accept(io::Waiter* waiter) override {
    waiter_ = waiter;
    if (waiter && !waiting_.empty()) loop_.defer(job_);
  }
  base::SocketAddr local_addr() const override { return {}; }
  bool transparent() const override { return false; }

 private:
  void tell() {
    if (waiter_) std::exchange(waiter_, nullptr)->on_ready();
  }
  async::CallJob job_;
  async::Loop& loop_;
  io::Waiter* waiter_ = nullptr;
  std::deque<std::unique_ptr<io::ByteStream>> waiting_;
};

struct Rig {
  explicit Rig(HttpServerOptions options = {}, size_t fragment = 1'000'000) : scope(loop) {
    auto hand = std::make_unique<HandListener>(loop);
    listener = hand.get();
    pipe.fragment_bytes = fragment;
    pipe.buffer_bytes = 2000;
    server = std::make_unique<HttpServer>(loop, std::move(hand), answer, log, options);
    scope.spawn(drive(*this));
  }
  static Task<HttpResponse> answer(HttpRequest request) {
    HttpResponse response;
    if (request.path == "/big") {
      response.body = std::string(100'000, 'b');
    } else {
      response.body = request.method + " " + request.path + "?" + request.query + " " + request.body;
    }
    co_return response;
  }
  static Task<void> drive(Rig& rig) {
    co_await rig.server->run();
    rig.ended = true;
  }
  std::unique_ptr<io::ByteStream> connect() {
    auto [client, served] = io::make_memory_pipe(loop, pipe);
    listener->put(std::move(served));
    return std::move(client);
  }
  Result<wire::H1Message> ask(io::ByteStream& stream, HttpCall call) {
    return loop.run(
        http_request(loop, stream, std::move(call), {}, async::Deadline::in(loop, std::chrono::seconds(5))));
  }
  // Sends raw bytes, runs, gives what came back.
  std::string raw(io::ByteStream& stream, std::string_view bytes, base::Duration wait) {
    async::Scope sender(loop);
    sender.spawn(send(stream, std::string(bytes)));
    std::string got;
    base::TimePoint end = loop.now() + wait;
    do {
      loop.run_for(std::chrono::milliseconds(10));
      uint8_t block[4096];
      for (;;) {
        io::IoResult part = stream.try_read(block);
        if (!part.ok()) break;
        got.append(reinterpret_cast<char*>(block), part.count());
      }
    } while (loop.now() < end);
    return got;
  }
  static Task<void> send(io::ByteStream& stream, std::string bytes) {
    (void)co_await io::write_all(stream, base::as_bytes(bytes));
  }

  test::SimLoop loop;
  base::NullLog log;
  io::MemoryPipeOptions pipe;
  HandListener* listener = nullptr;
  std::unique_ptr<HttpServer> server;
  bool ended = false;
  async::Scope scope;
};

}  // namespace

TEST_CASE("requests and answers, whole and in fragments, several on one connection") {
  Rig rig({}, GENERATE(1, 2, 3, 7, 16, 31, 1'000'000));
  std::unique_ptr<io::ByteStream> client = rig.connect();
  for (int i = 0; i < 3; ++i) {
    Result<wire::H1Message> answer = rig.ask(
        *client, {.method = "POST", .target = "/a/b?x=1", .headers = {{"host", "h"}}, .body = "hello"});
    REQUIRE(answer.has_value());
    CHECK(answer->status == 200);
    CHECK(answer->body == "POST /a/b?x=1 hello");
  }
  Result<wire::H1Message> big = rig.ask(*client, {.target = "/big", .headers = {{"host", "h"}}});
  REQUIRE(big.has_value());
  CHECK(big->body.size() == 100'000);
}

TEST_CASE("malformed and oversized requests are refused and the connection ends") {
  Rig rig;
  std::unique_ptr<io::ByteStream> client = rig.connect();
  std::string got;
  SECTION("nonsense") {
    got = rig.raw(*client, "\x16\x03\x01 not http at all\r\n\r\n", std::chrono::seconds(2));
    CHECK(got.starts_with("HTTP/1.1 400 "));
  }
  SECTION("a head above the limit") {
    got = rig.raw(*client, "GET / HTTP/1.1\r\nx: " + std::string(20'000, 'x') + "\r\n\r\n",
                  std::chrono::seconds(2));
    CHECK(got.starts_with("HTTP/1.1 413 "));
  }
  SECTION("two lengths that disagree") {
    got = rig.raw(*client,
                  "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
                  std::chrono::seconds(2));
    CHECK(got.starts_with("HTTP/1.1 400 "));
  }
  SECTION("a request that does not end in time") {
    got = rig.raw(*client, "GET / HTTP/1.1\r\nhost: h\r\n", std::chrono::seconds(4));
    CHECK(got.starts_with("HTTP/1.1 408 "));
  }
  uint8_t byte;
  CHECK(!client->try_read({&byte, 1}).is_would_block());
}

TEST_CASE("a drain closes what is idle and answers what runs") {
  Rig rig;
  std::unique_ptr<io::ByteStream> idle = rig.connect();
  std::unique_ptr<io::ByteStream> busy = rig.connect();
  CHECK(rig.ask(*idle, {.headers = {{"host", "h"}}}).has_value());
  (void)busy->try_write(base::as_bytes("GET /x HTTP/1.1\r\n"));
  rig.loop.run_for(std::chrono::milliseconds(100));
  rig.server->drain();
  std::string got = rig.raw(*busy, "host: h\r\n\r\n", std::chrono::milliseconds(200));
  CHECK(got.find("GET /x? ") != std::string::npos);
  CHECK(got.find("connection: close") != std::string::npos);
  idle->shutdown_write();
  busy->shutdown_write();
  rig.loop.run_for(std::chrono::milliseconds(100));
  CHECK(rig.ended);
}

TEST_CASE("a client that never reads its answer is let go") {
  Rig rig;
  std::unique_ptr<io::ByteStream> client = rig.connect();
  (void)client->try_write(base::as_bytes("GET /big HTTP/1.1\r\nhost: h\r\n\r\n"));
  rig.loop.run_for(std::chrono::seconds(5));
  rig.server->drain();
  rig.loop.run_for(std::chrono::seconds(40));
  CHECK(rig.ended);
}

TEST_CASE("query values are decoded") {
  CHECK(query_value("a=1&b=x%2fy+z&c", "b") == "x/y z");
  CHECK(query_value("a=1&b", "b") == "");
  CHECK(query_value("a=%zz%4", "a") == "%zz%4");
  CHECK(!query_value("", "a"));
}

}  // namespace culvert::conn
