// SPDX-License-Identifier: Apache-2.0
// The relay between two kernel sockets: after the first 64 KiB the bytes are spliced, and nobody can tell.
#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <string>

#include "net/async/scope.h"
#include "net/async/wait.h"
#include "net/conn/relay.h"
#include "net/uv/uv_loop.h"
#include "net/uv/uv_network.h"

namespace culvert::test {
namespace {

using async::Task;
using base::Result;

std::string pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>((i * 31 + i / 251) & 0xff);
  return bytes;
}

struct Ends {
  std::unique_ptr<io::ByteStream> outer, inner;
};

class World {
 public:
  World() {
    network_ = std::move(*uv::UvNetwork::create(loop));
    listener_ = std::move(*network_->listen({base::IpAddr::v4(127, 0, 0, 1), 0}, {}));
  }
  Task<Ends> connect() {
    async::Deadline deadline = async::Deadline::in(loop, std::chrono::seconds(5));
    auto first = co_await network_->dial(listener_->local_addr(), {}, deadline);
    Result<io::Accepted> second = co_await io::accept(*listener_);
    co_return Ends{std::move(*first), std::move(second->stream)};
  }
  static Task<void> send(io::ByteStream& stream, std::string bytes, bool end) {
    Result<> written = co_await io::write_all(stream, base::as_bytes(bytes));
    CHECK(written.has_value());
    if (end) stream.shutdown_write();
  }
  // Until the end; slowly for the first so many bytes, so that the path fills up.
  static Task<void> receive(async::Loop& loop, io::ByteStream& stream, size_t slow, std::string& got) {
    std::vector<uint8_t> block(64 * 1024);
    for (;;) {
      Result<size_t> count = co_await io::read_some(stream, block);
      if (!count || *count == 0) break;
      got += base::as_text(base::ByteView(block).first(*count));
      if (got.size() < slow) co_await async::sleep_for(loop, std::chrono::milliseconds(2));
    }
  }
  void run(Task<void> body) {
    bool ended = false;
    async::CallTimer too_late([this] { loop.stop(); });
    loop.arm(too_late, loop.now() + std::chrono::seconds(20));
    async::Scope scope(loop);
    scope.spawn(drive(loop, std::move(body), ended));
    if (!ended) loop.run();
    CHECK(ended);
  }
  uv::UvLoop loop;
  conn::RelayBuffer buffer;

 private:
  static Task<void> drive(uv::UvLoop& loop, Task<void> body, bool& ended) {
    co_await body;
    ended = true;
    loop.stop();
  }
  std::unique_ptr<uv::UvNetwork> network_;
  std::unique_ptr<io::Listener> listener_;
};

Task<void> carry(conn::Relay& relay, bool& good) {
  Result<> ended = co_await relay.run();
  good = ended.has_value();
}

Task<void> exchange(World& world, bool urgent) {
  Ends client = co_await world.connect(), server = co_await world.connect();
  CHECK(client.inner->can_splice());
  std::string up = pattern(5'000'000), down = pattern(3'000'001), got_up, got_down;
  conn::Relay relay(world.loop, world.buffer, *client.inner, *server.inner);
  bool good = false;
  async::Scope relaying(world.loop), sending(world.loop), receiving(world.loop);
  relaying.spawn(carry(relay, good));
  sending.spawn(World::send(*client.outer, up, true));
  receiving.spawn(World::receive(world.loop, *server.outer, 1'000'000, got_up));
  receiving.spawn(World::receive(world.loop, *client.outer, 0, got_down));
  co_await World::send(*server.outer, down, !urgent);
  if (urgent) {
    // An urgent byte in the midst: it is left out, and the bytes behind it arrive.
    CHECK(::send(server.outer->splice_fd(), "!", 1, MSG_OOB) == 1);
    co_await World::send(*server.outer, down, true);
    down += down;
  }
  co_await relaying.idle().wait();
  CHECK(good);
  CHECK(relay.bytes_to_upstream() == up.size());
  CHECK(relay.bytes_to_downstream() == down.size());
  co_await receiving.idle().wait();
  CHECK(got_up == up);
  CHECK(got_down == down);
}

Task<void> lose_client(World& world) {
  Ends client = co_await world.connect(), server = co_await world.connect();
  conn::Relay relay(world.loop, world.buffer, *client.inner, *server.inner);
  async::Scope tasks(world.loop);
  std::string got;
  tasks.spawn(World::send(*server.outer, pattern(400'000), false));
  tasks.spawn(World::receive(world.loop, *server.outer, 0, got));
  async::CallTimer reset([&] { client.outer->abort(); });  // while the pipe may hold what it never read
  world.loop.arm(reset, world.loop.now() + std::chrono::milliseconds(100));
  Result<> ended = co_await relay.run();
  CHECK(ended.has_value());  // a reset is a clean end
  co_await tasks.idle().wait();
  CHECK(got.empty());
}

}  // namespace

TEST_CASE("relay between kernel sockets: every byte, once, in order; half-closes; counts") {
  World world;
  bool urgent = GENERATE(false, true);
  world.run(exchange(world, urgent));
  world.run(exchange(world, urgent));  // on the pipes the first one gave back
}

TEST_CASE("relay between kernel sockets: a reset ends both directions") {
  World world;
  world.run(lose_client(world));
}

}  // namespace culvert::test
