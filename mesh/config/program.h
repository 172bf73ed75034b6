// SPDX-License-Identifier: Apache-2.0
// What every proxy process needs before it has a loop: descriptors, a log, a seed. The edge of a process: the
// real clock and the kernel's randomness enter here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "net/base/log.h"
#include "net/base/result.h"

namespace culvert::config {

// Raises the soft limit of descriptors to the hard one.
base::Result<> raise_descriptor_limit();

// The process's log. `filter` as RUST_LOG is written; `json` as LOG_FORMAT=json.
base::Result<std::unique_ptr<base::LineLog>> make_log(const std::string& filter, bool json,
                                                      base::LineLog::Sink sink);

// A seed from the kernel, for choices that need no secrecy.
uint64_t random_seed();

}  // namespace culvert::config
