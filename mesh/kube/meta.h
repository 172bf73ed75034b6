// SPDX-License-Identifier: Apache-2.0
// What all kinds have in common: metadata, where they were written, selectors, references, header edits.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "net/base/duration.h"

namespace culvert::kube {

using Labels = std::map<std::string, std::string>;

// Where an object was written.
struct Origin {
  std::string file;
  int line = 0;  // 1-based; 0: not from a file
  std::string to_string() const { return line > 0 ? file + ":" + std::to_string(line) : file; }
};

// Something that was taken although the API writes it otherwise, or has no such field. For lint.
struct Note {
  int line = 0;
  std::string text;  // begins with the field's path
};

struct Meta {
  std::string ns;  // empty for cluster-scoped kinds
  std::string name;
  std::string uid;
  Labels labels;
  Labels annotations;
  std::string created;     // RFC 3339 text, which sorts by time; empty: unknown, oldest
  int64_t generation = 0;  // of the specification, as the API server counts it; 0: it is not counted
  bool deleting = false;
  std::string generate_name;
  std::string owner_kind;  // of the controller
  std::string owner_name;
  Origin origin;
  std::vector<Note> notes;

  std::string key() const { return ns.empty() ? name : ns + "/" + name; }
};

// matchLabels and matchExpressions; empty selects everything.
struct LabelSelector {
  enum class Op : unsigned char { kIn, kNotIn, kExists, kDoesNotExist };
  struct Requirement {
    std::string key;
    Op op = Op::kExists;
    std::vector<std::string> values;
  };
  std::vector<Requirement> requirements;
  bool empty() const { return requirements.empty(); }
  bool matches(const Labels& labels) const;
};

// What a policy is attached to.
struct TargetRef {
  std::string group, kind, name;
  std::string ns;            // empty: the policy's own
  std::string section_name;  // a port's or a rule's name; empty: all of it
};

// Istio's StringMatch. Regular expressions are RE2, anchored at both ends, and have been compiled once.
struct StringMatch {
  enum class Kind : unsigned char { kExact, kPrefix, kRegex, kPresent };
  Kind kind = Kind::kExact;
  std::string value;  // empty for kPresent
  bool operator==(const StringMatch&) const = default;
};

struct HeaderValue {
  std::string name;
  std::string value;
  bool operator==(const HeaderValue&) const = default;
};

// Applied in this order: set, add, remove. Names as written.
struct HeaderEdits {
  std::vector<HeaderValue> set;
  std::vector<HeaderValue> add;
  std::vector<std::string> remove;
  bool empty() const { return set.empty() && add.empty() && remove.empty(); }
};

}  // namespace culvert::kube
