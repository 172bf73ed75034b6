// SPDX-License-Identifier: Apache-2.0
// Two hashes of bytes: XXH64 spreads requests over hosts (anybody may know it), SipHash-2-4-128 names what
// clients may choose, so that nobody can aim at a place of a table.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string_view>

namespace culvert::decide {

uint64_t xxhash64(std::string_view bytes, uint64_t seed = 0);

struct Hash128 {
  uint64_t low = 0, high = 0;
  auto operator<=>(const Hash128&) const = default;
};
struct SipKey {
  uint64_t k0 = 0, k1 = 0;
};
Hash128 siphash128(const SipKey& key, std::string_view bytes);

}  // namespace culvert::decide
