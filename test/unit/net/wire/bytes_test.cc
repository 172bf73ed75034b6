// SPDX-License-Identifier: Apache-2.0
// ByteQueue: pieces that are moved, not copied, and blocks that come back.
#include "net/base/bytes.h"

#include <catch2/catch.hpp>

using namespace culvert::base;

namespace {
constexpr size_t kLead = 9, kPiece = 16384 - 9;

std::string pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>((i * 7 + i / 253) & 0xff);
  return bytes;
}
}  // namespace

TEST_CASE("pieces leave with what is written before them, and nothing joins them") {
  ByteQueue body{ByteQueue::Pieces{kLead, kPiece}}, out;
  std::string bytes = pattern(40'000);
  body.append(bytes);
  CHECK(body.front().size() == kPiece);
  out.append("before");
  std::string expected = "before";
  size_t at = 0;
  SECTION("whole") {}
  SECTION("after a part has been taken") {
    body.consume(5000);
    at = 5000;
  }
  while (!body.empty()) {
    size_t piece = body.front().size();
    std::string lead = "head" + std::to_string(10'000 + piece);
    body.move_front(out, as_bytes(lead));
    expected += lead + bytes.substr(at, piece);
    at += piece;
  }
  CHECK(at == bytes.size());
  out.append("after");
  expected += "after";
  CHECK(out.size() == expected.size());
  iovec parts[8];
  // "before", three pieces, "after": each a run of its own.
  CHECK(out.gather(parts, 8) == 5);
  CHECK(out.take_all() == expected);
  body.append("again");
  CHECK(body.take_all() == "again");
}

TEST_CASE("large reads go into one run; a queue holds no block while it is empty") {
  ByteQueue queue;
  ByteSpan room = queue.reserve_large();
  CHECK(room.size() == BlockPool::kLargeBytes);
  uint8_t* first = room.data();
  room[0] = 'x';
  queue.commit(1);
  CHECK(queue.reserve(100).data() == first + 1);
  queue.commit(0);
  CHECK(queue.take_all() == "x");
  // The block has come back to this thread's pool, and is used again.
  CHECK(queue.reserve_large().data() == first);
  queue.commit(0);
  CHECK(queue.empty());
}
