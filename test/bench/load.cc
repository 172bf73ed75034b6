// SPDX-License-Identifier: Apache-2.0
// load: the client and the server of the benchmark. Blocking sockets and threads, so that what is
// measured is the path between them. One JSON line per run on stdout.
//
//   load serve PORT                      first byte chooses: 'e' echo, 's' sink (answers the count)
//   load stream ADDRESS PORT SECONDS     one stream of 256 KiB writes: bytes per second
//   load rtt ADDRESS PORT SECONDS        1 KiB there and back on one connection: p50, p99
//   load conn ADDRESS PORT SECONDS N     connect, 1 byte there and back, close, from N threads
//   load idle ADDRESS PORT COUNT         opens COUNT connections, says so, keeps them until killed

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "load: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

void set_nodelay(int fd) {
  int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int dial(const char* address, const char* port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address, port, &hints, &found) != 0) return -1;
  int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && ::connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
    ::close(fd);
    fd = -1;
  }
  ::freeaddrinfo(found);
  if (fd >= 0) set_nodelay(fd);
  return fd;
}

bool write_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    ssize_t n = ::send(fd, data, size, MSG_NOSIGNAL);
    if (n <= 0) return false;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

bool read_all(int fd, char* data, size_t size) {
  return ::recv(fd, data, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

void serve_one(int fd) {
  std::vector<char> buffer(256 << 10);
  char kind = 0;
  if (read_all(fd, &kind, 1)) {
    uint64_t total = 0;
    for (;;) {
      ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
      if (n <= 0) break;
      total += static_cast<uint64_t>(n);
      if (kind == 'e' && !write_all(fd, buffer.data(), static_cast<size_t>(n))) break;
    }
    if (kind == 's') write_all(fd, reinterpret_cast<const char*>(&total), sizeof total);
  }
  ::close(fd);
}

int serve(int port) {
  int listener = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(static_cast<uint16_t>(port));
  if (::bind(listener, reinterpret_cast<sockaddr*>(&any), sizeof any) != 0 || ::listen(listener, 4096) != 0)
    die("listen");
  for (;;) {
    int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    set_nodelay(fd);
    std::thread(serve_one, fd).detach();
  }
}

int stream(const char* address, const char* port, double seconds) {
  int fd = dial(address, port);
  if (fd < 0) die("connect");
  std::vector<char> block(256 << 10, 'x');
  if (!write_all(fd, "s", 1)) die("send");
  auto begin = Clock::now();
  while (seconds_since(begin) < seconds)
    if (!write_all(fd, block.data(), block.size())) die("send");
  ::shutdown(fd, SHUT_WR);
  uint64_t total = 0;
  if (!read_all(fd, reinterpret_cast<char*>(&total), sizeof total)) die("no count came back");
  double took = seconds_since(begin);
  std::printf("{\"bytes\": %llu, \"seconds\": %.4f, \"gbit\": %.4f}\n",
              static_cast<unsigned long long>(total), took, static_cast<double>(total) * 8 / took / 1e9);
  return 0;
}

int rtt(const char* address, const char* port, double seconds) {
  int fd = dial(address, port);
  if (fd < 0) die("connect");
  if (!write_all(fd, "e", 1)) die("send");
  std::vector<char> block(1024, 'y');
  std::vector<double> micros;
  for (int i = 0; i < 100; ++i)
    if (!write_all(fd, block.data(), block.size()) || !read_all(fd, block.data(), block.size())) die("echo");
  auto begin = Clock::now();
  while (seconds_since(begin) < seconds) {
    auto sent = Clock::now();
    if (!write_all(fd, block.data(), block.size()) || !read_all(fd, block.data(), block.size())) die("echo");
    micros.push_back(seconds_since(sent) * 1e6);
  }
  std::sort(micros.begin(), micros.end());
  std::printf("{\"count\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", micros.size(),
              micros[micros.size() / 2], micros[micros.size() * 99 / 100]);
  return 0;
}

int conn(const char* address, const char* port, double seconds, int threads) {
  std::atomic<uint64_t> good{0}, bad{0};
  std::vector<std::thread> all;
  auto begin = Clock::now();
  for (int i = 0; i < threads; ++i)
    all.emplace_back([&] {
      while (seconds_since(begin) < seconds) {
        int fd = dial(address, port);
        char bytes[2] = {'e', 'z'};
        bool ok = fd >= 0 && write_all(fd, bytes, 2) && read_all(fd, bytes, 1);
        (ok ? good : bad)++;
        if (fd >= 0) ::close(fd);
      }
    });
  for (auto& thread : all) thread.join();
  double took = seconds_since(begin);
  std::printf("{\"good\": %llu, \"bad\": %llu, \"per_second\": %.1f}\n",
              static_cast<unsigned long long>(good.load()), static_cast<unsigned long long>(bad.load()),
              static_cast<double>(good.load()) / took);
  return 0;
}

int idle(const char* address, const char* port, int count) {
  rlimit limit{static_cast<rlim_t>(count) + 100, static_cast<rlim_t>(count) + 100};
  ::setrlimit(RLIMIT_NOFILE, &limit);
  int open = 0;
  for (int i = 0; i < count; ++i) {
    int fd = dial(address, port);
    char bytes[2] = {'e', 'z'};
    if (fd >= 0 && write_all(fd, bytes, 2) && read_all(fd, bytes, 1)) ++open;
  }
  std::printf("{\"open\": %d}\n", open);
  std::fflush(stdout);
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  std::string kind = argc > 1 ? argv[1] : "";
  if (kind == "serve" && argc == 3) return serve(std::atoi(argv[2]));
  if (kind == "stream" && argc == 5) return stream(argv[2], argv[3], std::atof(argv[4]));
  if (kind == "rtt" && argc == 5) return rtt(argv[2], argv[3], std::atof(argv[4]));
  if (kind == "conn" && argc == 6) return conn(argv[2], argv[3], std::atof(argv[4]), std::atoi(argv[5]));
  if (kind == "idle" && argc == 5) return idle(argv[2], argv[3], std::atoi(argv[4]));
  std::fprintf(stderr, "usage: load serve|stream|rtt|conn|idle ... (see the head of load.cc)\n");
  return 2;
}
