// SPDX-License-Identifier: Apache-2.0
// Request smuggling: what an HTTP/2 client says, sent on as HTTP/1, must be read there as one request that
// says the same (spec waypoint section 7.2), and what an HTTP/1 client says as itself. Input: a byte (bit 0:
// the client speaks HTTP/1, bit 1: the request ends with its headers), then for HTTP/2 header lines
// "name<TAB>value" up to an empty line and the body; for HTTP/1 the bytes.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "net/wire/authority.h"
#include "net/wire/http1.h"
#include "test/fuzz/http1_parts.h"
#include "test/unit/net/wire/h2_frames.h"

using namespace culvert;
using fuzz::require;
using wire::Headers;

namespace {

struct Request {
  Headers headers;
  std::string body;
  bool ended = false;
  bool operator==(const Request&) const = default;
};

// What our HTTP/2 engine made of stream 1.
struct Seen final : wire::H2Visitor {
  std::optional<Request> request;
  bool refused = false;
  void on_headers(int32_t stream, Headers headers) override {
    require(!request && stream == 1);
    request.emplace().headers = std::move(headers);
  }
  void on_data(int32_t, base::ByteView bytes) override {
    require(request && !request->ended);
    request->body += base::as_text(bytes);
  }
  void on_trailers(int32_t, Headers) override { std::abort(); }  // we send none
  void on_end(int32_t) override {
    require(request && !request->ended);
    request->ended = true;
  }
  void on_closed(int32_t, uint32_t code) override { refused |= code != wire::kH2NoError; }
  void on_goaway(int32_t, uint32_t) override {}
  void on_ping_ack() override {}
  void on_sent(int32_t, size_t) override {}
  void on_end_sent(int32_t) override {}
  void on_settings() override {}
};

std::optional<Request> from_h2(std::string_view input, bool end_stream) {
  using namespace wire::frames;
  Headers fields;
  while (!input.empty()) {
    std::string_view line = input.substr(0, input.find('\n'));
    input.remove_prefix(std::min(input.size(), line.size() + 1));
    if (line.empty()) break;
    size_t tab = line.find('\t');
    if (tab == line.npos) return std::nullopt;
    fields.emplace_back(line.substr(0, tab), line.substr(tab + 1));
  }
  std::string block_bytes = block(fields);
  if (block_bytes.size() > 16384 || input.size() > 16384) return std::nullopt;
  wire::H2Settings settings;
  settings.stream_window_bytes = 256 * 1024;
  settings.connection_window_bytes = 1024 * 1024;
  settings.header_bytes_max = 60 * 1024;
  settings.header_fields_max = 100;
  settings.users_traffic = true;
  settings.connect_protocol = true;
  Seen seen;
  wire::H2Engine engine(wire::H2Engine::Role::kServer, settings, seen);
  std::string bytes = std::string(kPreface) + frame(kSettings, 0, 0);
  bytes += frame(kHeaders, static_cast<uint8_t>(kEndHeaders | (end_stream ? kEndStream : 0)), 1, block_bytes);
  if (!end_stream) bytes += frame(kData, kEndStream, 1, input);
  (void)engine.feed(base::as_bytes(bytes));
  base::ByteQueue out;
  (void)engine.produce(out);
  for (const std::string& line : read_frames(out.take_all())) seen.refused |= line.starts_with("RST 1");
  if (!seen.request || seen.refused || !seen.request->ended) return std::nullopt;
  return seen.request;
}

// The first request of an HTTP/1 peer; `left` becomes what follows it.
std::optional<Request> from_h1(std::string_view& left, wire::Http1Fault* fault = nullptr) {
  using Event = wire::Http1Decoder::Event;
  wire::Http1Decoder decoder(wire::Http1Decoder::Kind::kRequest, {});
  Request out;
  for (;;) {
    wire::Http1Decoder::Step step = decoder.next(base::as_bytes(left));
    left.remove_prefix(step.used);
    out.body += base::as_text(step.data);
    if (step.event == Event::kHead) {
      wire::Http1Head head = decoder.take_head();
      out.headers = std::move(head.headers);
    }
    if (step.event == Event::kFault && fault) *fault = decoder.fault();
    if (step.event == Event::kFault || step.event == Event::kNeedMore) return std::nullopt;
    if (step.event != Event::kEnd) continue;
    // Trailers are a matter of their own.
    if (!decoder.take_trailers().empty()) return std::nullopt;
    out.ended = true;
    return out;
  }
}

// As far as both versions can tell it: HTTP/1 does not carry the scheme.
Headers plain(const Headers& headers) {
  Headers out;
  for (const auto& [name, value] : headers) {
    if (name == ":scheme" || name == "content-length") continue;
    // What WebSocket needs in HTTP/1 only.
    if (name == "sec-websocket-key" || name == "te") continue;
    out.emplace_back(name, value);
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  bool http1 = (data[0] & 1) != 0, end_stream = (data[0] & 2) != 0;
  std::optional<Request> request = http1 ? from_h1(rest) : from_h2(rest, end_stream);
  if (!request) return 0;
  fuzz::check_headers(request->headers);
  size_t hosts = 0, paths = 0, methods = 0;
  for (const auto& [name, value] : request->headers) {
    hosts += name == ":authority" || name == "host";
    paths += name == ":path";
    methods += name == ":method";
  }
  const std::string* upgrade = wire::find_header(request->headers, ":protocol");
  bool tunnel = *wire::find_header(request->headers, ":method") == "CONNECT" && !upgrade;
  require(methods == 1 && hosts == 1 && paths == (tunnel ? 0 : 1));
  // A waypoint sends none of these on.
  if (tunnel || upgrade) return 0;
  const std::string* length = wire::find_header(request->headers, "content-length");
  if (length) require(*length == std::to_string(request->body.size()) || length->starts_with('0'));

  wire::Http1Encoder encoder;
  base::ByteQueue out;
  if (!encoder.request(request->headers, request->body.empty(), "", out)) return 0;
  if (!request->body.empty()) {
    iovec part{request->body.data(), request->body.size()};
    require(encoder.body(std::span(&part, 1), request->body.size(), out).has_value());
    require(encoder.finish({}, out).has_value());
  }
  require(encoder.finished());
  // Another request behind it is found where it is.
  std::string sent = out.take_all() + "GET /next HTTP/1.1\r\nHost: next\r\n\r\n";
  std::string_view left = sent;
  wire::Http1Fault fault = wire::Http1Fault::kNone;
  std::optional<Request> read = from_h1(left, &fault);
  // HTTP/2 takes every token for a method, llhttp those of its list.
  if (fault == wire::Http1Fault::kMethod) return 0;
  require(read && plain(read->headers) == plain(request->headers) && read->body == request->body);
  require(left.starts_with("GET /next "));
  return 0;
}
