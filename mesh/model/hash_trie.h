// SPDX-License-Identifier: Apache-2.0
// HashTrie: an immutable map, and the builder that makes the next one by copying only the path to what it
// touched (design section 3.13). Small sorted leaves under inner nodes of 32, so that one change of a million
// entries copies three inner nodes and one leaf.
//
// Traits: hash(k) and compare(a, b) (a strong ordering) for Key and for everything `find` is asked with.
// A HashTrie may be read on any thread; a builder belongs to one.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace culvert::model {

template <class Key, class Value, class Traits>
class HashTrieBuilder;

template <class Key, class Value, class Traits>
class HashTrie {
 public:
  struct Entry {
    Key key;
    Value value;
  };

  // Null if absent; valid as long as this map.
  template <class K>
  const Value* find(const K& key) const {
    return find_under(root_.get(), key);
  }
  // In an order that means nothing.
  template <class F>
  void for_each(F&& call) const {
    if (root_) each_under(*root_, call);
  }
  size_t size() const { return size_; }

 private:
  friend class HashTrieBuilder<Key, Value, Traits>;
  static constexpr size_t kBits = 5;
  static constexpr size_t kLeafMax = 24;
  static constexpr size_t kLevelsMax = 10;  // then hashes are used up and leaves grow

  struct Node;
  using Children = std::array<std::shared_ptr<Node>, size_t{1} << kBits>;
  struct Node {
    uint64_t epoch = 0;                  // of the builder when it made this node
    std::vector<Entry> entries;          // of a leaf, by key
    std::unique_ptr<Children> children;  // null in a leaf
  };

  static size_t slot(size_t hash, size_t level) {
    return hash >> (level * kBits) & ((size_t{1} << kBits) - 1);
  }
  template <class Entries, class K>
  static auto lower_bound(Entries& entries, const K& key) {
    return std::lower_bound(entries.begin(), entries.end(), key, [](const Entry& entry, const K& wanted) {
      return Traits::compare(entry.key, wanted) < 0;
    });
  }
  template <class K>
  static const Value* find_under(const Node* node, const K& key) {
    size_t hash = Traits::hash(key);
    for (size_t level = 0; node && node->children; ++level) node = (*node->children)[slot(hash, level)].get();
    if (!node) return nullptr;
    auto at = lower_bound(node->entries, key);
    return at != node->entries.end() && Traits::compare(at->key, key) == 0 ? &at->value : nullptr;
  }
  template <class F>
  static void each_under(const Node& node, F& call) {
    for (const Entry& entry : node.entries) call(entry.value);
    if (!node.children) return;
    for (const auto& child : *node.children) {
      if (child) each_under(*child, call);
    }
  }

  std::shared_ptr<const Node> root_;
  size_t size_ = 0;
};

template <class Key, class Value, class Traits>
class HashTrieBuilder {
 public:
  using Map = HashTrie<Key, Value, Traits>;
  using Entry = typename Map::Entry;

  // Null if absent; valid until the next change.
  template <class K>
  const Value* find(const K& key) const {
    return Map::find_under(root_.get(), key);
  }

  // Inserts or replaces; the key is replaced too (it may point into the value).
  void set(Key key, Value value) {
    auto [leaf, level] = own_leaf(Traits::hash(key));
    auto at = Map::lower_bound(leaf->entries, key);
    if (at != leaf->entries.end() && Traits::compare(at->key, key) == 0) {
      *at = Entry{std::move(key), std::move(value)};
    } else {
      insert(*leaf, level, at, Entry{std::move(key), std::move(value)});
    }
  }

  // The value to be changed in place, default constructed if absent. For keys that own their text.
  Value& edit(const Key& key) {
    size_t hash = Traits::hash(key);
    auto [leaf, level] = own_leaf(hash);
    auto at = Map::lower_bound(leaf->entries, key);
    if (at != leaf->entries.end() && Traits::compare(at->key, key) == 0) return at->value;
    insert(*leaf, level, at, Entry{key, Value{}});
    leaf = own_leaf(hash).first;  // it may have been split
    return Map::lower_bound(leaf->entries, key)->value;
  }

  template <class K>
  bool erase(const K& key) {
    if (!find(key)) return false;
    erase_under(root_, 0, Traits::hash(key), key);
    --size_;
    return true;
  }

  // What stands here, for readers.
  Map snapshot() {
    ++epoch_;
    Map map;
    map.root_ = root_;
    map.size_ = size_;
    return map;
  }
  size_t size() const { return size_; }

 private:
  using Node = typename Map::Node;
  using NodeRef = std::shared_ptr<Node>;

  // The node as our own copy: readers of earlier snapshots keep theirs.
  Node& own(NodeRef& ref) {
    if (ref && ref->epoch == epoch_) return *ref;
    auto made = std::make_shared<Node>();
    made->epoch = epoch_;
    if (ref) {
      made->entries = ref->entries;
      if (ref->children) made->children = std::make_unique<typename Map::Children>(*ref->children);
    }
    ref = std::move(made);
    return *ref;
  }

  std::pair<Node*, size_t> own_leaf(size_t hash) {
    Node* node = &own(root_);
    size_t level = 0;
    for (; node->children; ++level) node = &own((*node->children)[Map::slot(hash, level)]);
    return {node, level};
  }

  void insert(Node& leaf, size_t level, typename std::vector<Entry>::iterator at, Entry entry) {
    // Grows by little: most leaves stay as they are for long.
    size_t index = static_cast<size_t>(at - leaf.entries.begin());
    if (leaf.entries.size() == leaf.entries.capacity())
      leaf.entries.reserve(leaf.entries.size() + leaf.entries.size() / 4 + 1);
    leaf.entries.insert(leaf.entries.begin() + static_cast<ptrdiff_t>(index), std::move(entry));
    ++size_;
    if (leaf.entries.size() > Map::kLeafMax && level < Map::kLevelsMax) split(leaf, level);
  }

  void split(Node& leaf, size_t level) {
    leaf.children = std::make_unique<typename Map::Children>();
    for (Entry& entry : std::exchange(leaf.entries, {})) {
      Node& child = own((*leaf.children)[Map::slot(Traits::hash(entry.key), level)]);
      child.entries.push_back(std::move(entry));
    }
  }

  // Empty nodes go with their last entry.
  template <class K>
  void erase_under(NodeRef& ref, size_t level, size_t hash, const K& key) {
    Node& node = own(ref);
    if (!node.children) {
      node.entries.erase(Map::lower_bound(node.entries, key));
      if (node.entries.empty()) ref.reset();
      return;
    }
    erase_under((*node.children)[Map::slot(hash, level)], level + 1, hash, key);
    if (std::none_of(node.children->begin(), node.children->end(), [](const NodeRef& one) { return !!one; }))
      ref.reset();
  }

  NodeRef root_;
  uint64_t epoch_ = 1;
  size_t size_ = 0;
};

}  // namespace culvert::model
