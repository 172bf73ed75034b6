// SPDX-License-Identifier: Apache-2.0
// net/uv against the kernel: what the stream contract does not cover. Loopback and namespaces of its own
// only.
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "net/async/scope.h"
#include "net/async/wait.h"
#include "net/io/stream_wait.h"
#include "net/uv/dir_watch.h"
#include "net/uv/log_sink.h"
#include "net/uv/netns.h"
#include "net/uv/uv_loop.h"
#include "net/uv/uv_network.h"

namespace culvert::uv {
namespace {

using async::Deadline;
using async::Task;
using base::Code;
using base::Result;
using base::SocketAddr;
using std::chrono::milliseconds;

using Dialed = Result<std::unique_ptr<io::ByteStream>>;

struct World {
  World() {
    Result<std::unique_ptr<UvNetwork>> made = UvNetwork::create(loop);
    REQUIRE(made.has_value());
    network = std::move(*made);
  }
  // Runs a task to its end, ten seconds at most.
  template <class T>
  T run(Task<T> task) {
    async::CallTimer too_late([this] { loop.stop(); });
    loop.arm(too_late, loop.now() + std::chrono::seconds(10));
    std::optional<T> value;
    async::Scope scope(loop);
    scope.spawn(drive(loop, std::move(task), value));
    loop.run();  // returns at once if the task has ended already
    REQUIRE(value);
    return std::move(*value);
  }
  template <class T>
  static Task<void> drive(UvLoop& loop, Task<T> task, std::optional<T>& value) {
    value.emplace(co_await task);
    loop.stop();
  }
  Deadline in(int ms) { return Deadline::in(loop, milliseconds(ms)); }
  std::unique_ptr<io::Listener> listen(const char* at, io::ListenOptions options = {}) {
    Result<std::unique_ptr<io::Listener>> listener =
        network->listen(*SocketAddr::parse(at), std::move(options));
    if (!listener) FAIL(listener.error().message());
    return std::move(*listener);
  }
  Dialed dial(const SocketAddr& to, io::DialOptions options = {}, int ms = 2000) {
    return run(network->dial(to, std::move(options), in(ms)));
  }
  void turn(int ms = 20) { (void)run(pause(loop, ms)); }
  static Task<bool> pause(UvLoop& loop, int ms) {
    co_await async::sleep_for(loop, milliseconds(ms));
    co_return true;
  }

  UvLoop loop;
  std::unique_ptr<UvNetwork> network;
};

int option(const io::ByteStream& stream, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  getsockopt(stream.splice_fd(), level, name, &value, &length);
  return value;
}

std::filesystem::path fresh_directory() {
  std::string path = (std::filesystem::temp_directory_path() / "culvert-uv-XXXXXX").string();
  REQUIRE(mkdtemp(path.data()) != nullptr);
  return path;
}

// A namespace with its loopback up; invalid where we may not make one.
base::UniqueFd new_netns() {
  base::UniqueFd fd;
  std::thread([&] {
    if (unshare(CLONE_NEWNET) != 0) return;
    base::UniqueFd socket_fd(socket(AF_INET, SOCK_DGRAM, 0));
    ifreq request{};
    std::snprintf(request.ifr_name, sizeof request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    if (ioctl(socket_fd.get(), SIOCSIFFLAGS, &request) != 0) return;
    fd.reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }).join();
  return fd;
}

ino_t current_netns() {
  struct stat info{};
  stat("/proc/thread-self/ns/net", &info);
  return info.st_ino;
}

Task<Result<size_t>> read_count(io::ByteStream& stream, size_t count, std::string& text) {
  while (text.size() < count) {
    uint8_t block[256];
    Result<size_t> got = co_await io::read_some(stream, block);
    if (!got || *got == 0) co_return got;
    text += base::as_text(base::ByteView(block).first(*got));
  }
  co_return text.size();
}

}  // namespace

TEST_CASE("posted calls run on the loop, in order per thread") {
  LoopThread thread;
  thread.start("test-loop");
  std::string trace;
  std::thread::id where;
  async::Loop& loop = thread.loop();
  std::atomic<bool> done{false};
  for (char name : {'a', 'b', 'c'}) loop.post([&, name] { trace += name; });
  loop.post([&] {
    where = std::this_thread::get_id();
    done = true;
  });
  while (!done) std::this_thread::yield();
  thread.join();
  CHECK(trace == "abc");
  CHECK(where != std::this_thread::get_id());
}

TEST_CASE("timers on the real clock are not early") {
  World world;
  base::TimePoint before = world.loop.now();
  world.turn(30);
  CHECK(world.loop.now() - before >= milliseconds(30));
  CHECK(world.loop.now() - before < milliseconds(3000));
}

TEST_CASE("a dial is refused, or ends at its deadline") {
  World world;
  std::unique_ptr<io::Listener> gone = world.listen("127.0.0.1:0");
  SocketAddr address = gone->local_addr();
  gone.reset();
  Dialed refused = world.dial(address);
  REQUIRE(!refused.has_value());
  CHECK(refused.error().code() == Code::kRefused);
  CHECK(refused.error().message().find(address.to_string()) != std::string::npos);
  // A full accept queue drops what knocks: the dial hangs until its deadline.
  io::ListenOptions narrow;
  narrow.backlog = 0;
  std::unique_ptr<io::Listener> full = world.listen("127.0.0.1:0", narrow);
  std::vector<Dialed> dials;
  for (int i = 0; i < 4; ++i) dials.push_back(world.dial(full->local_addr(), {}, 150));
  REQUIRE(!dials.back().has_value());
  CHECK(dials.back().error().code() == Code::kTimeout);
}

TEST_CASE("sockets carry what the options say") {
  World world;
  io::ListenOptions listen_options;
  listen_options.keepalive = io::Keepalive{std::chrono::seconds(7), std::chrono::seconds(8), 3};
  std::unique_ptr<io::Listener> listener = world.listen("[::]:0", listen_options);
  io::DialOptions options;
  options.keepalive = io::Keepalive{};
  options.user_timeout = std::chrono::seconds(30);
  bool privileged = geteuid() == 0;
  if (privileged) options.mark = 1337;
  // The wildcard takes both families, and an IPv4 peer looks like IPv4.
  SocketAddr v4{base::IpAddr::loopback_v4(), listener->local_addr().port};
  Dialed stream = world.dial(v4, options);
  REQUIRE(stream.has_value());
  Result<io::Accepted> accepted = world.run(io::accept(*listener));
  REQUIRE(accepted.has_value());
  CHECK(accepted->local == v4);
  CHECK(accepted->peer == (*stream)->local_addr());
  CHECK(option(**stream, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option(**stream, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option(**stream, IPPROTO_TCP, TCP_KEEPIDLE) == 180);
  CHECK(option(**stream, IPPROTO_TCP, TCP_USER_TIMEOUT) == 30'000);
  if (privileged) CHECK(option(**stream, SOL_SOCKET, SO_MARK) == 1337);
  CHECK(option(*accepted->stream, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option(*accepted->stream, IPPROTO_TCP, TCP_KEEPIDLE) == 7);
  CHECK((fcntl(accepted->stream->splice_fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("a port is shared only by those who ask for it") {
  World world;
  io::ListenOptions shared;
  shared.reuse_port = true;
  std::unique_ptr<io::Listener> first = world.listen("127.0.0.1:0", shared);
  std::string at = first->local_addr().to_string();
  std::unique_ptr<io::Listener> second = world.listen(at.c_str(), shared);
  Result<std::unique_ptr<io::Listener>> third = world.network->listen(first->local_addr(), {});
  REQUIRE(!third.has_value());
  CHECK(third.error().message().find(at) != std::string::npos);
}

TEST_CASE("descriptors that run out pause the listener; it goes on by itself") {
  World world;
  std::unique_ptr<io::Listener> listener = world.listen("127.0.0.1:0");
  Dialed stream = world.dial(listener->local_addr());
  REQUIRE(stream.has_value());
  rlimit old_limit{};
  getrlimit(RLIMIT_NOFILE, &old_limit);
  base::UniqueFd lowest(open("/dev/null", O_RDONLY | O_CLOEXEC));
  rlimit tight{static_cast<rlim_t>(lowest.get()), old_limit.rlim_max};
  lowest.reset();
  setrlimit(RLIMIT_NOFILE, &tight);
  Result<io::Accepted> failed = world.run(io::accept(*listener));
  Result<std::optional<io::Accepted>> resting = listener->try_accept();
  setrlimit(RLIMIT_NOFILE, &old_limit);
  REQUIRE(!failed.has_value());
  CHECK(failed.error().code() == Code::kExhausted);
  REQUIRE(resting.has_value());  // no spin: nothing is said until the rest is over
  CHECK(!resting->has_value());
  base::TimePoint before = world.loop.now();
  CHECK(world.run(io::accept(*listener)).has_value());
  CHECK(world.loop.now() - before < milliseconds(2000));
}

TEST_CASE("urgent data does not hide the bytes behind it") {
  World world;
  std::unique_ptr<io::Listener> listener = world.listen("127.0.0.1:0");
  Dialed stream = world.dial(listener->local_addr());
  Result<io::Accepted> accepted = world.run(io::accept(*listener));
  int fd = (*stream)->splice_fd();
  REQUIRE(send(fd, "ab", 2, 0) == 2);
  REQUIRE(send(fd, "!", 1, MSG_OOB) == 1);
  REQUIRE(send(fd, "cd", 2, 0) == 2);
  world.turn();
  std::string text;
  Result<size_t> got = world.run(read_count(*accepted->stream, 4, text));
  REQUIRE(got.has_value());
  CHECK(text == "abcd");
}

TEST_CASE("a socket made in a pod's namespace stays there, and we come home", "[Z3]") {
  base::UniqueFd fd = new_netns();
  if (!fd.valid()) {
    WARN("may not make network namespaces here");
    return;
  }
  World world;
  ino_t home = current_netns();
  Result<io::NetNsRef> netns = world.network->adopt_netns(std::move(fd));
  REQUIRE(netns.has_value());
  CHECK((*netns)->id().inode != home);
  io::ListenOptions inside;
  inside.netns = *netns;
  std::unique_ptr<io::Listener> listener = world.listen("[::]:15006", inside);
  CHECK(current_netns() == home);
  SocketAddr address{base::IpAddr::loopback_v4(), 15006};
  Dialed outside = world.dial(address);
  CHECK(!outside.has_value());
  io::DialOptions dial_inside;
  dial_inside.netns = *netns;
  Dialed stream = world.dial(address, dial_inside);
  CHECK(current_netns() == home);
  REQUIRE(stream.has_value());
  CHECK(world.run(io::accept(*listener)).has_value());
  // A foreign source address, as the inbound side uses towards the app.
  dial_inside.spoof_source = base::IpAddr::v4(127, 0, 0, 77);
  Dialed spoofed = world.dial(address, dial_inside);
  REQUIRE(spoofed.has_value());
  CHECK(world.run(io::accept(*listener))->peer.ip == base::IpAddr::v4(127, 0, 0, 77));
  CHECK(world.network->has_address(base::IpAddr::loopback_v4(), *netns));
  CHECK(world.network->has_address(base::IpAddr::loopback_v6(), nullptr));
  CHECK(!world.network->has_address(base::IpAddr::v4(192, 0, 2, 77), *netns));
  CHECK(!world.network->has_address(base::IpAddr::v4(192, 0, 2, 77), nullptr));
  CHECK(!world.network->adopt_netns(base::UniqueFd(open("/dev/null", O_RDONLY))).has_value());
}

TEST_CASE("Unix sockets: mode, stale paths, removal") {
  World world;
  std::filesystem::path directory = fresh_directory();
  std::string path = directory / "s";
  Result<std::unique_ptr<io::Listener>> listener = world.network->listen_unix(path, 0600);
  REQUIRE(listener.has_value());
  struct stat info{};
  REQUIRE(stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  CHECK(world.run(world.network->dial_unix(path, world.in(1000))).has_value());
  Result<std::unique_ptr<io::Listener>> successor = world.network->listen_unix(path, 0600);
  REQUIRE(successor.has_value());
  CHECK(world.run(world.network->dial_unix(path, world.in(1000))).has_value());
  successor->reset();
  CHECK(!std::filesystem::exists(path));
  CHECK(!world.run(world.network->dial_unix(path, world.in(1000))).has_value());
  CHECK(!world.network->listen_unix(std::string(200, 'x'), 0600).has_value());
  std::filesystem::remove_all(directory);
}

TEST_CASE("packet sockets: bounds, descriptors counted and closed, the end") {
  World world;
  std::string path = "@culvert-packets-" + std::to_string(getpid());
  Result<std::unique_ptr<io::PacketListener>> listener = world.network->listen_packet(path, 0600);
  REQUIRE(listener.has_value());
  Result<std::unique_ptr<io::PacketSocket>> client = world.network->dial_packet(path);
  REQUIRE(client.has_value());
  Result<std::unique_ptr<io::PacketSocket>> server = world.run(io::accept(**listener));
  REQUIRE(server.has_value());
  CHECK((*server)->peer_uid() == geteuid());
  base::UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  REQUIRE(world.run(io::send(**client, "with one", null.get())).has_value());
  Result<io::Packet> packet = world.run(io::receive(**server, 100));
  REQUIRE(packet.has_value());
  CHECK(packet->bytes == "with one");
  REQUIRE(packet->fds.size() == 1);
  CHECK((fcntl(packet->fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(!packet->truncated);
  REQUIRE(world.run(io::send(**client, std::string(200, 'x'), -1)).has_value());
  packet = world.run(io::receive(**server, 100));
  CHECK(packet->truncated);
  CHECK(packet->bytes.size() == 100);
  client->reset();
  packet = world.run(io::receive(**server, 100));
  REQUIRE(packet.has_value());
  CHECK(packet->bytes.empty());
  CHECK(packet->fds.empty());
}

TEST_CASE("names resolve, fail, and may be given up") {
  World world;
  CHECK(world.run(world.network->resolve("192.0.2.7", world.in(1000))) ==
        std::vector<base::IpAddr>{base::IpAddr::v4(192, 0, 2, 7)});
  Result<std::vector<base::IpAddr>> local = world.run(world.network->resolve("localhost", world.in(5000)));
  REQUIRE(local.has_value());
  CHECK(local->front().is_loopback());
  // Dropped while the look-up runs: the answer finds nobody, then the loop itself ends.
  async::Scope scope(world.loop);
  auto ask = [](UvNetwork& network, Deadline deadline) -> Task<void> {
    (void)co_await network.resolve("localhost", deadline);
  };
  scope.spawn(ask(*world.network, world.in(5000)));
  scope.cancel_all();
  world.turn();
  CHECK(scope.running() == 0);
}

TEST_CASE("the log is written in order, and whole at the end") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  base::UniqueFd reader(ends[0]), writer(ends[1]);
  constexpr int kLines = 30'000;  // more than the queue and the pipe hold: the writer waits
  std::string got;
  std::thread reading([&] {
    char block[65536];
    for (ssize_t count; (count = read(reader.get(), block, sizeof block)) > 0;)
      got.append(block, static_cast<size_t>(count));
  });
  std::string expected;
  {
    LogSink sink(writer.get());
    for (int i = 0; i < kLines; ++i) {
      std::string line = "line " + std::to_string(i) + "\n";
      expected += line;
      sink.push(std::move(line));
    }
  }
  writer.reset();
  reading.join();
  CHECK((got == expected));
}

TEST_CASE("a directory tells of changes, also in new subdirectories and after a rename") {
  World world;
  std::filesystem::path root = fresh_directory();
  int changes = 0;
  Result<std::unique_ptr<DirWatch>> watch = DirWatch::create(world.loop, root, [&] { ++changes; });
  REQUIRE(watch.has_value());
  auto expect_change = [&] {
    for (int i = 0; i < 100 && changes == 0; ++i) world.turn(10);
    CHECK(changes > 0);
    changes = 0;
  };
  std::ofstream(root / "a.tmp") << "x";
  expect_change();
  std::filesystem::create_directory(root / "sub");
  expect_change();
  world.turn();
  changes = 0;
  std::ofstream(root / "sub" / "b.tmp") << "x";
  expect_change();
  world.turn();
  changes = 0;
  std::filesystem::rename(root / "sub" / "b.tmp", root / "sub" / "b.yaml");
  expect_change();
  world.turn();
  changes = 0;
  std::filesystem::remove_all(root / "sub");
  expect_change();
  CHECK(!DirWatch::create(world.loop, root / "missing", [] {}).has_value());
  watch->reset();
  std::filesystem::remove_all(root);
}

}  // namespace culvert::uv
