// SPDX-License-Identifier: Apache-2.0
// Name: an immutable text with a counted owner, one word wide. The same namespace, node or service account
// stands in a hundred thousand workloads; NamePool lets them share one copy (spec apis section 6).
//
// A Name may be read and copied on any thread. A NamePool belongs to one thread.
#pragma once

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace culvert::model {

class Name {
 public:
  Name() = default;
  Name(std::string_view text);                                     // NOLINT: names are written as literals
  Name(const char* text) : Name(std::string_view(text)) {}         // NOLINT
  Name(const std::string& text) : Name(std::string_view(text)) {}  // NOLINT
  Name(const Name& other) noexcept;
  Name(Name&& other) noexcept : rep_(std::exchange(other.rep_, nullptr)) {}
  Name& operator=(Name other) noexcept {
    std::swap(rep_, other.rep_);
    return *this;
  }
  ~Name() { release(); }

  bool empty() const { return rep_ == nullptr; }
  // Valid as long as any copy of this Name.
  std::string_view view() const;
  operator std::string_view() const { return view(); }  // NOLINT
  std::string str() const { return std::string(view()); }
  // True if nothing else holds this text.
  bool sole_owner() const;

  friend bool operator==(const Name& a, const Name& b) { return a.rep_ == b.rep_ || a.view() == b.view(); }
  friend std::strong_ordering operator<=>(const Name& a, const Name& b) {
    return a.rep_ == b.rep_ ? std::strong_ordering::equal : a.view() <=> b.view();
  }
  template <class T>
    requires(std::convertible_to<const T&, std::string_view> && !std::same_as<T, Name>)
  friend bool operator==(const Name& a, const T& b) {
    return a.view() == std::string_view(b);
  }
  friend std::string operator+(std::string a, const Name& b) { return std::move(a.append(b.view())); }
  friend std::string operator+(const Name& a, std::string_view b) { return a.str().append(b); }

 private:
  struct Rep;
  void release();
  Rep* rep_ = nullptr;  // null is ""
};

struct NameHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  size_t operator()(const Name& name) const { return (*this)(name.view()); }
};

struct NameEqual {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const { return a == b; }
};

class NamePool {
 public:
  // The pool sweeps itself once it has grown to twice what the last sweep kept, and at least this many.
  static constexpr size_t kSweepMin = 4096;

  Name intern(std::string_view text);
  // Forgets texts that nobody else holds.
  void sweep();
  size_t size() const { return names_.size(); }

 private:
  std::unordered_set<Name, NameHash, NameEqual> names_;
  size_t next_sweep_ = kSweepMin;
};

}  // namespace culvert::model

template <>
struct std::hash<culvert::model::Name> {
  size_t operator()(const culvert::model::Name& name) const noexcept {
    return std::hash<std::string_view>()(name.view());
  }
};
