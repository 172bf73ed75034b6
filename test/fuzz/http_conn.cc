// SPDX-License-Identifier: Apache-2.0
// HTTP connections of all kinds under a script: what the peer sends, when it goes, and what our side does
// with its streams, in any order. First byte: bits 0-1 the connection (HTTP/1 server, client, HTTP/2 server,
// client). Then one byte an action, some with arguments.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "net/async/scope.h"
#include "net/conn/http1_conn.h"
#include "net/conn/http2_conn.h"
#include "net/io/memory_pipe.h"
#include "test/support/sim_loop.h"

using namespace culvert;
using namespace std::chrono_literals;

namespace {

class Script {
 public:
  explicit Script(base::ByteView bytes) : bytes_(bytes) {}
  bool ended() const { return bytes_.empty(); }
  uint8_t next() { return take(1).empty() ? 0 : last_; }
  base::ByteView take(size_t count) {
    base::ByteView out = bytes_.first(std::min(count, bytes_.size()));
    bytes_ = bytes_.subspan(out.size());
    if (!out.empty()) last_ = out.back();
    return out;
  }

 private:
  base::ByteView bytes_;
  uint8_t last_ = 0;
};

const wire::Headers kGet = {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}};
const wire::Headers kPost = {{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}};
const wire::Headers kLong = {
    {":method", "PUT"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}, {"content-length", "9"}};
const wire::Headers kChat = {{":method", "CONNECT"},
                             {":protocol", "websocket"},
                             {":scheme", "http"},
                             {":authority", "a"},
                             {":path", "/"}};

struct World {
  test::SimLoop loop;
  std::unique_ptr<io::ByteStream> peer;
  std::unique_ptr<conn::Http1ServerConn> server1;
  std::unique_ptr<conn::Http1ClientConn> client1;
  std::unique_ptr<conn::Http2Conn> conn2;
  bool server = false;
  std::vector<std::unique_ptr<conn::HttpStream>> streams;
  async::Scope tasks{loop};

  explicit World(uint8_t kind) : server((kind & 1) == 0) {
    auto [a, b] = io::make_memory_pipe(loop, {.buffer_bytes = 4096});
    peer = std::move(a);
    conn::Http1Options one;
    one.limits.allow_http10 = true;
    one.send_bytes_max = 2000;
    one.requests_max = 5;
    one.half_close_is_gone = (kind & 4) != 0;
    conn::Http2Options two = conn::Http2Options::for_users_traffic();
    two.requests_max = 5;
    two.rapid_resets_min = 3;
    two.new_streams_per_turn_max = 2;
    if ((kind & 2) != 0) {
      conn2 = std::make_unique<conn::Http2Conn>(
          loop, std::move(b), server ? wire::H2Engine::Role::kServer : wire::H2Engine::Role::kClient, two);
      say(base::as_bytes(server ? "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" : ""));
    } else if (server) {
      server1 = std::make_unique<conn::Http1ServerConn>(loop, std::move(b), one);
    } else {
      client1 = std::make_unique<conn::Http1ClientConn>(loop, std::move(b), base::Rng(1), one);
    }
    if (server1) tasks.spawn(accept(*this, *server1));
    if (conn2 && server) tasks.spawn(accept(*this, *conn2));
    loop.run_ready();
  }
  template <class Conn>
  static async::Task<void> accept(World& world, Conn& conn) {
    while (auto stream = co_await conn.accept()) world.streams.push_back(std::move(stream));
  }
  void say(base::ByteView bytes) {
    if (!bytes.empty()) (void)peer->try_write(bytes);
  }
  void open(uint8_t how) {
    const wire::Headers* kinds[] = {&kGet, &kPost, &kLong, &kChat};
    const wire::Headers& headers = *kinds[how % 4];
    bool end_stream = (how & 4) != 0 && how % 4 != 2 && how % 4 != 3;
    if (client1) {
      if (auto stream = client1->open(headers, end_stream)) streams.push_back(std::move(*stream));
    } else if (conn2 && !server) {
      if (auto stream = conn2->open(headers, end_stream)) streams.push_back(std::move(*stream));
    }
    if (!streams.empty())
      streams.back()->set_inform([this](const wire::Headers& told) {
        if (told.size() > 2) streams.clear();
      });
  }
  void drop_connection() {
    tasks.cancel_all();
    loop.run_ready();
    server1.reset();
    client1.reset();
    conn2.reset();
  }
};

void act_on(World& world, conn::HttpStream& stream, uint8_t action, Script& script) {
  std::vector<uint8_t> buffer(1 + script.next());
  switch (action % 12) {
    case 0:
    case 1: {
      io::IoResult got = stream.try_read(buffer);
      if (got.ok() && (got.count() == 0 || got.count() > buffer.size())) std::abort();
      break;
    }
    case 2:
    case 3: (void)stream.try_write(base::ByteView(buffer)); break;
    case 4: stream.shutdown_write(); break;
    case 5: stream.send_trailers({{"t", "v"}}); break;
    case 6: stream.abort(); break;
    case 7: stream.reset(wire::kH2InternalError); break;
    case 8: stream.inform({{":status", "103"}}); break;
    default: {
      if (!world.server) break;
      wire::Headers headers = {{":status", action % 2 == 0 ? "200" : "304"}};
      if (buffer.size() > 128) headers.emplace_back("content-length", std::to_string(buffer.size() - 128));
      stream.respond(std::move(headers), buffer.size() == 1);
    }
  }
  (void)stream.flushed();
  (void)stream.counts();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  Script script({data, size});
  World world(script.next());
  while (!script.ended()) {
    uint8_t action = script.next();
    switch (action >> 5) {
      case 0:
      case 1: world.say(script.take(action & 63)); break;
      case 2: world.loop.run_ready(); break;
      case 3: world.open(action); break;
      case 4:
        if (!world.streams.empty()) act_on(world, *world.streams[0], action & 31, script);
        break;
      case 5:
        if (!world.streams.empty()) act_on(world, *world.streams.back(), action & 31, script);
        break;
      case 6:
        if (!world.streams.empty())
          world.streams.erase(world.streams.begin() + action % world.streams.size());
        break;
      case 7: {
        uint8_t buffer[1000];
        switch (action & 31) {
          case 0: world.peer->abort(); break;
          case 1: world.peer->shutdown_write(); break;
          case 2: world.drop_connection(); break;
          case 3:
            if (world.server1) world.server1->drain();
            if (world.conn2) world.conn2->drain();
            break;
          case 4: world.loop.run_for(100s); break;
          default: (void)world.peer->try_read(buffer);
        }
      }
    }
  }
  world.loop.run_ready();
  world.streams.clear();
  world.loop.run_ready();
  world.drop_connection();
  world.peer.reset();
  world.loop.run_for(4h);
  // Nothing is left behind.
  if (!world.loop.quiet()) std::abort();
  return 0;
}
