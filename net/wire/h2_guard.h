// SPDX-License-Identifier: Apache-2.0
// H2Guard: counts the frames a peer sends, by their nine-byte heads alone, and says when it is a flood
// (waypoint spec section 7.5). Sees all frames, those nghttp2 ignores too, before nghttp2 does any work for
// them.
#pragma once

#include <cstdint>
#include <string_view>

#include "net/base/bytes.h"

namespace culvert::wire {

struct H2GuardLimits {
  uint32_t empty_frames_max = 1;   // HEADERS, CONTINUATION or DATA that bring and end nothing, in a row
  uint32_t continuations_max = 8;  // for one header block (CVE-2024-28182)
  uint32_t block_bytes_max = 256 * 1024;  // of one header block, compressed
  // Each connection has so many, and so many more for each of its streams or DATA frames.
  uint32_t priorities = 100, priorities_per_stream = 100;
  uint32_t unknown = 100, unknown_per_stream = 100;
  uint32_t window_updates = 5, window_updates_per_stream = 2, window_updates_per_data_sent = 10;
};

class H2Guard {
 public:
  // `preface_bytes`: 24 on a server.
  H2Guard(H2GuardLimits limits, size_t preface_bytes) : limits_(limits), skip_(preface_bytes) {}

  // Looks at all of `bytes`. The name of what is flooding, or empty.
  std::string_view feed(base::ByteView bytes);
  void data_sent() { ++data_sent_; }

 private:
  std::string_view begin_frame();
  std::string_view judge_data(uint32_t padding);
  std::string_view count_empty(bool empty);

  H2GuardLimits limits_;
  size_t skip_;  // payload or preface bytes left
  uint8_t head_[9] = {};
  size_t head_bytes_ = 0;
  bool padding_due_ = false;  // the next payload byte is the padding's length
  uint32_t empty_ = 0;
  uint32_t continuations_ = 0;
  uint64_t block_bytes_ = 0;
  uint32_t last_stream_ = 0;
  uint64_t streams_ = 0;
  uint64_t priorities_ = 0;
  uint64_t unknown_ = 0;
  uint64_t window_updates_ = 0;
  uint64_t data_sent_ = 0;
};

}  // namespace culvert::wire
