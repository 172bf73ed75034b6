// SPDX-License-Identifier: Apache-2.0
// Http2Conn with users' traffic: exchanges, informational answers, upgrades, limits, floods (waypoint spec
// sections 7.2 to 7.5), over a MemoryPipe with virtual time.
#include <catch2/catch.hpp>

#include "net/conn/http2_conn.h"
#include "net/io/memory_pipe.h"
#include "test/support/sim_loop.h"
#include "test/unit/net/wire/h2_frames.h"

namespace culvert::conn {
namespace {

using namespace std::chrono_literals;
using test::SimLoop;
using Role = wire::H2Engine::Role;
using Stream = std::unique_ptr<Http2Stream>;

const wire::Headers kGet = {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}};
const wire::Headers kPost = {{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}};
const wire::Headers kOk = {{":status", "200"}};

struct World {
  SimLoop loop;
  std::unique_ptr<Http2Conn> client;
  std::unique_ptr<Http2Conn> server;
  explicit World(Http2Options client_options = Http2Options::for_users_traffic(),
                 Http2Options server_options = Http2Options::for_users_traffic(),
                 io::MemoryPipeOptions pipe = {}) {
    auto [a, b] = io::make_memory_pipe(loop, pipe);
    client = std::make_unique<Http2Conn>(loop, std::move(a), Role::kClient, client_options);
    server = std::make_unique<Http2Conn>(loop, std::move(b), Role::kServer, server_options);
    loop.run_ready();
  }
  std::pair<Stream, Stream> exchange(const wire::Headers& request, bool end_stream = false) {
    auto near = client->open(request, end_stream);
    REQUIRE(near);
    Stream far = loop.run(server->accept());
    REQUIRE(far);
    return {std::move(*near), std::move(far)};
  }
  base::Result<wire::Headers> answer(HttpStream& stream) {
    return loop.run(stream.response(async::Deadline::in(loop, 5s)));
  }
};

// A server of ours and a peer played by hand.
struct RawWorld {
  SimLoop loop;
  std::unique_ptr<io::ByteStream> peer;
  std::unique_ptr<Http2Conn> server;
  explicit RawWorld(Http2Options options = Http2Options::for_users_traffic()) {
    auto [a, b] = io::make_memory_pipe(loop, {.buffer_bytes = 1 << 20});
    peer = std::move(a);
    server = std::make_unique<Http2Conn>(loop, std::move(b), Role::kServer, options);
    say(std::string(wire::frames::kPreface) + wire::frames::frame(wire::frames::kSettings, 0, 0));
  }
  void say(std::string_view bytes) {
    REQUIRE(peer->try_write(base::as_bytes(bytes)).count() == bytes.size());
    loop.run_ready();
  }
  std::vector<std::string> heard() {
    std::string out;
    std::array<uint8_t, 65536> buffer;
    for (;;) {
      loop.run_ready();
      io::IoResult got = peer->try_read(buffer);
      if (!got.ok()) return wire::frames::read_frames(out);
      out += base::as_text(base::ByteView(buffer).first(got.count()));
    }
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

io::IoResult put(io::ByteStream& stream, std::string_view text) {
  return stream.try_write(base::as_bytes(text));
}

}  // namespace

TEST_CASE("an exchange with informational answers, bodies, trailers both ways, and its counts", "[h2]") {
  World world;
  auto opened = world.client->open(kPost);
  REQUIRE(opened);
  Stream near = std::move(*opened);
  CHECK(!near->request_started());
  Stream far = world.loop.run(world.server->accept());
  CHECK(near->request_started());
  CHECK(far->version() == HttpVersion::k2);
  CHECK(far->headers() == kPost);
  std::vector<std::string> told;
  near->set_inform([&](const wire::Headers& headers) { told.push_back(headers[0].second); });
  far->inform({{":status", "100"}});
  far->inform({{":status", "103"}});
  world.loop.run_ready();
  CHECK(told == std::vector<std::string>{"100", "103"});
  REQUIRE(put(*near, "hello").ok());
  near->send_trailers({{"sum", "5"}});
  CHECK(world.loop.run(read_all(*far)) == "hello");
  CHECK(far->trailers() == wire::Headers{{"sum", "5"}});
  far->respond(kOk, false);
  far->respond({{":status", "500"}}, true);
  far->inform({{":status", "103"}});
  REQUIRE(put(*far, "world!").ok());
  far->send_trailers({{"grpc-status", "0"}});
  CHECK(world.answer(*near) == kOk);
  CHECK(world.loop.run(read_all(*near)) == "world!");
  CHECK(near->trailers() == wire::Headers{{"grpc-status", "0"}});
  CHECK(told.size() == 2);
  CHECK(near->gone().is_set());
  CHECK(far->gone().is_set());
  CHECK(!near->reset_code());
  CHECK(near->counts().body_bytes_out == 5);
  CHECK(near->counts().body_bytes_in == 6);
  CHECK(near->counts().header_bytes_out > 20);
  CHECK(near->counts().header_bytes_out == far->counts().header_bytes_in);
  CHECK(near->counts().header_bytes_in == far->counts().header_bytes_out);
  CHECK(near->counts().wire_bytes_in >= near->counts().header_bytes_in + 6 + 9);
}

TEST_CASE("an upgrade is an extended CONNECT, once the peer has offered it", "[h2]") {
  wire::Headers chat = {{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"},
                        {":authority", "a"},    {":path", "/chat"},         {"sec-websocket-key", "k"}};
  Http2Options plain = Http2Options::for_users_traffic();
  plain.settings.connect_protocol = GENERATE(true, false);
  World world({}, plain);
  REQUIRE(world.client->settings().is_set());
  CHECK(world.client->takes_upgrades() == plain.settings.connect_protocol);
  if (!world.client->takes_upgrades()) {
    CHECK(world.client->open(chat).error().code() == base::Code::kUnsupported);
    return;
  }
  auto [near, far] = world.exchange(chat);
  CHECK(*upgrade_of(far->headers()) == "websocket");
  CHECK(shown_method(far->headers()) == "GET");
  CHECK(!wire::find_header(far->headers(), "sec-websocket-key"));
  far->respond(kOk, false);
  REQUIRE(world.answer(*near));
  REQUIRE(put(*near, "\x81").ok());
  near->shutdown_write();
  CHECK(world.loop.run(read_all(*far)) == "\x81");
}

TEST_CASE("a client that goes is noticed; one that nobody has looked at yet is forgotten", "[h2]") {
  World world;
  auto [near, far] = world.exchange(kGet, true);
  CHECK(!far->gone().is_set());
  near.reset();
  world.loop.run_ready();
  CHECK(far->gone().is_set());
  CHECK(far->reset_code() == wire::kH2Cancel);
  auto unseen = world.client->open(kGet, true);
  world.loop.run_ready();
  unseen->reset();
  world.loop.run_ready();
  auto seen = world.client->open(kPost, true);
  Stream next = world.loop.run(world.server->accept());
  CHECK(*wire::find_header(next->headers(), ":method") == "POST");
}

TEST_CASE("a body that is broken off never looks complete, whatever the code", "[h2]") {
  World world;
  auto [near, far] = world.exchange(kGet, true);
  far->respond(kOk, false);
  REQUIRE(put(*far, "half").ok());
  REQUIRE(world.answer(*near));
  world.loop.run_ready();
  far->reset(GENERATE(uint32_t{wire::kH2NoError}, uint32_t{wire::kH2Cancel}));
  world.loop.run_ready();
  CHECK(world.loop.run(read_all(*near)) == "half!" + std::string(base::to_string(base::Code::kReset)));
  CHECK(near->gone().is_set());
}

TEST_CASE("what was refused before it was a request is counted; a host that lost is told", "[h2]") {
  using namespace wire::frames;
  RawWorld raw;
  wire::Headers bad = kGet;
  bad.emplace_back("transfer-encoding", "chunked");
  raw.say(headers(1, bad));
  CHECK(raw.server->refused() == 1);
  wire::Headers other = kGet;
  other.emplace_back("host", "b");
  raw.say(headers(3, other) + headers(5, kGet));
  CHECK(raw.loop.run(raw.server->accept())->host_ignored());
  CHECK(!raw.loop.run(raw.server->accept())->host_ignored());
  CHECK(raw.server->refused() == 1);
}

TEST_CASE("no more new streams in one turn than allowed", "[h2]") {
  Http2Options options = Http2Options::for_users_traffic();
  options.new_streams_per_turn_max = 3;
  World world(Http2Options::for_users_traffic(), options);
  // How many had been accepted when a job of the next turn ran.
  std::vector<Stream> accepted;
  std::vector<size_t> at_turns;
  async::Scope scope(world.loop);
  auto accept = [](Http2Conn& server, std::vector<Stream>& out) -> async::Task<void> {
    while (Stream stream = co_await server.accept()) out.push_back(std::move(stream));
  };
  scope.spawn(accept(*world.server, accepted));
  std::vector<Stream> opened;
  for (int i = 0; i < 8; ++i) opened.push_back(std::move(*world.client->open(kGet, true)));
  size_t before = 0;
  async::CallJob watch([&] {
    if (accepted.size() != before) at_turns.push_back(accepted.size() - before);
    before = accepted.size();
    if (before < 8) world.loop.defer_next_turn(watch);
  });
  world.loop.defer_next_turn(watch);
  world.loop.run_ready();
  CHECK(accepted.size() == 8);
  REQUIRE(!at_turns.empty());
  for (size_t count : at_turns) CHECK(count <= 3);
}

TEST_CASE("limits of requests and streams per connection", "[h2]") {
  Http2Options options = Http2Options::for_users_traffic();
  SECTION("a server drains after its last request and serves what came before the final GOAWAY") {
    options.requests_max = 2;
    World world(Http2Options::for_users_traffic(), options);
    auto one = world.exchange(kGet, true);
    CHECK(world.client->usable());
    auto two = world.exchange(kGet, true);
    world.loop.run_for(2s);
    CHECK(!world.client->usable());
    CHECK(world.server->requests() == 2);
    for (auto* pair : {&one, &two}) {
      pair->second->respond(kOk, true);
      REQUIRE(world.answer(*pair->first));
    }
    one = {};
    two = {};
    world.loop.run_for(2s);
    CHECK(world.server->closed().is_set());
    CHECK(!world.server->error());
  }
  SECTION("a client stops using it") {
    options.requests_max = 2;
    World world(options);
    auto one = world.exchange(kGet, true);
    CHECK(world.client->usable());
    auto two = world.exchange(kGet, true);
    CHECK(!world.client->usable());
    CHECK(world.client->room() == 0);
    CHECK(!world.client->goaway_received());
  }
  SECTION("a client opens no more at once than it may, or its peer takes") {
    options.own_streams_max = 5;
    Http2Options server = Http2Options::for_users_traffic();
    server.settings.streams_max = GENERATE(3u, 100u);
    size_t most = std::min<size_t>(5, server.settings.streams_max);
    World world(options, server);
    std::vector<Stream> streams;
    for (size_t i = 0; i < most; ++i) {
      CHECK(world.client->room() == most - i);
      streams.push_back(std::move(*world.client->open(kGet, true)));
    }
    CHECK(world.client->open(kGet, true).error().code() == base::Code::kExhausted);
    streams.pop_back();
    world.loop.run_ready();
    CHECK(world.client->open(kGet, true));
  }
}

TEST_CASE("an idle connection drains, one in use does not", "[h2]") {
  World world;
  auto [near, far] = world.exchange(kGet, true);
  world.loop.run_for(2h);
  CHECK(world.client->usable());
  far->respond(kOk, true);
  near.reset();
  far.reset();
  world.loop.run_for(59min);
  CHECK(world.client->usable());
  world.loop.run_for(2min);
  CHECK(world.server->closed().is_set());
  CHECK(!world.server->error());
}

TEST_CASE("slow readers: of the connection, of one stream", "[h2]") {
  SECTION("a peer that takes nothing ends the connection") {
    RawWorld raw;
    raw.say(wire::frames::headers(1, kGet));
    Stream stream = raw.loop.run(raw.server->accept());
    stream->respond(kOk, false);
    std::string credit =
        wire::frames::frame(wire::frames::kWindowUpdate, 0, 0, wire::frames::number(1 << 24, 4)) +
        wire::frames::frame(wire::frames::kWindowUpdate, 0, 1, wire::frames::number(1 << 24, 4)) +
        wire::frames::frame(wire::frames::kSettings, wire::frames::kAck, 0);
    raw.say(credit);
    // Fill the pipe of 1 MiB and the send buffer.
    std::string block(200'000, 'x');
    for (int i = 0; i < 20; ++i) {
      (void)put(*stream, block);
      raw.loop.run_ready();
    }
    raw.loop.run_for(59s);
    CHECK(!raw.server->closed().is_set());
    raw.loop.run_for(2s);
    REQUIRE(raw.server->closed().is_set());
    CHECK(raw.server->error()->code() == base::Code::kTimeout);
  }
  SECTION("a stream whose window stays shut is reset, its neighbours live") {
    RawWorld raw;
    raw.say(wire::frames::frame(wire::frames::kSettings, wire::frames::kAck, 0));
    raw.say(wire::frames::headers(1, kGet) + wire::frames::headers(3, kGet));
    Stream stream = raw.loop.run(raw.server->accept());
    Stream other = raw.loop.run(raw.server->accept());
    stream->respond(kOk, false);
    REQUIRE(put(*stream, std::string(100'000, 'x')).ok());
    raw.loop.run_for(10min);
    CHECK(stream->gone().is_set());
    CHECK(!other->gone().is_set());
    auto heard = raw.heard();
    CHECK(std::find(heard.begin(), heard.end(), "RST 1 CANCEL") != heard.end());
    CHECK(!raw.server->closed().is_set());
  }
}

TEST_CASE("a peer that never acknowledges our SETTINGS is let go", "[h2]") {
  RawWorld raw;
  raw.loop.run_for(11s);
  REQUIRE(raw.server->closed().is_set());
  CHECK(raw.server->error()->code() == base::Code::kTimeout);
}

TEST_CASE("rapid resets end the connection, whoever provokes them", "[h2]") {
  RawWorld raw;
  raw.say(wire::frames::frame(wire::frames::kSettings, wire::frames::kAck, 0));
  async::Scope scope(raw.loop);
  auto accept = [](Http2Conn& server, std::vector<Stream>& out) -> async::Task<void> {
    while (Stream stream = co_await server.accept()) out.push_back(std::move(stream));
  };
  std::vector<Stream> accepted;
  scope.spawn(accept(*raw.server, accepted));
  uint32_t id = 1;
  auto rounds = [&](int count, auto&& one) {
    for (int i = 0; i < count && !raw.server->closed().is_set(); ++i, id += 2) {
      raw.say(one(id));
      (void)raw.heard();
      for (Stream& stream : accepted) stream->respond(kOk, true);
      raw.loop.run_ready();
      accepted.clear();
      raw.loop.run_ready();
    }
  };
  using namespace wire::frames;
  auto good = [](uint32_t stream) { return headers(stream, kGet); };
  auto reset = [](uint32_t stream) { return headers(stream, kGet) + frame(kRst, 0, stream, number(8, 4)); };
  // MadeYouReset: a request that our own engine has to reset.
  auto provoke = [](uint32_t stream) {
    return headers(stream, kPost, false) + frame(kWindowUpdate, 0, stream, number(0x7fffffff, 4));
  };
  SECTION("resets by the peer") {
    rounds(499, reset);
    CHECK(!raw.server->closed().is_set());
    rounds(1, reset);
    CHECK(raw.server->closed().is_set());
  }
  SECTION("resets that it provokes") {
    rounds(499, provoke);
    CHECK(!raw.server->closed().is_set());
    rounds(1, provoke);
    CHECK(raw.server->closed().is_set());
  }
  SECTION("fewer than half are a client that changes its mind") {
    for (int i = 0; i < 600 && !raw.server->closed().is_set(); ++i) {
      rounds(1, good);
      rounds(i % 2 == 0 ? 1 : 0, reset);
    }
    CHECK(!raw.server->closed().is_set());
    return;
  }
  REQUIRE(raw.server->error());
  CHECK(raw.server->error()->code() == base::Code::kExhausted);
}

TEST_CASE("a flood says ENHANCE_YOUR_CALM before the end", "[h2]") {
  RawWorld raw;
  using namespace wire::frames;
  std::string flood = headers(1, kPost, false);
  for (int i = 0; i < 201; ++i) flood += frame(kPriority, 0, 1, number(0, 5));
  raw.say(flood);
  REQUIRE(raw.server->closed().is_set());
  CHECK(raw.server->error()->code() == base::Code::kExhausted);
}

}  // namespace culvert::conn
