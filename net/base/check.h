// SPDX-License-Identifier: Apache-2.0
// CULVERT_CHECK: what must be true, in release too. Never on a peer's input:
// a peer that breaks a rule gets an Error, only our own broken promise stops the process.
#pragma once

namespace culvert::base {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}

#define CULVERT_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::culvert::base::check_failed(#condition, __FILE__, __LINE__))
