// SPDX-License-Identifier: Apache-2.0
// Rng: chance as a value, so that a simulated day can be replayed from its seed.
// Not for keys: BoringSSL draws its own.
#pragma once

#include <cstdint>

namespace culvert::base {

// SplitMix64: small, fast, every seed good, passes BigCrush.
class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // Uniform in [0, bound); bound 0 gives 0.
  uint64_t below(uint64_t bound) {
    if (bound == 0) return 0;
    return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  // Uniform in [0, 1).
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  // A child generator, so that one consumer's draws do not shift another's.
  Rng fork() { return Rng(next()); }

 private:
  uint64_t state_;
};

}  // namespace culvert::base
