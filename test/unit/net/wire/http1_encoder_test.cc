// SPDX-License-Identifier: Apache-2.0
// Http1Encoder: what leaves, byte for byte, and that the decoder of the other side reads what was meant.
#include <catch2/catch.hpp>

#include "net/wire/http1.h"

namespace culvert::wire {
namespace {

const Headers kGet = {{":method", "GET"}, {":scheme", "http"}, {":authority", "a:80"}, {":path", "/p?q"}};

Headers with(Headers headers, const Headers& more) {
  headers.insert(headers.end(), more.begin(), more.end());
  return headers;
}
Headers request(std::string_view method, const Headers& more = {}) {
  Headers headers = kGet;
  headers[0].second = method;
  return with(std::move(headers), more);
}
Headers status(std::string_view code, const Headers& more = {}) {
  return with({{":status", std::string(code)}}, more);
}

// One message: its head, the given writes, its end; or what was refused.
struct Message {
  Http1Encoder encoder;
  base::ByteQueue out;
  std::string error;
  Message& ask(const Headers& headers, bool end_stream = true) {
    note(encoder.request(headers, end_stream, "key", out));
    return *this;
  }
  Message& answer(const Headers& headers, bool end_stream = false, Http1Encoder::Answering to = {"GET"}) {
    note(encoder.response(headers, end_stream, to, out));
    return *this;
  }
  Message& body(std::string_view text) {
    iovec part{const_cast<char*>(text.data()), text.size()};
    note(encoder.body({&part, 1}, text.size(), out));
    return *this;
  }
  Message& finish(const Headers& trailers = {}) {
    note(encoder.finish(trailers, out));
    return *this;
  }
  void note(const base::Result<>& result) {
    if (!result && error.empty()) error = result.error().message();
  }
  std::string text() { return error.empty() ? out.take_all() : "refused"; }
};

}  // namespace

TEST_CASE("requests out", "[http1]") {
  CHECK(Message().ask(kGet).text() == "GET /p?q HTTP/1.1\r\nhost: a:80\r\n\r\n");
  CHECK(Message().ask(request("POST")).text() ==
        "POST /p?q HTTP/1.1\r\nhost: a:80\r\ncontent-length: 0\r\n\r\n");
  CHECK(Message()
            .ask(request("POST", {{"content-length", "5"}}), false)
            .body("he")
            .body("llo")
            .finish()
            .text() == "POST /p?q HTTP/1.1\r\nhost: a:80\r\ncontent-length: 5\r\n\r\nhello");
  CHECK(Message().ask(request("PUT"), false).body("hello, my world!").finish({{"x-sum", "1"}}).text() ==
        "PUT /p?q HTTP/1.1\r\nhost: a:80\r\ntransfer-encoding: chunked\r\n\r\n"
        "10\r\nhello, my world!\r\n0\r\nx-sum: 1\r\n\r\n");
  // This hop's own business never comes from the headers.
  CHECK(Message()
            .ask(with(kGet, {{"transfer-encoding", "chunked"},
                             {"connection", "x"},
                             {"upgrade", "x"},
                             {"host", "b"},
                             {"keep-alive", "3"},
                             {"te", "trailers"},
                             {"x", "y"}}))
            .text() == "GET /p?q HTTP/1.1\r\nhost: a:80\r\nx: y\r\nte: trailers\r\nconnection: te\r\n\r\n");
}

TEST_CASE("an upgrade out, and its grant", "[http1]") {
  Headers headers = {{":method", "CONNECT"},
                     {":protocol", "websocket"},
                     {":scheme", "http"},
                     {":authority", "a"},
                     {":path", "/chat"}};
  CHECK(Message().ask(headers, false).body("raw").finish().text() ==
        "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: "
        "key\r\n"
        "sec-websocket-version: 13\r\n\r\nraw");
  CHECK(Message()
            .ask(with(headers, {{"sec-websocket-key", "own"}, {"sec-websocket-version", "13"}}), false)
            .text() ==
        "GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-key: own\r\nsec-websocket-version: 13\r\n"
        "connection: Upgrade\r\nupgrade: websocket\r\n\r\n");
  Http1Encoder::Answering to{"GET", 1, true, "websocket", "dGhlIHNhbXBsZSBub25jZQ=="};
  CHECK(Message().answer(status("200"), false, to).body("raw").text() ==
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nraw");
  CHECK(Message().answer(status("200", {{"sec-websocket-accept", "own"}}), false, to).text() ==
        "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: own\r\nconnection: Upgrade\r\n"
        "upgrade: websocket\r\n\r\n");
  CHECK(Message().answer(status("403"), true, to).text() ==
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
}

TEST_CASE("answers out", "[http1]") {
  CHECK(Message().answer(status("200", {{"content-length", "2"}})).body("hi").finish().text() ==
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
  CHECK(Message().answer(status("200")).body("hi").finish({{"grpc-status", "0"}}).text() ==
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n");
  CHECK(Message().answer(status("404"), true).text() ==
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
  CHECK(Message().answer(status("204", {{"content-length", "3"}}), true).text() ==
        "HTTP/1.1 204 No Content\r\n\r\n");
  CHECK(Message().answer(status("304", {{"content-length", "3"}}), true).text() ==
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n");
  CHECK(Message()
            .answer(status("200", {{"content-length", "3"}}), false, {"HEAD"})
            .body("abc")
            .finish()
            .text() == "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
  CHECK(Message().answer(status("200"), true, {"GET", 1, false}).text() ==
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  CHECK(Message().answer(status("200", {{"connection", "close"}}), true).text() ==
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  CHECK(Message().answer(status("200"), false, {"GET", 0, true}).body("x").finish().text() ==
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nx");
  CHECK(Message().answer(status("200"), true, {"GET", 0, true}).text() ==
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n");
  Message early;
  early.note(early.encoder.informational(status("103", {{"link", "</a>"}}), early.out));
  CHECK(early.text() == "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
}

TEST_CASE("what would let a peer see something else than was meant is refused", "[http1]") {
  for (std::string_view bad : {"a\r\nb", "a\nb", "a\rb", "a\x7f", "\x01"}) {
    CHECK(Message().ask(with(kGet, {{"x", std::string(bad)}})).text() == "refused");
    CHECK(Message().answer(status("200", {{"x", std::string(bad)}}), true).text() == "refused");
    CHECK(Message().answer(status("200")).finish({{"x", std::string(bad)}}).text() == "refused");
  }
  CHECK(Message().ask(with(kGet, {{"x", std::string("a\0b", 3)}})).text() == "refused");
  for (std::string_view bad : {"", "x y", "x:", "x\r\ny", "\x80"})
    CHECK(Message().ask(with(kGet, {{std::string(bad), "v"}})).text() == "refused");
  for (std::string_view bad : {"", "x", "http://b/", "?q", "/a b", "/a\r\nX: y", "/\x80", "/a\tb"}) {
    Headers headers = kGet;
    headers[3].second = bad;
    CHECK(Message().ask(headers).text() == "refused");
  }
  for (std::string_view bad : {"", "u@a", "a\r\nX: y", "a b"}) {
    Headers headers = kGet;
    headers[2].second = bad;
    CHECK(Message().ask(headers).text() == "refused");
  }
  CHECK(Message().ask(request("GE T")).text() == "refused");
  CHECK(Message().ask(request("CONNECT")).text() == "refused");
  CHECK(Message().ask(request("POST", {{"content-length", "5"}})).text() == "refused");
  CHECK(Message().ask(request("POST", {{"content-length", "5"}, {"content-length", "6"}}), false).text() ==
        "refused");
  CHECK(Message().ask(request("POST", {{"content-length", "x"}}), false).text() == "refused");
  CHECK(Message().ask(request("POST", {{"content-length", "1"}}), false).body("ab").text() == "refused");
  CHECK(Message().ask(request("POST", {{"content-length", "2"}}), false).body("a").finish().text() ==
        "refused");
  CHECK(Message().ask(kGet).body("a").text() == "refused");
  for (std::string_view bad : {"", "20", "2000", "0x2", "099", "101"})
    CHECK(Message().answer(status(bad), true).text() == "refused");
}

TEST_CASE("what one side encodes the other decodes, at every fragment size", "[http1]") {
  size_t fragment = GENERATE(1, 2, 3, 7, 16, 31, 1 << 20);
  Message message;
  Headers headers = request("POST", {{"x-one", "1"}, {"te", "trailers"}});
  std::string body(10'000, 'b');
  std::string wire =
      message.ask(headers, false).body(body.substr(0, 1)).body(body.substr(1)).finish({{"t", "v"}}).text();
  Http1Decoder decoder(Http1Decoder::Kind::kRequest, {});
  std::string pending, got;
  Headers trailers;
  Http1Head head;
  for (size_t at = 0; at < wire.size(); at += fragment) {
    pending += wire.substr(at, fragment);
    for (;;) {
      Http1Decoder::Step step = decoder.next(base::as_bytes(pending));
      got += base::as_text(step.data);
      pending.erase(0, step.used);
      REQUIRE(step.event != Http1Decoder::Event::kFault);
      if (step.event == Http1Decoder::Event::kHead) head = decoder.take_head();
      if (step.event == Http1Decoder::Event::kEnd) trailers = decoder.take_trailers();
      if (step.event == Http1Decoder::Event::kEnd || step.event == Http1Decoder::Event::kNeedMore) break;
    }
  }
  CHECK(got == body);
  CHECK(trailers == Headers{{"t", "v"}});
  CHECK(head.headers ==
        with({{":method", "POST"}, {":scheme", ""}, {":authority", "a:80"}, {":path", "/p?q"}},
             {{"x-one", "1"}, {"te", "trailers"}}));
}

}  // namespace culvert::wire
