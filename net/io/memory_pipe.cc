// SPDX-License-Identifier: Apache-2.0
#include "net/io/memory_pipe.h"

#include <algorithm>

namespace culvert::io {

namespace {

// A waiter that is told through a loop job.
class Wake final : private async::Job {
 public:
  explicit Wake(async::Loop& loop) : loop_(loop) {}
  ~Wake() override = default;
  void arm(Waiter* waiter, bool ready) {
    waiter_ = waiter;
    if (!waiter_) {
      unqueue();
    } else if (ready) {
      loop_.defer(*this);
    }
  }
  void tell() {
    if (waiter_) loop_.defer(*this);
  }

 private:
  void run() override {
    if (waiter_) std::exchange(waiter_, nullptr)->on_ready();
  }
  async::Loop& loop_;
  Waiter* waiter_ = nullptr;
};

class PipeEnd;

// One direction, shared by its writer and its reader.
struct Channel {
  explicit Channel(async::Loop& loop) : readable(loop), writable(loop) {}
  base::ByteQueue bytes;
  bool finished = false;  // the writer shut down
  bool broken = false;    // either end is gone
  Wake readable;
  Wake writable;

  void break_now() {
    broken = true;
    readable.tell();
    writable.tell();
  }
};

class PipeEnd final : public ByteStream {
 public:
  PipeEnd(std::shared_ptr<Channel> in, std::shared_ptr<Channel> out, MemoryPipeOptions options,
          base::SocketAddr local, base::SocketAddr peer)
      : in_(std::move(in)), out_(std::move(out)), options_(options), local_(local), peer_(peer) {}
  ~PipeEnd() override {
    in_->readable.arm(nullptr, false);
    out_->writable.arm(nullptr, false);
    // Like close(2): what was written is still delivered; unread input resets the peer.
    if (!in_->bytes.empty() || !in_->finished) in_->break_now();
    out_->finished = true;
    out_->readable.tell();
  }

  IoResult try_read(base::ByteSpan into) override {
    if (aborted_) return IoResult::failed({base::Code::kClosed, "read after abort"});
    if (in_->bytes.empty()) {
      if (in_->finished) return IoResult::eof();
      if (in_->broken) return IoResult::failed({base::Code::kReset, "the peer reset the pipe"});
      return IoResult::would_block();
    }
    size_t got = in_->bytes.read(into.first(std::min(into.size(), options_.fragment_bytes)));
    in_->writable.tell();
    return IoResult::bytes(got);
  }

  using ByteStream::try_write;
  IoResult try_write(std::span<const iovec> from) override {
    if (out_->finished || aborted_) return IoResult::failed({base::Code::kClosed, "write after shutdown"});
    if (out_->broken) return IoResult::failed({base::Code::kReset, "the peer reset the pipe"});
    size_t room = options_.buffer_bytes - std::min(options_.buffer_bytes, out_->bytes.size());
    room = std::min(room, options_.fragment_bytes);
    if (room == 0) return IoResult::would_block();
    size_t put = 0;
    for (const iovec& part : from) {
      size_t here = std::min(room - put, part.iov_len);
      out_->bytes.append(base::ByteView(static_cast<const uint8_t*>(part.iov_base), here));
      put += here;
      if (put == room) break;
    }
    out_->readable.tell();
    return IoResult::bytes(put);
  }

  void arm_read(Waiter* waiter) override {
    in_->readable.arm(waiter, aborted_ || !in_->bytes.empty() || in_->finished || in_->broken);
  }
  void arm_write(Waiter* waiter) override {
    out_->writable.arm(
        waiter, aborted_ || out_->finished || out_->broken || out_->bytes.size() < options_.buffer_bytes);
  }
  void shutdown_write() override {
    if (aborted_ || out_->broken) return;
    out_->finished = true;
    out_->readable.tell();
  }
  void abort() override {
    if (aborted_) return;
    aborted_ = true;
    in_->bytes.clear();
    if (!out_->finished) out_->bytes.clear();
    in_->break_now();
    out_->break_now();
  }
  base::SocketAddr local_addr() const override { return local_; }
  base::SocketAddr peer_addr() const override { return peer_; }

 private:
  std::shared_ptr<Channel> in_;
  std::shared_ptr<Channel> out_;
  MemoryPipeOptions options_;
  base::SocketAddr local_;
  base::SocketAddr peer_;
  bool aborted_ = false;
};

}  // namespace

StreamPair make_memory_pipe(async::Loop& loop, MemoryPipeOptions options) {
  auto there = std::make_shared<Channel>(loop);
  auto back = std::make_shared<Channel>(loop);
  return {std::make_unique<PipeEnd>(back, there, options, options.first_addr, options.second_addr),
          std::make_unique<PipeEnd>(there, back, options, options.second_addr, options.first_addr)};
}

}  // namespace culvert::io
