// SPDX-License-Identifier: Apache-2.0
// Http1ServerConn and Http1ClientConn against a scripted peer on a MemoryPipe, with virtual time (waypoint
// spec sections 7.2 to 7.6).
#include "net/conn/http1_conn.h"

#include <catch2/catch.hpp>

#include "net/io/memory_pipe.h"
#include "test/support/sim_loop.h"

namespace culvert::conn {
namespace {

using namespace std::chrono_literals;
using test::SimLoop;
using wire::Http1Fault;

// The other end of the connection: what it says and what it has heard.
struct Peer {
  SimLoop& loop;
  std::unique_ptr<io::ByteStream> stream;
  bool ended = false;   // eof was read
  bool broken = false;  // or an error

  void say(std::string_view text) {
    REQUIRE(loop.run(io::write_all(*stream, base::as_bytes(text))));
    loop.run_ready();
  }
  // All that has come since.
  std::string heard() {
    loop.run_ready();
    std::string out;
    std::array<uint8_t, 4096> buffer;
    for (;;) {
      io::IoResult got = stream->try_read(buffer);
      if (got.is_eof()) ended = true;
      if (got.is_error()) broken = true;
      if (!got.ok()) return out;
      out += base::as_text(base::ByteView(buffer).first(got.count()));
      loop.run_ready();
    }
  }
  void abort() {
    stream->abort();
    loop.run_ready();
  }
};

struct ServerWorld {
  SimLoop loop;
  std::unique_ptr<Http1ServerConn> server;
  Peer client{loop, nullptr};
  explicit ServerWorld(Http1Options options = {}, io::MemoryPipeOptions pipe = {}) {
    auto [a, b] = io::make_memory_pipe(loop, pipe);
    client.stream = std::move(a);
    server = std::make_unique<Http1ServerConn>(loop, std::move(b), std::move(options));
  }
  std::unique_ptr<HttpStream> accept() { return loop.run(server->accept()); }
  std::unique_ptr<HttpStream> request(std::string_view text) {
    client.say(text);
    return accept();
  }
  // Answers and forgets.
  void answer(std::unique_ptr<HttpStream> stream, std::string_view status = "200", wire::Headers more = {}) {
    more.insert(more.begin(), {":status", std::string(status)});
    stream->respond(std::move(more), true);
    stream.reset();
    loop.run_ready();
  }
};

struct ClientWorld {
  SimLoop loop;
  std::unique_ptr<Http1ClientConn> client;
  Peer server{loop, nullptr};
  explicit ClientWorld(Http1Options options = {}, io::MemoryPipeOptions pipe = {}) {
    auto [a, b] = io::make_memory_pipe(loop, pipe);
    server.stream = std::move(b);
    client = std::make_unique<Http1ClientConn>(loop, std::move(a), base::Rng(7), std::move(options));
  }
  std::unique_ptr<HttpStream> open(wire::Headers headers, bool end_stream = true) {
    auto stream = client->open(std::move(headers), end_stream);
    REQUIRE(stream);
    return std::move(*stream);
  }
  base::Result<wire::Headers> answer(HttpStream& stream) {
    return loop.run(stream.response(async::Deadline::in(loop, 5s)));
  }
};

const wire::Headers kGet = {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}};
const wire::Headers kPost = {{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}};
const wire::Headers kChat = {{":method", "CONNECT"},
                             {":protocol", "websocket"},
                             {":scheme", "http"},
                             {":authority", "a"},
                             {":path", "/chat"}};
constexpr std::string_view kGetText = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
constexpr std::string_view kEmpty200 = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
constexpr std::string_view kClosing200 = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
constexpr std::string_view kUpgradeText =
    "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

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

// --- server ---

TEST_CASE("requests one after another, pipelined ones in order and unread until then", "[http1]") {
  ServerWorld world({}, {.fragment_bytes = GENERATE(size_t{1}, size_t{2}, size_t{3}, size_t{7}, size_t{16},
                                                    size_t{31}, size_t{1} << 20)});
  auto first = world.request(
      "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello" +
      std::string(kGetText));
  REQUIRE(first);
  CHECK(first->version() == HttpVersion::k11);
  CHECK(*wire::find_header(first->headers(), ":path") == "/1");
  CHECK(*wire::find_header(first->headers(), ":scheme") == "http");
  CHECK(world.loop.run(read_all(*first)).empty());
  first->respond({{":status", "200"}, {"x", "1"}}, false);
  REQUIRE(put(*first, "one").ok());
  first->send_trailers({{"t", "v"}});
  CHECK(world.client.heard() ==
        "HTTP/1.1 200 OK\r\nx: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\nt: v\r\n\r\n");
  CHECK(first->gone().is_set());
  CHECK(first->counts().body_bytes_out == 3);
  CHECK(first->counts().header_bytes_in == 28);
  CHECK(first->counts().wire_bytes_in == 28);

  auto second = world.accept();
  CHECK(world.loop.run(read_all(*second)) == "hello");
  CHECK(second->counts().body_bytes_in == 5);
  world.answer(std::move(second), "404");
  CHECK(world.client.heard() == "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
  world.answer(world.accept());
  CHECK(world.client.heard() == kEmpty200);
  CHECK(!world.server->closed().is_set());
}

TEST_CASE("a request that cannot be accepted comes with its fault, is answered, and the connection closes",
          "[http1]") {
  struct Row {
    std::string input;
    Http1Fault fault;
    int status;
  };
  std::vector<Row> rows = {
      {"GET / HTTP/1.1\nhost: a\n\n", Http1Fault::kBareLf, 400},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nx",
       Http1Fault::kLengthAndCoding, 400},
      {"GET / HTTP/1.1\r\nhost: a\r\nx: " + std::string(70'000, 'x'), Http1Fault::kHeadTooLarge, 431},
      {"GET / HTTP/1.0\r\nhost: a\r\n\r\n", Http1Fault::kHttp10, 426},
      {"GET / HTTP/3.0\r\nhost: a\r\n\r\n", Http1Fault::kVersion, 505},
  };
  for (const Row& row : rows) {
    ServerWorld world;
    // The rest of an endless request is never read.
    (void)put(*world.client.stream, row.input.substr(0, 65'000));
    world.loop.run_ready();
    if (row.input.size() > 65'000) (void)put(*world.client.stream, row.input.substr(65'000));
    auto stream = world.accept();
    REQUIRE(stream);
    CHECK(stream->fault() == row.fault);
    CHECK(wire::status_for(stream->fault()) == row.status);
    CHECK(world.loop.run(read_all(*stream)).empty());
    world.answer(std::move(stream), std::to_string(row.status));
    CHECK(world.client.heard().ends_with("content-length: 0\r\nconnection: close\r\n\r\n"));
    CHECK(world.client.ended);
    world.loop.run_for(2s);
    CHECK(world.server->closed().is_set());
    CHECK(!world.accept());
  }
}

TEST_CASE("the target's host wins over Host, and that is told", "[http1]") {
  ServerWorld world;
  auto stream = world.request("GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n");
  CHECK(stream->host_ignored());
  CHECK(*wire::find_header(stream->headers(), ":authority") == "b");
  world.answer(std::move(stream));
  CHECK(!world.request(kGetText)->host_ignored());
}

TEST_CASE("a head that takes too long, and a client that stays idle", "[http1]") {
  ServerWorld world({.head_timeout = 60s, .idle_timeout = 3600s});
  SECTION("slow head") {
    world.client.say("GET / HT");
    world.loop.run_for(59s);
    CHECK(!world.server->closed().is_set());
    world.client.say("TP");
    world.loop.run_for(2s);
    auto stream = world.accept();
    REQUIRE(stream);
    CHECK(stream->fault() == Http1Fault::kHeadTooSlow);
    world.answer(std::move(stream), "408");
    CHECK(world.client.heard().starts_with("HTTP/1.1 408 Request Timeout\r\n"));
  }
  SECTION("idle") {
    world.loop.run_for(3599s);
    world.answer(world.request(kGetText));
    CHECK(world.client.heard() == kEmpty200);
    world.loop.run_for(3599s);
    CHECK(!world.server->closed().is_set());
    world.loop.run_for(2s);
    CHECK(world.server->closed().is_set());
    CHECK(!world.server->error());
    CHECK(world.client.heard().empty());
    CHECK(world.client.ended);
  }
}

TEST_CASE("Expect: 100-continue", "[http1]") {
  ServerWorld world;
  auto stream =
      world.request("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
  SECTION("granted") {
    stream->inform({{":status", "100"}});
    CHECK(world.client.heard() == "HTTP/1.1 100 Continue\r\n\r\n");
    world.client.say("hi");
    CHECK(world.loop.run(read_all(*stream)) == "hi");
    world.answer(std::move(stream));
    CHECK(world.client.heard() == kEmpty200);
  }
  SECTION("denied without it: nobody can tell whether the body comes, so the connection ends") {
    world.answer(std::move(stream), "403");
    CHECK(world.client.heard() == "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    CHECK(world.client.ended);
  }
  SECTION("the client did not wait") {
    world.client.say("hi");
    CHECK(world.loop.run(read_all(*stream)) == "hi");
    world.answer(std::move(stream));
    CHECK(world.client.heard() == kEmpty200);
  }
}

TEST_CASE("what is left of a body after its answer", "[http1]") {
  ServerWorld world({.unread_body_bytes_max = 1000});
  SECTION("a little is read and dropped, then the next request is served") {
    auto stream = world.request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nab");
    world.answer(std::move(stream), "403");
    CHECK(world.client.heard() == "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    world.client.say(std::string(998, 'x') + std::string(kGetText));
    auto next = world.accept();
    REQUIRE(next);
    CHECK(*wire::find_header(next->headers(), ":path") == "/");
  }
  SECTION("too much ends the connection") {
    auto stream = world.request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nab");
    world.answer(std::move(stream), "403");
    world.client.say(std::string(2000, 'x'));
    CHECK(world.client.heard() == "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    CHECK(world.client.ended);
    CHECK(!world.accept());
  }
  SECTION("one that does not come ends it too") {
    auto stream = world.request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nab");
    world.answer(std::move(stream), "403");
    world.loop.run_for(3s);
    CHECK(world.server->closed().is_set());
  }
}

TEST_CASE("an unfinished answer never looks complete", "[http1]") {
  ServerWorld world;
  auto stream = world.request(kGetText);
  SECTION("dropped before it began") { stream.reset(); }
  SECTION("dropped in the middle") {
    stream->respond({{":status", "200"}}, false);
    REQUIRE(put(*stream, "half").ok());
    world.loop.run_ready();
    stream.reset();
  }
  SECTION("reset") { stream->reset(wire::kH2InternalError); }
  SECTION("more than was announced") {
    stream->respond({{":status", "200"}, {"content-length", "3"}}, false);
    CHECK(put(*stream, "four").is_error());
  }
  SECTION("less than was announced") {
    stream->respond({{":status", "200"}, {"content-length", "3"}}, false);
    CHECK(put(*stream, "tw").ok());
    stream->shutdown_write();
  }
  SECTION("a header that would split it") {
    stream->respond({{":status", "200"}, {"x", "a\r\nset-cookie: b"}}, true);
  }
  SECTION("no answer at all") { stream->shutdown_write(); }
  std::string heard = world.client.heard();
  CHECK(world.client.broken);
  CHECK(heard.find("0\r\n\r\n") == std::string::npos);
  CHECK(world.server->closed().is_set());
  CHECK(world.server->error());
}

TEST_CASE("an upgrade: early bytes wait for the 101, then flow raw; a refusal drops them", "[http1]") {
  ServerWorld world;
  auto stream = world.request(std::string(kUpgradeText) + "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
  REQUIRE(stream);
  CHECK(shown_method(stream->headers()) == "GET");
  CHECK(*upgrade_of(stream->headers()) == "websocket");
  std::array<uint8_t, 100> buffer;
  CHECK(stream->try_read(buffer).is_would_block());
  SECTION("granted") {
    stream->respond({{":status", "200"}}, false);
    CHECK(world.client.heard() ==
          "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
          "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    world.client.stream->shutdown_write();
    CHECK(world.loop.run(read_all(*stream)) == "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
    REQUIRE(put(*stream, "\x81").ok());
    stream->shutdown_write();
    CHECK(world.client.heard() == "\x81");
    CHECK(world.client.ended);
    CHECK(world.server->closed().is_set());
    CHECK(!world.server->error());
  }
  SECTION("refused") {
    world.answer(std::move(stream), "403");
    CHECK(world.client.heard() == "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    CHECK(world.client.ended);
    CHECK(!world.accept());
  }
}

TEST_CASE("a drain: idle connections close, an exchange is told to close behind its answer", "[http1]") {
  ServerWorld world;
  SECTION("idle") {
    world.server->drain();
    CHECK(world.client.heard().empty());
    CHECK(world.client.ended);
  }
  SECTION("in an exchange") {
    auto stream = world.request(kGetText);
    world.server->drain();
    world.loop.run_for(10s);
    CHECK(!world.server->closed().is_set());
    world.answer(std::move(stream));
    CHECK(world.client.heard() == kClosing200);
    CHECK(world.client.ended);
  }
  SECTION("in a head") {
    world.client.say("GET / HTTP/1.1\r\n");
    world.server->drain();
    world.answer(world.request("host: a\r\n\r\n"));
    CHECK(world.client.heard() == kClosing200);
  }
  world.client.abort();
  CHECK(world.server->closed().is_set());
  CHECK(!world.server->error());
}

TEST_CASE("connections end after their limit of requests, or when either side says so", "[http1]") {
  SECTION("limit") {
    ServerWorld world({.requests_max = 2});
    world.answer(world.request(kGetText));
    CHECK(world.client.heard() == kEmpty200);
    world.answer(world.request(kGetText));
    CHECK(world.client.heard() == kClosing200);
  }
  SECTION("the client") {
    ServerWorld world;
    world.answer(world.request("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
    CHECK(world.client.heard() == kClosing200);
    CHECK(world.client.ended);
  }
  SECTION("the handler") {
    ServerWorld world;
    world.answer(world.request(kGetText), "200", {{"connection", "close"}});
    CHECK(world.client.heard() == kClosing200);
    CHECK(world.client.ended);
  }
}

TEST_CASE("a client that goes before its answer is noticed at once", "[http1]") {
  SECTION("reset") {
    ServerWorld world;
    auto stream = world.request(kGetText);
    CHECK(!stream->gone().is_set());
    world.client.abort();
    CHECK(stream->gone().is_set());
    CHECK(stream->reset_code() == wire::kH2Cancel);
    CHECK(put(*stream, "x").is_error());
    stream->respond({{":status", "200"}}, true);
    stream.reset();
    CHECK(!world.accept());
  }
  SECTION("half-close") {
    ServerWorld world;
    auto stream = world.request(kGetText);
    world.client.stream->shutdown_write();
    world.loop.run_ready();
    CHECK(stream->gone().is_set());
  }
  SECTION("half-close, where that may be no more than the end of the requests") {
    ServerWorld world({.half_close_is_gone = false});
    auto stream = world.request(kGetText);
    world.client.stream->shutdown_write();
    world.loop.run_ready();
    CHECK(!stream->gone().is_set());
    world.answer(std::move(stream));
    CHECK(world.client.heard() == kClosing200);
    CHECK(world.client.ended);
  }
  SECTION("inside the body") {
    ServerWorld world;
    auto stream = world.request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc");
    world.client.stream->shutdown_write();
    CHECK(world.loop.run(read_all(*stream)) == "abc!" + std::string(base::to_string(base::Code::kReset)));
    CHECK(stream->fault() == Http1Fault::kTruncated);
  }
  SECTION("nobody has accepted it yet") {
    ServerWorld world;
    world.client.say(kGetText);
    world.client.abort();
    CHECK(!world.accept());
  }
}

TEST_CASE("a client that takes nothing is let go", "[http1]") {
  ServerWorld world({.send_bytes_max = 10'000, .stall_timeout = 60s}, {.buffer_bytes = 1000});
  auto stream = world.request(kGetText);
  stream->respond({{":status", "200"}}, false);
  std::string block(100'000, 'x');
  CHECK(put(*stream, block).count() < 10'000);
  CHECK(put(*stream, block).is_would_block());
  world.loop.run_for(50s);
  // Progress buys time.
  std::array<uint8_t, 500> some;
  CHECK(world.client.stream->try_read(some).ok());
  world.loop.run_for(50s);
  CHECK(!world.server->closed().is_set());
  world.loop.run_for(11s);
  REQUIRE(world.server->closed().is_set());
  CHECK(world.server->error()->code() == base::Code::kTimeout);
  CHECK(put(*stream, "x").is_error());
}

TEST_CASE("a body that breaks its framing is an error, and the answer is the last", "[http1]") {
  ServerWorld world;
  auto stream =
      world.request("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n");
  CHECK(world.loop.run(read_all(*stream)) == "abc!" + std::string(base::to_string(base::Code::kProtocol)));
  CHECK(stream->fault() == Http1Fault::kChunkSize);
  world.answer(std::move(stream), "400");
  CHECK(world.client.heard() == "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  CHECK(world.client.ended);
}

TEST_CASE("HTTP/1.0 where it is allowed: no chunks, the end is the connection's", "[http1]") {
  Http1Options options;
  options.limits.allow_http10 = true;
  ServerWorld world(options);
  auto stream = world.request("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
  CHECK(stream->version() == HttpVersion::k10);
  stream->inform({{":status", "103"}});
  stream->respond({{":status", "200"}}, false);
  REQUIRE(put(*stream, "all").ok());
  stream->shutdown_write();
  CHECK(world.client.heard() == "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall");
  CHECK(world.client.ended);
}

// --- client ---

TEST_CASE("exchanges one after another on one connection", "[http1]") {
  ClientWorld world({}, {.fragment_bytes = GENERATE(size_t{1}, size_t{2}, size_t{3}, size_t{7}, size_t{16},
                                                    size_t{31}, size_t{1} << 20)});
  auto stream = world.open(kPost, false);
  CHECK(!stream->request_started());
  REQUIRE(put(*stream, "hi").ok());
  stream->send_trailers({{"t", "v"}});
  CHECK(world.server.heard() ==
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nt: v\r\n\r\n");
  CHECK(stream->request_started());
  CHECK(!world.client->reusable());
  CHECK(world.client->open(kGet, true).error().code() == base::Code::kExhausted);
  world.server.say(
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n");
  auto answer = world.answer(*stream);
  REQUIRE(answer);
  CHECK(*answer == wire::Headers{{":status", "200"}});
  CHECK(world.loop.run(read_all(*stream)) == "hello");
  CHECK(stream->trailers() == wire::Headers{{"x-sum", "5"}});
  CHECK(world.client->reusable());
  stream.reset();
  auto again = world.open({{":method", "HEAD"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/h"}});
  CHECK(world.server.heard() == "HEAD /h HTTP/1.1\r\nhost: a\r\n\r\n");
  world.server.say("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n");
  REQUIRE(world.answer(*again));
  CHECK(world.loop.run(read_all(*again)).empty());
  again.reset();
  CHECK(world.client->reusable());
  CHECK(world.client->requests() == 2);
}

TEST_CASE("a connection that must not be used again says so", "[http1]") {
  ClientWorld world;
  auto stream = world.open(kGet);
  bool clean = true;
  SECTION("the server closes behind it") {
    world.server.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
  }
  SECTION("HTTP/1.0") { world.server.say("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"); }
  SECTION("until the close") {
    world.server.say("HTTP/1.1 200 OK\r\n\r\nok");
    world.server.stream->shutdown_write();
  }
  SECTION("bytes behind the answer") {
    world.server.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n");
    clean = false;
  }
  REQUIRE(world.answer(*stream));
  CHECK(world.loop.run(read_all(*stream)) == "ok");
  stream.reset();
  world.loop.run_ready();
  CHECK(!world.client->reusable());
  CHECK(world.client->closed().is_set());
  CHECK(!world.client->error() == clean);
  CHECK(world.client->open(kGet, true).error().code() == base::Code::kRefused);
}

TEST_CASE("an idle connection notices a close and bytes nobody asked for", "[http1]") {
  ClientWorld world;
  SECTION("close") {
    world.server.stream->shutdown_write();
    world.loop.run_ready();
    CHECK(!world.client->error());
  }
  SECTION("bytes") {
    world.server.say("HTTP/1.1 408 Request Timeout\r\n\r\n");
    REQUIRE(world.client->error());
    CHECK(world.client->error()->code() == base::Code::kProtocol);
  }
  CHECK(world.client->closed().is_set());
  CHECK(!world.client->reusable());
}

TEST_CASE("answers that do not come, or come wrong", "[http1]") {
  ClientWorld world;
  auto stream = world.open(kGet);
  world.loop.run_ready();
  auto code = [&] {
    auto answer = world.answer(*stream);
    REQUIRE(!answer);
    return answer.error().code();
  };
  SECTION("closed") {
    world.server.stream->shutdown_write();
    CHECK(code() == base::Code::kClosed);
  }
  SECTION("reset") {
    world.server.abort();
    CHECK(code() == base::Code::kReset);
  }
  SECTION("cut off") {
    world.server.say("HTTP/1.1 200");
    world.server.stream->shutdown_write();
    CHECK(code() == base::Code::kReset);
    CHECK(stream->fault() == Http1Fault::kTruncated);
  }
  SECTION("malformed") {
    world.server.say("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n");
    CHECK(code() == base::Code::kProtocol);
    CHECK(stream->fault() == Http1Fault::kLengthAndCoding);
  }
  SECTION("too slow") {
    CHECK(code() == base::Code::kTimeout);
    stream.reset();
  }
  world.loop.run_ready();
  CHECK(world.client->closed().is_set());
}

TEST_CASE("a body that is cut off or malformed never looks complete", "[http1]") {
  ClientWorld world;
  auto stream = world.open(kGet);
  SECTION("length") {
    world.server.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc");
    world.server.stream->shutdown_write();
    CHECK(world.loop.run(read_all(*stream)) == "abc!" + std::string(base::to_string(base::Code::kReset)));
  }
  SECTION("chunks") {
    world.server.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    world.server.stream->shutdown_write();
    CHECK(world.loop.run(read_all(*stream)) == "abc!" + std::string(base::to_string(base::Code::kReset)));
  }
  SECTION("malformed") {
    world.server.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcX");
    CHECK(world.loop.run(read_all(*stream)) == "abc!" + std::string(base::to_string(base::Code::kProtocol)));
  }
  CHECK(stream->fault() != Http1Fault::kNone);
  CHECK(world.client->closed().is_set());
}

TEST_CASE("1xx before the answer are told, up to ten", "[http1]") {
  ClientWorld world;
  auto stream = world.open(kGet);
  std::vector<std::string> told;
  stream->set_inform([&](const wire::Headers& headers) { told.push_back(headers[0].second); });
  SECTION("told") {
    world.server.say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\n\r\n");
    CHECK(told == std::vector<std::string>{"100", "103"});
    world.server.say(kEmpty200);
    CHECK(world.answer(*stream));
  }
  SECTION("too many") {
    for (int i = 0; i < 11; ++i) world.server.say("HTTP/1.1 103 x\r\n\r\n");
    CHECK(told.size() == 10);
    CHECK(world.answer(*stream).error().code() == base::Code::kProtocol);
  }
  SECTION("the listener may drop the stream") {
    stream->set_inform([&](const wire::Headers&) { stream.reset(); });
    world.server.say("HTTP/1.1 100 Continue\r\n\r\n");
    CHECK(!stream);
    CHECK(world.client->closed().is_set());
  }
}

TEST_CASE("an answer before the request's end", "[http1]") {
  ClientWorld world;
  auto stream = world.open(kPost, false);
  REQUIRE(put(*stream, "first").ok());
  world.loop.run_ready();
  world.server.say("HTTP/1.1 413 x\r\ncontent-length: 0\r\n\r\n");
  REQUIRE(world.answer(*stream));
  CHECK(world.loop.run(read_all(*stream)).empty());
  CHECK(!world.client->reusable());
  SECTION("the request is finished nevertheless") {
    stream->shutdown_write();
    world.loop.run_ready();
    CHECK(world.client->reusable());
  }
  SECTION("or given up") {
    stream.reset();
    CHECK(world.client->closed().is_set());
  }
}

TEST_CASE("a dropped exchange takes its connection along", "[http1]") {
  ClientWorld world;
  auto stream = world.open(kGet);
  world.server.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc");
  REQUIRE(world.answer(*stream));
  stream.reset();
  CHECK(!world.client->reusable());
  CHECK(world.client->closed().is_set());
  (void)world.server.heard();
  CHECK(world.server.broken);
}

TEST_CASE("an upgrade as a client: nothing is sent before the 101, and the key must be proved", "[http1]") {
  ClientWorld world;
  auto stream = world.open(kChat, false);
  std::string asked = world.server.heard();
  size_t at = asked.find("sec-websocket-key: ");
  REQUIRE(at != std::string::npos);
  std::string key = asked.substr(at + 19, 24);
  CHECK(asked.starts_with("GET /chat HTTP/1.1\r\nhost: a\r\n"));
  CHECK(put(*stream, "early").is_would_block());
  std::string grant = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
  SECTION("granted") {
    world.server.say(grant + "sec-websocket-accept: " + wire::websocket_accept(key) + "\r\n\r\nhello");
    auto answer = world.answer(*stream);
    REQUIRE(answer);
    CHECK(*answer == wire::Headers{{":status", "200"}});
    REQUIRE(put(*stream, "now").ok());
    CHECK(world.server.heard() == "now");
    world.server.stream->shutdown_write();
    CHECK(world.loop.run(read_all(*stream)) == "hello");
    stream->shutdown_write();
    world.loop.run_ready();
    CHECK(world.client->closed().is_set());
    CHECK(!world.client->error());
  }
  SECTION("granted by somebody who did not read the key") {
    world.server.say(grant + "sec-websocket-accept: x\r\n\r\n");
    CHECK(world.answer(*stream).error().code() == base::Code::kProtocol);
    CHECK(stream->fault() == Http1Fault::kUnaskedUpgrade);
  }
  SECTION("answered like any request: no grant") {
    world.server.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    CHECK(world.answer(*stream).error().code() == base::Code::kProtocol);
    CHECK(stream->fault() == Http1Fault::kIgnoredUpgrade);
    CHECK(put(*stream, "late").is_error());
    CHECK(world.server.heard().empty());
    CHECK(!world.client->reusable());
  }
  SECTION("refused") {
    world.server.say("HTTP/1.1 403 x\r\ncontent-length: 2\r\n\r\nno");
    auto answer = world.answer(*stream);
    REQUIRE(answer);
    CHECK((*answer)[0].second == "403");
    CHECK(put(*stream, "late").is_error());
    CHECK(world.loop.run(read_all(*stream)) == "no");
    CHECK(world.client->reusable());
  }
}

TEST_CASE("headers that HTTP/1 cannot carry are refused before anything is sent", "[http1]") {
  ClientWorld world;
  wire::Headers bad = kGet;
  bad.emplace_back("x", "a\r\nb");
  CHECK(world.client->open(bad, true).error().code() == base::Code::kInvalid);
  CHECK(world.client->reusable());
  CHECK(world.server.heard().empty());
}

TEST_CASE("dropping a connection breaks its exchange, whichever goes first", "[http1]") {
  ClientWorld world;
  auto stream = world.open(kGet);
  SECTION("connection first") {
    world.client.reset();
    CHECK(stream->gone().is_set());
    CHECK(!world.answer(*stream));
  }
  SECTION("stream first") {
    stream.reset();
    world.client.reset();
  }
  world.loop.run_ready();
  CHECK(world.loop.quiet());
}

}  // namespace culvert::conn
