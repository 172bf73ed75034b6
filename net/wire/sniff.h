// SPDX-License-Identifier: Apache-2.0
// What a client speaks, from its first bytes (waypoint spec section 1.8). A pure function; never guesses:
// what is not HTTP by its first line is not HTTP.
#pragma once

#include "net/base/bytes.h"

namespace culvert::wire {

enum class Sniffed : unsigned char {
  kNeedMore,
  kHttp2,    // the preface of RFC 9113 section 3.4
  kHttp1,    // METHOD SP target SP HTTP/1.[01] CR LF
  kUnknown,  // anything else
};

// A request line longer than this is kUnknown.
inline constexpr size_t kSniffBytesMax = 64 * 1024;

Sniffed sniff(base::ByteView first_bytes);

}  // namespace culvert::wire
