// SPDX-License-Identifier: Apache-2.0
// gRPC framing and the percent-encoding of grpc-message.
#include "net/wire/grpc_frame.h"

#include <cstdlib>

using namespace culvert;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  base::ByteView rest(data, size);
  std::string_view text = base::as_text(rest);
  if (wire::grpc_percent_decode(wire::grpc_percent_encode(text)) != text) std::abort();
  (void)wire::grpc_percent_decode(text);
  base::ByteQueue queue;
  for (size_t step = 1; !rest.empty(); ++step) {
    size_t here = std::min(step, rest.size());
    queue.append(rest.first(here));
    rest = rest.subspan(here);
    for (;;) {
      auto message = wire::take_grpc_message(queue, 4096);
      if (!message) return 0;
      if (!message->has_value()) break;
      if ((*message)->size() > 4096) std::abort();
    }
  }
  return 0;
}
