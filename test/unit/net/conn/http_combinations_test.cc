// SPDX-License-Identifier: Apache-2.0
// A forwarder of twenty lines between a client and a server, in all four combinations of versions: what one
// side says in HTTP/2 form the other can carry (waypoint spec sections 1.8 and 7.2).
#include <catch2/catch.hpp>

#include "net/async/scope.h"
#include "net/conn/http1_conn.h"
#include "net/conn/http2_conn.h"
#include "net/io/memory_pipe.h"
#include "test/support/sim_loop.h"

namespace culvert::conn {
namespace {

using namespace std::chrono_literals;
using test::SimLoop;
using Role = wire::H2Engine::Role;

// Either version behind one face.
struct ClientEnd {
  std::unique_ptr<Http1ClientConn> one;
  std::unique_ptr<Http2Conn> two;
  std::unique_ptr<HttpStream> open(wire::Headers headers, bool end_stream) {
    if (one) {
      auto stream = one->open(std::move(headers), end_stream);
      REQUIRE(stream);
      return std::move(*stream);
    }
    auto stream = two->open(std::move(headers), end_stream);
    REQUIRE(stream);
    return std::move(*stream);
  }
};
struct ServerEnd {
  std::unique_ptr<Http1ServerConn> one;
  std::unique_ptr<Http2Conn> two;
  async::Task<std::unique_ptr<HttpStream>> accept() {
    if (one) co_return co_await one->accept();
    co_return co_await two->accept();
  }
};

async::Task<void> copy(HttpStream& from, HttpStream& to) {
  std::array<uint8_t, 3000> buffer;
  for (;;) {
    auto got = co_await io::read_some(from, buffer);
    if (!got) co_return to.reset(wire::kH2Cancel);
    if (*got == 0) break;
    auto put = co_await io::write_all(to, base::ByteView(buffer).first(*got));
    if (!put) co_return;
  }
  from.trailers().empty() ? to.shutdown_write() : to.send_trailers(from.trailers());
}

async::Task<void> forward(SimLoop& loop, ServerEnd& front, ClientEnd& back) {
  for (;;) {
    std::unique_ptr<HttpStream> client = co_await front.accept();
    if (!client) co_return;
    std::unique_ptr<HttpStream> server = back.open(client->headers(), false);
    server->set_inform([&client](const wire::Headers& headers) { client->inform(headers); });
    async::Scope scope(loop);
    bool upgrade = upgrade_of(client->headers()) != nullptr;
    if (!upgrade) scope.spawn(copy(*client, *server));
    auto answer = co_await server->response(async::Deadline::in(loop, 5s));
    if (!answer) co_return;
    client->respond(*answer, false);
    if (upgrade) scope.spawn(copy(*client, *server));
    scope.spawn(copy(*server, *client));
    co_await scope.idle().wait();
  }
}

struct World {
  SimLoop loop;
  ClientEnd client, back;
  ServerEnd front, server;
  async::Scope scope{loop};
  World(int front_version, int back_version, size_t fragment) {
    join(client, front, front_version, fragment);
    join(back, server, back_version, fragment);
    loop.run_ready();
    scope.spawn(forward(loop, front, back));
  }
  void join(ClientEnd& from, ServerEnd& to, int version, size_t fragment) {
    auto [a, b] = io::make_memory_pipe(loop, {.fragment_bytes = fragment});
    if (version == 1) {
      from.one = std::make_unique<Http1ClientConn>(loop, std::move(a), base::Rng(3), Http1Options{});
      to.one = std::make_unique<Http1ServerConn>(loop, std::move(b), Http1Options{});
    } else {
      Http2Options options = Http2Options::for_users_traffic();
      from.two = std::make_unique<Http2Conn>(loop, std::move(a), Role::kClient, options);
      to.two = std::make_unique<Http2Conn>(loop, std::move(b), Role::kServer, options);
    }
  }
  std::unique_ptr<HttpStream> accept() { return loop.run(server.accept()); }
  base::Result<wire::Headers> answer(HttpStream& stream) {
    return loop.run(stream.response(async::Deadline::in(loop, 5s)));
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

async::Task<void> send(io::ByteStream& stream, std::string text) {
  (void)co_await io::write_all(stream, base::as_bytes(text));
}

wire::Headers request(std::string_view method, const wire::Headers& more = {}) {
  wire::Headers out = {
      {":method", std::string(method)}, {":scheme", "http"}, {":authority", "shop:80"}, {":path", "/p?q=1"}};
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

wire::Headers sorted(wire::Headers headers) {
  std::sort(headers.begin(), headers.end());
  return headers;
}

}  // namespace

TEST_CASE("all four combinations of versions carry an exchange through a forwarder", "[http1][h2]") {
  int front = GENERATE(1, 2);
  int back = GENERATE(1, 2);
  size_t fragment =
      GENERATE(size_t{1}, size_t{2}, size_t{3}, size_t{7}, size_t{16}, size_t{31}, size_t{1} << 20);
  World world(front, back, fragment);
  INFO("front " << front << " back " << back);

  SECTION("bodies, trailers and informational answers both ways") {
    wire::Headers asked = request("POST", {{"x-one", "1"}, {"te", "trailers"}, {"cookie", "a=1; b=2"}});
    auto near = world.client.open(asked, false);
    std::vector<std::string> told;
    near->set_inform([&](const wire::Headers& headers) { told.push_back(headers[0].second); });
    auto far = world.accept();
    CHECK(sorted(far->headers()) == sorted(asked));
    far->inform({{":status", "103"}, {"link", "x"}});
    std::string up(50'000, 'u');
    world.loop.run(send(*near, up));
    near->send_trailers({{"sum", "50000"}});
    CHECK(world.loop.run(read_all(*far)) == up);
    CHECK(far->trailers() == wire::Headers{{"sum", "50000"}});
    far->respond({{":status", "200"}, {"content-type", "application/grpc"}}, false);
    world.loop.run(send(*far, "answer"));
    far->send_trailers({{"grpc-status", "0"}});
    auto answer = world.answer(*near);
    REQUIRE(answer);
    CHECK(*answer == wire::Headers{{":status", "200"}, {"content-type", "application/grpc"}});
    CHECK(world.loop.run(read_all(*near)) == "answer");
    CHECK(near->trailers() == wire::Headers{{"grpc-status", "0"}});
    CHECK(told == std::vector<std::string>{"103"});
  }
  SECTION("a length stays a length") {
    auto near = world.client.open(request("PUT", {{"content-length", "5"}}), false);
    world.loop.run(send(*near, "hello"));
    near->shutdown_write();
    auto far = world.accept();
    CHECK(*wire::find_header(far->headers(), "content-length") == "5");
    CHECK(world.loop.run(read_all(*far)) == "hello");
    far->respond({{":status", "200"}, {"content-length", "2"}}, false);
    world.loop.run(send(*far, "ok"));
    far->shutdown_write();
    REQUIRE(world.answer(*near));
    CHECK(world.loop.run(read_all(*near)) == "ok");
  }
  SECTION("HEAD and 204 have no body") {
    wire::Headers headers = request(GENERATE("HEAD", "GET"), {{"content-length", "0"}});
    bool head = headers[0].second == "HEAD";
    auto near = world.client.open(headers, true);
    auto far = world.accept();
    CHECK(world.loop.run(read_all(*far)).empty());
    far->respond(head ? wire::Headers{{":status", "200"}, {"content-length", "99"}}
                      : wire::Headers{{":status", "204"}},
                 true);
    auto answer = world.answer(*near);
    REQUIRE(answer);
    CHECK((wire::find_header(*answer, "content-length") != nullptr) == head);
    CHECK(world.loop.run(read_all(*near)).empty());
  }
  SECTION("WebSocket") {
    wire::Headers chat = request("CONNECT", {{"sec-websocket-version", "13"}});
    chat.insert(chat.begin() + 1, {":protocol", "websocket"});
    auto near = world.client.open(chat, false);
    auto far = world.accept();
    CHECK(*upgrade_of(far->headers()) == "websocket");
    far->respond({{":status", "200"}}, false);
    REQUIRE(world.answer(*near));
    world.loop.run(send(*near, "\x81\x01x"));
    world.loop.run(send(*far, "\x81\x01y"));
    near->shutdown_write();
    CHECK(world.loop.run(read_all(*far)) == "\x81\x01x");
    far->shutdown_write();
    CHECK(world.loop.run(read_all(*near)) == "\x81\x01y");
  }
  SECTION("a body that breaks off behind the forwarder breaks off in front of it") {
    auto near = world.client.open(request("GET"), true);
    auto far = world.accept();
    far->respond({{":status", "200"}}, false);
    world.loop.run(send(*far, "half"));
    REQUIRE(world.answer(*near));
    world.loop.run_ready();
    far->abort();
    std::string got = world.loop.run(read_all(*near));
    CHECK(got.starts_with("half!"));
  }
}

}  // namespace culvert::conn
