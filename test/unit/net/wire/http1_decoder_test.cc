// SPDX-License-Identifier: Apache-2.0
// Http1Decoder: transcripts at every fragment size of design section 6.12, and every refusal of waypoint spec
// section 7.2 by its name.
#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "net/wire/authority.h"
#include "net/wire/http1.h"

namespace culvert::wire {
namespace {

using Kind = Http1Decoder::Kind;
using Event = Http1Decoder::Event;

struct Asked {
  std::string method = "GET";
  std::string upgrade;
};

std::string describe(const Headers& headers) {
  std::string out;
  for (const auto& [name, value] : headers) out += fmt::format("{}={};", name, value);
  return out;
}

// What the decoder says of `input`, cut into fragments, until it stops taking. Body bytes run together.
struct Transcript {
  std::string events;
  std::string body;
  std::string rest;  // not taken
  Http1Fault fault = Http1Fault::kNone;
  Http1Head head;

  Transcript(Kind kind, std::string_view input, size_t fragment, Http1Limits limits = {}, Asked asked = {},
             bool closes = false) {
    Http1Decoder decoder(kind, limits);
    if (kind == Kind::kResponse) decoder.expect_answer_to(asked.method, asked.upgrade);
    std::string pending;
    size_t at = 0;
    bool ended = false;
    for (;;) {
      Http1Decoder::Step step = decoder.next(base::as_bytes(pending));
      REQUIRE(step.used <= pending.size());
      body += base::as_text(step.data);
      note(decoder, step.event);
      pending.erase(0, step.used);
      if (step.event == Event::kFault) break;
      if (step.event == Event::kEnd) {
        ended = true;
        break;
      }
      if (step.event != Event::kNeedMore) continue;
      REQUIRE(pending.empty());
      if (at >= input.size()) break;
      pending = input.substr(at, fragment);
      at += pending.size();
    }
    if (!ended && closes && fault == Http1Fault::kNone) note(decoder, decoder.end_of_input().event);
    rest = pending + std::string(input.substr(std::min(at, input.size())));
  }
  void note(Http1Decoder& decoder, Event event) {
    switch (event) {
      case Event::kInformational:
      case Event::kHead:
        head = decoder.take_head();
        events += fmt::format("{} {}\n", event == Event::kHead ? "head" : "1xx", describe(head.headers));
        break;
      case Event::kEnd: events += fmt::format("end {}\n", describe(decoder.take_trailers())); break;
      case Event::kFault:
        fault = decoder.fault();
        events += fmt::format("fault {}\n", to_string(fault));
        break;
      default: break;
    }
  }
};

Http1Fault request_fault(std::string_view input, Http1Limits limits = {}) {
  Http1Fault whole = Transcript(Kind::kRequest, input, input.size(), limits).fault;
  for (size_t fragment : {1, 2, 3, 7, 16, 31})
    CHECK(Transcript(Kind::kRequest, input, fragment, limits).fault == whole);
  return whole;
}
Http1Fault response_fault(std::string_view input, Asked asked = {}) {
  Http1Fault whole = Transcript(Kind::kResponse, input, input.size(), {}, asked, true).fault;
  for (size_t fragment : {1, 2, 3, 7, 16, 31})
    CHECK(Transcript(Kind::kResponse, input, fragment, {}, asked, true).fault == whole);
  return whole;
}

std::string post(std::string_view fields, std::string_view body = "") {
  return fmt::format("POST /p HTTP/1.1\r\nHost: a.example\r\n{}\r\n{}", fields, body);
}

constexpr size_t kWhole = 1 << 20;

}  // namespace

TEST_CASE("requests in HTTP/2 form, at every fragment size", "[http1]") {
  size_t fragment = GENERATE(1, 2, 3, 7, 16, 31, kWhole);
  auto read = [&](std::string_view input) { return Transcript(Kind::kRequest, input, fragment); };

  SECTION("no body") {
    Transcript got =
        read("GET /a?b=c HTTP/1.1\r\nHOST: A.example:80\r\nX-One:  two words \t\r\nx-empty:\r\n\r\nGET ");
    CHECK(got.events ==
          "head :method=GET;:scheme=;:authority=A.example:80;:path=/a?b=c;x-one=two words;x-empty=;\nend \n");
    CHECK(got.rest == "GET ");
    CHECK(got.head.keep_alive);
    CHECK(got.head.wire_bytes == 74);
  }
  SECTION("content-length") {
    Transcript got = read(post("Content-Length: 0005\r\n", "helloPOST"));
    CHECK(got.events == "head :method=POST;:scheme=;:authority=a.example;:path=/p;content-length=5;\nend \n");
    CHECK(got.body == "hello");
    CHECK(got.rest == "POST");
  }
  SECTION("chunks, extensions and trailers") {
    Transcript got = read(
        post("Transfer-Encoding: Chunked\r\n",
             "5\r\nhello\r\nb;name=\"v\"\r\n, my world\n\r\n0\r\nX-Sum: 1 \r\nConnection: x\r\n\r\nrest"));
    CHECK(got.events == "head :method=POST;:scheme=;:authority=a.example;:path=/p;\nend x-sum=1;\n");
    CHECK(got.body == "hello, my world\n");
    CHECK(got.rest == "rest");
  }
  SECTION("hop-by-hop fields go, and what Connection names goes with them") {
    Transcript got =
        read(post("Connection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 3\r\nProxy-Connection: x\r\n"
                  "TE: trailers, gzip\r\nX-Kept: 1\r\n"));
    CHECK(got.events ==
          "head :method=POST;:scheme=;:authority=a.example;:path=/p;x-kept=1;te=trailers;\nend \n");
    CHECK(!got.head.keep_alive);
  }
  SECTION("absolute-form wins over Host") {
    Transcript got = read("GET http://B.example:81/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
    CHECK(got.events == "head :method=GET;:scheme=http;:authority=B.example:81;:path=/x;\nend \n");
    CHECK(got.head.host_ignored);
    got = read("OPTIONS https://b.example HTTP/1.1\r\nHost: B.EXAMPLE\r\n\r\n");
    CHECK(got.events == "head :method=OPTIONS;:scheme=https;:authority=b.example;:path=*;\nend \n");
    CHECK(!got.head.host_ignored);
    got = read("GET http://b.example?q HTTP/1.1\r\nHost: b.example\r\n\r\n");
    CHECK(got.events == "head :method=GET;:scheme=http;:authority=b.example;:path=/?q;\nend \n");
  }
  SECTION("one empty line before a request is forgiven") {
    CHECK(read("\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").events ==
          "head :method=OPTIONS;:scheme=;:authority=a;:path=*;\nend \n");
    CHECK(read("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").fault == Http1Fault::kStartLine);
  }
  SECTION("Expect: 100-continue is kept and told") {
    Transcript got = read(post("Expect: 100-Continue\r\nContent-Length: 1\r\n", "x"));
    CHECK(got.head.expect_continue);
    CHECK(find_header(got.head.headers, "expect"));
  }
}

TEST_CASE("an upgrade is an extended CONNECT", "[http1]") {
  auto read = [](std::string_view fields, std::string_view start = "GET /chat HTTP/1.1") {
    return Transcript(Kind::kRequest, fmt::format("{}\r\nHost: a\r\n{}\r\nearly", start, fields), 7);
  };
  std::string key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
  Transcript got = read("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" + key);
  CHECK(got.events ==
        "head :method=CONNECT;:protocol=websocket;:scheme=;:authority=a;:path=/chat;"
        "sec-websocket-key=dGhlIHNhbXBsZSBub25jZQ==;\nend \n");
  // What follows is nobody's until the upgrade is granted.
  CHECK(got.rest == "early");
  CHECK(got.head.websocket_key == "dGhlIHNhbXBsZSBub25jZQ==");
  CHECK(websocket_accept(got.head.websocket_key) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  CHECK(read("Connection: upgrade\r\nUpgrade: spdy/3.1\r\n").head.upgrade.empty());  // not one token
  CHECK(read("Connection: upgrade\r\nUpgrade: tcp\r\n").head.upgrade == "tcp");
  // All of these go on as ordinary requests.
  CHECK(read("Upgrade: websocket\r\n" + key).head.upgrade.empty());
  CHECK(read("Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n").events ==
        "head :method=GET;:scheme=;:authority=a;:path=/chat;\nend \n");
  CHECK(read("Connection: upgrade\r\nUpgrade: websocket\r\n").head.upgrade.empty());
  CHECK(read("Connection: upgrade\r\nUpgrade: websocket\r\n" + key, "POST / HTTP/1.1").head.upgrade.empty());
  CHECK(read("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n" + key).body == "early");
}

TEST_CASE("raw bytes follow once an upgrade is granted", "[http1]") {
  Http1Decoder decoder(Kind::kRequest, {});
  std::string input =
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "
      "k\r\n\r\n";
  Http1Decoder::Step step = decoder.next(base::as_bytes(input));
  CHECK(step.event == Event::kHead);
  CHECK(decoder.next({}).event == Event::kEnd);
  decoder.become_raw();
  CHECK(decoder.plain_bytes_left() == UINT64_MAX);
  step = decoder.next(base::as_bytes("\x81\n"));
  CHECK(step.event == Event::kData);
  CHECK(step.used == 2);
  CHECK(decoder.end_of_input().event == Event::kEnd);
}

TEST_CASE("what makes a request refused, by name", "[http1]") {
  struct Row {
    std::string input;
    Http1Fault fault;
  };
  std::string host = "Host: a\r\n";
  auto get = [&](std::string_view fields) {
    return fmt::format("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields);
  };
  auto chunked = [](std::string_view body) { return post("Transfer-Encoding: chunked\r\n", body); };
  using F = Http1Fault;
  const Row rows[] = {
      // start lines
      {"FOO / HTTP/1.1\r\n" + host + "\r\n", F::kMethod},
      {"get / HTTP/1.1\r\n" + host + "\r\n", F::kMethod},
      {"GET  / HTTP/1.1\r\n" + host + "\r\n", F::kStartLine},
      {"GET /  HTTP/1.1\r\n" + host + "\r\n", F::kStartLine},
      {"GET / HTTP/1.1 \r\n" + host + "\r\n", F::kVersion},
      {" GET / HTTP/1.1\r\n" + host + "\r\n", F::kMethod},
      {"GET foo HTTP/1.1\r\n" + host + "\r\n", F::kTarget},
      {"GET * HTTP/1.1\r\n" + host + "\r\n", F::kTarget},
      {"GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", F::kTarget},
      {"GET /a b HTTP/1.1\r\n" + host + "\r\n", F::kStartLine},
      {"GET /\x80 HTTP/1.1\r\n" + host + "\r\n", F::kStartLine},
      {"GET /\tx HTTP/1.1\r\n" + host + "\r\n", F::kStartLine},
      {"GET / HTTP/1.2\r\n" + host + "\r\n", F::kVersion},
      {"GET / HTTP/2.0\r\n" + host + "\r\n", F::kVersion},
      {"GET / HTTP/11.1\r\n" + host + "\r\n", F::kVersion},
      {"GET / http/1.1\r\n" + host + "\r\n", F::kStartLine},
      {"GET /\r\n" + host + "\r\n", F::kVersion},
      {"GET / HTTP/1.0\r\n" + host + "\r\n", F::kHttp10},
      {"\x16\x03\x01", F::kStartLine},
      {"\r\n\r\n", F::kStartLine},
      // lines
      {"GET / HTTP/1.1\nHost: a\n\n", F::kBareLf},
      {"GET / HTTP/1.1\r\nHost: a\n\r\n", F::kBareLf},
      {"GET / HTTP/1.1\r\nHost: a\r\n\n", F::kBareLf},
      {"GET / HTTP/1.1\rHost: a\r\n\r\n", F::kBareCr},
      {"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", F::kBareCr},
      {"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", F::kBareCr},
      {"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", F::kBareCr},
      {get("X: a\r\n b\r\n"), F::kObsFold},
      {get("X: a\r\n\tb\r\n"), F::kObsFold},
      {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", F::kObsFold},
      {get("X : a\r\n"), F::kSpaceBeforeColon},
      {get("X\t: a\r\n"), F::kSpaceBeforeColon},
      {get(": a\r\n"), F::kFieldName},
      {get("X(y): a\r\n"), F::kFieldName},
      {get(std::string("X\0y: a\r\n", 9)), F::kFieldName},
      {get("X\x80y: a\r\n"), F::kFieldName},
      {get("Xy\r\n"), F::kNoColon},
      {get("X: a\x01\r\n"), F::kFieldValue},
      {get(std::string("X: a\0b\r\n", 9)), F::kFieldValue},
      {get("X: a\x7f\r\n"), F::kFieldValue},
      // hosts
      {"GET / HTTP/1.1\r\n\r\n", F::kHostMissing},
      {"GET http://a/ HTTP/1.1\r\n\r\n", F::kHostMissing},
      {get("Host: a\r\n"), F::kHostRepeated},
      {"GET / HTTP/1.1\r\nHost:\r\n\r\n", F::kAuthority},
      {"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", F::kAuthority},
      {"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", F::kAuthority},
      {"GET / HTTP/1.1\r\nHost: a:70000\r\n\r\n", F::kAuthority},
      {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", F::kAuthority},
      {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", F::kAuthority},
      {"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", F::kAuthority},
      {"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", F::kAuthority},
      {get("Connection: Host\r\n"), F::kConnectionNames},
      {get("Connection: close, X-Forwarded-For\r\n"), F::kConnectionNames},
      {get("Connection: authorization\r\n"), F::kConnectionNames},
      {get("Connection: content-length\r\n"), F::kConnectionNames},
      {get("Expect: something\r\n"), F::kExpectation},
      // framing
      {post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), F::kLengthAndCoding},
      {post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), F::kLengthAndCoding},
      {post("Content-Length: 5\r\nContent-Length: 5\r\n"), F::kLengthRepeated},
      {post("Content-Length: 5\r\nContent-Length: 6\r\n"), F::kLengthRepeated},
      {post("Content-Length: 5, 5\r\n"), F::kLengthRepeated},
      {post("Content-Length: +5\r\n"), F::kLength},
      {post("Content-Length: -5\r\n"), F::kLength},
      {post("Content-Length: 0x5\r\n"), F::kLength},
      {post("Content-Length: 5 5\r\n"), F::kLength},
      {post("Content-Length:\r\n"), F::kLength},
      {post("Content-Length: 18446744073709551617\r\n"), F::kLength},
      {post("Content-Length: 9223372036854775807\r\n"), F::kLength},
      {post("Transfer-Encoding: gzip, chunked\r\n"), F::kCoding},
      {post("Transfer-Encoding: chunked, chunked\r\n"), F::kCoding},
      {post("Transfer-Encoding: identity\r\n"), F::kCoding},
      {post("Transfer-Encoding: xchunked\r\n"), F::kCoding},
      {post("Transfer-Encoding: chunked;q=1\r\n"), F::kCoding},
      {post("Transfer-Encoding:\r\n"), F::kCoding},
      {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), F::kCoding},
      {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", F::kCodingInHttp10},
      // chunks
      {chunked("\r\n"), F::kChunkSize},
      {chunked("g\r\n"), F::kChunkSize},
      {chunked("5 \r\nhello\r\n0\r\n\r\n"), F::kChunkSize},
      {chunked("-5\r\n"), F::kChunkSize},
      {chunked("0x5\r\n"), F::kChunkSize},
      {chunked("00000000000000005\r\nhello\r\n0\r\n\r\n"), F::kChunkSize},
      {chunked("ffffffffffffffff\r\n"), F::kChunkSize},
      {chunked("5\nhello\r\n0\r\n\r\n"), F::kBareLf},
      {chunked("5\rxhello\r\n0\r\n\r\n"), F::kBareCr},
      {chunked("5\r\nhelloXX0\r\n\r\n"), F::kChunkEnd},
      {chunked("5\r\nhello\n0\r\n\r\n"), F::kChunkEnd},
      {chunked("5\r\nhello\rX0\r\n\r\n"), F::kChunkEnd},
      {chunked("5;a\x01\r\n"), F::kChunkExtensions},
      {chunked("5;a\nhello"), F::kBareLf},
      {chunked("5;" + std::string(4096, 'x') + "\r\n"), F::kChunkExtensions},
      {chunked("0\r\nContent-Length: 5\r\n\r\n"), F::kTrailers},
      {chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"), F::kTrailers},
      {chunked("0\r\nHost: b\r\n\r\n"), F::kTrailers},
      {chunked("0\r\nX : b\r\n\r\n"), F::kSpaceBeforeColon},
      {chunked("0\r\nX: b\n\r\n"), F::kBareLf},
      {chunked("0\r\n X: b\r\n\r\n"), F::kObsFold},
      {chunked("0\r\n:path: /b\r\n\r\n"), F::kFieldName},
  };
  for (const Row& row : rows) {
    INFO(row.input);
    CHECK(to_string(request_fault(row.input)) == to_string(row.fault));
  }
}

TEST_CASE("limits of a head, at their edges", "[http1]") {
  Http1Limits limits;
  limits.head_bytes_max = 200;
  limits.fields_max = 3;
  auto padded = [](size_t total) {
    std::string head = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    return head + std::string(total - head.size() - 4, 'x') + "\r\n\r\n";
  };
  CHECK(request_fault(padded(200), limits) == Http1Fault::kNone);
  CHECK(request_fault(padded(201), limits) == Http1Fault::kHeadTooLarge);
  CHECK(request_fault("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n", limits) == Http1Fault::kNone);
  CHECK(request_fault("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\nX: 3\r\n\r\n", limits) ==
        Http1Fault::kTooManyFields);
  // Trailers have the same room of their own.
  std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
  CHECK(request_fault(chunked + "X: " + std::string(193, 'x') + "\r\n\r\n", limits) == Http1Fault::kNone);
  CHECK(request_fault(chunked + "X: " + std::string(194, 'x') + "\r\n\r\n", limits) ==
        Http1Fault::kHeadTooLarge);
  limits.target_bytes_max = 5;
  CHECK(request_fault("GET /1234 HTTP/1.1\r\nHost: a\r\n\r\n", limits) == Http1Fault::kNone);
  CHECK(request_fault("GET /12345 HTTP/1.1\r\nHost: a\r\n\r\n", limits) == Http1Fault::kTargetTooLong);
  CHECK(status_for(Http1Fault::kHeadTooLarge) == 431);
  CHECK(status_for(Http1Fault::kTooManyFields) == 431);
  CHECK(status_for(Http1Fault::kTargetTooLong) == 414);
  CHECK(status_for(Http1Fault::kHttp10) == 426);
  CHECK(status_for(Http1Fault::kVersion) == 505);
  CHECK(status_for(Http1Fault::kExpectation) == 417);
  CHECK(status_for(Http1Fault::kHeadTooSlow) == 408);
  CHECK(status_for(Http1Fault::kLengthAndCoding) == 400);
}

TEST_CASE("chunk extensions are bounded over the whole message", "[http1]") {
  std::string body;
  for (int i = 0; i < 100; ++i) body += "1;" + std::string(39, 'x') + "\r\ny\r\n";
  body += "0\r\n\r\n";
  CHECK(request_fault(post("Transfer-Encoding: chunked\r\n", body)) == Http1Fault::kNone);
  body.insert(0, "1;" + std::string(100, 'x') + "\r\ny\r\n");
  CHECK(request_fault(post("Transfer-Encoding: chunked\r\n", body)) == Http1Fault::kChunkExtensions);
}

TEST_CASE("HTTP/1.0 where it is allowed", "[http1]") {
  Http1Limits limits;
  limits.allow_http10 = true;
  Transcript got(Kind::kRequest, "POST /x HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", 3, limits);
  CHECK(got.events == "head :method=POST;:scheme=;:path=/x;content-length=2;\nend \n");
  CHECK(got.head.minor_version == 0);
  CHECK(!got.head.keep_alive);
  got = Transcript(Kind::kRequest, "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 3, limits);
  CHECK(got.head.keep_alive);
  // Refused, it is still known for the log.
  got = Transcript(Kind::kRequest, "GET /x HTTP/1.0\r\n\r\n", 3);
  CHECK(got.fault == Http1Fault::kHttp10);
}

TEST_CASE("answers, at every fragment size", "[http1]") {
  size_t fragment = GENERATE(1, 2, 3, 7, 16, 31, kWhole);
  bool closes = false;
  auto read = [&](std::string_view input, Asked asked = {}) {
    return Transcript(Kind::kResponse, input, fragment, {}, asked, closes);
  };
  SECTION("content-length") {
    Transcript got = read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nServer: x\r\n\r\nabcHTTP");
    CHECK(got.events == "head :status=200;content-length=3;server=x;\nend \n");
    CHECK(got.body == "abc");
    CHECK(got.rest == "HTTP");
    CHECK(got.head.keep_alive);
  }
  SECTION("no reason phrase, and one with odd words") {
    CHECK(read("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n").events ==
          "head :status=200;content-length=0;\nend \n");
    CHECK(read("HTTP/1.1 404 Not here: at all\r\nContent-Length: 0\r\n\r\n").events ==
          "head :status=404;content-length=0;\nend \n");
  }
  SECTION("until the connection closes") {
    closes = true;
    Transcript got = read("HTTP/1.1 200 OK\r\n\r\nall of this");
    CHECK(got.events == "head :status=200;\nend \n");
    CHECK(got.body == "all of this");
    CHECK(!got.head.keep_alive);
  }
  SECTION("1.0 with keep-alive") {
    CHECK(read("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n").head.keep_alive);
    CHECK(!read("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").head.keep_alive);
  }
  SECTION("HEAD, 204 and 304 have no body") {
    CHECK(read("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nnext", {"HEAD", ""}).events ==
          "head :status=200;content-length=30;\nend \n");
    CHECK(read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnext", {"HEAD", ""}).rest == "next");
    Transcript got = read("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc");
    CHECK(got.events == "head :status=204;\nend \n");
    CHECK(got.rest == "abc");
    CHECK(!got.head.keep_alive);
    CHECK(read("HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n").events ==
          "head :status=304;content-length=3;\nend \n");
  }
  SECTION("1xx before the answer") {
    Transcript got = read(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"
        "Content-Length: 0\r\n\r\n");
    CHECK(got.events ==
          "1xx :status=100;\n1xx :status=103;link=</a>;\nhead :status=200;content-length=0;\nend \n");
  }
  SECTION("a granted upgrade") {
    Transcript got = read(
        "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\nraw\n",
        {"GET", "websocket"});
    CHECK(got.events == "head :status=200;sec-websocket-accept=y;\n");
    CHECK(got.body == "raw\n");
  }
  SECTION("a refused upgrade is an ordinary answer") {
    CHECK(read("HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nno", {"GET", "websocket"}).events ==
          "head :status=403;content-length=2;\nend \n");
  }
}

TEST_CASE("what makes an answer refused, by name", "[http1]") {
  using F = Http1Fault;
  CHECK(response_fault("HTTP/1.1 99 x\r\n\r\n") == F::kStatus);
  CHECK(response_fault("HTTP/1.1 2000 x\r\n\r\n") != F::kNone);
  CHECK(response_fault("HTTP/1.1 abc x\r\n\r\n") == F::kStatus);
  CHECK(response_fault("HTTP/1.2 200 OK\r\n\r\n") == F::kVersion);
  CHECK(response_fault("HTTP/1.1  200 OK\r\n\r\n") != F::kNone);
  CHECK(response_fault("HTTP/1.1\t200 OK\r\n\r\n") != F::kNone);
  CHECK(response_fault("ICY 200 OK\r\n\r\n") != F::kNone);
  CHECK(response_fault("\r\nHTTP/1.1 200 OK\r\n\r\n") == F::kStartLine);
  CHECK(response_fault("HTTP/1.1 200 OK\nX: y\n\n") == F::kBareLf);
  CHECK(response_fault("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n") == F::kObsFold);
  CHECK(response_fault("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n") ==
        F::kLengthAndCoding);
  CHECK(response_fault("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n") ==
        F::kLengthRepeated);
  CHECK(response_fault("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n") == F::kCoding);
  CHECK(response_fault("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") == F::kCodingInHttp10);
  CHECK(response_fault("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n") ==
        F::kUnaskedUpgrade);
  CHECK(response_fault("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
                       {"GET", "websocket"}) == F::kUnaskedUpgrade);
  CHECK(response_fault("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", {"GET", "websocket"}) ==
        F::kUnaskedUpgrade);
  // Ends that come too early.
  CHECK(response_fault("HTTP/1.1 200 OK\r\nContent-Le") == F::kTruncated);
  CHECK(response_fault("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd") == F::kTruncated);
  CHECK(response_fault("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n") ==
        F::kTruncated);
  CHECK(response_fault("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n") == F::kTruncated);
  std::string many;
  for (int i = 0; i < 10; ++i) many += "HTTP/1.1 103 x\r\n\r\n";
  CHECK(response_fault(many + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") == F::kNone);
  CHECK(response_fault(many + "HTTP/1.1 103 x\r\n\r\n") == F::kTooManyInformational);
}

TEST_CASE("messages follow one another, and plain bytes may be taken by the reader itself", "[http1]") {
  Http1Decoder decoder(Kind::kRequest, {});
  std::string one = post("Content-Length: 10\r\n");
  CHECK(!decoder.started());
  for (int i = 0; i < 3; ++i) {
    CHECK(decoder.next(base::as_bytes(one)).event == Event::kHead);
    CHECK(decoder.plain_bytes_left() == 10);
    CHECK(decoder.next(base::as_bytes("abc")).data.size() == 3);
    decoder.took(6);
    CHECK(decoder.next({}).event == Event::kNeedMore);
    decoder.took(1);
    CHECK(decoder.plain_bytes_left() == 0);
    CHECK(decoder.next({}).event == Event::kEnd);
    CHECK(decoder.next(base::as_bytes("POST")).used == 0);
    CHECK(decoder.wire_bytes() == one.size() + 10);
    CHECK(decoder.header_bytes() == one.size());
    decoder.next_message();
  }
  std::string chunked = post("Transfer-Encoding: chunked\r\n");
  CHECK(decoder.next(base::as_bytes(chunked)).event == Event::kHead);
  CHECK(decoder.next(base::as_bytes("a\r\n12345")).data.size() == 5);
  CHECK(decoder.plain_bytes_left() == 5);
  decoder.took(5);
  CHECK(decoder.next(base::as_bytes("\r\n0\r\n\r\n")).event == Event::kEnd);
}

TEST_CASE("authorities", "[http1]") {
  for (std::string_view good : {"a", "a.b-c_d~e", "10.0.0.1:80", "[::1]", "[fe80::1]:65535", "A.B:1"})
    CHECK(valid_authority(good));
  for (std::string_view bad :
       {"",   ":80",    "a:",     "a:0",   "a:65536", "a:080000", "a:8x", "u@a", "a b",  "a,b", "[::1",
        "[]", "[::1]x", "[::1]:", "[g::]", "::1",     "a/b",      "a?b",  "a#b", "a%41", "a\\b"})
    CHECK(!valid_authority(bad));
}

}  // namespace culvert::wire
