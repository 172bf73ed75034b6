// SPDX-License-Identifier: Apache-2.0
// H2Engine against itself as a transcript at every fragment size of design section 6.12, and against
// hand-made frames.
#include "net/wire/h2.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <optional>
#include <set>

namespace culvert::wire {
namespace {

// Writes down what it is told, one short word each.
struct Recorder final : H2Visitor {
  std::vector<std::string> events;
  std::string body;
  std::set<int32_t> open;
  size_t sent = 0;
  void on_headers(int32_t id, Headers headers) override {
    open.insert(id);
    const std::string* first = find_header(headers, ":path");
    if (!first) first = find_header(headers, ":status");
    events.push_back(fmt::format("headers {} {}", id, first ? *first : "-"));
  }
  void on_data(int32_t, base::ByteView bytes) override { body += base::as_text(bytes); }
  void on_trailers(int32_t id, Headers trailers) override {
    events.push_back(fmt::format("trailers {} {}", id, trailers.empty() ? "-" : trailers[0].second));
  }
  void on_end(int32_t id) override { events.push_back(fmt::format("end {}", id)); }
  void on_closed(int32_t id, uint32_t code) override {
    events.push_back(fmt::format("closed {} {}", id, h2_code_name(code)));
  }
  void on_goaway(int32_t last, uint32_t code) override {
    events.push_back(fmt::format("goaway {} {}", last, h2_code_name(code)));
  }
  void on_ping_ack() override { events.push_back("ping ack"); }
  void on_sent(int32_t, size_t bytes) override { sent += bytes; }
  void on_end_sent(int32_t id) override { events.push_back(fmt::format("end sent {}", id)); }
  void on_settings() override { events.push_back("settings"); }
  bool has(const std::string& event) const {
    return std::find(events.begin(), events.end(), event) != events.end();
  }
};

struct Pair {
  Recorder at_client;
  Recorder at_server;
  H2Engine client;
  H2Engine server;
  size_t fragment;
  explicit Pair(size_t fragment_bytes = 1 << 20, H2Settings client_settings = {},
                H2Settings server_settings = {})
      : client(H2Engine::Role::kClient, client_settings, at_client),
        server(H2Engine::Role::kServer, server_settings, at_server),
        fragment(fragment_bytes) {}

  // What `from` has to say reaches `to` in fragments; the bytes, or nullopt if `to` objects.
  std::optional<std::string> carry(H2Engine& from, H2Engine& to) {
    base::ByteQueue out;
    REQUIRE(from.produce(out));
    std::string bytes = out.take_all();
    for (size_t at = 0; at < bytes.size(); at += fragment) {
      if (!to.feed(base::as_bytes(std::string_view(bytes).substr(at, fragment)))) return std::nullopt;
    }
    return bytes;
  }
  void settle() {
    for (;;) {
      auto there = carry(client, server);
      auto back = carry(server, client);
      REQUIRE(there);
      REQUIRE(back);
      if (there->empty() && back->empty()) return;
    }
  }
};

const Headers kRequest = {{":method", "POST"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/p"}};

std::string frame(size_t length, uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string out;
  for (int shift : {16, 8, 0}) out += static_cast<char>(length >> shift);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  for (int shift : {24, 16, 8, 0}) out += static_cast<char>(stream >> shift);
  return out + std::string(payload);
}

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

}  // namespace

TEST_CASE("a request, an answer and trailers, at every fragment size", "[apis-30]") {
  Pair pair(GENERATE(1, 2, 3, 7, 16, 31, 1 << 20));
  auto id = pair.client.open(kRequest, false);
  REQUIRE(id);
  pair.client.write(*id, base::as_bytes(std::string(40'000, 'q')));
  pair.client.finish(*id);
  pair.settle();
  CHECK(pair.at_server.body == std::string(40'000, 'q'));
  CHECK(pair.at_client.sent == 40'000);
  pair.server.respond(*id, {{":status", "200"}}, false);
  pair.server.write(*id, base::as_bytes("answer"));
  pair.server.finish_with_trailers(*id, {{"grpc-status", "0"}});
  pair.settle();
  CHECK(pair.at_client.body == "answer");
  CHECK(pair.at_server.events ==
        std::vector<std::string>{"settings", "headers 1 /p", "end 1", "end sent 1", "closed 1 NO_ERROR"});
  CHECK(pair.at_client.events == std::vector<std::string>{"end sent 1", "settings", "headers 1 200",
                                                          "trailers 1 0", "end 1", "closed 1 NO_ERROR"});
  CHECK(pair.client.open_streams() == 0);
  CHECK(pair.server.open_streams() == 0);
}

TEST_CASE("a DATA frame with its header fills one TLS record, whatever frame size the peer takes") {
  Pair pair;
  auto id = pair.client.open(kRequest, false);
  REQUIRE(id);
  pair.settle();
  pair.client.write(*id, base::as_bytes(std::string(100'000, 'x')));
  base::ByteQueue out;
  REQUIRE(pair.client.produce(out));
  std::string bytes = out.take_all();
  std::vector<size_t> lengths;
  for (size_t at = 0; at < bytes.size();) {
    size_t length = static_cast<uint8_t>(bytes[at]) << 16 | static_cast<uint8_t>(bytes[at + 1]) << 8 |
                    static_cast<uint8_t>(bytes[at + 2]);
    if (bytes[at + 3] == 0) lengths.push_back(length + 9);
    at += 9 + length;
  }
  REQUIRE(lengths.size() == 7);
  for (size_t i = 0; i + 1 < lengths.size(); ++i) CHECK(lengths[i] == 16384);
}

TEST_CASE("a window opens only when bytes are consumed") {
  H2Settings small;
  small.stream_window_bytes = 70'000;
  small.connection_window_bytes = 100'000;
  Pair pair(1 << 20, {}, small);
  pair.settle();
  auto id = pair.client.open(kRequest, false);
  REQUIRE(id);
  pair.client.write(*id, base::as_bytes(std::string(200'000, 'x')));
  pair.settle();
  CHECK(pair.at_server.body.size() == 70'000);
  CHECK(pair.client.queued(*id) == 130'000);
  pair.server.consume_connection(70'000);
  pair.server.consume_stream(*id, 70'000);
  pair.settle();
  CHECK(pair.at_server.body.size() == 140'000);
}

TEST_CASE("bytes of a stream that has gone give the connection's window back") {
  H2Settings small;
  small.stream_window_bytes = 70'000;
  small.connection_window_bytes = 80'000;
  Pair pair(1 << 20, {}, small);
  pair.settle();
  for (int i = 0; i < 10; ++i) {
    auto id = pair.client.open(kRequest, false);
    REQUIRE(id);
    pair.client.write(*id, base::as_bytes(std::string(60'000, 'x')));
    pair.client.finish(*id);
    pair.settle();
    REQUIRE(pair.at_server.body.size() == 60'000u * static_cast<size_t>(i + 1));
    pair.server.reset(*id, kH2Cancel);
    pair.settle();
    pair.server.consume_connection(60'000);
    pair.settle();
  }
}

TEST_CASE("too many or too large header fields cost their stream, not the connection") {
  Pair pair;
  Headers many = kRequest;
  bool by_size = GENERATE(true, false);
  if (by_size) {
    many.emplace_back("big", std::string(20'000, 'x'));
  } else {
    for (size_t i = 0; i < H2Settings{}.header_fields_max; ++i) many.emplace_back(fmt::format("h{}", i), "v");
  }
  REQUIRE(pair.client.open(many, true));
  pair.settle();
  CHECK(pair.at_client.has("closed 1 ENHANCE_YOUR_CALM"));
  CHECK(!pair.at_server.has("headers 1 /p"));
  REQUIRE(pair.client.open(kRequest, true));
  pair.settle();
  CHECK(pair.at_server.has("headers 3 /p"));
}

TEST_CASE("1xx answers are swallowed") {
  Pair pair;
  REQUIRE(pair.client.open({{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/"}},
                           true));
  pair.settle();
  // HEADERS with END_HEADERS and ":status: 103" as a literal without indexing (name index 8).
  REQUIRE(pair.client.feed(base::as_bytes(frame(5, 1, 4, 1,
                                                std::string_view("\x08\x03"
                                                                 "103",
                                                                 5)))));
  CHECK(!pair.at_client.has("headers 1 103"));
  pair.server.respond(1, {{":status", "204"}}, true);
  // The server's compression knows nothing of that frame; the literal left the table alone.
  pair.settle();
  CHECK(pair.at_client.has("headers 1 204"));
}

TEST_CASE("the first GOAWAY of a drain lets streams in, the last one names what was taken") {
  Pair pair;
  REQUIRE(pair.client.open(kRequest, false));
  pair.settle();
  pair.server.announce_drain();
  pair.settle();
  CHECK(pair.at_client.has("goaway 2147483647 NO_ERROR"));
  pair.server.ping();
  pair.settle();
  CHECK(pair.at_server.has("ping ack"));
  pair.server.goaway(kH2NoError);
  pair.settle();
  CHECK(pair.at_client.has("goaway 1 NO_ERROR"));
  CHECK(pair.server.open_streams() == 1);
}

TEST_CASE("a flood of PING or SETTINGS that nobody drains ends the connection") {
  uint8_t type = GENERATE(uint8_t{4}, uint8_t{6});
  Recorder visitor;
  H2Engine server(H2Engine::Role::kServer, {}, visitor);
  REQUIRE(server.feed(base::as_bytes(std::string(kPreface) + frame(0, 4, 0, 0, ""))));
  std::string one = type == 6 ? frame(8, 6, 0, 0, "12345678") : frame(0, 4, 0, 0, "");
  bool refused = false;
  for (int i = 0; i < 5000 && !refused; ++i) refused = !server.feed(base::as_bytes(one));
  CHECK(refused);
}

TEST_CASE("a peer that breaks the protocol is told so, and then nothing more is wanted of it") {
  Recorder visitor;
  H2Engine server(H2Engine::Role::kServer, {}, visitor);
  SECTION("no HTTP/2 at all") { CHECK(!server.feed(base::as_bytes("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))); }
  SECTION("DATA on stream 0") {
    std::string bytes = std::string(kPreface) + frame(0, 4, 0, 0, "") + frame(1, 0, 0, 0, "x");
    auto fed = server.feed(base::as_bytes(bytes));
    base::ByteQueue out;
    (void)server.produce(out);
    CHECK(out.take_all().find('\x07') != std::string::npos);
    CHECK((!fed || (!server.wants_read() && !server.wants_write())));
  }
}

}  // namespace culvert::wire
