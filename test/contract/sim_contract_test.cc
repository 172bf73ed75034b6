// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "test/contract/stream_contract.h"
#include "test/support/sim_loop.h"
#include "test/support/sim_network.h"

namespace culvert::test {
namespace {

class SimWorld final : public StreamWorld {
 public:
  SimWorld(size_t fragment_bytes, bool same_host) : network_(loop_, {.fragment_bytes = fragment_bytes}) {
    SimHost& a = network_.add_host("a", "node-1", {base::IpAddr::v4(10, 0, 0, 1)});
    SimHost& b = same_host ? a : network_.add_host("b", "node-2", {base::IpAddr::v4(10, 0, 0, 2)});
    dialer_ = network_.process(a);
    server_ = network_.process(b);
    base::Result<std::unique_ptr<io::Listener>> listener = server_->listen({b.ips().front(), 80}, {});
    REQUIRE(listener.has_value());
    listener_ = std::move(*listener);
  }
  async::Loop& loop() override { return loop_; }
  async::Task<io::StreamPair> connect() override {
    base::Result<std::unique_ptr<io::ByteStream>> first = co_await dialer_->dial(
        listener_->local_addr(), {}, async::Deadline::in(loop_, std::chrono::seconds(1)));
    CULVERT_CHECK(first.has_value());
    base::Result<io::Accepted> second = co_await io::accept(*listener_);
    CULVERT_CHECK(second.has_value());
    co_return io::StreamPair{std::move(*first), std::move(second->stream)};
  }
  void run(async::Task<void> body) override {
    loop_.run(std::move(body), std::chrono::seconds(20));
    CHECK(network_.open_streams() == 0);
  }

 private:
  SimLoop loop_;
  SimNetwork network_;
  std::unique_ptr<io::Network> dialer_, server_;
  std::unique_ptr<io::Listener> listener_;
};

}  // namespace

TEST_CASE("a simulated connection keeps the stream contract", "[contract]") {
  size_t fragment = GENERATE(1, 31, 16 * 1024);
  bool same_host = GENERATE(false, true);
  stream_contract([&] { return std::make_unique<SimWorld>(fragment, same_host); });
}

}  // namespace culvert::test
