// SPDX-License-Identifier: Apache-2.0
#include "net/wire/h2_guard.h"

#include <algorithm>

namespace culvert::wire {

namespace {

enum FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kWindowUpdate = 8,
  kContinuation = 9,
  kKnownMax = kContinuation,
};
constexpr uint8_t kEndStream = 1;
constexpr uint8_t kEndHeaders = 4;
constexpr uint8_t kPadded = 8;

}  // namespace

std::string_view H2Guard::feed(base::ByteView bytes) {
  while (!bytes.empty()) {
    if (padding_due_) {
      padding_due_ = false;
      if (std::string_view flood = judge_data(bytes.front()); !flood.empty()) return flood;
    }
    if (skip_ > 0) {
      size_t here = std::min(skip_, bytes.size());
      skip_ -= here;
      bytes = bytes.subspan(here);
      continue;
    }
    head_[head_bytes_++] = bytes.front();
    bytes = bytes.subspan(1);
    if (head_bytes_ < sizeof head_) continue;
    head_bytes_ = 0;
    if (std::string_view flood = begin_frame(); !flood.empty()) return flood;
  }
  return {};
}

std::string_view H2Guard::begin_frame() {
  uint32_t length = uint32_t{head_[0]} << 16 | uint32_t{head_[1]} << 8 | head_[2];
  uint8_t type = head_[3];
  uint8_t flags = head_[4];
  uint32_t stream =
      (uint32_t{head_[5]} << 24 | uint32_t{head_[6]} << 16 | uint32_t{head_[7]} << 8 | head_[8]) & 0x7fffffff;
  skip_ = length;
  switch (type) {
    case kData:
      if ((flags & kPadded) != 0 && length > 0) {
        padding_due_ = true;
        return {};
      }
      return count_empty(length == 0 && (flags & kEndStream) == 0);
    case kHeaders:
      if (stream > last_stream_) {
        last_stream_ = stream;
        ++streams_;
      }
      continuations_ = 0;
      block_bytes_ = 0;
      [[fallthrough]];
    case kContinuation:
      block_bytes_ += length;
      if (block_bytes_ > limits_.block_bytes_max) return "header block";
      if (type == kContinuation && ++continuations_ >= limits_.continuations_max &&
          (flags & kEndHeaders) == 0)
        return "CONTINUATION";
      return count_empty(length == 0 && (flags & (kEndStream | kEndHeaders)) == 0);
    case kPriority:
      if (++priorities_ > limits_.priorities + limits_.priorities_per_stream * streams_) return "PRIORITY";
      return {};
    case kWindowUpdate:
      if (++window_updates_ > limits_.window_updates + limits_.window_updates_per_stream * streams_ +
                                  limits_.window_updates_per_data_sent * data_sent_) {
        return "WINDOW_UPDATE";
      }
      return {};
    default:
      if (type > kKnownMax && ++unknown_ > limits_.unknown + limits_.unknown_per_stream * streams_)
        return "unknown frames";
      return {};
  }
}

std::string_view H2Guard::judge_data(uint32_t padding) {
  return count_empty(skip_ == 1 + size_t{padding} && (head_[4] & kEndStream) == 0);
}

std::string_view H2Guard::count_empty(bool empty) {
  empty_ = empty ? empty_ + 1 : 0;
  return empty_ > limits_.empty_frames_max ? "empty frames" : std::string_view{};
}

}  // namespace culvert::wire
