// SPDX-License-Identifier: Apache-2.0
// An HTTP/1 peer's bytes through the decoder, and what must hold whatever they are: the same events however
// the bytes are cut, and nothing in the headers that another reader could take for something else.
#pragma once

#include <cstdlib>
#include <string>

#include "net/wire/authority.h"
#include "net/wire/http1.h"

namespace culvert::fuzz {

inline void require(bool holds) {
  if (!holds) std::abort();
}

inline void check_headers(const wire::Headers& headers) {
  for (const auto& [name, value] : headers) {
    require(!name.empty());
    for (char c : name) require(c > 0x20 && c < 0x7f && !(c >= 'A' && c <= 'Z'));
    for (char c : value) require(c != '\r' && c != '\n' && c != '\0');
    require(name != "transfer-encoding" && name != "connection");
    if (name == ":authority") require(wire::valid_authority(value));
  }
}

struct Decoded {
  std::string events;
  std::string body;
  wire::Http1Fault fault = wire::Http1Fault::kNone;
};

inline Decoded decode(wire::Http1Decoder::Kind kind, std::string_view input, size_t fragment,
                      std::string_view method, std::string_view upgrade) {
  using Event = wire::Http1Decoder::Event;
  Decoded out;
  wire::Http1Decoder decoder(kind, {.head_bytes_max = 2048, .fields_max = 20, .allow_http10 = true});
  decoder.expect_answer_to(method, upgrade);
  std::string pending;
  size_t at = 0;
  for (;;) {
    wire::Http1Decoder::Step step = decoder.next(base::as_bytes(pending));
    require(step.used <= pending.size());
    out.body += base::as_text(step.data);
    pending.erase(0, step.used);
    if (step.event == Event::kNeedMore) {
      require(pending.empty());
      if (at >= input.size()) {
        step = decoder.end_of_input();
      } else {
        pending = input.substr(at, fragment);
        at += pending.size();
        continue;
      }
    }
    if (step.event == Event::kHead || step.event == Event::kInformational) {
      wire::Http1Head head = decoder.take_head();
      check_headers(head.headers);
      for (const auto& [name, value] : head.headers) out.events += name + "=" + value + ";";
    }
    if (step.event == Event::kEnd) {
      wire::Headers trailers = decoder.take_trailers();
      check_headers(trailers);
      for (const auto& [name, value] : trailers) out.events += name + "=" + value + ";";
      out.events += "end";
      if (at >= input.size() && pending.empty()) break;
      decoder.next_message();
    }
    if (step.event == Event::kFault) {
      out.fault = decoder.fault();
      break;
    }
    if (step.event == Event::kNeedMore) break;
  }
  return out;
}

// However it is cut.
inline void decode_all_ways(wire::Http1Decoder::Kind kind, std::string_view input, std::string_view method,
                            std::string_view upgrade) {
  Decoded whole = decode(kind, input, input.size() + 1, method, upgrade);
  for (size_t fragment : {size_t{1}, size_t{3}, size_t{16}}) {
    Decoded cut = decode(kind, input, fragment, method, upgrade);
    require(cut.events == whole.events && cut.body == whole.body && cut.fault == whole.fault);
  }
}

}  // namespace culvert::fuzz
