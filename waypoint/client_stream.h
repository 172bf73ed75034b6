// SPDX-License-Identifier: Apache-2.0
// ClientStream: the bytes of one accepted CONNECT, with what was read ahead of its reader to find out what
// the client speaks (spec waypoint section 1.8). Data loop.
#pragma once

#include <memory>
#include <string>

#include "mesh/hbone/tunnel_server.h"
#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/io/stream.h"

namespace culvert::waypoint {

class ClientStream final : public io::ByteStream {
 public:
  // `stream` has been accepted and gave `bytes`.
  ClientStream(async::Loop& loop, std::unique_ptr<hbone::ServerStream> stream, io::ByteStream& bytes)
      : loop_(loop), owner_(std::move(stream)), bytes_(bytes) {}

  using io::ByteStream::peek;
  // Reads once more ahead; false at the end of the stream. Nothing is lost: it is read again.
  async::Task<base::Result<bool>> peek();
  base::ByteView peeked() const { return base::as_bytes(ahead_); }

  io::IoResult try_read(base::ByteSpan into) override;
  using io::ByteStream::try_write;
  io::IoResult try_write(std::span<const iovec> from) override { return bytes_.try_write(from); }
  void arm_read(io::Waiter* waiter) override;
  void arm_write(io::Waiter* waiter) override { bytes_.arm_write(waiter); }
  void shutdown_write() override { bytes_.shutdown_write(); }
  bool flushed() const override { return bytes_.flushed(); }
  void abort() override { bytes_.abort(); }
  base::SocketAddr local_addr() const override { return bytes_.local_addr(); }
  base::SocketAddr peer_addr() const override { return bytes_.peer_addr(); }

 private:
  static constexpr size_t kPeekBytes = 16 * 1024;
  void tell();
  async::Loop& loop_;
  std::unique_ptr<hbone::ServerStream> owner_;
  io::ByteStream& bytes_;
  std::string ahead_;
  io::Waiter* waiter_ = nullptr;  // of a reader for whom something lies ahead
  async::CallJob tell_{[this] { tell(); }};
};

}  // namespace culvert::waypoint
