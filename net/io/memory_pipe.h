// SPDX-License-Identifier: Apache-2.0
// MemoryPipe: two joined ByteStreams without a kernel, for tests and in-process peers.
#pragma once

#include <limits>
#include <memory>
#include <utility>

#include "net/async/loop.h"
#include "net/io/stream.h"

namespace culvert::io {

struct MemoryPipeOptions {
  // Bytes one try_read or try_write moves at most: 1, 2, 3, 7 ... shake out framing bugs.
  size_t fragment_bytes = std::numeric_limits<size_t>::max();
  // Bytes under way per direction; writes beyond it would block.
  size_t buffer_bytes = 64 * 1024;
  base::SocketAddr first_addr{base::IpAddr::v4(10, 0, 0, 1), 40000};
  base::SocketAddr second_addr{base::IpAddr::v4(10, 0, 0, 2), 80};
};

using StreamPair = std::pair<std::unique_ptr<ByteStream>, std::unique_ptr<ByteStream>>;

// What one end writes the other reads. Destroying or aborting an end resets the other (which may
// still read nothing more), unless both directions were shut down in good order.
StreamPair make_memory_pipe(async::Loop& loop, MemoryPipeOptions options = {});

}  // namespace culvert::io
