// SPDX-License-Identifier: Apache-2.0
// A chunked body. What is accepted is encoded again and must be read as the same.
#include "test/fuzz/http1_parts.h"

using namespace culvert;

namespace {

constexpr std::string_view kHead = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

struct Message {
  bool complete = false;
  std::string body;
  wire::Headers trailers;
};

Message read(std::string_view input) {
  Message out;
  wire::Http1Decoder decoder(wire::Http1Decoder::Kind::kRequest, {});
  std::string_view rest = input;
  for (;;) {
    wire::Http1Decoder::Step step = decoder.next(base::as_bytes(rest));
    out.body += base::as_text(step.data);
    rest.remove_prefix(step.used);
    if (step.event == wire::Http1Decoder::Event::kEnd) {
      out.complete = true;
      out.trailers = decoder.take_trailers();
      return out;
    }
    if (step.event == wire::Http1Decoder::Event::kFault) return out;
    if (step.event == wire::Http1Decoder::Event::kNeedMore) return out;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string input = std::string(kHead) + std::string(base::as_text({data, size}));
  fuzz::decode_all_ways(wire::Http1Decoder::Kind::kRequest, input, "", "");
  Message message = read(input);
  if (!message.complete) return 0;
  wire::Http1Encoder encoder;
  base::ByteQueue out;
  fuzz::require(encoder.request({{":method", "POST"}, {":authority", "a"}, {":path", "/"}}, false, "", out)
                    .has_value());
  iovec part{message.body.data(), message.body.size()};
  fuzz::require(encoder.body({&part, 1}, message.body.size(), out).has_value());
  fuzz::require(encoder.finish(message.trailers, out).has_value());
  Message again = read(out.take_all());
  fuzz::require(again.complete && again.body == message.body && again.trailers == message.trailers);
  return 0;
}
