// SPDX-License-Identifier: Apache-2.0
#include "cni/unix_http.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "net/base/unique_fd.h"

namespace culvert::cni {
namespace {

constexpr size_t kAnswerBytesMax = (1 << 20) + 64 * 1024;
using Clock = std::chrono::steady_clock;

base::Result<> wait_for(int fd, short events, Clock::time_point end) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) return base::fail(base::Code::kTimeout, "no answer in time");
    pollfd one{fd, events, 0};
    const int ready = ::poll(&one, 1, static_cast<int>(left));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return base::fail(base::Error::from_errno(errno, "poll"));
  }
}

base::Result<> send_all(int fd, std::string_view bytes, Clock::time_point end) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      CULVERT_TRY(wait_for(fd, POLLOUT, end));
    } else if (errno != EINTR) {
      return base::fail(base::Error::from_errno(errno, "send"));
    }
  }
  return {};
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

// Length of the whole answer if its head says so.
std::optional<size_t> expected_size(std::string_view bytes) {
  const size_t head = bytes.find("\r\n\r\n");
  if (head == std::string_view::npos) return std::nullopt;
  const std::string text = lower(bytes.substr(0, head));
  const size_t at = text.find("\r\ncontent-length:");
  if (at == std::string::npos) return std::nullopt;
  size_t value = 0;
  for (char c : std::string_view(text).substr(at + 17)) {
    if (c == ' ' || c == '\t') continue;
    if (c < '0' || c > '9' || value > kAnswerBytesMax) break;
    value = value * 10 + static_cast<size_t>(c - '0');
  }
  return head + 4 + value;
}

}  // namespace

base::Result<HttpAnswer> parse_http_answer(std::string_view bytes) {
  const size_t head = bytes.find("\r\n\r\n");
  if (head == std::string_view::npos || !bytes.starts_with("HTTP/1.") || bytes.size() < 12 ||
      bytes[8] != ' ') {
    return base::fail(base::Code::kProtocol, "the answer is not HTTP/1.1");
  }
  HttpAnswer answer;
  for (char c : bytes.substr(9, 3)) {
    if (c < '0' || c > '9') return base::fail(base::Code::kProtocol, "the answer has no status code");
    answer.status = answer.status * 10 + (c - '0');
  }
  answer.body = std::string(bytes.substr(head + 4));
  return answer;
}

base::Result<HttpAnswer> post_unix(const std::string& socket_path, const std::string& target,
                                   const std::string& body, base::Duration limit) {
  const auto end = Clock::now() + limit;
  const std::string doing = fmt::format("POST {} to {}", target, socket_path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(address.sun_path)) {
    return base::fail(base::Code::kInvalid, doing + ": the path is too long for a Unix socket");
  }
  std::memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return base::fail(base::Error::from_errno(errno, doing));
  // EAGAIN: the agent's backlog is full.
  while (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno != EAGAIN && errno != EINTR) return base::fail(base::Error::from_errno(errno, doing));
    if (Clock::now() >= end) return base::fail(base::Code::kTimeout, doing + ": no answer in time");
    ::poll(nullptr, 0, 10);
  }
  const std::string request = fmt::format(
      "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "{}\r\nConnection: close\r\n\r\n{}",
      target, body.size(), body);
  if (auto sent = send_all(fd.get(), request, end); !sent)
    return base::fail(std::move(sent.error()).wrap(doing));
  std::string answer;
  char buffer[16 * 1024];
  while (answer.size() < kAnswerBytesMax) {
    if (auto size = expected_size(answer); size && answer.size() >= *size) break;
    const ssize_t got = ::recv(fd.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got > 0) {
      answer.append(buffer, static_cast<size_t>(got));
    } else if (got == 0) {
      break;
    } else if (errno == EAGAIN) {
      if (auto ready = wait_for(fd.get(), POLLIN, end); !ready)
        return base::fail(std::move(ready.error()).wrap(doing));
    } else if (errno != EINTR) {
      return base::fail(base::Error::from_errno(errno, doing));
    }
  }
  if (auto size = expected_size(answer); size && answer.size() < *size && answer.size() < kAnswerBytesMax) {
    return base::fail(base::Code::kReset, doing + ": the answer was cut off");
  }
  auto parsed = parse_http_answer(answer);
  if (!parsed) return base::fail(std::move(parsed.error()).wrap(doing));
  return parsed;
}

}  // namespace culvert::cni
