// SPDX-License-Identifier: Apache-2.0
// Relay: copies both ways between two ByteStreams until both directions have ended
// (design section 3.9, spec ztunnel section 5).
//
// Each direction is a Pump, a small state machine with no coroutine frame and no buffer while idle:
//
// | state     | leaves when                           | to                                   |
// |-----------|---------------------------------------|--------------------------------------|
// | reading   | source has bytes, sink takes them     | reading                              |
// |           | sink takes only a part                | writing (the rest is kept, <= 1 read)|
// |           | source at eof, or broken              | closing                              |
// | writing   | the rest is gone                      | reading                              |
// | closing   | sink.flushed()                        | done                                 |
// | any       | sink found dead by the other pump     | done                                 |
// | done      | -                                     |                                      |
//
// The cheapest way is taken: what lies in the source already is passed on where it lies; between two sockets
// the first 64 KiB are copied, which is all of most exchanges, and what follows is spliced (state `piping` is
// `writing` with the rest in a pipe); else one copy through the loop's buffer.
// Measured, CPU per GB of one stream: splice 837 -> 443 ms (plaintext), 1070 -> 562 ms (same node); HBONE
// pair 3446 -> 2690 ms together with large TLS reads, frames in place and recycled blocks
// (test/bench/README.md).
//
// A reset or a broken pipe is a clean end, as it is for the peer's users, and the other side sees an
// ordinary end; other errors are kept and returned when both directions are done. A stream that broke while
// it was read ends both directions. There is no idle and no half-close time-out unless the owner calls abort.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/async/wait.h"
#include "net/base/bytes.h"
#include "net/base/result.h"
#include "net/io/pipe.h"
#include "net/io/stream.h"

namespace culvert::conn {

// What all relays of one loop share: the read buffer, in which bytes stay only during one call, and pipes.
class RelayBuffer {
 public:
  static constexpr size_t kDefaultBytes = 128 * 1024;
  explicit RelayBuffer(size_t bytes = kDefaultBytes)
      : bytes_(std::make_unique_for_overwrite<uint8_t[]>(bytes)), size_(bytes) {}
  base::ByteSpan span() { return {bytes_.get(), size_}; }
  // An empty pipe, to be given back when it is empty again; null when none can be made.
  std::unique_ptr<io::SplicePipe> take_pipe();
  void give_back(std::unique_ptr<io::SplicePipe> pipe);

 private:
  static constexpr size_t kPipesMax = 16;  // kept for reuse
  std::unique_ptr<uint8_t[]> bytes_;
  size_t size_;
  std::vector<std::unique_ptr<io::SplicePipe>> pipes_;
};

class Relay {
 public:
  // A direction hands the loop back after this many bytes in one turn, so that a bulk stream does
  // not starve its neighbours.
  static constexpr size_t kTurnBytesMax = 512 * 1024;
  // Copied before splice is worth its pipe.
  static constexpr size_t kCopiedBytes = 64 * 1024;

  // All referenced objects outlive the relay.
  Relay(async::Loop& loop, RelayBuffer& buffer, io::ByteStream& downstream, io::ByteStream& upstream);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // Runs until both directions are done. The error is the first that was not a clean end, or the
  // reason given to abort. Call once.
  async::Task<base::Result<>> run();
  // Ends the relay from outside: both streams are aborted, run() returns `reason`.
  void abort(base::Error reason);

  // Bytes the sink of each direction has taken; readable while running.
  uint64_t bytes_to_upstream() const;
  uint64_t bytes_to_downstream() const;

 private:
  class Pump;
  void pump_done();
  void source_died(const Pump& pump);

  async::Loop& loop_;
  io::ByteStream& downstream_;
  io::ByteStream& upstream_;
  async::Event finished_;
  std::unique_ptr<Pump> up_;
  std::unique_ptr<Pump> down_;
  std::optional<base::Error> error_;
};

}  // namespace culvert::conn
