// SPDX-License-Identifier: Apache-2.0
#include "net/base/bytes.h"

#include <algorithm>
#include <cstring>

#include "net/base/check.h"

namespace culvert::base {

Slice Slice::copy_of(ByteView bytes) { return adopt(std::string(as_text(bytes))); }

Slice Slice::adopt(std::string bytes) {
  Slice slice;
  slice.owner_ = std::make_shared<const std::string>(std::move(bytes));
  slice.view_ = as_bytes(*slice.owner_);
  return slice;
}

Slice Slice::sub(size_t from, size_t count) const {
  Slice part = *this;
  from = std::min(from, view_.size());
  part.view_ = view_.subspan(from, std::min(count, view_.size() - from));
  return part;
}

struct BlockPool::Kept {
  explicit Kept(bool& gone) : gone(gone) {}
  ~Kept() { gone = true; }
  std::vector<Block>& of(size_t bytes) { return bytes == kLargeBytes ? large : small; }
  bool& gone;
  std::vector<Block> small, large;
};

// Null once the thread is ending: queues that end later use the allocator.
BlockPool::Kept* BlockPool::kept() {
  static thread_local bool gone = false;
  if (gone) return nullptr;
  static thread_local Kept kept(gone);
  return &kept;
}

BlockPool::Block BlockPool::take(size_t bytes) {
  CULVERT_CHECK(bytes == kBlockBytes || bytes == kLargeBytes);
  Kept* all = kept();
  if (!all || all->of(bytes).empty()) return std::make_unique_for_overwrite<uint8_t[]>(bytes);
  std::vector<Block>& free = all->of(bytes);
  Block block = std::move(free.back());
  free.pop_back();
  return block;
}

void BlockPool::give_back(Block block, size_t bytes) {
  Kept* all = kept();
  if (!all) return;
  std::vector<Block>& free = all->of(bytes);
  if (free.size() < (bytes == kLargeBytes ? kKeptLargeMax : kKeptBlocksMax)) free.push_back(std::move(block));
}

ByteQueue& ByteQueue::operator=(ByteQueue&& other) noexcept {
  if (this != &other) {
    clear();
    high_bytes_ = other.high_bytes_;
    pieces_ = other.pieces_;
    size_ = std::exchange(other.size_, 0);
    chunks_ = std::move(other.chunks_);
    other.chunks_.clear();
  }
  return *this;
}

ByteQueue::~ByteQueue() { clear(); }

void ByteQueue::release(Chunk chunk) { BlockPool::give_back(std::move(chunk.block), chunk.block_bytes); }

void ByteQueue::append(ByteView bytes) {
  while (!bytes.empty()) {
    ByteSpan room = reserve(1);
    size_t count = std::min(room.size(), bytes.size());
    std::memcpy(room.data(), bytes.data(), count);
    commit(count);
    bytes = bytes.subspan(count);
  }
}

ByteSpan ByteQueue::reserve(size_t bytes_min) { return reserve_in(bytes_min, BlockPool::kBlockBytes); }

ByteSpan ByteQueue::reserve_in(size_t bytes_min, size_t block_bytes) {
  bool plain = pieces_.lead_bytes == 0;
  size_t room = plain ? block_bytes : std::min(block_bytes - pieces_.lead_bytes, pieces_.piece_bytes_max);
  CULVERT_CHECK(bytes_min <= room);
  if (chunks_.empty() || chunks_.back().capacity - chunks_.back().end < std::max<size_t>(bytes_min, 1)) {
    Chunk chunk;
    chunk.block = BlockPool::take(block_bytes);
    chunk.block_bytes = block_bytes;
    chunk.begin = chunk.end = pieces_.lead_bytes;
    chunk.capacity = pieces_.lead_bytes + room;
    chunks_.push_back(std::move(chunk));
  }
  Chunk& tail = chunks_.back();
  return {tail.block.get() + tail.end, tail.capacity - tail.end};
}

void ByteQueue::commit(size_t bytes) {
  if (bytes == 0) {
    // A reservation nobody used must not keep a block alive while the queue is empty.
    if (!chunks_.empty() && chunks_.back().begin == chunks_.back().end) {
      release(std::move(chunks_.back()));
      chunks_.pop_back();
    }
    return;
  }
  Chunk& tail = chunks_.back();
  CULVERT_CHECK(bytes <= tail.capacity - tail.end);
  tail.end += bytes;
  size_ += bytes;
}

ByteView ByteQueue::front() const {
  if (size_ == 0) return {};
  const Chunk& head = chunks_.front();
  return {head.block.get() + head.begin, head.end - head.begin};
}

int ByteQueue::gather(iovec* vectors, int count) const {
  int used = 0;
  for (const Chunk& chunk : chunks_) {
    if (used == count) break;
    if (chunk.begin == chunk.end) continue;
    vectors[used++] = {chunk.block.get() + chunk.begin, chunk.end - chunk.begin};
  }
  return used;
}

void ByteQueue::move_front(ByteQueue& to, ByteView lead) {
  CULVERT_CHECK(!chunks_.empty() && lead.size() <= pieces_.lead_bytes);
  Chunk chunk = std::move(chunks_.front());
  chunks_.pop_front();
  size_ -= chunk.end - chunk.begin;
  // What was before `begin` is the lead, or has been consumed.
  chunk.begin -= lead.size();
  std::memcpy(chunk.block.get() + chunk.begin, lead.data(), lead.size());
  chunk.capacity = chunk.end;
  to.size_ += chunk.end - chunk.begin;
  to.chunks_.push_back(std::move(chunk));
}

void ByteQueue::consume(size_t bytes) {
  CULVERT_CHECK(bytes <= size_);
  size_ -= bytes;
  while (bytes > 0) {
    Chunk& head = chunks_.front();
    size_t here = std::min(bytes, head.end - head.begin);
    head.begin += here;
    bytes -= here;
    if (head.begin == head.end) {
      release(std::move(head));
      chunks_.pop_front();
    }
  }
}

size_t ByteQueue::peek(ByteSpan into) const {
  size_t done = 0;
  for (const Chunk& chunk : chunks_) {
    size_t here = std::min(into.size() - done, chunk.end - chunk.begin);
    if (here == 0) {
      if (done == into.size()) break;
      continue;
    }
    std::memcpy(into.data() + done, chunk.block.get() + chunk.begin, here);
    done += here;
  }
  return done;
}

size_t ByteQueue::read(ByteSpan into) {
  size_t done = peek(into);
  consume(done);
  return done;
}

std::string ByteQueue::take_all() {
  std::string all(size_, '\0');
  read({reinterpret_cast<uint8_t*>(all.data()), all.size()});
  return all;
}

void ByteQueue::clear() {
  while (!chunks_.empty()) {
    release(std::move(chunks_.front()));
    chunks_.pop_front();
  }
  size_ = 0;
}

}  // namespace culvert::base
