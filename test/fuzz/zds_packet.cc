// SPDX-License-Identifier: Apache-2.0
// What a ztunnel may send to the agent: hello and acks.
#include "cni/local_http.h"
#include "cni/rules.h"
#include "cni/zds_server.h"

using namespace culvert::cni;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)check_zds_hello(text);
  (void)parse_zds_ack(text);
  (void)parse_local_request(text);
  (void)parse_set_listing(text);
  return 0;
}
