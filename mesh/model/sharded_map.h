// SPDX-License-Identifier: Apache-2.0
// ShardedMap: an immutable map, and the builder that makes the next one by copying only the shards it touched
// (design section 3.13). A shard is a sorted vector: small, quick to copy, cheap to search.
//
// Traits: hash(k) and compare(a, b) (a strong ordering) for Key and for everything `find` is asked with.
// A ShardedMap may be read on any thread; a builder belongs to one.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace culvert::model {

template <class Key, class Value, class Traits>
class ShardedMapBuilder;

template <class Key, class Value, class Traits>
class ShardedMap {
 public:
  static constexpr size_t kShards = 1024;
  struct Entry {
    Key key;
    Value value;
  };
  using Shard = std::vector<Entry>;

  // Null if absent; valid as long as this map.
  template <class K>
  const Value* find(const K& key) const {
    if (!root_) return nullptr;
    const auto& shard = root_->shards[Traits::hash(key) % kShards];
    return shard ? find_in(*shard, key) : nullptr;
  }
  // Shard by shard, within a shard by key.
  template <class F>
  void for_each(F&& call) const {
    if (!root_) return;
    for (const auto& shard : root_->shards) {
      if (!shard) continue;
      for (const auto& entry : *shard) call(entry.value);
    }
  }
  size_t size() const { return root_ ? root_->size : 0; }

 private:
  friend class ShardedMapBuilder<Key, Value, Traits>;
  struct Root {
    std::array<std::shared_ptr<const Shard>, kShards> shards;
    size_t size = 0;
  };
  template <class K>
  static const Value* find_in(const Shard& shard, const K& key) {
    auto at = std::lower_bound(shard.begin(), shard.end(), key, [](const Entry& entry, const K& wanted) {
      return Traits::compare(entry.key, wanted) < 0;
    });
    return at != shard.end() && Traits::compare(at->key, key) == 0 ? &at->value : nullptr;
  }
  std::shared_ptr<const Root> root_;
};

template <class Key, class Value, class Traits>
class ShardedMapBuilder {
 public:
  using Map = ShardedMap<Key, Value, Traits>;
  using Entry = typename Map::Entry;
  using Shard = typename Map::Shard;

  // Null if absent; valid until the next change.
  template <class K>
  const Value* find(const K& key) const {
    const auto& shard = shards_[Traits::hash(key) % Map::kShards];
    return shard ? Map::find_in(*shard, key) : nullptr;
  }

  // Inserts or replaces; the key is replaced too (it may point into the value).
  void set(Key key, Value value) {
    Shard& shard = own(Traits::hash(key) % Map::kShards);
    auto at = lower_bound(shard, key);
    if (at != shard.end() && Traits::compare(at->key, key) == 0) {
      *at = Entry{std::move(key), std::move(value)};
      return;
    }
    shard.insert(at, Entry{std::move(key), std::move(value)});
    ++size_;
  }

  // The value to be changed in place, default constructed if absent. For keys that own their text.
  Value& edit(const Key& key) {
    Shard& shard = own(Traits::hash(key) % Map::kShards);
    auto at = lower_bound(shard, key);
    if (at == shard.end() || Traits::compare(at->key, key) != 0) {
      at = shard.insert(at, Entry{key, Value{}});
      ++size_;
    }
    return at->value;
  }

  template <class K>
  bool erase(const K& key) {
    if (!find(key)) return false;
    Shard& shard = own(Traits::hash(key) % Map::kShards);
    shard.erase(lower_bound(shard, key));
    --size_;
    return true;
  }

  // What stands here, for readers. Costs nothing if nothing has changed since the last call.
  Map snapshot() {
    if (!touched_.empty()) {
      auto root = std::make_shared<typename Map::Root>();
      for (size_t i = 0; i < Map::kShards; ++i) {
        if (shards_[i] && !shards_[i]->empty()) root->shards[i] = shards_[i];
      }
      root->size = size_;
      for (size_t index : touched_) {
        if (shards_[index]->capacity() > shards_[index]->size() * 5 / 4 + 4) shards_[index]->shrink_to_fit();
        owned_[index] = false;
      }
      touched_.clear();
      last_.root_ = std::move(root);
    }
    return last_;
  }
  size_t size() const { return size_; }

 private:
  template <class K>
  static typename Shard::iterator lower_bound(Shard& shard, const K& key) {
    return std::lower_bound(shard.begin(), shard.end(), key, [](const Entry& entry, const K& wanted) {
      return Traits::compare(entry.key, wanted) < 0;
    });
  }
  // The shard as our own copy: readers of earlier snapshots keep theirs.
  Shard& own(size_t index) {
    if (!owned_[index]) {
      shards_[index] = shards_[index] ? std::make_shared<Shard>(*shards_[index]) : std::make_shared<Shard>();
      owned_[index] = true;
      touched_.push_back(index);
    }
    return *shards_[index];
  }

  std::array<std::shared_ptr<Shard>, Map::kShards> shards_;
  std::array<bool, Map::kShards> owned_{};
  std::vector<size_t> touched_;
  size_t size_ = 0;
  Map last_;
};

}  // namespace culvert::model
