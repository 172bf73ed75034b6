// SPDX-License-Identifier: Apache-2.0
// Deadline: an absolute time, passed down instead of a duration (design section 3.6).
#pragma once

#include "net/async/loop.h"

namespace culvert::async {

class Deadline {
 public:
  static Deadline never() { return Deadline(base::TimePoint::max()); }
  static Deadline at(base::TimePoint when) { return Deadline(when); }
  static Deadline in(const Loop& loop, base::Duration delay) { return Deadline(loop.now() + delay); }

  bool is_never() const { return when_ == base::TimePoint::max(); }
  base::TimePoint when() const { return when_; }
  bool passed(base::TimePoint now) const { return now >= when_; }
  Deadline earlier(Deadline other) const { return when_ < other.when_ ? *this : other; }

 private:
  explicit Deadline(base::TimePoint when) : when_(when) {}
  base::TimePoint when_;
};

}  // namespace culvert::async
