// SPDX-License-Identifier: Apache-2.0
// The contract every io::ByteStream keeps (net/io/stream.h), as one suite. A transport supplies a
// StreamWorld that makes connected pairs; stream_contract() does the rest, one SECTION per promise.
#pragma once

#include <functional>
#include <memory>

#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/io/memory_pipe.h"

namespace culvert::test {

class StreamWorld {
 public:
  virtual ~StreamWorld() = default;
  virtual async::Loop& loop() = 0;
  // Two ends of one fresh connection, ready for use. May be called several times.
  virtual async::Task<io::StreamPair> connect() = 0;
  // Runs the body to its end; fails the test if it takes more than 20 seconds of the loop's time.
  virtual void run(async::Task<void> body) = 0;
};

using MakeStreamWorld = std::function<std::unique_ptr<StreamWorld>()>;

void stream_contract(const MakeStreamWorld& make_world);

}  // namespace culvert::test
