// SPDX-License-Identifier: Apache-2.0
// ByteStream: one ordered, reliable flow of bytes each way, with half-close (design section 3.8).
//
// TCP, Unix, TLS, an HTTP/2 CONNECT stream and a memory pipe are ByteStreams, and all pass
// test/contract. Calls never block and never call back into the caller; readiness is told by
// an armed Waiter, always from the loop, never from inside a call.
//
// | state        | try_read            | try_write        |
// |--------------|---------------------|------------------|
// | open         | bytes / would_block | bytes / would_block |
// | peer closed  | rest, then eof (again and again) | unchanged |
// | we shut down | unchanged           | error kClosed    |
// | broken       | rest may be lost; error | error        |
#pragma once

#include <sys/uio.h>

#include <memory>
#include <optional>
#include <span>

#include "net/async/task.h"
#include "net/base/bytes.h"
#include "net/base/ip.h"
#include "net/base/result.h"

namespace culvert::io {

// What a try_read or try_write gave.
class [[nodiscard]] IoResult {
 public:
  enum class Kind : unsigned char { kBytes, kWouldBlock, kEof, kError };
  static IoResult bytes(size_t count) { return IoResult(Kind::kBytes, count); }
  static IoResult would_block() { return IoResult(Kind::kWouldBlock, 0); }
  static IoResult eof() { return IoResult(Kind::kEof, 0); }
  static IoResult failed(base::Error error) {
    IoResult result(Kind::kError, 0);
    result.error_ = std::move(error);
    return result;
  }
  Kind kind() const { return kind_; }
  bool ok() const { return kind_ == Kind::kBytes; }
  bool is_would_block() const { return kind_ == Kind::kWouldBlock; }
  bool is_eof() const { return kind_ == Kind::kEof; }
  bool is_error() const { return kind_ == Kind::kError; }
  size_t count() const { return count_; }               // > 0 for kBytes
  const base::Error& error() const { return *error_; }  // only for kError

 private:
  IoResult(Kind kind, size_t count) : kind_(kind), count_(count) {}
  Kind kind_;
  size_t count_;
  std::optional<base::Error> error_;
};

// Told once per arm. on_ready may do anything, including destroying the stream.
class Waiter {
 public:
  virtual void on_ready() = 0;

 protected:
  ~Waiter() = default;
};

class SplicePipe;

class ByteStream {
 public:
  // Without a finished shutdown in both directions this aborts.
  virtual ~ByteStream() = default;

  // At least one byte, or why not. Empty `into` is not allowed.
  virtual IoResult try_read(base::ByteSpan into) = 0;
  // Takes a prefix of the given bytes (all vectors together hold at least one byte).
  virtual IoResult try_write(std::span<const iovec> from) = 0;
  IoResult try_write(base::ByteView from) {
    iovec one{const_cast<uint8_t*>(from.data()), from.size()};
    return try_write(std::span<const iovec>(&one, 1));
  }

  // What try_read would give, where it lies: fills up to `count` vectors, and `consume` drops bytes from
  // their front. 0: nothing there, or the stream cannot; then try_read tells.
  virtual int peek(iovec* /*into*/, int /*count*/) { return 0; }
  virtual void consume(size_t /*bytes*/) {}

  // One-shot: waiter.on_ready() when the call may give something other than would_block. At
  // most one waiter per direction; arming again replaces it, nullptr disarms.
  virtual void arm_read(Waiter* waiter) = 0;
  virtual void arm_write(Waiter* waiter) = 0;

  // No more writes; the peer reads eof after all that was written. Idempotent.
  virtual void shutdown_write() = 0;
  // True once every written byte (and a shutdown) has left this process as far as it can tell.
  // While false, arm_write tells when to ask again. Plain sockets, and broken streams, always are.
  virtual bool flushed() const { return true; }
  // Ends both directions at once; the peer sees a reset. Idempotent.
  virtual void abort() = 0;

  virtual base::SocketAddr local_addr() const = 0;
  virtual base::SocketAddr peer_addr() const = 0;
  // The descriptor of a plain socket, else -1.
  virtual int splice_fd() const { return -1; }
  // The same as try_read and try_write through an empty pipe and out of it, where `can_splice` now; it may
  // cease to (bytes out of band).
  virtual bool can_splice() const { return false; }
  virtual IoResult splice_in(SplicePipe& pipe);
  virtual IoResult splice_out(SplicePipe& pipe);
};

// Awaitable helpers. The stream must outlive the task.
async::Task<base::Result<size_t>> read_some(ByteStream& stream, base::ByteSpan into);  // 0 at eof
async::Task<base::Result<>> read_exact(ByteStream& stream, base::ByteSpan into);
async::Task<base::Result<>> write_all(ByteStream& stream, base::ByteView from);
// Waits until `flushed()`.
async::Task<base::Result<>> flush(ByteStream& stream);

}  // namespace culvert::io
