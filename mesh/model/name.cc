// SPDX-License-Identifier: Apache-2.0
#include "mesh/model/name.h"

#include <atomic>
#include <cstring>
#include <new>

namespace culvert::model {

// The characters follow the header in the same allocation.
struct Name::Rep {
  std::atomic<uint32_t> owners{1};
  uint32_t size = 0;
  const char* text() const { return reinterpret_cast<const char*>(this + 1); }
  char* text() { return reinterpret_cast<char*>(this + 1); }
};

Name::Name(std::string_view text) {
  if (text.empty()) return;
  void* memory = ::operator new(sizeof(Rep) + text.size());
  rep_ = new (memory) Rep;
  rep_->size = static_cast<uint32_t>(text.size());
  std::memcpy(rep_->text(), text.data(), text.size());
}

Name::Name(const Name& other) noexcept : rep_(other.rep_) {
  if (rep_) rep_->owners.fetch_add(1, std::memory_order_relaxed);
}

std::string_view Name::view() const { return rep_ ? std::string_view(rep_->text(), rep_->size) : ""; }

bool Name::sole_owner() const { return rep_ && rep_->owners.load(std::memory_order_acquire) == 1; }

void Name::release() {
  if (rep_ && rep_->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    rep_->~Rep();
    ::operator delete(rep_);
  }
  rep_ = nullptr;
}

Name NamePool::intern(std::string_view text) {
  if (text.empty()) return Name();
  if (auto known = names_.find(text); known != names_.end()) return *known;
  if (names_.size() >= next_sweep_) {
    sweep();
    next_sweep_ = std::max(kSweepMin, names_.size() * 2);
  }
  return *names_.emplace(text).first;
}

void NamePool::sweep() {
  std::erase_if(names_, [](const Name& name) { return name.sole_owner(); });
}

}  // namespace culvert::model
