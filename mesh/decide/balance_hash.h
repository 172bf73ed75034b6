// SPDX-License-Identifier: Apache-2.0
// HashTable: from a hash to a host so that hosts that come and go move few others (internal to balance.h;
// spec waypoint section 2.3.2). Immutable.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace culvert::decide {

class HashTable {
 public:
  struct Entry {
    std::string key;
    size_t host = 0;
    double weight = 1;  // above 0
  };
  static constexpr uint64_t kRingDefault = 1024, kMaglevDefault = 65537;

  // At least `least` places (0: the default), each host by its weight; at most `most` unless more are asked.
  static HashTable ring(const std::vector<Entry>& entries, uint64_t least, uint64_t most);
  // Maglev (Eisenbud and others, 2016) of the next prime from `size` on (0: the default).
  static HashTable maglev(const std::vector<Entry>& entries, uint64_t size);

  // The first host from the hash's place on that is good; nothing if none is.
  std::optional<size_t> find(uint64_t hash, const std::function<bool(size_t)>& good) const;
  // Host of every place.
  const std::vector<uint32_t>& places() const { return hosts_; }

 private:
  HashTable() = default;

  std::vector<uint64_t> starts_;  // of a ring: where each place begins, ascending; of Maglev: empty
  std::vector<uint32_t> hosts_;
};

}  // namespace culvert::decide
