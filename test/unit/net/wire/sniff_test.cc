// SPDX-License-Identifier: Apache-2.0
// sniff and peek_client_hello: every prefix of what is known needs more or says so at once, and never wavers.
#include "net/wire/sniff.h"

#include <catch2/catch.hpp>

#include "net/wire/client_hello.h"

namespace culvert::wire {
namespace {

// The verdict of the whole; every shorter prefix says the same or kNeedMore, and once it has spoken it stays.
Sniffed sniff_growing(std::string_view text) {
  Sniffed said = Sniffed::kNeedMore;
  for (size_t size = 0; size <= text.size(); ++size) {
    Sniffed now = sniff(base::as_bytes(text.substr(0, size)));
    if (said != Sniffed::kNeedMore) CHECK(now == said);
    said = now;
  }
  return said;
}

void put(std::string& out, size_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i));
}
std::string run(int length_bytes, std::string_view content) {
  std::string out;
  put(out, content.size(), length_bytes);
  return out.append(content);
}
std::string extension(uint16_t type, std::string_view content) {
  std::string out;
  put(out, type, 2);
  return out + run(2, content);
}
std::string server_name(std::string_view name) {
  return extension(0, run(2, std::string(1, '\0') + run(2, name)));
}
// The handshake message.
std::string hello(std::string_view extensions) {
  std::string body = "\x03\x03" + std::string(32, 'r') + run(1, "session") + run(2, "\x13\x01") +
                     run(1, std::string_view("\0", 1)) + run(2, extensions);
  return "\x01" + run(3, body);
}
std::string records(std::string_view handshake, size_t piece) {
  std::string out;
  for (size_t at = 0; at < handshake.size(); at += piece)
    out += "\x16\x03\x01" + run(2, handshake.substr(at, piece));
  return out;
}
ClientHello peek_growing(std::string_view bytes) {
  ClientHello said;
  for (size_t size = 0; size <= bytes.size(); ++size) {
    ClientHello now = peek_client_hello(base::as_bytes(bytes.substr(0, size)));
    if (said.kind != ClientHello::Kind::kNeedMore) CHECK(now.kind == said.kind);
    said = now;
  }
  return said;
}

}  // namespace

TEST_CASE("what a client speaks", "[sniff]") {
  CHECK(sniff_growing("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0") == Sniffed::kHttp2);
  CHECK(sniff_growing("PRI * HTTP/2.0\r\n\r\nXX\r\n") == Sniffed::kUnknown);
  CHECK(sniff_growing("GET / HTTP/1.1\r\nHost: a\r\n") == Sniffed::kHttp1);
  CHECK(sniff_growing("\r\nGET / HTTP/1.1\r\n") == Sniffed::kHttp1);
  CHECK(sniff_growing("POST http://a/b?c=d HTTP/1.0\r\n") == Sniffed::kHttp1);
  CHECK(sniff_growing("PROPFIND /x HTTP/1.1\r\n") == Sniffed::kHttp1);
  CHECK(sniff_growing("CONNECT a:443 HTTP/1.1\r\n") == Sniffed::kHttp1);
  // A bare LF is malformed HTTP, to be answered as such, not another protocol.
  CHECK(sniff_growing("GET / HTTP/1.1\nHost: a\n") == Sniffed::kHttp1);
  CHECK(sniff_growing("") == Sniffed::kNeedMore);
  CHECK(sniff_growing("GET / HTTP/1.") == Sniffed::kNeedMore);
  CHECK(sniff_growing("HELO") == Sniffed::kNeedMore);
  CHECK(sniff_growing("HELO mail.example\r\n") == Sniffed::kUnknown);
  CHECK(sniff_growing("GET / HTTP/1.2\r\n") == Sniffed::kUnknown);
  CHECK(sniff_growing("GET / HTTP/2.0\r\n") == Sniffed::kUnknown);
  CHECK(sniff_growing("GET  / HTTP/1.1\r\n") == Sniffed::kUnknown);
  CHECK(sniff_growing(" GET / HTTP/1.1\r\n") == Sniffed::kUnknown);
  CHECK(sniff_growing("GET /\x80 HTTP/1.1\r\n") == Sniffed::kUnknown);
  CHECK(sniff_growing("SSH-2.0-OpenSSH_9\r\n") == Sniffed::kUnknown);
  CHECK(sniff_growing("*1\r\n$4\r\nPING\r\n") == Sniffed::kUnknown);
  CHECK(sniff_growing("\x16\x03\x01\x02\x00\x01") == Sniffed::kUnknown);
  CHECK(sniff_growing(std::string(33, 'A') + " / HTTP/1.1\r\n") == Sniffed::kUnknown);
  CHECK(sniff(base::as_bytes("GET /" + std::string(kSniffBytesMax, 'x'))) == Sniffed::kUnknown);
}

TEST_CASE("the server name of a ClientHello, in one record or in many", "[sniff]") {
  std::string alpn = extension(16, run(2, run(1, "h2") + run(1, "http/1.1")));
  std::string message = hello(extension(10, "xx") + server_name("Shop.Example") + alpn);
  size_t piece = GENERATE(1, 2, 3, 7, 16, 31, 1 << 14);
  ClientHello got = peek_growing(records(message, piece) + "\x17more");
  CHECK(got.kind == ClientHello::Kind::kHello);
  CHECK(got.server_name == "shop.example");
  CHECK(got.alpn == std::vector<std::string>{"h2", "http/1.1"});
}

TEST_CASE("a ClientHello without a name, and what is none", "[sniff]") {
  auto kind = [](std::string_view bytes) { return peek_growing(bytes).kind; };
  auto whole = [&](std::string_view extensions) { return kind(records(hello(extensions), 1 << 14)); };
  using Kind = ClientHello::Kind;
  CHECK(whole("") == Kind::kHello);
  CHECK(peek_growing(records(hello(""), 100)).server_name.empty());
  CHECK(whole(server_name("a.")) == Kind::kHello);
  CHECK(whole(server_name("")) == Kind::kNotTls);
  CHECK(whole(server_name("a b")) == Kind::kNotTls);
  CHECK(whole(server_name(std::string("a\0b", 3))) == Kind::kNotTls);
  CHECK(whole(server_name("a") + server_name("b")) == Kind::kNotTls);
  CHECK(whole(extension(0, "\x05")) == Kind::kNotTls);
  CHECK(whole("\x01") == Kind::kNotTls);
  // A name longer than its list, and one cut off in its length.
  CHECK(whole(extension(0, run(2, std::string("\0\0\x09x", 4)))) == Kind::kNotTls);
  CHECK(whole(extension(16, run(2, "\x09x"))) == Kind::kNotTls);
  CHECK(whole(extension(16, run(2, run(1, "h2") + "\xe9"))) == Kind::kNotTls);
  CHECK(kind("GET / HTTP/1.1\r\n") == Kind::kNotTls);
  CHECK(kind(std::string("\x15\x03\x01\x00\x02", 5)) == Kind::kNotTls);
  CHECK(kind(std::string("\x16\x02", 2)) == Kind::kNotTls);
  CHECK(kind(std::string("\x16\x03\x01\x00\x00", 5)) == Kind::kNotTls);
  CHECK(kind(records(std::string("\x02\x00\x00\x01x", 5), 100)) == Kind::kNotTls);  // a ServerHello
  CHECK(kind(records(hello(server_name("a")), 100).substr(0, 30)) == Kind::kNeedMore);
  // A hello above the bound, and one that dribbles past it.
  CHECK(peek_client_hello(base::as_bytes(records(hello(extension(99, std::string(17'000, 'x'))), 1 << 14)))
            .kind == Kind::kNotTls);
}

}  // namespace culvert::wire
