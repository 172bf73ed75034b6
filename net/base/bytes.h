// SPDX-License-Identifier: Apache-2.0
// Bytes in memory: views, Slice (read-only, counted) and ByteQueue (a bounded chain of blocks).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace culvert::base {

using ByteView = std::span<const uint8_t>;
using ByteSpan = std::span<uint8_t>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Slice: read-only bytes with a shared owner. Copying shares, it never copies bytes.
class Slice {
 public:
  Slice() = default;
  static Slice copy_of(ByteView bytes);
  static Slice adopt(std::string bytes);

  ByteView view() const { return view_; }
  std::string_view text() const { return as_text(view_); }
  size_t size() const { return view_.size(); }
  bool empty() const { return view_.empty(); }
  // [from, from + count), clamped to the end.
  Slice sub(size_t from, size_t count = std::string_view::npos) const;

 private:
  std::shared_ptr<const std::string> owner_;
  ByteView view_;
};

// BlockPool: recycles the blocks of one thread's queues, so that a bulk stream costs no allocation, and no
// page given back to the kernel and faulted in again (that was 372 madvise calls per 0.5 Gbit).
class BlockPool {
 public:
  // Frame header + 16 KiB payload + TLS overhead fit one block.
  static constexpr size_t kBlockBytes = 17 * 1024;
  // What one large read fetches for a stream in bulk.
  static constexpr size_t kLargeBytes = 128 * 1024;
  // Blocks kept for reuse; the rest goes back to the allocator.
  static constexpr size_t kKeptBlocksMax = 64;
  static constexpr size_t kKeptLargeMax = 4;
  using Block = std::unique_ptr<uint8_t[]>;

  // `bytes` is kBlockBytes or kLargeBytes.
  static Block take(size_t bytes);
  static void give_back(Block block, size_t bytes);

 private:
  struct Kept;
  static Kept* kept();
};

// ByteQueue: first in, first out. Holds no block while empty. The high mark is a promise of the
// user, not a wall: ask `above_high()` before producing more, resume below `below_low()`.
class ByteQueue {
 public:
  static constexpr size_t kDefaultHighBytes = 256 * 1024;

  explicit ByteQueue(size_t high_bytes = kDefaultHighBytes) : high_bytes_(high_bytes) {}
  // Blocks that can be sent as they are: each holds at most `piece_bytes_max` behind room for `lead_bytes`.
  // Without a lead blocks are filled whole.
  struct Pieces {
    size_t lead_bytes = 0;
    size_t piece_bytes_max = BlockPool::kBlockBytes;
  };
  explicit ByteQueue(Pieces pieces) : high_bytes_(kDefaultHighBytes), pieces_(pieces) {}
  ByteQueue(ByteQueue&& other) noexcept
      : high_bytes_(other.high_bytes_),
        pieces_(other.pieces_),
        size_(std::exchange(other.size_, 0)),
        chunks_(std::exchange(other.chunks_, {})) {}
  ByteQueue& operator=(ByteQueue&&) noexcept;
  ~ByteQueue();

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  bool above_high() const { return size_ >= high_bytes_; }
  bool below_low() const { return size_ <= high_bytes_ / 2; }

  void append(ByteView bytes);
  void append(std::string_view text) { append(as_bytes(text)); }
  // A writable tail of at least `bytes_min` (at most one block) bytes; then commit what was written.
  ByteSpan reserve(size_t bytes_min);
  // The same with room for kLargeBytes.
  ByteSpan reserve_large() { return reserve_in(BlockPool::kLargeBytes, BlockPool::kLargeBytes); }
  void commit(size_t bytes);

  // The first contiguous run; empty only if the queue is.
  ByteView front() const;
  // Fills up to `count` iovecs from the front; returns how many.
  int gather(iovec* vectors, int count) const;
  // Moves the first run to the end of `to` without a copy, `lead` before it, which fits the lead_bytes of
  // Pieces. Nothing of `to` is appended to that block.
  void move_front(ByteQueue& to, ByteView lead);
  // Drops bytes from the front; at most size().
  void consume(size_t bytes);
  // Copies without consuming; returns how many bytes (at most into.size()).
  size_t peek(ByteSpan into) const;
  size_t read(ByteSpan into);
  std::string take_all();
  void clear();

 private:
  struct Chunk {
    BlockPool::Block block;
    size_t capacity = 0;     // as far as it is filled
    size_t block_bytes = 0;  // as it was taken
    size_t begin = 0;
    size_t end = 0;
  };
  ByteSpan reserve_in(size_t bytes_min, size_t block_bytes);
  void release(Chunk chunk);

  size_t high_bytes_;
  Pieces pieces_;
  size_t size_ = 0;
  std::deque<Chunk> chunks_;
};

}  // namespace culvert::base
