// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/balance_hash.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mesh/decide/hash.h"

namespace culvert::decide {

namespace {

bool is_prime(uint64_t number) {
  if (number < 4) return number > 1;
  if (number % 2 == 0) return false;
  for (uint64_t by = 3; by * by <= number; by += 2) {
    if (number % by == 0) return false;
  }
  return true;
}

}  // namespace

HashTable HashTable::ring(const std::vector<Entry>& entries, uint64_t least, uint64_t most) {
  HashTable out;
  if (entries.empty()) return out;
  if (least == 0) least = kRingDefault;
  double sum = 0, lightest = std::numeric_limits<double>::max();
  for (const Entry& entry : entries) {
    sum += entry.weight;
    lightest = std::min(lightest, entry.weight);
  }
  // The lightest host gets a power of two of places, and all together at least `least`: one host more or less
  // then seldom changes how many places the others have, and moves nothing between them.
  double share = lightest / sum, each = 1;
  while (each < share * static_cast<double>(least)) each *= 2;
  double total = std::min(each / share, static_cast<double>(std::max(least, most)));
  std::vector<std::pair<uint64_t, uint32_t>> places;
  for (const Entry& entry : entries) {
    auto count = static_cast<uint64_t>(std::max(1.0, std::round(total * entry.weight / sum)));
    for (uint64_t i = 0; i < count; ++i) {
      places.emplace_back(xxhash64(entry.key + "_" + std::to_string(i)), static_cast<uint32_t>(entry.host));
    }
  }
  std::sort(places.begin(), places.end());
  for (const auto& [start, host] : places) {
    out.starts_.push_back(start);
    out.hosts_.push_back(host);
  }
  return out;
}

HashTable HashTable::maglev(const std::vector<Entry>& entries, uint64_t size) {
  HashTable out;
  if (entries.empty()) return out;
  if (size == 0) size = kMaglevDefault;
  while (!is_prime(size)) ++size;
  struct Row {
    uint64_t at, skip;
    double due = 0;  // turns that its weight has earned
    double weight;
    uint32_t host;
  };
  std::vector<Row> rows;
  double heaviest = 0;
  // By key, so that every replica builds the same table.
  std::vector<const Entry*> sorted;
  for (const Entry& entry : entries) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const Entry* a, const Entry* b) { return a->key < b->key; });
  for (const Entry* entry : sorted) {
    uint64_t skip = size > 1 ? xxhash64(entry->key, 1) % (size - 1) + 1 : 1;
    rows.push_back({xxhash64(entry->key) % size, skip, 0, entry->weight, static_cast<uint32_t>(entry->host)});
    heaviest = std::max(heaviest, entry->weight);
  }
  constexpr uint32_t kFree = UINT32_MAX;
  out.hosts_.assign(size, kFree);
  for (uint64_t filled = 0; filled < size;) {
    for (Row& row : rows) {
      row.due += row.weight / heaviest;
      if (row.due < 1) continue;
      row.due -= 1;
      while (out.hosts_[row.at] != kFree) row.at = (row.at + row.skip) % size;
      out.hosts_[row.at] = row.host;
      if (++filled == size) break;
    }
  }
  return out;
}

std::optional<size_t> HashTable::find(uint64_t hash, const std::function<bool(size_t)>& good) const {
  if (hosts_.empty()) return std::nullopt;
  size_t start = hash % hosts_.size();
  if (!starts_.empty()) {
    auto next = std::lower_bound(starts_.begin(), starts_.end(), hash);
    start = next == starts_.end() ? 0 : static_cast<size_t>(next - starts_.begin());
  }
  for (size_t i = 0; i < hosts_.size(); ++i) {
    size_t host = hosts_[(start + i) % hosts_.size()];
    if (good(host)) return host;
  }
  return std::nullopt;
}

}  // namespace culvert::decide
