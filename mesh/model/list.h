// SPDX-License-Identifier: Apache-2.0
// List: an immutable sequence with counted owners, one word wide; the same list may stand in many workloads.
// Boxed: an optional that costs one word while it is empty. Both keep a million workloads small
// (spec apis section 6). May be read and copied on any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace culvert::model {

template <class T>
class List {
 public:
  using value_type = T;

  List() = default;
  List(std::initializer_list<T> items) : List(std::span<const T>(items.begin(), items.size())) {}
  List(const std::vector<T>& items) : List(std::span<const T>(items)) {}  // NOLINT: lists are written as such
  explicit List(std::span<const T> items) {
    if (items.empty()) return;
    rep_ = new (::operator new(kItemsAt + items.size() * sizeof(T), std::align_val_t(kAlign))) Rep;
    rep_->size = static_cast<uint32_t>(items.size());
    std::uninitialized_copy(items.begin(), items.end(), rep_->items());
  }
  List(const List& other) noexcept : rep_(other.rep_) {
    if (rep_) rep_->owners.fetch_add(1, std::memory_order_relaxed);
  }
  List(List&& other) noexcept : rep_(std::exchange(other.rep_, nullptr)) {}
  List& operator=(List other) noexcept {
    std::swap(rep_, other.rep_);
    return *this;
  }
  ~List() {
    if (!rep_ || rep_->owners.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    std::destroy_n(rep_->items(), rep_->size);
    rep_->~Rep();
    ::operator delete(rep_, std::align_val_t(kAlign));
  }

  const T* begin() const { return rep_ ? rep_->items() : nullptr; }
  const T* end() const { return begin() + size(); }
  size_t size() const { return rep_ ? rep_->size : 0; }
  bool empty() const { return rep_ == nullptr; }
  const T& operator[](size_t index) const { return begin()[index]; }
  const T& front() const { return *begin(); }
  const T& back() const { return begin()[size() - 1]; }
  operator std::span<const T>() const { return {begin(), size()}; }  // NOLINT
  std::vector<T> to_vector() const { return {begin(), end()}; }
  // Makes the list anew: for lists of a few.
  void push_back(T item) {
    std::vector<T> items = to_vector();
    items.push_back(std::move(item));
    *this = List(items);
  }
  void clear() { *this = List(); }

  friend bool operator==(const List& a, const List& b) {
    return a.rep_ == b.rep_ || std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  // The items follow in the same allocation.
  struct Rep {
    std::atomic<uint32_t> owners{1};
    uint32_t size = 0;
    T* items() { return reinterpret_cast<T*>(reinterpret_cast<std::byte*>(this) + kItemsAt); }
  };
  static constexpr size_t kAlign = std::max(alignof(Rep), alignof(T));
  static constexpr size_t kItemsAt = (sizeof(Rep) + alignof(T) - 1) / alignof(T) * alignof(T);
  Rep* rep_ = nullptr;
};

template <class T>
class Boxed {
 public:
  Boxed() = default;
  Boxed(std::nullopt_t) {}                                           // NOLINT: as with std::optional
  Boxed(T value) : value_(std::make_unique<T>(std::move(value))) {}  // NOLINT
  Boxed(const std::optional<T>& value) {                             // NOLINT
    if (value) value_ = std::make_unique<T>(*value);
  }
  Boxed(const Boxed& other) : value_(other.value_ ? std::make_unique<T>(*other.value_) : nullptr) {}
  Boxed(Boxed&&) noexcept = default;
  Boxed& operator=(Boxed other) noexcept {
    value_ = std::move(other.value_);
    return *this;
  }

  bool has_value() const { return value_ != nullptr; }
  explicit operator bool() const { return has_value(); }
  const T& operator*() const { return *value_; }
  T& operator*() { return *value_; }
  const T* operator->() const { return value_.get(); }
  T* operator->() { return value_.get(); }
  operator std::optional<T>() const { return value_ ? std::optional<T>(*value_) : std::nullopt; }  // NOLINT
  void reset() { value_.reset(); }
  friend bool operator==(const Boxed& a, const Boxed& b) {
    return a.value_ == b.value_ || (a.value_ && b.value_ && *a.value_ == *b.value_);
  }

 private:
  std::unique_ptr<T> value_;
};

}  // namespace culvert::model
