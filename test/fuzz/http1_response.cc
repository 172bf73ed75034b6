// SPDX-License-Identifier: Apache-2.0
// A server's HTTP/1 bytes. First byte: what they answer.
#include "test/fuzz/http1_parts.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace culvert;
  if (size < 1) return 0;
  std::string_view method = (data[0] & 1) != 0 ? "HEAD" : "GET";
  std::string_view upgrade = (data[0] & 2) != 0 ? "websocket" : "";
  fuzz::decode_all_ways(wire::Http1Decoder::Kind::kResponse, base::as_text({data + 1, size - 1}), method,
                        upgrade);
  return 0;
}
