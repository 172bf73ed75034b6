// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "net/io/memory_pipe.h"
#include "test/contract/stream_contract.h"
#include "test/support/sim_loop.h"

namespace culvert::test {
namespace {

class PipeWorld final : public StreamWorld {
 public:
  explicit PipeWorld(io::MemoryPipeOptions options) : options_(options) {}
  async::Loop& loop() override { return loop_; }
  async::Task<io::StreamPair> connect() override { co_return io::make_memory_pipe(loop_, options_); }
  void run(async::Task<void> body) override { loop_.run(std::move(body), std::chrono::seconds(20)); }

 private:
  SimLoop loop_;
  io::MemoryPipeOptions options_;
};

}  // namespace

TEST_CASE("a memory pipe keeps the stream contract", "[contract]") {
  size_t fragment = GENERATE(1, 2, 3, 7, 16, 31, 1'000'000);
  io::MemoryPipeOptions options;
  options.fragment_bytes = fragment;
  stream_contract([&] { return std::make_unique<PipeWorld>(options); });
}

}  // namespace culvert::test
