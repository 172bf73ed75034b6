// SPDX-License-Identifier: Apache-2.0
// A client's HTTP/1 bytes: several requests on one connection.
#include "test/fuzz/http1_parts.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace culvert;
  fuzz::decode_all_ways(wire::Http1Decoder::Kind::kRequest, base::as_text({data, size}), "", "");
  return 0;
}
