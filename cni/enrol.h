// SPDX-License-Identifier: Apache-2.0
// Which pods belong to the mesh: selectors over labels, exclusions, and the annotations that
// change a pod's rules (spec cni 2.2, 2.3). Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/base/ip.h"
#include "net/base/result.h"

namespace culvert::cni {

using Labels = std::map<std::string, std::string>;

// A Kubernetes LabelSelector. Empty selects everything.
class Selector {
 public:
  enum class Op : unsigned char { kIn, kNotIn, kExists, kDoesNotExist };
  struct Requirement {
    std::string key;
    Op op = Op::kExists;
    std::vector<std::string> values;
  };
  bool matches(const Labels& labels) const;
  bool empty() const { return requirements_.empty(); }
  void require(Requirement requirement) { requirements_.push_back(std::move(requirement)); }
  const std::vector<Requirement>& requirements() const { return requirements_; }

 private:
  std::vector<Requirement> requirements_;
};

struct SelectorPair {
  Selector pod;
  Selector name_space;
};

// What the agent needs to know of a pod.
struct PodInfo {
  std::string uid;
  std::string name;
  std::string name_space;
  std::string service_account;
  std::string node;
  Labels labels;
  Labels annotations;
  bool host_network = false;
  bool terminal = false;  // phase Failed or Succeeded
  std::vector<base::IpAddr> ips;
  auto operator<=>(const PodInfo&) const = default;
  std::string key() const { return name_space + "/" + name; }
};

class Enrolment {
 public:
  // The two pairs of spec 2.2.
  static std::vector<SelectorPair> default_pairs();
  // YAML (or JSON) list of {podSelector, namespaceSelector}; "" is an empty list: nothing matches.
  static base::Result<std::vector<SelectorPair>> parse_pairs(std::string_view text);
  // Comma list, trimmed, empties dropped.
  static std::vector<std::string> parse_excluded(std::string_view text);

  Enrolment() = default;
  Enrolment(std::vector<SelectorPair> pairs, std::vector<std::string> excluded)
      : pairs_(std::move(pairs)), excluded_(std::move(excluded)) {}

  bool should_be_enabled(const PodInfo& pod, const Labels& namespace_labels) const;
  bool excluded(std::string_view name_space) const;
  const std::vector<SelectorPair>& pairs() const { return pairs_; }

 private:
  std::vector<SelectorPair> pairs_;
  std::vector<std::string> excluded_;
};

// The forms Go's ParseBool takes; nullopt for anything else.
std::optional<bool> parse_go_bool(std::string_view text);

}  // namespace culvert::cni
