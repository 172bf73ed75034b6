// SPDX-License-Identifier: Apache-2.0
// load: the client and the server of the benchmark. Blocking sockets and threads for bulk, one epoll loop for
// many small exchanges, so that what is measured is the path between them. One JSON line per run on stdout.
//
//   load serve PORT                        the first byte chooses: 'e' echo, 's' sink (answers the count),
//                                          'd' sends until it is closed, 'b' both, 'w' reads nothing
//   load stream ADDRESS PORT SECONDS [N] [up|down|both]   N streams of 256 KiB writes: Gbit/s
//   load open ADDRESS PORT SECONDS RATE BYTES N   BYTES there and back over N connections, RATE a second in
//   all,
//                                          timed from when each was due to be sent (RATE 0: each
//                                          connection sends again as soon as it has its answer)
//   load conn ADDRESS PORT SECONDS N       connect, 1 KiB there and back, close, from N threads
//   load idle ADDRESS PORT COUNT           opens COUNT connections, says so, keeps them until killed
//   load stall ADDRESS PORT N              N streams that send to 'w' until nothing more goes, until killed

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
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
#include <deque>
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

constexpr size_t kBlock = 256 << 10;
constexpr size_t kSmall = 1024;

void send_until_closed(int fd) {
  std::vector<char> block(kBlock, 'd');
  while (write_all(fd, block.data(), block.size())) {
  }
}

void serve_one(int fd) {
  std::vector<char> buffer(kBlock);
  char kind = 0;
  if (read_all(fd, &kind, 1)) {
    std::thread sender;
    if (kind == 'd' || kind == 'b') sender = std::thread(send_until_closed, fd);
    uint64_t total = 0;
    while (kind != 'w') {
      ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
      if (n <= 0) break;
      total += static_cast<uint64_t>(n);
      if (kind == 'e' && !write_all(fd, buffer.data(), static_cast<size_t>(n))) break;
    }
    if (kind == 'w') ::pause();
    if (kind == 's') write_all(fd, reinterpret_cast<const char*>(&total), sizeof total);
    if (sender.joinable()) {
      ::shutdown(fd, SHUT_RDWR);
      sender.join();
    }
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

// One direction or both for `seconds`; bytes that have arrived (down) or were taken by the server (up).
uint64_t stream_one(const char* address, const char* port, double seconds, const std::string& way) {
  int fd = dial(address, port);
  if (fd < 0) die("connect");
  std::vector<char> block(kBlock, 'x');
  char kind = way == "up" ? 's' : way == "down" ? 'd' : 'b';
  if (!write_all(fd, &kind, 1)) die("send");
  auto begin = Clock::now();
  std::atomic<uint64_t> sent{0};
  std::thread sender;
  auto send = [&] {
    while (seconds_since(begin) < seconds) {
      if (!write_all(fd, block.data(), block.size())) die("send");
      sent += block.size();
    }
  };
  uint64_t total = 0;
  if (way == "up") {
    send();
    ::shutdown(fd, SHUT_WR);
    if (!read_all(fd, reinterpret_cast<char*>(&total), sizeof total)) die("no count came back");
  } else {
    if (way == "both") sender = std::thread(send);
    std::vector<char> into(kBlock);
    while (seconds_since(begin) < seconds) {
      ssize_t n = ::recv(fd, into.data(), into.size(), 0);
      if (n <= 0) die("receive");
      total += static_cast<uint64_t>(n);
    }
    uint64_t up = sent;
    ::shutdown(fd, SHUT_RD);
    if (sender.joinable()) {
      sender.join();
    }
    total += up;
  }
  ::close(fd);
  return total;
}

int stream(const char* address, const char* port, double seconds, int count, const std::string& way) {
  std::atomic<uint64_t> total{0};
  std::vector<std::thread> all;
  auto begin = Clock::now();
  for (int i = 0; i < count; ++i) all.emplace_back([&] { total += stream_one(address, port, seconds, way); });
  for (auto& thread : all) thread.join();
  double took = seconds_since(begin);
  std::printf("{\"bytes\": %llu, \"seconds\": %.4f, \"gbit\": %.4f}\n",
              static_cast<unsigned long long>(total.load()), took,
              static_cast<double>(total.load()) * 8 / took / 1e9);
  return 0;
}

// Many small exchanges on one thread. Open loop: an exchange that was due while the path was stuck counts
// from when it was due, so a stall shows in full (no coordinated omission).
class Exchanges {
 public:
  Exchanges(const char* address, const char* port, size_t bytes, int count)
      : block_(bytes, 'y'), into_(64 << 10), epoll_(::epoll_create1(0)), lines_(static_cast<size_t>(count)) {
    for (size_t i = 0; i < lines_.size(); ++i) {
      Line& line = lines_[i];
      line.fd = dial(address, port);
      if (line.fd < 0 || !write_all(line.fd, "e", 1)) die("connect");
      // The path is warm before anything is measured.
      for (int warm = 0; warm < 20; ++warm) {
        std::vector<char> back(bytes);
        if (!write_all(line.fd, block_.data(), bytes) || !read_all(line.fd, back.data(), bytes)) die("echo");
      }
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u64 = i;
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, line.fd, &event);
    }
  }

  int run(double seconds, double rate) {
    begin_ = Clock::now();
    auto end = begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    if (rate == 0) {
      for (Line& line : lines_) send(line, Clock::now());
    }
    uint64_t due = 0;
    for (;;) {
      auto now = Clock::now();
      if (now >= end) break;
      auto next = end;
      while (rate > 0) {
        next = begin_ + std::chrono::duration_cast<Clock::duration>(
                            std::chrono::duration<double>(static_cast<double>(due) / rate));
        if (next > now) break;
        send(lines_[due++ % lines_.size()], next);
      }
      read(std::min(next, end), rate == 0, end);
    }
    double took = seconds_since(begin_);
    // What is still under way gets a while, and counts with all the time it took.
    auto patience = Clock::now() + std::chrono::seconds(5);
    while (waiting_ > 0 && Clock::now() < patience) read(patience, false, end);
    return print(took);
  }

 private:
  struct Line {
    int fd = -1;
    size_t got = 0;
    std::deque<Clock::time_point> sent;
  };
  void send(Line& line, Clock::time_point due) {
    line.sent.push_back(due);
    ++waiting_;
    if (!write_all(line.fd, block_.data(), block_.size())) die("send");
  }
  void read(Clock::time_point until, bool again, Clock::time_point end) {
    epoll_event events[64];
    auto left = std::max<int64_t>(
        0, std::chrono::duration_cast<std::chrono::nanoseconds>(until - Clock::now()).count());
    timespec wait{left / 1'000'000'000, left % 1'000'000'000};
    int count = ::epoll_pwait2(epoll_, events, 64, &wait, nullptr);
    for (int i = 0; i < count; ++i) {
      Line& line = lines_[events[i].data.u64];
      ssize_t n = ::recv(line.fd, into_.data(), into_.size(), MSG_DONTWAIT);
      if (n <= 0) die("receive");
      auto now = Clock::now();
      line.got += static_cast<size_t>(n);
      while (line.got >= block_.size() && !line.sent.empty()) {
        line.got -= block_.size();
        micros_.push_back(std::chrono::duration<double, std::micro>(now - line.sent.front()).count());
        line.sent.pop_front();
        --waiting_;
        if (again && now < end) send(line, now);
      }
    }
  }
  int print(double took) {
    std::sort(micros_.begin(), micros_.end());
    auto at = [&](double part) {
      if (micros_.empty()) return 0.0;
      size_t place = static_cast<size_t>(part * static_cast<double>(micros_.size()));
      return micros_[std::min(micros_.size() - 1, place)];
    };
    std::printf(
        "{\"count\": %zu, \"lost\": %zu, \"per_second\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
        "\"p999_us\": %.1f, \"max_us\": %.1f}\n",
        micros_.size(), waiting_, static_cast<double>(micros_.size()) / took, at(0.5), at(0.99), at(0.999),
        at(1));
    return 0;
  }

  std::vector<char> block_, into_;
  int epoll_;
  std::vector<Line> lines_;
  std::vector<double> micros_;
  size_t waiting_ = 0;
  Clock::time_point begin_;
};

int stall(const char* address, const char* port, int count) {
  std::vector<std::thread> all;
  for (int i = 0; i < count; ++i)
    all.emplace_back([&] {
      int fd = dial(address, port);
      if (fd < 0 || !write_all(fd, "w", 1)) die("connect");
      send_until_closed(fd);
    });
  std::printf("{\"streams\": %d}\n", count);
  std::fflush(stdout);
  for (auto& thread : all) thread.join();
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
        char bytes[1 + kSmall] = {'e', 'z'};
        bool ok = fd >= 0 && write_all(fd, bytes, sizeof bytes) && read_all(fd, bytes, kSmall);
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
  if (kind == "stream" && argc >= 5)
    return stream(argv[2], argv[3], std::atof(argv[4]), argc > 5 ? std::atoi(argv[5]) : 1,
                  argc > 6 ? argv[6] : "up");
  if (kind == "open" && argc == 8) {
    Exchanges exchanges(argv[2], argv[3], static_cast<size_t>(std::atoi(argv[6])), std::atoi(argv[7]));
    return exchanges.run(std::atof(argv[4]), std::atof(argv[5]));
  }
  if (kind == "stall" && argc == 5) return stall(argv[2], argv[3], std::atoi(argv[4]));
  if (kind == "conn" && argc == 6) return conn(argv[2], argv[3], std::atof(argv[4]), std::atoi(argv[5]));
  if (kind == "idle" && argc == 5) return idle(argv[2], argv[3], std::atoi(argv[4]));
  std::fprintf(stderr, "usage: load serve|stream|open|conn|idle|stall ... (see the head of load.cc)\n");
  return 2;
}
