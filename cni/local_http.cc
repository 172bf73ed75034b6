// SPDX-License-Identifier: Apache-2.0
#include "cni/local_http.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <charconv>

#include "net/async/wait.h"

namespace culvert::cni {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_our_user(const io::ByteStream& stream) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (stream.splice_fd() < 0 || ::getsockopt(stream.splice_fd(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return false;
  return peer.uid == ::geteuid();
}

std::string_view reason(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 503: return "Service Unavailable";
    default: return "Internal Server Error";
  }
}

}  // namespace

base::Result<std::optional<LocalRequest>> parse_local_request(std::string_view bytes) {
  auto fail = [](const char* why) { return base::fail(base::Code::kProtocol, why); };
  const size_t head_end = bytes.find("\r\n\r\n");
  if (head_end == std::string_view::npos) {
    if (bytes.size() > LocalHttp::kHeadBytesMax) return fail("the request head is too long");
    return std::nullopt;
  }
  if (head_end > LocalHttp::kHeadBytesMax) return fail("the request head is too long");
  std::string_view head = bytes.substr(0, head_end);
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last || !line.substr(last + 1).starts_with("HTTP/1."))
    return fail("not an HTTP/1 request");
  LocalRequest request;
  request.method = std::string(line.substr(0, first));
  const std::string_view target = line.substr(first + 1, last - first - 1);
  request.path = std::string(target.substr(0, target.find('?')));
  size_t length = 0;
  head.remove_prefix(line.size());
  while (head.starts_with("\r\n")) {
    head.remove_prefix(2);
    const std::string_view header = head.substr(0, head.find("\r\n"));
    head.remove_prefix(header.size());
    const size_t colon = header.find(':');
    if (colon == std::string_view::npos) return fail("a header has no colon");
    const std::string name = lower(header.substr(0, colon));
    const std::string_view value = trim(header.substr(colon + 1));
    if (name == "transfer-encoding") return fail("transfer codings are not accepted here");
    if (name != "content-length") continue;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
    if (error != std::errc() || end != value.data() + value.size())
      return fail("content-length is not a number");
    if (length > LocalHttp::kBodyBytesMax) return fail("the body is above 1 MiB");
  }
  if (bytes.size() < head_end + 4 + length) return std::nullopt;
  request.body = std::string(bytes.substr(head_end + 4, length));
  return request;
}

void LocalHttp::start(std::unique_ptr<io::Listener> listener) {
  listener_ = std::move(listener);
  scope_.spawn(accept_loop(*this, *listener_));
}

async::Task<void> LocalHttp::accept_loop(LocalHttp& server, io::Listener& listener) {
  while (true) {
    auto accepted = co_await io::accept(listener);
    if (!accepted) {
      server.log_.warn("cni-agent", "accepting a request failed",
                       {base::Field::text("error", accepted.error().message())});
      co_await async::sleep_for(server.loop_, std::chrono::milliseconds(100));
      continue;
    }
    if (server.scope_.running() > kConnectionsMax) continue;  // dropping it closes it
    if (server.root_only_ && !is_our_user(*accepted->stream)) continue;
    server.scope_.spawn(serve(server, std::move(accepted->stream)));
  }
}

async::Task<base::Result<LocalRequest>> LocalHttp::read_request(io::ByteStream& stream) {
  std::string bytes;
  std::string buffer(16 * 1024, '\0');
  while (true) {
    auto request = parse_local_request(bytes);
    if (!request) co_return base::fail(request.error());
    if (*request) co_return std::move(**request);
    auto got = co_await io::read_some(stream, {reinterpret_cast<uint8_t*>(buffer.data()), buffer.size()});
    if (!got) co_return base::fail(got.error());
    if (*got == 0) co_return base::fail(base::Code::kClosed, "closed before the request was complete");
    bytes.append(buffer, 0, *got);
  }
}

async::Task<base::Result<>> LocalHttp::exchange(LocalHttp& server, io::ByteStream& stream) {
  LocalResponse response;
  auto request = co_await async::with_deadline(server.loop_, async::Deadline::in(server.loop_, kReadLimit),
                                               "read the request", read_request(stream));
  if (request) {
    response = co_await server.handler_(std::move(*request));
  } else if (request.error().code() == base::Code::kProtocol) {
    response = {400, request.error().message() + "\n"};
  } else {
    co_return base::fail(request.error());
  }
  const std::string text = fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
      response.status, reason(response.status), response.content_type, response.body.size(), response.body);
  auto written = co_await io::write_all(stream, base::as_bytes(text));
  if (!written) co_return written;
  stream.shutdown_write();
  // Read to the end, so that closing does not reset the answer away.
  std::string rest(4096, '\0');
  auto got = co_await io::read_some(stream, {reinterpret_cast<uint8_t*>(rest.data()), rest.size()});
  co_return got ? base::Result<>{} : base::fail(got.error());
}

async::Task<void> LocalHttp::serve(LocalHttp& server, std::unique_ptr<io::ByteStream> stream) {
  auto deadline = async::Deadline::in(server.loop_, kAnswerLimit);
  auto done =
      co_await async::with_deadline(server.loop_, deadline, "answer a request", exchange(server, *stream));
  if (!done && done.error().code() == base::Code::kTimeout) {
    server.log_.debug("cni-agent", "a request took too long",
                      {base::Field::text("error", done.error().message())});
  }
}

}  // namespace culvert::cni
