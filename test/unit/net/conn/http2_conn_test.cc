// SPDX-License-Identifier: Apache-2.0
// Http2Conn over a MemoryPipe with virtual time: CONNECT streams as ByteStreams, windows, drain, keepalive,
// ends (spec ztunnel sections 3.2 to 3.6).
#include "net/conn/http2_conn.h"

#include <catch2/catch.hpp>

#include "net/io/memory_pipe.h"
#include "test/support/sim_loop.h"

namespace culvert::conn {
namespace {

using namespace std::chrono_literals;
using test::SimLoop;
using Role = wire::H2Engine::Role;

const wire::Headers kConnect = {{":method", "CONNECT"}, {":authority", "10.0.0.1:80"}};

// A client and a server connection joined by a pipe.
struct World {
  SimLoop loop;
  std::unique_ptr<Http2Conn> client;
  std::unique_ptr<Http2Conn> server;
  explicit World(io::MemoryPipeOptions pipe = {}, Http2Options client_options = {},
                 Http2Options server_options = {}) {
    auto [a, b] = io::make_memory_pipe(loop, pipe);
    client = std::make_unique<Http2Conn>(loop, std::move(a), Role::kClient, client_options);
    server = std::make_unique<Http2Conn>(loop, std::move(b), Role::kServer, server_options);
  }
  // A tunnel: both ends of one CONNECT stream, answered with 200.
  std::pair<std::unique_ptr<Http2Stream>, std::unique_ptr<Http2Stream>> tunnel() {
    auto near = client->open(kConnect);
    REQUIRE(near);
    auto far = loop.run(server->accept());
    REQUIRE(far);
    far->respond({{":status", "200"}}, false);
    REQUIRE(loop.run((*near)->response(async::Deadline::in(loop, 5s))));
    return {std::move(*near), std::move(far)};
  }
};

async::Task<std::string> read_all(io::ByteStream& stream) {
  std::string out;
  std::array<uint8_t, 5000> buffer;
  for (;;) {
    auto got = co_await io::read_some(stream, buffer);
    if (!got) co_return out + "!" + std::string(base::to_string(got.error().code()));
    if (*got == 0) co_return out;
    out += base::as_text(base::ByteView(buffer).first(*got));
  }
}

async::Task<base::Result<>> write_and_finish(io::ByteStream& stream, std::string text) {
  auto written = co_await io::write_all(stream, base::as_bytes(text));
  stream.shutdown_write();
  co_return written;
}

}  // namespace

TEST_CASE("a CONNECT stream carries bytes and half-closes both ways, at every fragment size") {
  World world({.fragment_bytes = GENERATE(size_t{1}, size_t{2}, size_t{3}, size_t{7}, size_t{16}, size_t{31},
                                          size_t{1} << 20)});
  auto [near, far] = world.tunnel();
  std::string up(50'000, 'u');
  std::string down(30'000, 'd');
  async::Scope scope(world.loop);
  auto send = [](io::ByteStream& stream, std::string text) -> async::Task<void> {
    (void)co_await write_and_finish(stream, std::move(text));
  };
  scope.spawn(send(*near, up));
  CHECK(world.loop.run(read_all(*far)) == up);
  // Our direction is closed; the other one still flows.
  scope.spawn(send(*far, down));
  CHECK(world.loop.run(read_all(*near)) == down);
  CHECK(near->flushed());
  near.reset();
  far.reset();
  world.loop.run_ready();
  CHECK(world.client->active_streams() == 0);
  CHECK(world.server->active_streams() == 0);
}

TEST_CASE("memory behind a slow reader is bounded") {
  Http2Options server;
  server.settings.stream_window_bytes = 100'000;
  server.settings.connection_window_bytes = 300'000;
  World world({}, {}, server);
  auto [near, far] = world.tunnel();
  size_t put = 0;
  std::string chunk(64 * 1024, 'x');
  for (int i = 0; i < 100; ++i) {
    auto wrote = near->try_write(base::as_bytes(chunk));
    if (wrote.ok()) put += wrote.count();
    world.loop.run_ready();
  }
  CHECK(near->try_write(base::as_bytes(chunk)).is_would_block());
  CHECK(put <= 100'000 + 256 * 1024);
  // A neighbour on the same connection is not held up.
  auto [near2, far2] = world.tunnel();
  CHECK(world.loop.run(write_and_finish(*near2, "hello")));
  CHECK(world.loop.run(read_all(*far2)) == "hello");
}

TEST_CASE("streams that nobody reads take nothing from their neighbours") {
  Http2Options server;
  server.settings.stream_window_bytes = 100'000;
  server.settings.connection_window_bytes = 300'000;
  server.held_bytes_max = 1'500'000;
  World world({}, {}, server);
  std::vector<decltype(world.tunnel())> stuck;
  auto stall = [&](int count) {
    std::string chunk(200'000, 'x');
    for (int i = 0; i < count; ++i) {
      stuck.push_back(world.tunnel());
      (void)stuck.back().first->try_write(base::as_bytes(chunk));
      world.loop.run_ready();
    }
  };
  stall(10);
  auto [near, far] = world.tunnel();
  std::string text(500'000, 'y');
  async::Scope scope(world.loop);
  auto send = [](io::ByteStream& stream, std::string all) -> async::Task<void> {
    (void)co_await write_and_finish(stream, std::move(all));
  };
  scope.spawn(send(*near, text));
  CHECK(world.loop.run(read_all(*far)) == text);
  // Above what is held for them the connection waits: the neighbour's bytes come once one of them is read.
  stall(10);
  auto [late, late_far] = world.tunnel();
  scope.spawn(send(*late, text));
  world.loop.run_ready();
  size_t came = 0;
  std::string into(1'000'000, ' ');
  auto take = [&](io::ByteStream& from) {
    io::IoResult got = from.try_read({reinterpret_cast<uint8_t*>(into.data()), into.size()});
    world.loop.run_ready();
    return got.ok() ? got.count() : 0;
  };
  for (size_t got = 1; got > 0; came += got) got = take(*late_far);
  CHECK(came < text.size());
  for (auto& [one, other] : stuck) {
    while (take(*other) > 0) {
    }
  }
  for (size_t got = 1; got > 0; came += got) got = take(*late_far);
  CHECK(came == text.size());
}

TEST_CASE("a fast stream's window grows, a slow one's does not, and all of them to a bound") {
  Http2Options server, client;
  server.set_windows(4 * 1024 * 1024, 16 * 1024 * 1024);
  server.widened_bytes_max = 5 * 1024 * 1024;
  client.stream_send_bytes_max = 64 * 1024 * 1024;
  World world({}, client, server);
  std::vector<std::pair<std::unique_ptr<Http2Stream>, std::unique_ptr<Http2Stream>>> open;
  // What waits for a reader who stops is the window.
  auto window = [&](base::Duration pause) {
    open.push_back(world.tunnel());
    Http2Stream& far = *open.back().second;
    std::string all(40'000'000, 'x'), into(128 * 1024, ' ');
    (void)open.back().first->try_write(base::as_bytes(all));
    for (size_t read = 0; read < 20'000'000;) {
      world.loop.run_for(pause);
      io::IoResult got = far.try_read({reinterpret_cast<uint8_t*>(into.data()), into.size()});
      if (got.ok()) read += got.count();
    }
    world.loop.run_for(10s);
    std::vector<iovec> parts(4096);
    size_t held = 0;
    for (int i = 0, count = far.peek(parts.data(), 4096); i < count; ++i)
      held += parts[static_cast<size_t>(i)].iov_len;
    return held;
  };
  CHECK(window(1s) == 256 * 1024);
  size_t fast = window(1ms);
  CHECK(fast > 2 * 1024 * 1024);
  CHECK(fast <= 4 * 1024 * 1024);
  CHECK(window(1ms) <= 1024 * 1024);
  open.clear();
  world.loop.run_for(1s);
  CHECK(window(1ms) > 2 * 1024 * 1024);
}

TEST_CASE("a reset with NO_ERROR or CANCEL is a clean end, any other code is an error") {
  World world;
  auto [near, far] = world.tunnel();
  uint32_t code = GENERATE(uint32_t{wire::kH2NoError}, uint32_t{wire::kH2Cancel},
                           uint32_t{wire::kH2InternalError}, uint32_t{wire::kH2RefusedStream});
  far->reset(code);
  world.loop.run_ready();
  std::string got = world.loop.run(read_all(*near));
  bool clean = code == wire::kH2NoError || code == wire::kH2Cancel;
  CHECK((got.empty()) == clean);
  CHECK(near->reset_code() == code);
  CHECK(near->try_write(base::as_bytes("x")).is_error());
}

TEST_CASE("dropping an unfinished stream cancels it for the peer") {
  World world;
  auto [near, far] = world.tunnel();
  near.reset();
  world.loop.run_ready();
  CHECK(far->reset_code() == wire::kH2Cancel);
  CHECK(world.client->active_streams() == 0);
  CHECK(world.server->active_streams() == 0);
}

TEST_CASE("a stream outlives its connection: what came is readable, then an error", "[P8]") {
  World world;
  auto [near, far] = world.tunnel();
  REQUIRE(world.loop.run(io::write_all(*far, base::as_bytes("partial"))));
  world.loop.run_ready();
  std::array<uint8_t, 3> three;
  REQUIRE(near->try_read(three).count() == 3);
  world.client.reset();
  world.server.reset();
  world.loop.run_ready();
  CHECK(world.loop.run(read_all(*near)) == "tial!" + std::string(base::to_string(base::Code::kReset)));
  CHECK(near->try_write(base::as_bytes("x")).is_error());
  CHECK(near->flushed());
}

TEST_CASE("a drained server finishes its streams, takes no more, and closes", "[P4]") {
  World world;
  auto [near, far] = world.tunnel();
  world.server->drain();
  world.loop.run_for(2s);
  CHECK(!world.client->usable());
  CHECK(world.client->goaway_received());
  CHECK(!world.client->open(kConnect));
  CHECK(!world.server->closed().is_set());
  REQUIRE(world.loop.run(write_and_finish(*near, "still")));
  CHECK(world.loop.run(read_all(*far)) == "still");
  REQUIRE(world.loop.run(write_and_finish(*far, "alive")));
  CHECK(world.loop.run(read_all(*near)) == "alive");
  world.loop.run_for(2s);
  CHECK(world.server->closed().is_set());
  CHECK(!world.server->error());
  CHECK(world.client->closed().is_set());
}

TEST_CASE("keepalive: an answering peer lives on, a silent one ends the connection and says why") {
  Http2Options options;
  options.ping_every = 10s;
  options.ping_timeout = 20s;
  SECTION("answering") {
    World world({}, options, {});
    auto [near, far] = world.tunnel();
    world.loop.run_for(std::chrono::hours(1));
    CHECK(world.client->usable());
  }
  SECTION("silent") {
    SimLoop loop;
    auto [a, b] = io::make_memory_pipe(loop, {});
    options.settings_timeout = std::chrono::hours(1);
    Http2Conn client(loop, std::move(a), Role::kClient, options);
    loop.run_for(29s);
    CHECK(!client.closed().is_set());
    loop.run_for(2s);
    REQUIRE(client.closed().is_set());
    REQUIRE(client.error());
    CHECK(client.error()->code() == base::Code::kTimeout);
  }
}

TEST_CASE("a peer that never speaks HTTP/2 is let go after the settings deadline") {
  SimLoop loop;
  auto [a, b] = io::make_memory_pipe(loop, {});
  Http2Conn server(loop, std::move(b), Role::kServer, {});
  loop.run_for(11s);
  REQUIRE(server.closed().is_set());
  CHECK(server.error()->code() == base::Code::kTimeout);
  CHECK(!loop.run(server.accept()));
}

TEST_CASE("a peer that breaks the protocol ends the connection at once, with its streams") {
  SimLoop loop;
  auto [a, b] = io::make_memory_pipe(loop, {});
  Http2Conn server(loop, std::move(b), Role::kServer, {});
  // Preface, SETTINGS, a request (":method: GET", ":scheme: http", ":path: /", ":authority: a"), then DATA on
  // stream 0.
  constexpr std::string_view kBytes(
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
      "\0\0\0\4\0\0\0\0\0"
      "\0\0\6\1\4\0\0\0\1\x82\x86\x84\x41\1a"
      "\0\0\1\0\0\0\0\0\0x",
      24 + 9 + 15 + 10);
  REQUIRE(loop.run(io::write_all(*a, base::as_bytes(kBytes))));
  auto stream = loop.run(server.accept(), 1s);
  loop.run_for(1s);
  REQUIRE(server.closed().is_set());
  REQUIRE(server.error());
  CHECK(server.error()->code() == base::Code::kProtocol);
  if (stream) CHECK(loop.run(read_all(*stream), 1s).starts_with("!"));
}

TEST_CASE("our own abort is no error of the peer") {
  World world;
  world.loop.run_ready();
  world.client->abort();
  world.loop.run_ready();
  CHECK(world.client->closed().is_set());
  CHECK(!world.client->error());
  CHECK(world.server->closed().is_set());
  CHECK(!world.server->error());
}

TEST_CASE("an answer that never comes is a timeout; a lost connection is told apart") {
  World world;
  auto near = world.client->open(kConnect);
  REQUIRE(near);
  auto answer = world.loop.run((*near)->response(async::Deadline::in(world.loop, 3s)));
  REQUIRE(!answer);
  CHECK(answer.error().code() == base::Code::kTimeout);
  world.server.reset();
  world.loop.run_ready();
  auto lost = world.loop.run((*near)->response(async::Deadline::in(world.loop, 3s)));
  REQUIRE(!lost);
  CHECK(lost.error().code() == base::Code::kClosed);
}

TEST_CASE("an elephant does not starve a mouse on its connection") {
  World world({.buffer_bytes = 32 * 1024});
  auto [elephant, elephant_far] = world.tunnel();
  auto [mouse, mouse_far] = world.tunnel();
  async::Scope scope(world.loop);
  auto pour = [](io::ByteStream& stream) -> async::Task<void> {
    (void)co_await io::write_all(stream, base::as_bytes(std::string(16 << 20, 'e')));
  };
  auto drink = [](io::ByteStream& stream, size_t& total) -> async::Task<void> {
    std::array<uint8_t, 16384> buffer;
    for (;;) {
      auto got = co_await io::read_some(stream, buffer);
      if (!got || *got == 0) co_return;
      total += *got;
    }
  };
  size_t drunk = 0;
  scope.spawn(pour(*elephant));
  scope.spawn(drink(*elephant_far, drunk));
  // SimLoop runs all that is due before it looks up, so the mouse itself notes how far the elephant had come.
  auto squeak = [](io::ByteStream& from, io::ByteStream& to,
                   const size_t& elephant_bytes) -> async::Task<size_t> {
    (void)co_await write_and_finish(from, "squeak");
    std::string heard = co_await read_all(to);
    co_return heard == "squeak" ? elephant_bytes : std::string::npos;
  };
  CHECK(world.loop.run(squeak(*mouse, *mouse_far, drunk)) < (4u << 20));
  CHECK(drunk == (16u << 20));
}

}  // namespace culvert::conn
