// SPDX-License-Identifier: Apache-2.0
// gRPC's message framing: one flag byte, four bytes of length, payload (spec apis section 7).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "net/base/bytes.h"
#include "net/base/result.h"

namespace culvert::wire {

std::string grpc_frame(std::string_view message);

// Takes the next whole message from `received`; nullopt: more bytes are needed. Errors: kExhausted above
// `bytes_max` (known before the payload arrives), kUnsupported for a compressed message.
base::Result<std::optional<std::string>> take_grpc_message(base::ByteQueue& received, size_t bytes_max);

// Values of grpc-message: percent-encoding of everything outside printable ASCII, and of '%'.
std::string grpc_percent_encode(std::string_view text);
std::string grpc_percent_decode(std::string_view text);

}  // namespace culvert::wire
