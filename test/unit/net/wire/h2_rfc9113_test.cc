// SPDX-License-Identifier: Apache-2.0
// RFC 9113 case by case, for users' traffic (waypoint spec sections 7.2 and 7.5): a peer played frame by
// frame, and what our engine does about it.
#include <catch2/catch.hpp>

#include "net/wire/h2.h"
#include "net/wire/h2_guard.h"
#include "test/unit/net/wire/h2_frames.h"

namespace culvert::wire {
namespace {

using namespace frames;

struct Recorder final : H2Visitor {
  std::vector<std::string> events;
  std::string body;
  Headers last;
  void on_headers(int32_t id, Headers headers) override {
    last = std::move(headers);
    events.push_back(fmt::format("headers {}", id));
  }
  void on_data(int32_t, base::ByteView bytes) override { body += base::as_text(bytes); }
  void on_trailers(int32_t id, Headers) override { events.push_back(fmt::format("trailers {}", id)); }
  void on_end(int32_t id) override { events.push_back(fmt::format("end {}", id)); }
  void on_closed(int32_t id, uint32_t code) override {
    events.push_back(fmt::format("closed {} {}", id, h2_code_name(code)));
  }
  void on_goaway(int32_t, uint32_t) override {}
  void on_ping_ack() override {}
  void on_sent(int32_t, size_t) override {}
  void on_end_sent(int32_t) override {}
  void on_settings() override {}
  void on_settings_ack() override { events.push_back("settings ack"); }
  void on_informational(int32_t id, Headers headers) override {
    events.push_back(fmt::format("1xx {} {}", id, headers[0].second));
  }
  void on_host_ignored(int32_t id) override { events.push_back(fmt::format("host ignored {}", id)); }
  bool has(std::string_view event) const {
    return std::find(events.begin(), events.end(), event) != events.end();
  }
};

H2Settings users() {
  H2Settings settings;
  settings.stream_window_bytes = 256 * 1024;
  settings.connection_window_bytes = 1024 * 1024;
  settings.frame_bytes_max = 16384;
  settings.header_bytes_max = 60 * 1024;
  settings.header_fields_max = 100;
  settings.streams_max = 10;
  settings.users_traffic = true;
  settings.connect_protocol = true;
  return settings;
}

// One of our engines and what it was told.
struct Side {
  Recorder seen;
  H2Engine engine;
  bool failed = false;
  explicit Side(H2Engine::Role role, H2Settings settings = users()) : engine(role, settings, seen) {
    if (role == H2Engine::Role::kServer) say(kPreface);
    say(frame(kSettings, 0, 0));
    say(frame(kSettings, kAck, 0));
    REQUIRE(seen.has("settings ack"));
    (void)sent();
    seen.events.clear();
  }
  size_t fragment = SIZE_MAX;
  Side& say(std::string_view bytes) {
    while (!failed && !bytes.empty()) {
      std::string_view part = bytes.substr(0, fragment);
      failed = !engine.feed(base::as_bytes(part));
      bytes.remove_prefix(part.size());
    }
    return *this;
  }
  std::vector<std::string> sent() {
    base::ByteQueue out;
    (void)engine.produce(out);
    return read_frames(out.take_all());
  }
};
struct Server : Side {
  explicit Server(H2Settings settings = users()) : Side(H2Engine::Role::kServer, settings) {}
};

const Headers kGet = {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}};

Headers with(Headers headers, const Headers& more) {
  headers.insert(headers.end(), more.begin(), more.end());
  return headers;
}
// kGet with one field other than it was, or without it.
Headers but(std::string_view name, std::string_view value) {
  Headers headers = kGet;
  for (auto& field : headers) {
    if (field.first == name) field.second = value;
  }
  return headers;
}
Headers without(std::string_view name) {
  Headers headers = kGet;
  std::erase_if(headers, [&](const auto& field) { return field.first == name; });
  return headers;
}

using Lines = std::vector<std::string>;

// Frames mean the same however they are cut (design section 6.12).
constexpr size_t kFragments[] = {1, 2, 3, 7, 16, 31, SIZE_MAX};

}  // namespace

TEST_CASE("requests that are malformed cost their stream, and the connection goes on", "[h2][rfc9113]") {
  const Headers rows[] = {
      // 8.2: names and values
      with(kGet, {{"X-Upper", "v"}}),
      with(kGet, {{"", "v"}}),
      with(kGet, {{"x y", "v"}}),
      with(kGet, {{"x\x01", "v"}}),
      with(kGet, {{"x:", "v"}}),
      with(kGet, {{"x", "a\rb"}}),
      with(kGet, {{"x", "a\nb"}}),
      with(kGet, {{"x", std::string("a\0b", 3)}}),
      with(kGet, {{"x", " a"}}),
      with(kGet, {{"x", "a "}}),
      // 8.2.2: the connection's own
      with(kGet, {{"connection", "close"}}),
      with(kGet, {{"keep-alive", "3"}}),
      with(kGet, {{"proxy-connection", "close"}}),
      with(kGet, {{"transfer-encoding", "chunked"}}),
      with(kGet, {{"upgrade", "websocket"}}),
      with(kGet, {{"te", "gzip"}}),
      with(kGet, {{"te", "trailers, gzip"}}),
      // 8.3: pseudo-headers
      without(":method"),
      without(":scheme"),
      without(":path"),
      without(":authority"),
      but(":path", ""),
      but(":path", "x"),
      but(":path", "*"),
      but(":path", "/a b"),
      but(":path", "/\x80"),
      but(":path", "/a\r\nb"),
      // Also where the scheme is not HTTP's.
      {{":method", "GET"}, {":scheme", "foo"}, {":authority", "a"}, {":path", "x"}},
      {{":method", "GET"}, {":scheme", "foo"}, {":authority", "a"}, {":path", "http://b/"}},
      {{":method", "GET"}, {":scheme", "foo"}, {":authority", "a"}, {":path", "*"}},
      but(":method", ""),
      but(":method", "G T"),
      but(":scheme", ""),
      but(":authority", ""),
      but(":authority", "u@a"),
      but(":authority", "a:"),
      but(":authority", "a:70000"),
      but(":authority", "a b"),
      with(kGet, {{":path", "/"}}),
      with(kGet, {{":method", "GET"}}),
      with(kGet, {{":status", "200"}}),
      with(kGet, {{":unknown", "v"}}),
      {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {"x", "v"}, {":path", "/"}},
      with(kGet, {{"host", "a"}, {"host", "b"}}),
      with(without(":authority"), {{"host", "u@a"}}),
      // 8.5 and RFC 8441
      {{":method", "CONNECT"}},
      {{":method", "CONNECT"}, {":authority", "a:80"}, {":path", "/"}},
      {{":method", "CONNECT"}, {":authority", "a:80"}, {":scheme", "http"}},
      {{":method", "CONNECT"}, {":protocol", "websocket"}, {":authority", "a"}},
      {{":method", "CONNECT"}, {":protocol", "websocket"}, {":authority", "a"}, {":scheme", "http"}},
      with(kGet, {{":protocol", "websocket"}}),
      // 8.1.1: content-length
      with(kGet, {{"content-length", "5"}}),
      with(kGet, {{"content-length", "x"}}),
      with(kGet, {{"content-length", "-1"}}),
      with(kGet, {{"content-length", "0"}, {"content-length", "0"}}),
      with(kGet, {{"content-length", "18446744073709551616"}}),
  };
  for (const Headers& row : rows) {
    std::string shown;
    for (const auto& [name, value] : row) shown += fmt::format("{}={};", name, value);
    INFO(shown);
    for (size_t fragment : kFragments) {
      Server server;
      server.fragment = fragment;
      server.say(headers(1, row));
      CHECK(!server.seen.has("headers 1"));
      CHECK(server.sent() == Lines{"RST 1 PROTOCOL_ERROR"});
      server.say(headers(3, kGet));
      CHECK(!server.failed);
      CHECK(server.seen.has("headers 3"));
    }
  }
}

TEST_CASE("what well-formed requests become", "[h2][rfc9113]") {
  Server server;
  SECTION("host gives way to :authority") {
    server.say(headers(1, with(kGet, {{"host", "other"}, {"x", "y"}})));
    CHECK(server.seen.last == with(kGet, {{"x", "y"}}));
    CHECK(server.seen.has("host ignored 1"));
  }
  SECTION("the same host is nothing to tell") {
    server.say(headers(1, with(kGet, {{"host", "A"}})));
    CHECK(server.seen.last == kGet);
    CHECK(!server.seen.has("host ignored 1"));
  }
  SECTION("or stands in for it") {
    server.say(headers(1, with(without(":authority"), {{"x", "y"}, {"host", "b:8"}})));
    CHECK(
        server.seen.last ==
        Headers{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "b:8"}, {"x", "y"}});
  }
  SECTION("cookie crumbs are one again") {
    server.say(headers(1, with(kGet, {{"cookie", "a=1"}, {"x", "y"}, {"cookie", "b=2"}, {"cookie", "c=3"}})));
    CHECK(server.seen.last == with(kGet, {{"cookie", "a=1; b=2; c=3"}, {"x", "y"}}));
    server.say(headers(
        3,
        with(kGet, {{"cookie", ""}, {"cookie", "a=1"}, {"cookie", ""}, {"cookie", "b=2"}, {"cookie", ""}})));
    CHECK(server.seen.last == with(kGet, {{"cookie", "a=1; b=2"}}));
  }
  SECTION("HTTP/1's http2-settings says nothing") {
    server.say(headers(1, with(kGet, {{"http2-settings", "5"}, {"x", "y"}})));
    CHECK(server.seen.last == with(kGet, {{"x", "y"}}));
  }
  SECTION("OPTIONS *") {
    server.say(
        headers(1, {{":method", "OPTIONS"}, {":scheme", "http"}, {":authority", "a"}, {":path", "*"}}));
    CHECK(server.seen.has("headers 1"));
  }
  SECTION("te: trailers") {
    server.say(headers(1, with(kGet, {{"te", "trailers"}})));
    CHECK(server.seen.has("headers 1"));
  }
  SECTION("extended CONNECT") {
    server.say(headers(1,
                       {{":method", "CONNECT"},
                        {":protocol", "websocket"},
                        {":scheme", "http"},
                        {":authority", "a"},
                        {":path", "/"}},
                       false));
    CHECK(server.seen.has("headers 1"));
  }
}

TEST_CASE("bodies and trailers that do not fit their headers", "[h2][rfc9113]") {
  Server server;
  server.fragment = GENERATE(from_range(std::begin(kFragments), std::end(kFragments)));
  Headers five = with(but(":method", "POST"), {{"content-length", "5"}});
  SECTION("as announced") {
    server.say(headers(1, five, false)).say(frame(kData, kEndStream, 1, "hello"));
    CHECK(server.seen.events == Lines{"headers 1", "end 1"});
    CHECK(server.sent().empty());
  }
  SECTION("too much") { server.say(headers(1, five, false)).say(frame(kData, 0, 1, "hello!")); }
  SECTION("too little") { server.say(headers(1, five, false)).say(frame(kData, kEndStream, 1, "hell")); }
  SECTION("too little, ended by trailers") {
    server.say(headers(1, five, false)).say(frame(kData, 0, 1, "hell")).say(headers(1, {{"t", "v"}}));
  }
  SECTION("pseudo-headers in trailers") {
    server.say(headers(1, but(":method", "POST"), false)).say(headers(1, {{":path", "/x"}}));
  }
  SECTION("trailers that end nothing") {
    server.say(headers(1, but(":method", "POST"), false)).say(headers(1, {{"t", "v"}}, false));
  }
  SECTION("trailers of the connection") {
    server.say(headers(1, but(":method", "POST"), false)).say(headers(1, {{"transfer-encoding", "chunked"}}));
  }
  if (!server.seen.has("end 1")) {
    CHECK(server.sent() == Lines{"RST 1 PROTOCOL_ERROR"});
    CHECK(server.seen.has("closed 1 PROTOCOL_ERROR"));
    CHECK(!server.seen.has("trailers 1"));
  }
  CHECK(!server.failed);
}

TEST_CASE("limits of header blocks cost the stream", "[h2][rfc9113]") {
  H2Settings settings = users();
  settings.header_bytes_max = 1000;
  settings.header_fields_max = 10;
  Server server(settings);
  // kGet has 166 bytes by the RFC's count, the field's name and overhead 33.
  auto padded = [](size_t bytes) { return with(kGet, {{"x", std::string(bytes - 166 - 33, 'v')}}); };
  server.say(headers(1, padded(1000)));
  CHECK(server.seen.has("headers 1"));
  server.say(headers(3, padded(1001)));
  CHECK(!server.seen.has("headers 3"));
  Headers many = kGet;
  for (int i = 0; i < 6; ++i) many.emplace_back("x", "v");
  server.say(headers(5, many));
  CHECK(server.seen.has("headers 5"));
  many.emplace_back("cookie", "a=1");
  server.say(headers(7, many));
  CHECK(!server.seen.has("headers 7"));
  CHECK(server.sent() == Lines{"RST 3 ENHANCE_YOUR_CALM", "RST 7 ENHANCE_YOUR_CALM"});
  // The table of HPACK was kept in step meanwhile.
  server.say(headers(9, kGet));
  CHECK(server.seen.has("headers 9"));
}

TEST_CASE("frames that break the connection", "[h2][rfc9113]") {
  struct Row {
    std::string name;
    std::string frames;
    std::string code;
  };
  std::string get = headers(1, kGet);
  std::string post = headers(1, but(":method", "POST"), false);
  auto setting = [](uint16_t id, uint32_t value) {
    return frame(kSettings, 0, 0, number(id, 2) + number(value, 4));
  };
  const Row rows[] = {
      {"4.2 DATA above the frame size", post + frame(kData, 0, 1, std::string(16385, 'x')),
       "FRAME_SIZE_ERROR"},
      {"4.2 HEADERS above the frame size", frame(kHeaders, kEndHeaders, 1, std::string(16385, 'x')),
       "FRAME_SIZE_ERROR"},
      {"4.3 a header block that does not decode",
       frame(kHeaders, kEndHeaders | kEndStream, 1, "\xff\xff\xff\xff\xff"), "COMPRESSION_ERROR"},
      {"5.1 DATA on an idle stream", frame(kData, 0, 1, "x"), "PROTOCOL_ERROR"},
      {"5.1 RST_STREAM on an idle stream", frame(kRst, 0, 1, number(8, 4)), "PROTOCOL_ERROR"},
      {"5.1 WINDOW_UPDATE on an idle stream", frame(kWindowUpdate, 0, 1, number(1, 4)), "PROTOCOL_ERROR"},
      {"5.1 CONTINUATION on an idle stream", frame(kContinuation, kEndHeaders, 1, "x"), "PROTOCOL_ERROR"},
      {"5.1 HEADERS after the request's end", get + headers(1, kGet), "STREAM_CLOSED"},
      {"5.1.1 an even stream", headers(2, kGet), "PROTOCOL_ERROR"},
      {"6.1 DATA on stream 0", frame(kData, 0, 0, "x"), "PROTOCOL_ERROR"},
      {"6.1 padding longer than the frame", post + frame(kData, kPadded, 1, "\x06hello"), "PROTOCOL_ERROR"},
      {"6.2 HEADERS on stream 0", frame(kHeaders, kEndHeaders, 0, block(kGet)), "PROTOCOL_ERROR"},
      {"6.2 padding longer than the frame",
       frame(kHeaders, kEndHeaders | kPadded, 1,
             "\x7f"
             "abc"),
       "PROTOCOL_ERROR"},
      {"6.3 PRIORITY of the wrong length", frame(kPriority, 0, 1, "1234"), "FRAME_SIZE_ERROR"},
      {"6.3 PRIORITY on stream 0", frame(kPriority, 0, 0, "12345"), "PROTOCOL_ERROR"},
      {"6.4 RST_STREAM on stream 0", frame(kRst, 0, 0, number(8, 4)), "PROTOCOL_ERROR"},
      {"6.4 RST_STREAM of the wrong length", post + frame(kRst, 0, 1, "123"), "FRAME_SIZE_ERROR"},
      {"6.5 SETTINGS on a stream", frame(kSettings, 0, 1), "PROTOCOL_ERROR"},
      {"6.5 SETTINGS of an odd length", frame(kSettings, 0, 0, "12345"), "FRAME_SIZE_ERROR"},
      {"6.5 an acknowledgement with a payload", frame(kSettings, kAck, 0, "123456"), "FRAME_SIZE_ERROR"},
      {"6.5.2 ENABLE_PUSH 2", setting(2, 2), "PROTOCOL_ERROR"},
      {"6.5.2 INITIAL_WINDOW_SIZE 2^31", setting(4, 0x80000000u), "FLOW_CONTROL_ERROR"},
      {"6.5.2 MAX_FRAME_SIZE 16383", setting(5, 16383), "PROTOCOL_ERROR"},
      {"6.5.2 MAX_FRAME_SIZE 2^24", setting(5, 1 << 24), "PROTOCOL_ERROR"},
      {"RFC 8441 ENABLE_CONNECT_PROTOCOL 2", setting(8, 2), "PROTOCOL_ERROR"},
      {"6.6 PUSH_PROMISE from a client",
       post + frame(kPushPromise, kEndHeaders, 1, number(2, 4) + block(kGet)), "PROTOCOL_ERROR"},
      {"6.7 PING on a stream", frame(kPing, 0, 1, "12345678"), "PROTOCOL_ERROR"},
      {"6.7 PING of the wrong length", frame(kPing, 0, 0, "1234567"), "FRAME_SIZE_ERROR"},
      {"6.8 GOAWAY on a stream", frame(kGoaway, 0, 1, number(0, 8)), "PROTOCOL_ERROR"},
      {"6.9 WINDOW_UPDATE of 0", frame(kWindowUpdate, 0, 0, number(0, 4)), "PROTOCOL_ERROR"},
      {"6.9 WINDOW_UPDATE of the wrong length", frame(kWindowUpdate, 0, 0, "123"), "FRAME_SIZE_ERROR"},
      {"6.9.1 a connection window above 2^31-1", frame(kWindowUpdate, 0, 0, number(0x7fffffff, 4)),
       "FLOW_CONTROL_ERROR"},
      {"6.10 CONTINUATION after END_HEADERS", post + frame(kContinuation, kEndHeaders, 1, "x"),
       "PROTOCOL_ERROR"},
      {"6.10 another frame inside a header block",
       frame(kHeaders, 0, 1, block(kGet)) + frame(kPing, 0, 0, "12345678"), "PROTOCOL_ERROR"},
      {"6.10 CONTINUATION of another stream",
       frame(kHeaders, 0, 1, block(kGet)) + frame(kContinuation, kEndHeaders, 3, "x"), "PROTOCOL_ERROR"},
  };
  for (const Row& row : rows) {
    for (size_t fragment : kFragments) {
      INFO(row.name << ", in fragments of " << fragment);
      Server server;
      server.fragment = fragment;
      server.say(row.frames);
      Lines sent = server.sent();
      CHECK((server.failed || !server.engine.wants_read()));
      // nghttp2 ends without a word where a frame's header comes byte by byte in a header block's place.
      bool silent = sent.empty() && fragment == 1 && row.name.starts_with("6.10 ");
      CHECK((silent || (!sent.empty() && sent.back() == "GOAWAY " + row.code)));
    }
  }
}

TEST_CASE("frames that cost their stream", "[h2][rfc9113]") {
  Server server;
  server.fragment = GENERATE(from_range(std::begin(kFragments), std::end(kFragments)));
  std::string post = headers(1, but(":method", "POST"), false);
  SECTION("5.1 DATA after the request's end") {
    server.say(headers(1, kGet)).say(frame(kData, 0, 1, "x"));
    Lines sent = server.sent();
    // RFC 9113 allows a stream error or a connection error of type STREAM_CLOSED.
    REQUIRE(!sent.empty());
    CHECK(sent.back().ends_with("STREAM_CLOSED"));
    CHECK(server.seen.body.empty());
  }
  SECTION("6.9 a stream's WINDOW_UPDATE of 0") {
    server.say(post).say(frame(kWindowUpdate, 0, 1, number(0, 4)));
    CHECK(server.sent().back().ends_with("PROTOCOL_ERROR"));
  }
  SECTION("6.9.1 a stream's window above 2^31-1") {
    server.say(post).say(frame(kWindowUpdate, 0, 1, number(0x7fffffff, 4)));
    CHECK(server.sent() == Lines{"RST 1 FLOW_CONTROL_ERROR"});
  }
  SECTION("6.9 more than the stream's window") {
    server.say(post);
    for (int i = 0; i < 17; ++i) server.say(frame(kData, 0, 1, std::string(16384, 'x')));
    Lines sent = server.sent();
    REQUIRE(!sent.empty());
    CHECK(sent.back().ends_with("FLOW_CONTROL_ERROR"));
    // At most the frame that broke the bound has been given on.
    CHECK(server.seen.body.size() <= 17 * 16384);
  }
}

TEST_CASE("what must be tolerated", "[h2][rfc9113]") {
  Server server;
  SECTION("4.1 unknown frames, 5.5 unknown flags, 6.5.2 unknown settings") {
    server.say(frame(0x42, 0xff, 0, "whatever")).say(frame(0x42, 0xff, 99, "whatever"));
    server.say(frame(kSettings, 0, 0, number(0x99, 2) + number(1, 4)));
    server.say(frame(kPing, 0xfe, 0, "abcdefgh"));
    CHECK(server.sent() == Lines{"PONG abcdefgh"});
  }
  SECTION("6.1 and 6.2 padding; 6.2 the old priority fields") {
    server.say(frame(kHeaders, kEndHeaders | kPadded | kPriorityFlag, 1,
                     "\x03" + number(0, 5) + block(but(":method", "POST")) + std::string(3, '\0')));
    server.say(frame(kData, kEndStream | kPadded, 1, std::string("\x02hi\0\0", 5)));
    CHECK(server.seen.events == Lines{"headers 1", "end 1"});
    CHECK(server.seen.body == "hi");
  }
  SECTION("4.3 a block in many pieces") {
    std::string all = block(kGet);
    server.say(frame(kHeaders, kEndStream, 1, all.substr(0, 1)));
    for (size_t i = 1; i < 7; ++i) server.say(frame(kContinuation, 0, 1, all.substr(i, 1)));
    server.say(frame(kContinuation, kEndHeaders, 1, all.substr(7)));
    CHECK(server.seen.has("headers 1"));
  }
  SECTION("5.1 frames of a stream that was just reset") {
    server.say(headers(1, but(":method", "POST"), false));
    server.engine.reset(1, kH2Cancel);
    CHECK(server.sent() == Lines{"RST 1 CANCEL"});
    server.say(frame(kData, kEndStream, 1, "late")).say(frame(kWindowUpdate, 0, 1, number(1, 4)));
    server.say(headers(3, kGet));
    CHECK(server.seen.has("headers 3"));
  }
  SECTION("6.9.2 a window that becomes negative and recovers") {
    server.say(headers(1, kGet));
    server.engine.respond(1, {{":status", "200"}}, false);
    server.engine.write(1, base::as_bytes(std::string(100, 'x')));
    CHECK(server.sent() == Lines{"HEADERS 1", "DATA 1 100"});
    server.say(frame(kSettings, 0, 0, number(4, 2) + number(50, 4)));
    server.engine.write(1, base::as_bytes("more"));
    CHECK(server.sent().empty());
    server.say(frame(kWindowUpdate, 0, 1, number(53, 4)));
    CHECK(server.sent() == Lines{"DATA 1 3"});
  }
  CHECK(!server.failed);
}

TEST_CASE("floods end the connection with ENHANCE_YOUR_CALM", "[h2][rfc9113]") {
  Server server;
  std::string open = headers(1, but(":method", "POST"), false);
  std::string flood;
  SECTION("CONTINUATION") {
    flood = frame(kHeaders, 0, 1, block(kGet).substr(0, 1));
    for (int i = 0; i < 8; ++i) flood += frame(kContinuation, 0, 1, block({{"x", "y"}}));
  }
  SECTION("empty DATA") { flood = open + frame(kData, 0, 1) + frame(kData, 0, 1); }
  SECTION("padded empty DATA") {
    std::string padded = frame(kData, kPadded, 1, std::string("\x02\0\0", 3));
    flood = open + padded + padded;
  }
  SECTION("PRIORITY") {
    flood = open;
    for (int i = 0; i < 201; ++i) flood += frame(kPriority, 0, 1, number(0, 5));
  }
  SECTION("WINDOW_UPDATE") {
    flood = open;
    for (int i = 0; i < 8; ++i) flood += frame(kWindowUpdate, 0, 0, number(1, 4));
  }
  SECTION("unknown frames") {
    flood = open;
    for (int i = 0; i < 201; ++i) flood += frame(0x42, 0, 1, "x");
  }
  SECTION("PING") {
    for (int i = 0; i < 2000; ++i) flood += frame(kPing, 0, 0, "12345678");
  }
  SECTION("SETTINGS") {
    for (int i = 0; i < 2000; ++i) flood += frame(kSettings, 0, 0);
  }
  server.say(flood);
  CHECK(server.failed);
  Lines sent = server.sent();
  REQUIRE(!sent.empty());
  CHECK(sent.back() == "GOAWAY ENHANCE_YOUR_CALM");
}

TEST_CASE("the guard's counters, at their edges and in any pieces", "[h2][rfc9113]") {
  std::string open = headers(1, kGet, false);
  auto judge = [](const std::string& bytes, int data_sent = 0) {
    std::string said;
    for (size_t piece : {1, 2, 3, 7, 16, 31, 1 << 20}) {
      H2Guard guard({}, kPreface.size());
      for (int i = 0; i < data_sent; ++i) guard.data_sent();
      std::string input = std::string(kPreface) + bytes;
      std::string_view flood;
      for (size_t at = 0; at < input.size() && flood.empty(); at += piece)
        flood = guard.feed(base::as_bytes(std::string_view(input).substr(at, piece)));
      if (piece > 1) CHECK(said == flood);
      said = flood;
    }
    return said;
  };
  auto times = [](int count, const std::string& one) {
    std::string out;
    for (int i = 0; i < count; ++i) out += one;
    return out;
  };
  std::string empty = frame(kData, 0, 1);
  std::string full = frame(kData, 0, 1, "x");
  CHECK(judge(open + times(100, empty + full)).empty());
  CHECK(judge(open + empty + frame(kData, kEndStream, 1)).empty());
  CHECK(judge(open + empty + empty) == "empty frames");
  CHECK(judge(open + empty + frame(kData, kPadded, 1, std::string(1, '\0'))) == "empty frames");
  CHECK(judge(open + empty + frame(kData, kPadded, 1, std::string("\0x", 2))).empty());
  std::string piece = frame(kContinuation, 0, 3, "x");
  std::string begun = frame(kHeaders, 0, 3, "x");
  CHECK(judge(begun + times(7, piece) + frame(kContinuation, kEndHeaders, 3, "x")).empty());
  CHECK(judge(begun + times(8, piece)) == "CONTINUATION");
  CHECK(judge(begun + times(2, frame(kContinuation, 0, 3))) == "empty frames");
  CHECK(judge(begun + times(16, frame(kContinuation, kEndHeaders, 3, std::string(16'384, 'x')))) ==
        "header block");
  CHECK(judge(times(100, frame(kPriority, 0, 1, "12345"))).empty());
  CHECK(judge(times(101, frame(kPriority, 0, 1, "12345"))) == "PRIORITY");
  CHECK(judge(open + times(200, frame(kPriority, 0, 1, "12345"))).empty());
  CHECK(judge(open + times(201, frame(kPriority, 0, 1, "12345"))) == "PRIORITY");
  std::string update = frame(kWindowUpdate, 0, 0, number(1, 4));
  CHECK(judge(times(5, update)).empty());
  CHECK(judge(times(6, update)) == "WINDOW_UPDATE");
  CHECK(judge(open + times(7, update)).empty());
  CHECK(judge(open + times(8, update)) == "WINDOW_UPDATE");
  CHECK(judge(times(105, update), 10).empty());
  CHECK(judge(times(106, update), 10) == "WINDOW_UPDATE");
  CHECK(judge(times(100, frame(99, 0, 0, "x"))).empty());
  CHECK(judge(times(101, frame(99, 0, 0, "x"))) == "unknown frames");
}

// --- our side as a client ---

TEST_CASE("answers that are malformed cost their stream", "[h2][rfc9113]") {
  const Headers rows[] = {
      {{"x", "no status"}},
      {{":status", "20"}},
      {{":status", "abc"}},
      {{":status", "200"}, {":status", "200"}},
      {{"x", "y"}, {":status", "200"}},
      {{":status", "200"}, {":path", "/"}},
      {{":status", "200"}, {"connection", "close"}},
      {{":status", "200"}, {"transfer-encoding", "chunked"}},
      {{":status", "200"}, {"X-Upper", "v"}},
      {{":status", "200"}, {"x", "a\nb"}},
      {{":status", "200"}, {"content-length", "5"}},
      {{":status", "200"}, {"content-length", "5"}, {"content-length", "5"}},
      {{":status", "101"}},
  };
  for (const Headers& row : rows) {
    INFO(row[0].second);
    Side client(H2Engine::Role::kClient);
    REQUIRE(client.engine.open(kGet, false));
    (void)client.sent();
    client.say(headers(1, row));
    CHECK(client.sent() == Lines{"RST 1 PROTOCOL_ERROR"});
    CHECK(client.seen.has("closed 1 PROTOCOL_ERROR"));
    CHECK(!client.seen.has("headers 1"));
    CHECK(!client.failed);
  }
}

TEST_CASE("1xx are told, up to ten, and never end a stream", "[h2][rfc9113]") {
  Side client(H2Engine::Role::kClient);
  REQUIRE(client.engine.open(kGet, true));
  (void)client.sent();
  Headers early = {{":status", "103"}};
  SECTION("told") {
    for (int i = 0; i < 10; ++i) client.say(headers(1, early, false));
    client.say(headers(1, {{":status", "200"}}));
    CHECK(std::count(client.seen.events.begin(), client.seen.events.end(), "1xx 1 103") == 10);
    CHECK(client.seen.has("headers 1"));
  }
  SECTION("too many") {
    for (int i = 0; i < 11; ++i) client.say(headers(1, early, false));
    CHECK(client.sent() == Lines{"RST 1 PROTOCOL_ERROR"});
  }
  SECTION("END_STREAM") {
    client.say(headers(1, early, true));
    CHECK(client.sent() == Lines{"RST 1 PROTOCOL_ERROR"});
    CHECK(!client.seen.has("headers 1"));
  }
}

TEST_CASE("a server pushes nothing to us", "[h2][rfc9113]") {
  Side client(H2Engine::Role::kClient);
  REQUIRE(client.engine.open(kGet, true));
  (void)client.sent();
  client.say(frame(kPushPromise, kEndHeaders, 1, number(2, 4) + block(kGet)));
  Lines sent = client.sent();
  REQUIRE(!sent.empty());
  CHECK(sent.back() == "GOAWAY PROTOCOL_ERROR");
}

TEST_CASE("fields of one hop never leave, and 1xx do", "[h2][rfc9113]") {
  Server server;
  server.say(headers(1, kGet));
  server.engine.inform(1, {{":status", "100"}});
  server.engine.inform(1, {{":status", "103"}, {"link", "x"}});
  server.engine.respond(1,
                        {{":status", "200"},
                         {"connection", "close"},
                         {"transfer-encoding", "chunked"},
                         {"keep-alive", "1"},
                         {"sec-websocket-accept", "x"},
                         {"x", "y"}},
                        true);
  base::ByteQueue out;
  REQUIRE(server.engine.produce(out));
  Side client(H2Engine::Role::kClient);
  REQUIRE(client.engine.open(kGet, true));
  (void)client.sent();
  client.say(out.take_all());
  CHECK(client.seen.events == Lines{"1xx 1 100", "1xx 1 103", "headers 1", "end 1", "closed 1 NO_ERROR"});
  CHECK(client.seen.last == Headers{{":status", "200"}, {"x", "y"}});
}

TEST_CASE("extended CONNECT is used only where it is offered", "[h2][rfc9113]") {
  Headers chat = {{":method", "CONNECT"},
                  {":protocol", "websocket"},
                  {":scheme", "http"},
                  {":authority", "a"},
                  {":path", "/"}};
  Side client(H2Engine::Role::kClient);
  CHECK(!client.engine.peer_takes_protocol());
  CHECK(client.engine.open(chat, false).error().code() == base::Code::kUnsupported);
  client.say(frame(kSettings, 0, 0, number(8, 2) + number(1, 4)));
  CHECK(client.engine.peer_takes_protocol());
  CHECK(client.engine.open(chat, false));
  // And a server that does not offer it takes none.
  H2Settings settings = users();
  settings.connect_protocol = false;
  Server server(settings);
  server.say(headers(1, chat, false));
  CHECK(server.sent() == Lines{"RST 1 PROTOCOL_ERROR"});
}

TEST_CASE("streams above MAX_CONCURRENT_STREAMS", "[h2][rfc9113]") {
  std::string many;
  for (uint32_t id = 1; id <= 23; id += 2) many += headers(id, kGet);
  SECTION("from a peer that has not yet read our SETTINGS") {
    Recorder seen;
    H2Engine engine(H2Engine::Role::kServer, users(), seen);
    REQUIRE(engine.feed(base::as_bytes(std::string(kPreface) + frame(kSettings, 0, 0) + many)));
    base::ByteQueue out;
    REQUIRE(engine.produce(out));
    CHECK(read_frames(out.take_all()) == Lines{"RST 21 REFUSED_STREAM", "RST 23 REFUSED_STREAM"});
    CHECK(seen.has("headers 19"));
    CHECK(!seen.has("headers 21"));
  }
  SECTION("from one that has: it means it") {
    Server server;
    server.say(many);
    CHECK(server.sent().back() == "GOAWAY PROTOCOL_ERROR");
    CHECK(!server.seen.has("headers 21"));
  }
}

}  // namespace culvert::wire
