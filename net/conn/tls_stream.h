// SPDX-License-Identifier: Apache-2.0
// TlsStream: a ByteStream inside TLS over another ByteStream. A state machine over try_read and try_write;
// while idle it holds no buffer. Writes of one loop turn leave together at its end.
#pragma once

#include <memory>

#include "net/async/deadline.h"
#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/io/stream.h"
#include "net/wire/tls.h"

namespace culvert::conn {

struct TlsClientOptions {
  wire::TlsIdentityRef identity;  // or roots_only
  wire::TlsOptions tls;
};
struct TlsServerOptions {
  wire::TlsIdentityRef identity;
  wire::TlsOptions tls;
};

class TlsStream final : public io::ByteStream {
 public:
  // Encrypted bytes waiting for the lower stream; above it writes would block.
  static constexpr size_t kOutgoingBytesMax = 256 * 1024;
  // Encrypted bytes read ahead of the reader.
  static constexpr size_t kIncomingBytesMax = base::BlockPool::kLargeBytes;

  // Use tls_connect and tls_accept.
  TlsStream(async::Loop& loop, std::unique_ptr<io::ByteStream> lower,
            std::unique_ptr<wire::TlsEngine> engine);
  ~TlsStream() override;

  const wire::PeerInfo& peer() const { return engine_->peer(); }
  std::string alpn() const { return engine_->alpn(); }

  io::IoResult try_read(base::ByteSpan into) override;
  using io::ByteStream::try_write;
  io::IoResult try_write(std::span<const iovec> from) override;
  void arm_read(io::Waiter* waiter) override;
  void arm_write(io::Waiter* waiter) override;
  void shutdown_write() override;
  bool flushed() const override;
  void abort() override;
  base::SocketAddr local_addr() const override { return lower_->local_addr(); }
  base::SocketAddr peer_addr() const override { return lower_->peer_addr(); }

 private:
  // Tells one direction's waiter through a job.
  class Side final : private async::Job, private io::Waiter {
   public:
    Side(TlsStream& stream, bool reading) : stream_(stream), reading_(reading) {}
    ~Side() override = default;
    void set(io::Waiter* waiter) { waiter_ = waiter; }
    bool armed() const { return waiter_ != nullptr; }
    void tell();
    void cancel();
    void wait_lower();

   private:
    void run() override;
    void on_ready() override;
    TlsStream& stream_;
    io::Waiter* waiter_ = nullptr;
    bool reading_;
  };
  void flush();
  void fail(base::Error error);

  async::Loop& loop_;
  std::unique_ptr<io::ByteStream> lower_;
  std::unique_ptr<wire::TlsEngine> engine_;
  Side read_side_{*this, true};
  Side write_side_{*this, false};
  async::CallJob flush_job_;
  std::optional<base::Error> error_;
  bool peer_closed_ = false;
  bool read_large_ = false;  // the last read filled all it was given: bulk
  bool write_closed_ = false;
  bool lower_shut_ = false;
};

// The handshake runs inside `deadline`; the peer's alert or our own reason is in the error.
async::Task<base::Result<std::unique_ptr<TlsStream>>> tls_connect(async::Loop& loop,
                                                                  std::unique_ptr<io::ByteStream> lower,
                                                                  TlsClientOptions options,
                                                                  async::Deadline deadline);
async::Task<base::Result<std::unique_ptr<TlsStream>>> tls_accept(async::Loop& loop,
                                                                 std::unique_ptr<io::ByteStream> lower,
                                                                 TlsServerOptions options,
                                                                 async::Deadline deadline);

}  // namespace culvert::conn
