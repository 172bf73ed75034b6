// SPDX-License-Identifier: Apache-2.0
// Cursor: reads one YAML value at a time and remembers where it is, so that an error names file, line and
// field. Private to mesh/kube.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mesh/kube/objects.h"
#include "mesh/kube/resource_source.h"
#include "mesh/kube/yaml_tree.h"

namespace culvert::kube {

struct CursorLog {
  static constexpr size_t kProblemsMax = 20;  // of one object; nobody reads more at once
  static constexpr size_t kNotesMax = 20;
  std::string file;
  std::string object;
  std::vector<Problem> problems;
  std::vector<Note> notes = {};
  int line_offset = 0;  // of a text inside a text
};

class Cursor {
 public:
  // `value` is null for what is missing; `line` is then of the value around it.
  Cursor(const YamlValue* value, std::string path, CursorLog& log, int line = 0)
      : value_(value), path_(std::move(path)), log_(&log), around_(line) {}

  // Absent or null.
  bool absent() const { return !value_ || value_->kind == YamlValue::Kind::kNull; }
  bool is_scalar() const { return value_ && value_->kind == YamlValue::Kind::kScalar; }
  bool is_list() const { return value_ && value_->kind == YamlValue::Kind::kList; }
  bool is_map() const { return value_ && value_->kind == YamlValue::Kind::kMap; }
  int line() const { return value_ ? value_->line + log_->line_offset : around_; }
  const std::string& path() const { return path_; }

  Cursor at(const std::string& key) const;
  std::vector<Cursor> items() const;                           // of a list; empty if absent
  std::vector<std::pair<std::string, Cursor>> fields() const;  // of a map; empty if absent

  std::string text(std::string fallback = "") const;
  bool flag(bool fallback = false) const;
  int64_t integer(int64_t low, int64_t high, int64_t fallback) const;
  uint16_t port(uint16_t fallback = 0) const { return static_cast<uint16_t>(integer(0, 65535, fallback)); }
  std::vector<std::string> texts() const;
  Labels labels() const;
  // Every key of this map must be one of `known`; others are errors (a misspelt rule must not be lost).
  // `also`: known too, but not offered.
  void only(std::initializer_list<std::string_view> known,
            std::initializer_list<std::string_view> also = {}) const;
  void fail(const std::string& message) const;
  // What was taken although it is not as the API has it.
  void note(const std::string& message) const;
  // Reads the text of this value as YAML of its own; lines go on counting. Not called if that is no good.
  void read_inside(const std::function<void(const Cursor& root)>& each) const;

 private:
  const YamlValue* value_;
  std::string path_;
  CursorLog* log_;
  int around_;
};

}  // namespace culvert::kube
