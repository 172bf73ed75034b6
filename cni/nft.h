// SPDX-License-Identifier: Apache-2.0
// libnftables behind one function: a script is one atomic transaction in the network namespace
// of the calling thread (spec cni 3.4). Blocking; call it through netns.h on a worker thread.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "net/base/result.h"

namespace culvert::cni {

// Runs the script; the answer is what it printed. `json` asks for JSON listings.
base::Result<std::string> nft_run(const std::string& script, bool json = false);

// The rules of these inet tables as text without counters and handles: equal text means equal
// rules. A missing table lists as nothing.
// `terse` leaves the elements of sets out.
base::Result<std::string> nft_list_tables(std::span<const std::string_view> tables, bool terse = false);

}  // namespace culvert::cni
