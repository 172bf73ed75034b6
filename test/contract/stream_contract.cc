// SPDX-License-Identifier: Apache-2.0
#include "test/contract/stream_contract.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "net/async/scope.h"
#include "net/async/wait.h"
#include "net/io/stream_wait.h"

namespace culvert::test {

namespace {

using async::Task;
using base::Result;
using io::ByteStream;
using io::IoResult;

// More than any transport may hold under way between two ends that do not read.
constexpr size_t kUnderWayMax = 64 * 1024 * 1024;

uint8_t pattern(size_t at, uint8_t salt) { return static_cast<uint8_t>((at * 131 + (at >> 8) * 7) ^ salt); }

// Counts what it is told; `inside` shows whether that came from within a call.
class Told final : public io::Waiter {
 public:
  explicit Told(async::Loop& loop) : event(loop) {}
  void on_ready() override {
    ++count;
    if (calling) ++inside;
    event.set();
  }
  async::Event event;
  int count = 0;
  int inside = 0;
  bool calling = false;
};

// Lets the loop turn a few times: enough for anything that is due without the clock moving much.
Task<void> settle(async::Loop& loop) { co_await async::sleep_for(loop, std::chrono::milliseconds(30)); }

Task<void> send_pattern(ByteStream& stream, size_t total, uint8_t salt, bool& ok) {
  std::vector<uint8_t> block(40'000);
  for (size_t sent = 0; sent < total;) {
    size_t count = std::min(block.size(), total - sent);
    for (size_t i = 0; i < count; ++i) block[i] = pattern(sent + i, salt);
    Result<> put = co_await io::write_all(stream, base::ByteView(block).first(count));
    if (!put) co_return;
    sent += count;
  }
  stream.shutdown_write();
  Result<> flushed = co_await io::flush(stream);
  ok = flushed.has_value();
}

// Reads to the end; whether exactly `total` bytes of the pattern came and then eof.
Task<void> expect_pattern(ByteStream& stream, size_t total, uint8_t salt, bool& ok) {
  std::vector<uint8_t> block(17'001);
  size_t seen = 0;
  for (;;) {
    Result<size_t> got = co_await io::read_some(stream, block);
    if (!got) co_return;
    if (*got == 0) break;
    for (size_t i = 0; i < *got; ++i) {
      if (block[i] != pattern(seen + i, salt)) co_return;
    }
    seen += *got;
  }
  ok = seen == total;
}

Task<std::string> read_text(ByteStream& stream, size_t count) {
  std::string text(count, '\0');
  Result<> got = co_await io::read_exact(stream, {reinterpret_cast<uint8_t*>(text.data()), count});
  co_return got ? text : "error: " + got.error().message();
}

// Reads and drops until eof or an error; which of the two.
Task<IoResult::Kind> read_to_the_end(ByteStream& stream) {
  std::vector<uint8_t> block(4096);
  for (;;) {
    Result<size_t> got = co_await io::read_some(stream, block);
    if (!got) co_return IoResult::Kind::kError;
    if (*got == 0) co_return IoResult::Kind::kEof;
  }
}

Task<void> moves_bytes_both_ways(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  constexpr size_t kTotal = 400'000;
  bool sent_there = false, sent_back = false, came_there = false, came_back = false;
  async::Scope scope(world.loop());
  scope.spawn(send_pattern(*pair.first, kTotal, 0x11, sent_there));
  scope.spawn(send_pattern(*pair.second, kTotal + 1, 0x77, sent_back));
  scope.spawn(expect_pattern(*pair.second, kTotal, 0x11, came_there));
  scope.spawn(expect_pattern(*pair.first, kTotal + 1, 0x77, came_back));
  co_await scope.idle().wait();
  CHECK(sent_there);
  CHECK(sent_back);
  CHECK(came_there);
  CHECK(came_back);
}

Task<void> gathers_vectors(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  std::string parts[3] = {"one ", "", "three"};
  size_t at = 0;
  std::string all = "one three";
  while (at < all.size()) {
    // What is left of the parts, from byte `at`.
    std::vector<iovec> vectors;
    size_t skip = at;
    for (std::string& part : parts) {
      size_t here = std::min(skip, part.size());
      skip -= here;
      if (at > 0 && here == part.size()) continue;
      vectors.push_back({part.data() + here, part.size() - here});
    }
    IoResult put = pair.first->try_write(vectors);
    if (put.ok()) {
      at += put.count();
    } else {
      CHECK(put.is_would_block());
      if (!put.is_would_block()) co_return;
      co_await io::writable(*pair.first);
    }
  }
  CHECK(co_await read_text(*pair.second, all.size()) == all);
}

Task<void> tells_only_from_the_loop(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  co_await settle(world.loop());
  uint8_t byte[8];
  CHECK(pair.second->try_read(byte).is_would_block());
  Told told(world.loop());
  told.calling = true;
  pair.second->arm_read(&told);
  CHECK(pair.first->try_write(base::as_bytes("x")).ok());
  told.calling = false;
  co_await told.event.wait();
  // One arm, one call; a wake-up may be false, so the byte is waited for properly.
  co_await settle(world.loop());
  CHECK(told.count == 1);
  CHECK(co_await read_text(*pair.second, 1) == "x");
  // Bytes that are there before the arm are told as well, and not from within arm_read.
  CHECK((co_await io::write_all(*pair.first, base::as_bytes("y"))).has_value());
  co_await settle(world.loop());
  told.event.reset();
  told.calling = true;
  pair.second->arm_read(&told);
  told.calling = false;
  co_await told.event.wait();
  CHECK(told.count == 2);
  CHECK(told.inside == 0);
  CHECK(co_await read_text(*pair.second, 1) == "y");
  told.calling = true;
  told.event.reset();
  pair.first->arm_write(&told);
  told.calling = false;
  co_await told.event.wait();
  CHECK(told.count == 3);
  CHECK(told.inside == 0);
}

Task<void> disarms_and_replaces(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  co_await settle(world.loop());
  uint8_t byte[8];
  CHECK(pair.second->try_read(byte).is_would_block());
  Told first(world.loop()), second(world.loop());
  pair.second->arm_read(&first);
  pair.second->arm_read(&second);
  CHECK((co_await io::write_all(*pair.first, base::as_bytes("a"))).has_value());
  co_await second.event.wait();
  CHECK(first.count == 0);
  CHECK(second.count == 1);
  pair.second->arm_read(&first);
  pair.second->arm_read(nullptr);
  pair.second->arm_write(&first);
  pair.second->arm_write(nullptr);
  co_await settle(world.loop());
  CHECK(first.count == 0);
  // A stream that dies with a waiter tells nobody.
  pair.second->arm_read(&first);
  pair.second->arm_write(&first);
  pair.second.reset();
  co_await settle(world.loop());
  CHECK(first.count == 0);
}

Task<void> closes_by_halves(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  CHECK((co_await io::write_all(*pair.first, base::as_bytes("last words"))).has_value());
  pair.first->shutdown_write();
  pair.first->shutdown_write();
  IoResult late = pair.first->try_write(base::as_bytes("z"));
  CHECK(late.is_error());
  if (late.is_error()) CHECK(late.error().code() == base::Code::kClosed);
  (void)co_await io::flush(*pair.first);
  CHECK(co_await read_text(*pair.second, 10) == "last words");
  uint8_t byte[8];
  for (int i = 0; i < 3; ++i) {
    Result<size_t> end = co_await io::read_some(*pair.second, byte);
    CHECK(end.has_value());
    if (end) CHECK(*end == 0);
  }
  // The other direction does not notice, not even much later.
  co_await settle(world.loop());
  CHECK((co_await io::write_all(*pair.second, base::as_bytes("still here"))).has_value());
  CHECK(co_await read_text(*pair.first, 10) == "still here");
  pair.second->shutdown_write();
  Result<size_t> end = co_await io::read_some(*pair.first, byte);
  CHECK(end.has_value());
  if (end) CHECK(*end == 0);
  (void)co_await io::flush(*pair.second);
  CHECK(pair.second->flushed());
}

Task<void> end_wakes_a_waiting_reader(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  co_await settle(world.loop());
  IoResult::Kind kind = IoResult::Kind::kBytes;
  async::Scope scope(world.loop());
  auto wait = [](ByteStream& stream, IoResult::Kind& out) -> Task<void> {
    out = co_await read_to_the_end(stream);
  };
  scope.spawn(wait(*pair.second, kind));
  co_await settle(world.loop());
  CHECK(scope.running() == 1);
  pair.first->shutdown_write();
  co_await scope.idle().wait();
  CHECK(kind == IoResult::Kind::kEof);
}

Task<void> holds_back_a_fast_writer(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  std::vector<uint8_t> block(64 * 1024);
  base::ByteView rest;
  size_t written = 0;
  // Until it stays blocked although the loop turned: only then is everything under way full.
  int blocked = 0;
  while (blocked < 2 && written < kUnderWayMax) {
    if (rest.empty()) {
      for (size_t i = 0; i < block.size(); ++i) block[i] = pattern(written + i, 5);
      rest = block;
    }
    IoResult put = pair.first->try_write(rest);
    if (put.ok()) {
      blocked = 0;
      written += put.count();
      rest = rest.subspan(put.count());
      continue;
    }
    CHECK(put.is_would_block());
    if (!put.is_would_block()) co_return;
    ++blocked;
    co_await settle(world.loop());
  }
  CHECK(written < kUnderWayMax);
  Told told(world.loop());
  pair.first->arm_write(&told);
  co_await settle(world.loop());
  CHECK(told.count == 0);
  bool came = false;
  async::Scope scope(world.loop());
  scope.spawn(expect_pattern(*pair.second, written, 5, came));
  co_await told.event.wait();
  CHECK(told.count == 1);
  pair.first->shutdown_write();
  co_await scope.idle().wait();
  CHECK(came);
}

Task<void> abort_ends_both_sides(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  co_await settle(world.loop());
  uint8_t byte[8];
  CHECK(pair.first->try_read(byte).is_would_block());
  Told told(world.loop());
  pair.first->arm_read(&told);
  told.calling = true;
  pair.first->abort();
  pair.first->abort();
  told.calling = false;
  CHECK(told.inside == 0);
  CHECK(pair.first->try_read(byte).is_error());
  CHECK(pair.first->try_write(base::as_bytes("x")).is_error());
  pair.first->shutdown_write();
  CHECK(pair.first->flushed());
  co_await told.event.wait();
  CHECK(told.count == 1);
  (void)co_await read_to_the_end(*pair.second);
  // Its writes fail too, at the latest when the loop has turned.
  bool failed = false;
  for (int i = 0; i < 50 && !failed; ++i) {
    IoResult put = pair.second->try_write(base::as_bytes("x"));
    failed = put.is_error();
    co_await settle(world.loop());
  }
  CHECK(failed);
}

Task<void> a_dead_peer_is_noticed(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  pair.first.reset();
  (void)co_await read_to_the_end(*pair.second);
  bool failed = false;
  for (int i = 0; i < 50 && !failed; ++i) {
    failed = pair.second->try_write(base::as_bytes("x")).is_error();
    co_await settle(world.loop());
  }
  CHECK(failed);
}

// Destroys the stream from inside the call that tells.
class Suicide final : public io::Waiter {
 public:
  Suicide(async::Loop& loop, std::unique_ptr<ByteStream>& stream) : event(loop), stream_(stream) {}
  void on_ready() override {
    stream_.reset();
    event.set();
  }
  async::Event event;

 private:
  std::unique_ptr<ByteStream>& stream_;
};

Task<void> may_die_while_telling(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  co_await settle(world.loop());
  Suicide reader(world.loop(), pair.second);
  pair.second->arm_read(&reader);
  pair.second->arm_write(nullptr);
  (void)pair.first->try_write(base::as_bytes("x"));
  co_await reader.event.wait();
  CHECK(pair.second == nullptr);
  Suicide writer(world.loop(), pair.first);
  pair.first->arm_write(&writer);
  co_await writer.event.wait();
  CHECK(pair.first == nullptr);
  co_await settle(world.loop());
}

Task<void> a_waiting_task_may_be_dropped(StreamWorld& world) {
  io::StreamPair pair = co_await world.connect();
  co_await settle(world.loop());
  std::string text;
  {
    auto wait = [](ByteStream& stream) -> Task<void> { (void)co_await read_text(stream, 5); };
    async::Scope scope(world.loop());
    scope.spawn(wait(*pair.second));
    co_await settle(world.loop());
    CHECK(scope.running() == 1);
  }
  CHECK((co_await io::write_all(*pair.first, base::as_bytes("hello"))).has_value());
  CHECK(co_await read_text(*pair.second, 5) == "hello");
}

}  // namespace

void stream_contract(const MakeStreamWorld& make_world) {
  std::unique_ptr<StreamWorld> world = make_world();
  SECTION("moves bytes both ways at once, in order, then eof") { world->run(moves_bytes_both_ways(*world)); }
  SECTION("writes a prefix of several vectors") { world->run(gathers_vectors(*world)); }
  SECTION("tells readiness once per arm, and only from the loop") {
    world->run(tells_only_from_the_loop(*world));
  }
  SECTION("disarms, replaces, and is silent once dead") { world->run(disarms_and_replaces(*world)); }
  SECTION("closes by halves") { world->run(closes_by_halves(*world)); }
  SECTION("eof wakes a waiting reader") { world->run(end_wakes_a_waiting_reader(*world)); }
  SECTION("holds back a fast writer, then tells it to go on") {
    world->run(holds_back_a_fast_writer(*world));
  }
  SECTION("abort ends both sides") { world->run(abort_ends_both_sides(*world)); }
  SECTION("a dead peer is noticed") { world->run(a_dead_peer_is_noticed(*world)); }
  SECTION("may be destroyed by the call that tells") { world->run(may_die_while_telling(*world)); }
  SECTION("a waiting task may be dropped") { world->run(a_waiting_task_may_be_dropped(*world)); }
}

}  // namespace culvert::test
