// SPDX-License-Identifier: Apache-2.0
// Bodies on their way: RequestBody, which can be sent again to another endpoint while it is small enough, and
// the copying of an answer (spec waypoint sections 2.1.5, 7.3). Both stream with back-pressure: what waits is
// one read, or what a retry may still need.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/conn/http_stream.h"
#include "net/conn/relay.h"

namespace culvert::waypoint {

class RequestBody {
 public:
  // More than this is not kept for a retry.
  static constexpr size_t kReplayBytesMax = 1024 * 1024;

  // `buffer` is shared by the loop. Kept for retries until `release`.
  RequestBody(conn::HttpStream& client, conn::RelayBuffer& buffer) : client_(client), buffer_(buffer) {}

  // Sends all of it from the first byte. Ends when `upstream` has the end, or with why the client's side
  // broke. An upstream that takes no more is not an error here: its answer tells why. One send at a time.
  async::Task<base::Result<>> send(conn::HttpStream& upstream);
  // Looks whether there is a body at all: one read, no waiting. False if the request has ended without.
  bool begins();
  // Before it is sent: takes in what comes until there are `bytes` of it, or its end. An error: why the
  // client's side broke.
  async::Task<base::Result<>> fill(size_t bytes);
  // No more retries: what has been sent is forgotten from now on.
  void release();
  // A retry can have every byte.
  bool replayable() const { return keep_; }
  bool complete() const { return ended_; }
  uint64_t bytes() const { return received_; }
  // From the first byte, as long as it is replayable or nothing was sent.
  const std::string& kept() const { return kept_; }
  // Called when the last byte has come from the client; at once if it has.
  void on_complete(std::function<void()> call);
  // Who else is to have the bytes as they come, those that are kept at once.
  void on_bytes(std::function<void(base::ByteView)> call);

 private:
  // What the client has ready: 0 bytes and no end is "wait".
  base::Result<bool> pull();

  conn::HttpStream& client_;
  conn::RelayBuffer& buffer_;
  bool keep_ = true;
  bool ended_ = false;
  std::optional<base::Error> broken_;  // found by begins()
  uint64_t received_ = 0;
  std::string kept_;  // from `kept_from_` on
  uint64_t kept_from_ = 0;
  std::function<void()> on_complete_;
  std::function<void(base::ByteView)> on_bytes_;
};

enum class CopyEnd : unsigned char { kDone, kSourceBroke, kSinkBroke };

// Copies the rest of `from` to `to`, then its trailers or its end. `first` is what a read of `from` into
// `buffer` gave just now; `progress` gets what every read gave.
async::Task<CopyEnd> copy_body(conn::HttpStream& from, conn::HttpStream& to, conn::RelayBuffer& buffer,
                               io::IoResult first, std::function<void(base::ByteView)> progress);

}  // namespace culvert::waypoint
