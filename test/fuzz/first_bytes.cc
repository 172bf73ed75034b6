// SPDX-License-Identifier: Apache-2.0
// The first bytes of a connection: once sniff and peek_client_hello have spoken, more bytes change nothing.
#include <algorithm>
#include <cstdlib>

#include "net/wire/client_hello.h"
#include "net/wire/sniff.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace culvert::wire;
  Sniffed protocol = Sniffed::kNeedMore;
  ClientHello hello;
  for (size_t have = 0; have <= std::min<size_t>(size, 512); ++have) {
    Sniffed now = sniff({data, have});
    if (protocol != Sniffed::kNeedMore && now != protocol) std::abort();
    protocol = now;
    ClientHello peeked = peek_client_hello({data, have});
    bool spoke = hello.kind != ClientHello::Kind::kNeedMore;
    if (spoke && (peeked.kind != hello.kind || peeked.server_name != hello.server_name)) std::abort();
    hello = peeked;
  }
  return 0;
}
