// SPDX-License-Identifier: Apache-2.0
// The exchanges of users' traffic keep the stream contract: in HTTP/1 as chunked bodies and as an upgrade, in
// HTTP/2 as bodies of a POST.
#include <catch2/catch.hpp>

#include "net/conn/http1_conn.h"
#include "net/conn/http2_conn.h"
#include "net/io/memory_pipe.h"
#include "test/contract/stream_contract.h"
#include "test/support/sim_loop.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;

class HttpWorld : public StreamWorld {
 public:
  async::Loop& loop() override { return loop_; }
  void run(async::Task<void> body) override { loop_.run(std::move(body), std::chrono::seconds(20)); }

 protected:
  // The far side answers 200 and both bodies are open.
  template <class Client, class Server>
  static async::Task<io::StreamPair> exchange(async::Loop& loop, Client& client, Server& server,
                                              wire::Headers request) {
    auto near = client.open(std::move(request));
    CULVERT_CHECK(near.has_value());
    std::unique_ptr<conn::HttpStream> far = co_await server.accept();
    CULVERT_CHECK(far != nullptr);
    far->respond({{":status", "200"}}, false);
    auto answer = co_await (*near)->response(async::Deadline::in(loop, 5s));
    CULVERT_CHECK(answer.has_value());
    co_return io::StreamPair{std::move(*near), std::move(far)};
  }
  SimLoop loop_;
};

const wire::Headers kPost = {{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}};
const wire::Headers kUpgrade = {{":method", "CONNECT"},
                                {":protocol", "websocket"},
                                {":scheme", "http"},
                                {":authority", "a"},
                                {":path", "/"}};

// One connection per exchange: they are used up.
class Http1World final : public HttpWorld {
 public:
  Http1World(io::MemoryPipeOptions options, wire::Headers request)
      : options_(options), request_(std::move(request)) {}
  async::Task<io::StreamPair> connect() override {
    auto [a, b] = io::make_memory_pipe(loop_, options_);
    clients_.push_back(
        std::make_unique<conn::Http1ClientConn>(loop_, std::move(a), base::Rng(1), conn::Http1Options{}));
    servers_.push_back(std::make_unique<conn::Http1ServerConn>(loop_, std::move(b), conn::Http1Options{}));
    return exchange(loop_, *clients_.back(), *servers_.back(), request_);
  }

 private:
  io::MemoryPipeOptions options_;
  wire::Headers request_;
  std::vector<std::unique_ptr<conn::Http1ClientConn>> clients_;
  std::vector<std::unique_ptr<conn::Http1ServerConn>> servers_;
};

class Http2World final : public HttpWorld {
 public:
  explicit Http2World(io::MemoryPipeOptions options) {
    auto [a, b] = io::make_memory_pipe(loop_, options);
    client_ = std::make_unique<conn::Http2Conn>(loop_, std::move(a), wire::H2Engine::Role::kClient,
                                                conn::Http2Options{});
    server_ = std::make_unique<conn::Http2Conn>(loop_, std::move(b), wire::H2Engine::Role::kServer,
                                                conn::Http2Options{});
  }
  async::Task<io::StreamPair> connect() override { return exchange(loop_, *client_, *server_, kPost); }

 private:
  std::unique_ptr<conn::Http2Conn> client_;
  std::unique_ptr<conn::Http2Conn> server_;
};

io::MemoryPipeOptions fragments() {
  io::MemoryPipeOptions options;
  options.fragment_bytes =
      GENERATE(size_t{1}, size_t{2}, size_t{3}, size_t{7}, size_t{16}, size_t{31}, size_t{1'000'000});
  return options;
}

}  // namespace

TEST_CASE("bodies of an HTTP/1 exchange keep the stream contract", "[contract]") {
  io::MemoryPipeOptions options = fragments();
  stream_contract([&] { return std::make_unique<Http1World>(options, kPost); });
}
TEST_CASE("an HTTP/1 upgrade keeps the stream contract", "[contract]") {
  io::MemoryPipeOptions options = fragments();
  stream_contract([&] { return std::make_unique<Http1World>(options, kUpgrade); });
}
TEST_CASE("bodies of an HTTP/2 exchange keep the stream contract", "[contract]") {
  io::MemoryPipeOptions options = fragments();
  stream_contract([&] { return std::make_unique<Http2World>(options); });
}

}  // namespace culvert::test
