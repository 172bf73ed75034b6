// SPDX-License-Identifier: Apache-2.0
// CONNECT streams of one HTTP/2 connection keep the stream contract.
#include <catch2/catch.hpp>

#include "net/conn/http2_conn.h"
#include "net/io/memory_pipe.h"
#include "test/contract/stream_contract.h"
#include "test/support/sim_loop.h"

namespace culvert::test {
namespace {

class Http2World final : public StreamWorld {
 public:
  explicit Http2World(io::MemoryPipeOptions options) {
    auto [a, b] = io::make_memory_pipe(loop_, options);
    client_ = std::make_unique<conn::Http2Conn>(loop_, std::move(a), wire::H2Engine::Role::kClient,
                                                conn::Http2Options{});
    server_ = std::make_unique<conn::Http2Conn>(loop_, std::move(b), wire::H2Engine::Role::kServer,
                                                conn::Http2Options{});
  }
  async::Loop& loop() override { return loop_; }
  async::Task<io::StreamPair> connect() override {
    auto near = client_->open({{":method", "CONNECT"}, {":authority", "10.0.0.2:80"}});
    REQUIRE(near);
    std::unique_ptr<conn::Http2Stream> far = co_await server_->accept();
    REQUIRE(far);
    far->respond({{":status", "200"}}, false);
    auto answer = co_await (*near)->response(async::Deadline::in(loop_, std::chrono::seconds(5)));
    REQUIRE(answer);
    co_return io::StreamPair{std::move(*near), std::move(far)};
  }
  void run(async::Task<void> body) override { loop_.run(std::move(body), std::chrono::seconds(20)); }

 private:
  SimLoop loop_;
  std::unique_ptr<conn::Http2Conn> client_;
  std::unique_ptr<conn::Http2Conn> server_;
};

}  // namespace

TEST_CASE("an HTTP/2 CONNECT stream keeps the stream contract", "[contract]") {
  io::MemoryPipeOptions options;
  options.fragment_bytes =
      GENERATE(size_t{1}, size_t{2}, size_t{3}, size_t{7}, size_t{16}, size_t{31}, size_t{1'000'000});
  stream_contract([&] { return std::make_unique<Http2World>(options); });
}

}  // namespace culvert::test
