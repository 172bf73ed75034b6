// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/hash.h"

#include <catch2/catch.hpp>
#include <set>
#include <string>

using culvert::decide::Hash128;
using culvert::decide::siphash128;
using culvert::decide::SipKey;
using culvert::decide::xxhash64;

// Values from the algorithms' published test vectors.
TEST_CASE("xxhash64 gives the published values", "[unit]") {
  CHECK(xxhash64("") == 0xef46db3751d8e999ULL);
  CHECK(xxhash64("a") == 0xd24ec4f1a98c6e5bULL);
  CHECK(xxhash64("abc") == 0x44bc2cf5ad770999ULL);
  CHECK(xxhash64("Nobody inspects the spammish repetition") == 0xfbcea83c8a378bf1ULL);
  CHECK(xxhash64("abc", 1) != xxhash64("abc"));
}

TEST_CASE("siphash128 gives the published values", "[unit]") {
  SipKey key{0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
  CHECK(siphash128(key, "") == Hash128{0xe6a825ba047f81a3ULL, 0x930255c71472f66dULL});
  CHECK(siphash128(key, std::string(1, '\0')) == Hash128{0x44af996bd8c187daULL, 0x45fc229b11597634ULL});
  CHECK(siphash128(SipKey{1, 2}, "x") != siphash128(SipKey{1, 3}, "x"));
}

TEST_CASE("both hashes differ for every length", "[unit]") {
  std::set<uint64_t> xx;
  std::set<Hash128> sip;
  for (size_t length = 0; length < 100; ++length) {
    xx.insert(xxhash64(std::string(length, 'k')));
    sip.insert(siphash128(SipKey{1, 2}, std::string(length, 'k')));
  }
  CHECK(xx.size() == 100);
  CHECK(sip.size() == 100);
}
