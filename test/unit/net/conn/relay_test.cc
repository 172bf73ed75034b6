// SPDX-License-Identifier: Apache-2.0
#include "net/conn/relay.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "net/async/scope.h"
#include "net/io/memory_pipe.h"
#include "net/io/stream_wait.h"
#include "test/support/sim_loop.h"

namespace culvert::conn {
namespace {

using async::Task;
using base::Result;
using io::ByteStream;

std::string pattern(size_t size, char salt) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>((i * 31 + (i >> 9)) ^ static_cast<size_t>(salt));
  return text;
}

Task<void> write_and_end(ByteStream& stream, std::string text) {
  (void)co_await io::write_all(stream, base::as_bytes(text));
  stream.shutdown_write();
}

Task<void> read_to_end(ByteStream& stream, std::string& text, bool& eof) {
  std::vector<uint8_t> block(5000);
  for (;;) {
    Result<size_t> got = co_await io::read_some(stream, block);
    if (!got) co_return;
    if (*got == 0) break;
    text += base::as_text(base::ByteView(block).first(*got));
  }
  eof = true;
}

// client <-> [downstream RELAY upstream] <-> server
struct Rig {
  explicit Rig(io::MemoryPipeOptions options = {}, size_t buffer_bytes = 4096)
      : buffer(buffer_bytes), scope(loop) {
    std::tie(client, downstream) = io::make_memory_pipe(loop, options);
    std::tie(upstream, server) = io::make_memory_pipe(loop, options);
    relay = std::make_unique<Relay>(loop, buffer, *downstream, *upstream);
  }
  static Task<void> drive(Rig& rig) {
    Result<> result = co_await rig.relay->run();
    rig.outcome = result;
  }
  void start() { scope.spawn(drive(*this)); }

  test::SimLoop loop;
  RelayBuffer buffer;
  std::unique_ptr<ByteStream> client, downstream, upstream, server;
  std::unique_ptr<Relay> relay;
  std::optional<Result<>> outcome;
  async::Scope scope;
};

}  // namespace

TEST_CASE("a relay copies both ways with true half-close and counts", "[P12][Z3]") {
  size_t fragment = GENERATE(1, 2, 3, 7, 16, 31, 1'000'000);
  io::MemoryPipeOptions options;
  options.fragment_bytes = fragment;
  options.buffer_bytes = 3000;
  Rig rig(options);
  std::string up = pattern(50'000, 1), down = pattern(70'001, 2), got_up, got_down;
  bool up_eof = false, down_eof = false;
  rig.start();
  rig.scope.spawn(write_and_end(*rig.client, up));
  rig.scope.spawn(read_to_end(*rig.server, got_up, up_eof));
  rig.loop.run_for(std::chrono::seconds(1));
  CHECK(up_eof);
  CHECK(got_up == up);
  CHECK(!rig.outcome);  // the other half is still open
  CHECK(rig.relay->bytes_to_upstream() == up.size());
  CHECK(rig.relay->bytes_to_downstream() == 0);
  rig.loop.run_for(std::chrono::hours(1));
  CHECK(!rig.outcome);  // no half-close timer
  rig.scope.spawn(write_and_end(*rig.server, down));
  rig.scope.spawn(read_to_end(*rig.client, got_down, down_eof));
  rig.loop.run_for(std::chrono::seconds(1));
  CHECK(down_eof);
  CHECK(got_down == down);
  CHECK(rig.relay->bytes_to_downstream() == down.size());
  REQUIRE(rig.outcome);
  CHECK(rig.outcome->has_value());
}

TEST_CASE("a relay holds one read behind a slow reader", "[Z3]") {
  Rig rig({.buffer_bytes = 1000}, 4096);
  rig.start();
  std::string text = pattern(100'000, 9);
  rig.scope.spawn(write_and_end(*rig.client, text));
  rig.loop.run_for(std::chrono::seconds(10));
  // Only what fits between the relay and the silent server has been taken.
  CHECK(rig.relay->bytes_to_upstream() == 1000);
  std::string got;
  bool eof = false;
  rig.scope.spawn(read_to_end(*rig.server, got, eof));
  rig.loop.run_for(std::chrono::seconds(1));
  CHECK(eof);
  CHECK(got == text);
}

TEST_CASE("a reset is a clean end, and ends a relay whose other side stays silent", "[P12][Z4]") {
  Rig rig;
  rig.start();
  rig.loop.run_for(std::chrono::seconds(1));
  bool client_dies = GENERATE(true, false);
  (client_dies ? rig.client : rig.server)->abort();
  rig.loop.run_for(std::chrono::seconds(1));
  REQUIRE(rig.outcome);
  CHECK(rig.outcome->has_value());
  // The survivor sees an ordinary end: resets do not travel end to end.
  uint8_t byte;
  CHECK((client_dies ? rig.server : rig.client)->try_read({&byte, 1}).is_eof());
}

TEST_CASE("what a peer sent before it closed is still delivered", "[P12]") {
  Rig rig;
  rig.start();
  std::string text = pattern(9'000, 3), got;
  bool eof = false;
  auto put = rig.server->try_write(base::as_bytes(text));
  CHECK(put.count() == text.size());
  rig.server->shutdown_write();
  rig.scope.spawn(read_to_end(*rig.client, got, eof));
  rig.loop.run_for(std::chrono::seconds(1));
  CHECK(eof);
  CHECK(got == text);
  CHECK(!rig.outcome);
  rig.client.reset();  // gone without a word
  rig.loop.run_for(std::chrono::seconds(1));
  REQUIRE(rig.outcome);
  CHECK(rig.outcome->has_value());
}

TEST_CASE("an aborted relay ends both streams at once with the reason", "[Z4]") {
  Rig rig;
  rig.start();
  (void)rig.client->try_write(base::as_bytes("secret"));
  rig.relay->abort({base::Code::kDenied, "policy changed"});
  rig.loop.run_for(std::chrono::seconds(1));
  REQUIRE(rig.outcome);
  REQUIRE(!rig.outcome->has_value());
  CHECK(rig.outcome->error().code() == base::Code::kDenied);
  uint8_t byte;
  CHECK(rig.server->try_read({&byte, 1}).is_error());
  CHECK(rig.client->try_write(base::as_bytes("x")).is_error());
}

TEST_CASE("a relay may be dropped at any moment", "[Z4]") {
  for (int turns = 0; turns < 6; ++turns) {
    Rig rig({.fragment_bytes = 100, .buffer_bytes = 300});
    rig.start();
    rig.scope.spawn(write_and_end(*rig.client, pattern(2'000, 4)));
    rig.scope.spawn(write_and_end(*rig.server, pattern(2'000, 5)));
    if (turns > 0) rig.loop.run_for(std::chrono::milliseconds(turns));
    rig.scope.cancel_all();
    rig.loop.run_for(std::chrono::seconds(1));
    rig.relay.reset();
    rig.downstream.reset();
    rig.upstream.reset();
    rig.loop.run_for(std::chrono::seconds(1));
    CHECK(rig.loop.quiet());
  }
}

TEST_CASE("an elephant gives way to mice after its share of a turn", "[Z3]") {
  // The elephant's source never blocks; without a share per turn the mouse would wait for all of it.
  test::SimLoop loop;
  RelayBuffer buffer(64 * 1024);
  io::MemoryPipeOptions wide;
  wide.buffer_bytes = 8 * 1024 * 1024;
  auto [big_in, big_down] = io::make_memory_pipe(loop, wide);
  auto [big_up, big_out] = io::make_memory_pipe(loop, wide);
  std::string bulk = pattern(4 * 1024 * 1024, 6);
  CHECK(big_in->try_write(base::as_bytes(bulk)).count() == bulk.size());
  Relay elephant(loop, buffer, *big_down, *big_up);
  async::Scope scope(loop);
  auto run = [](Relay& relay) -> Task<void> { (void)co_await relay.run(); };
  scope.spawn(run(elephant));
  uint64_t seen = 0;
  async::CallJob look([&] { seen = elephant.bytes_to_upstream(); });
  loop.defer(look);
  loop.run_for(std::chrono::seconds(1));
  CHECK(seen <= Relay::kTurnBytesMax + buffer.span().size());
  CHECK(elephant.bytes_to_upstream() == bulk.size());
}

}  // namespace culvert::conn
