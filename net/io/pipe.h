// SPDX-License-Identifier: Apache-2.0
// SplicePipe: where bytes wait while they move from one socket to another without a copy (splice(2)).
#pragma once

#include <cstddef>

#include "net/base/result.h"
#include "net/base/unique_fd.h"

namespace culvert::io {

class SplicePipe {
 public:
  // What it is asked to hold; what fits in fact depends on how the bytes lie in their packets.
  static constexpr size_t kBytes = 256 * 1024;

  static base::Result<SplicePipe> make();
  int in() const { return in_.get(); }
  int out() const { return out_.get(); }
  size_t held() const { return held_; }
  void entered(size_t bytes) { held_ += bytes; }
  void left(size_t bytes) { held_ -= bytes; }

 private:
  SplicePipe(int in, int out) : in_(in), out_(out) {}
  base::UniqueFd in_, out_;
  size_t held_ = 0;
};

}  // namespace culvert::io
