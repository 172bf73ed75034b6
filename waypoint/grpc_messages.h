// SPDX-License-Identifier: Apache-2.0
// GrpcMessages: counts the messages in a body as its bytes go by (gRPC over HTTP/2: one byte of flags, four
// of length, the message). Keeps nothing.
#pragma once

#include <algorithm>
#include <cstdint>

#include "net/base/bytes.h"

namespace culvert::waypoint {

class GrpcMessages {
 public:
  void feed(base::ByteView bytes) {
    while (!bytes.empty()) {
      if (left_ > 0) {
        size_t skipped = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
        left_ -= skipped;
        bytes = bytes.subspan(skipped);
        continue;
      }
      if (prefix_ > 0) length_ = length_ << 8 | bytes.front();
      bytes = bytes.subspan(1);
      if (++prefix_ < kPrefixBytes) continue;
      ++count_;
      left_ = length_;
      prefix_ = 0;
      length_ = 0;
    }
  }
  // Begun ones count.
  uint64_t count() const { return count_; }

 private:
  static constexpr int kPrefixBytes = 5;
  int prefix_ = 0;       // bytes of it that were seen
  uint32_t length_ = 0;  // as far as it was seen
  uint64_t left_ = 0;    // of the message
  uint64_t count_ = 0;
};

}  // namespace culvert::waypoint
