// SPDX-License-Identifier: Apache-2.0
#include "net/conn/tls_stream.h"

#include <algorithm>

#include "net/async/wait.h"

namespace culvert::conn {

using base::Code;
using base::Result;
using wire::TlsEngine;

namespace {
// One full record with its overhead; fits one block.
constexpr size_t kReadBytesMin = 16 * 1024 + 512;
}  // namespace

void TlsStream::Side::tell() {
  if (waiter_) stream_.loop_.defer(*this);
}

void TlsStream::Side::cancel() {
  waiter_ = nullptr;
  unqueue();
}

void TlsStream::Side::wait_lower() {
  reading_ ? stream_.lower_->arm_read(this) : stream_.lower_->arm_write(this);
}

void TlsStream::Side::run() {
  if (waiter_) std::exchange(waiter_, nullptr)->on_ready();
}

void TlsStream::Side::on_ready() {
  if (reading_) {
    tell();
  } else {
    stream_.flush();
  }
}

TlsStream::TlsStream(async::Loop& loop, std::unique_ptr<io::ByteStream> lower,
                     std::unique_ptr<wire::TlsEngine> engine)
    : loop_(loop), lower_(std::move(lower)), engine_(std::move(engine)), flush_job_([this] { flush(); }) {}

TlsStream::~TlsStream() {
  lower_->arm_read(nullptr);
  lower_->arm_write(nullptr);
}

void TlsStream::fail(base::Error error) {
  if (error_) return;
  error_ = std::move(error);
  engine_->outgoing().clear();
  read_side_.tell();
  write_side_.tell();
}

io::IoResult TlsStream::try_read(base::ByteSpan into) {
  for (;;) {
    if (peer_closed_) return io::IoResult::eof();
    TlsEngine::ReadResult got = engine_->read(into);
    if (got.state == TlsEngine::ReadState::kBytes) return io::IoResult::bytes(got.count);
    // A post-handshake message may have called for an answer.
    if (!engine_->outgoing().empty()) loop_.at_turn_end(flush_job_);
    if (got.state == TlsEngine::ReadState::kClosed) {
      peer_closed_ = true;
      continue;
    }
    if (got.state == TlsEngine::ReadState::kFailed) {
      fail(engine_->error());
      return io::IoResult::failed(*error_);
    }
    if (error_) return io::IoResult::failed(*error_);
    base::ByteQueue& incoming = engine_->incoming();
    // Small at first, so that a message costs a small block; then 128 KiB a call (7 times fewer calls in
    // bulk).
    base::ByteSpan room = read_large_ ? incoming.reserve_large() : incoming.reserve(kReadBytesMin);
    io::IoResult lower = lower_->try_read(room);
    incoming.commit(lower.ok() ? lower.count() : 0);
    read_large_ = lower.ok() && lower.count() >= kReadBytesMin;
    if (lower.is_would_block()) return lower;
    if (lower.is_eof()) return io::IoResult::failed({Code::kReset, "the peer closed without close_notify"});
    if (lower.is_error()) return lower;
  }
}

io::IoResult TlsStream::try_write(std::span<const iovec> from) {
  if (error_) return io::IoResult::failed(*error_);
  if (write_closed_) return io::IoResult::failed({Code::kClosed, "write after shutdown"});
  size_t put = 0;
  for (const iovec& part : from) {
    base::ByteView bytes(static_cast<const uint8_t*>(part.iov_base), part.iov_len);
    while (!bytes.empty()) {
      size_t waiting = engine_->outgoing().size();
      if (waiting >= kOutgoingBytesMax) {
        loop_.at_turn_end(flush_job_);
        return put > 0 ? io::IoResult::bytes(put) : io::IoResult::would_block();
      }
      base::ByteView piece = bytes.first(std::min(bytes.size(), kOutgoingBytesMax - waiting));
      if (!engine_->write(piece)) {
        fail(engine_->error());
        return io::IoResult::failed(*error_);
      }
      put += piece.size();
      bytes = bytes.subspan(piece.size());
    }
  }
  loop_.at_turn_end(flush_job_);
  return io::IoResult::bytes(put);
}

void TlsStream::flush() {
  base::ByteQueue& out = engine_->outgoing();
  while (!out.empty()) {
    iovec parts[32];
    int count = out.gather(parts, 32);
    io::IoResult put = lower_->try_write(std::span<const iovec>(parts, static_cast<size_t>(count)));
    if (put.is_would_block()) {
      write_side_.wait_lower();
      return;
    }
    if (!put.ok()) {
      fail(put.is_error() ? put.error() : base::Error(Code::kReset, "the connection is gone"));
      return;
    }
    out.consume(put.count());
  }
  if (write_closed_ && !lower_shut_) {
    lower_shut_ = true;
    lower_->shutdown_write();
  }
  write_side_.tell();
}

void TlsStream::arm_read(io::Waiter* waiter) {
  if (!waiter) {
    read_side_.cancel();
    lower_->arm_read(nullptr);
    return;
  }
  read_side_.set(waiter);
  // After a would_block `incoming` is empty: the engine has taken even half a record.
  if (peer_closed_ || error_ || engine_->has_pending() || !engine_->incoming().empty()) {
    read_side_.tell();
  } else {
    read_side_.wait_lower();
  }
}

void TlsStream::arm_write(io::Waiter* waiter) {
  if (!waiter) return write_side_.cancel();
  write_side_.set(waiter);
  bool ready = error_ || (write_closed_ ? flushed() : engine_->outgoing().size() < kOutgoingBytesMax);
  if (ready) write_side_.tell();
}

void TlsStream::shutdown_write() {
  if (write_closed_ || error_) return;
  write_closed_ = true;
  engine_->close_notify();
  flush();
}

bool TlsStream::flushed() const {
  return error_ || (engine_->outgoing().empty() && write_closed_ == lower_shut_);
}

void TlsStream::abort() {
  fail({Code::kClosed, "aborted"});
  lower_->abort();
}

namespace {

using Accepted = Result<std::unique_ptr<TlsStream>>;

async::Task<Accepted> shake_hands(async::Loop& loop, std::unique_ptr<io::ByteStream> lower,
                                  std::unique_ptr<TlsEngine> engine) {
  for (;;) {
    Result<bool> done = engine->handshake(loop.wall_now());
    while (!engine->outgoing().empty()) {
      base::ByteView bytes = engine->outgoing().front();
      Result<> written = co_await io::write_all(*lower, bytes);
      if (!written) {
        // Our own reason, if there is one, says more than a broken pipe.
        co_return base::fail(done ? std::move(written).error().wrap("tls handshake error")
                                  : std::move(done).error());
      }
      engine->outgoing().consume(bytes.size());
    }
    if (!done) co_return base::fail(std::move(done).error());
    if (*done) co_return std::make_unique<TlsStream>(loop, std::move(lower), std::move(engine));
    base::ByteSpan room = engine->incoming().reserve(kReadBytesMin);
    Result<size_t> got = co_await io::read_some(*lower, room);
    engine->incoming().commit(got ? *got : 0);
    if (!got) co_return base::fail(std::move(got).error().wrap("tls handshake error"));
    if (*got == 0) {
      co_return base::fail(Code::kReset, "tls handshake error: the peer closed the connection");
    }
  }
}

}  // namespace

async::Task<Accepted> tls_connect(async::Loop& loop, std::unique_ptr<io::ByteStream> lower,
                                  TlsClientOptions options, async::Deadline deadline) {
  auto engine = std::make_unique<TlsEngine>(TlsEngine::Role::kClient, std::move(options.identity),
                                            std::move(options.tls));
  co_return co_await async::with_deadline(loop, deadline, "tls handshake error",
                                          shake_hands(loop, std::move(lower), std::move(engine)));
}

async::Task<Accepted> tls_accept(async::Loop& loop, std::unique_ptr<io::ByteStream> lower,
                                 TlsServerOptions options, async::Deadline deadline) {
  auto engine = std::make_unique<TlsEngine>(TlsEngine::Role::kServer, std::move(options.identity),
                                            std::move(options.tls));
  co_return co_await async::with_deadline(loop, deadline, "tls handshake error",
                                          shake_hands(loop, std::move(lower), std::move(engine)));
}

}  // namespace culvert::conn
