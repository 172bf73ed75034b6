// SPDX-License-Identifier: Apache-2.0
// Selectors over labels, what a policy covers by its own, and indexes that find them by a workload's labels.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mesh/kube/meta.h"

namespace culvert::control {

inline const std::string* label(const kube::Labels& labels, const std::string& key) {
  auto found = labels.find(key);
  return found == labels.end() ? nullptr : &found->second;
}
// Every entry of `selector` is in `labels`.
inline bool selects(const kube::Labels& selector, const kube::Labels& labels) {
  for (const auto& [key, value] : selector) {
    const std::string* have = label(labels, key);
    if (!have || *have != value) return false;
  }
  return true;
}

// Objects by a selector that is not empty, so that a workload is held only against those that may select it.
template <class T>
class SelectorIndex {
 public:
  void add(const kube::Labels& selector, T* object) {
    if (selector.empty()) return;
    const auto& [key, value] = *selector.begin();
    by_label_[key][value].push_back(object);
  }
  // Those whose first label is among `labels`; the caller looks at the whole selector.
  template <class Call>
  void each_candidate(const kube::Labels& labels, Call call) const {
    for (const auto& [key, by_value] : by_label_) {
      const std::string* value = label(labels, key);
      auto found = value ? by_value.find(*value) : by_value.end();
      if (found == by_value.end()) continue;
      for (T* object : found->second) call(*object);
    }
  }

 private:
  std::map<std::string, std::map<std::string, std::vector<T*>>> by_label_;
};

// The workloads that a policy without targetRefs is about.
struct Coverage {
  std::string ns;
  bool everywhere = false;  // of the root namespace: in every namespace
  kube::Labels labels;      // empty: all
  bool in(const std::string& workload_ns) const { return everywhere || ns == workload_ns; }
  // Some workload may have both the labels that are asked for here and those of `selector`.
  bool meets(const kube::Labels& selector) const {
    for (const auto& [key, value] : labels) {
      const std::string* other = label(selector, key);
      if (other && *other != value) return false;
    }
    return true;
  }
  // Whatever `other` covers is covered here.
  bool includes(const Coverage& other) const {
    return (everywhere || (!other.everywhere && ns == other.ns)) && selects(labels, other.labels);
  }
};
// What both cover; none if that is nobody.
inline std::optional<Coverage> common(const Coverage& a, const Coverage& b) {
  if (!(a.everywhere || b.everywhere || a.ns == b.ns) || !a.meets(b.labels)) return std::nullopt;
  Coverage out = a.everywhere ? b : a;
  out.labels = a.labels;
  out.labels.insert(b.labels.begin(), b.labels.end());
  return out;
}

// Objects with a `coverage`, by the workloads they cover.
template <class T>
class CoverageIndex {
 public:
  void add(T* object) {
    auto& place = object->coverage.everywhere ? everywhere_ : by_ns_[object->coverage.ns];
    if (object->coverage.labels.empty()) {
      place.wide.push_back(object);
    } else {
      place.selecting.add(object->coverage.labels, object);
    }
  }
  template <class Call>
  void each_covering(const std::string& ns, const kube::Labels& labels, Call call) const {
    auto from = [&](const Place& place) {
      for (T* object : place.wide) call(*object);
      place.selecting.each_candidate(labels, [&](T& object) {
        if (selects(object.coverage.labels, labels)) call(object);
      });
    };
    from(everywhere_);
    if (auto own = by_ns_.find(ns); own != by_ns_.end()) from(own->second);
  }

 private:
  struct Place {
    std::vector<T*> wide;
    SelectorIndex<T> selecting;
  };
  Place everywhere_;
  std::map<std::string, Place> by_ns_;
};

}  // namespace culvert::control
