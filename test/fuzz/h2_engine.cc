// SPDX-License-Identifier: Apache-2.0
// HTTP/2 bytes of a peer, to a server and to a client with a request under way. First byte: bit 0 the role,
// bit 1 users' traffic instead of a tunnel's, the rest the fragment size.
#include <cstdlib>
#include <optional>

#include "net/wire/h2.h"

using namespace culvert;

namespace {

// Answers, echoes and consumes, so that what the peer causes is also sent.
struct Peer final : wire::H2Visitor {
  wire::H2Engine* engine = nullptr;
  bool server = false;
  void on_headers(int32_t id, wire::Headers headers) override {
    for (const auto& [name, value] : headers) {
      if (name == "transfer-encoding" ||
          value.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos)
        std::abort();
    }
    if (!server) return;
    engine->inform(id, {{":status", "103"}});
    engine->respond(id, {{":status", "200"}}, false);
  }
  void on_informational(int32_t id, wire::Headers) override { engine->write(id, base::as_bytes("x")); }
  void on_data(int32_t id, base::ByteView bytes) override {
    if (engine->queued(id) < 65536) engine->write(id, bytes);
    engine->consume_connection(bytes.size());
    engine->consume_stream(id, bytes.size());
  }
  void on_trailers(int32_t id, wire::Headers) override { engine->reset(id, wire::kH2Cancel); }
  void on_end(int32_t id) override { engine->finish(id); }
  void on_closed(int32_t, uint32_t) override {}
  void on_goaway(int32_t, uint32_t) override {}
  void on_ping_ack() override {}
  void on_sent(int32_t, size_t) override {}
  void on_end_sent(int32_t) override {}
  void on_settings() override { engine->ping(); }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  Peer peer;
  peer.server = (data[0] & 1) != 0;
  size_t fragment = std::max<size_t>(1, data[0] >> 2);
  wire::H2Settings settings;
  settings.users_traffic = settings.connect_protocol = (data[0] & 2) != 0;
  settings.streams_max = 100;
  base::ByteView rest(data + 1, size - 1);
  wire::H2Engine engine(peer.server ? wire::H2Engine::Role::kServer : wire::H2Engine::Role::kClient, settings,
                        peer);
  peer.engine = &engine;
  if (peer.server) {
    (void)engine.feed(base::as_bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
  } else {
    (void)engine.open({{":method", "CONNECT"}, {":authority", "10.0.0.1:80"}}, false);
  }
  base::ByteQueue out;
  (void)engine.produce(out);
  while (!rest.empty()) {
    size_t here = std::min(fragment, rest.size());
    if (!engine.feed(rest.first(here))) break;
    rest = rest.subspan(here);
    out.clear();
    if (!engine.produce(out)) break;
  }
  return 0;
}
