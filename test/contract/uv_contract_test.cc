// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <catch2/catch.hpp>

#include "net/async/scope.h"
#include "net/async/wait.h"
#include "net/uv/uv_loop.h"
#include "net/uv/uv_network.h"
#include "test/contract/stream_contract.h"

namespace culvert::test {
namespace {

enum class Family { kV4, kV6, kUnix };

class UvWorld final : public StreamWorld {
 public:
  explicit UvWorld(Family family) : family_(family) {
    base::Result<std::unique_ptr<uv::UvNetwork>> network = uv::UvNetwork::create(loop_);
    REQUIRE(network.has_value());
    network_ = std::move(*network);
    base::Result<std::unique_ptr<io::Listener>> listener =
        family == Family::kUnix
            ? network_->listen_unix(path_, 0600)
            : network_->listen(
                  {family == Family::kV4 ? base::IpAddr::v4(127, 0, 0, 1) : *base::IpAddr::parse("::1"), 0},
                  {});
    REQUIRE(listener.has_value());
    listener_ = std::move(*listener);
  }
  async::Loop& loop() override { return loop_; }

  async::Task<io::StreamPair> connect() override {
    async::Deadline deadline = async::Deadline::in(loop_, std::chrono::seconds(5));
    base::Result<std::unique_ptr<io::ByteStream>> first =
        family_ == Family::kUnix ? co_await network_->dial_unix(path_, deadline)
                                 : co_await network_->dial(listener_->local_addr(), {}, deadline);
    CULVERT_CHECK(first.has_value());
    base::Result<io::Accepted> second = co_await io::accept(*listener_);
    CULVERT_CHECK(second.has_value());
    if (family_ != Family::kUnix) {
      CHECK((*first)->local_addr() == second->peer);
      CHECK((*first)->peer_addr() == second->local);
      CHECK(second->original_destination == second->local);
    }
    co_return io::StreamPair{std::move(*first), std::move(second->stream)};
  }

  void run(async::Task<void> body) override {
    bool ended = false;
    async::CallTimer too_late([this] { loop_.stop(); });
    loop_.arm(too_late, loop_.now() + std::chrono::seconds(20));
    async::Scope scope(loop_);
    scope.spawn(drive(loop_, std::move(body), ended));
    if (!ended) loop_.run();
    CHECK(ended);
  }

 private:
  static async::Task<void> drive(uv::UvLoop& loop, async::Task<void> body, bool& ended) {
    co_await body;
    ended = true;
    loop.stop();
  }

  Family family_;
  // An abstract address, unique in this process: sections run one after the other.
  std::string path_ = "@culvert-contract-" + std::to_string(::getpid());
  uv::UvLoop loop_;
  std::unique_ptr<uv::UvNetwork> network_;
  std::unique_ptr<io::Listener> listener_;
};

}  // namespace

TEST_CASE("TCP over IPv4 keeps the stream contract", "[contract]") {
  stream_contract([] { return std::make_unique<UvWorld>(Family::kV4); });
}
TEST_CASE("TCP over IPv6 keeps the stream contract", "[contract]") {
  stream_contract([] { return std::make_unique<UvWorld>(Family::kV6); });
}
TEST_CASE("a Unix socket keeps the stream contract", "[contract]") {
  stream_contract([] { return std::make_unique<UvWorld>(Family::kUnix); });
}

}  // namespace culvert::test
