// SPDX-License-Identifier: Apache-2.0
#include "mesh/kube/cursor.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace culvert::kube {

void Cursor::fail(const std::string& message) const {
  Problem problem{
      {log_->file, line()}, log_->object, path_.empty() ? message : path_ + ": " + message, false};
  if (log_->problems.size() >= CursorLog::kProblemsMax) return;
  // A value of the wrong shape is met once for each field that is looked for in it.
  for (const Problem& old : log_->problems) {
    if (old.origin.line == problem.origin.line && old.message == problem.message) return;
  }
  log_->problems.push_back(std::move(problem));
}

Cursor Cursor::at(const std::string& key) const {
  std::string path = path_.empty() ? key : path_ + "." + key;
  if (absent()) return Cursor(nullptr, std::move(path), *log_, line());
  if (!is_map()) {
    fail("must be a map");
    return Cursor(nullptr, std::move(path), *log_, line());
  }
  return Cursor(value_->find(key), std::move(path), *log_, line());
}

std::vector<Cursor> Cursor::items() const {
  std::vector<Cursor> out;
  if (absent()) return out;
  if (!is_list()) {
    fail("must be a list; begin each item with \"- \"");
    return out;
  }
  for (size_t i = 0; i < value_->items.size(); ++i) {
    out.emplace_back(value_->items[i], fmt::format("{}[{}]", path_, i), *log_, line());
    // A forgotten item. Read as an empty value it could match nobody (and a DENY would not deny), read as an
    // empty rule everybody.
    if (out.back().absent()) out.back().fail("is empty");
  }
  return out;
}

std::vector<std::pair<std::string, Cursor>> Cursor::fields() const {
  std::vector<std::pair<std::string, Cursor>> out;
  if (absent()) return out;
  if (!is_map()) {
    fail("must be a map");
    return out;
  }
  for (const auto& [name, value] : value_->fields) {
    if (name->kind != YamlValue::Kind::kScalar) {
      fail("has a key that is not text");
      continue;
    }
    const std::string& key = name->text;
    out.emplace_back(key, Cursor(value, path_.empty() ? key : path_ + "." + key, *log_, line()));
  }
  return out;
}

std::string Cursor::text(std::string fallback) const {
  if (absent()) return fallback;
  if (!is_scalar()) {
    fail("must be text");
    return fallback;
  }
  return value_->text;
}

bool Cursor::flag(bool fallback) const {
  if (absent()) return fallback;
  std::string value = text();
  if (value == "true") return true;
  if (value == "false") return false;
  fail(fmt::format("\"{}\" must be true or false", value));
  return fallback;
}

int64_t Cursor::integer(int64_t low, int64_t high, int64_t fallback) const {
  if (absent()) return fallback;
  std::string value = text();
  int64_t number = 0;
  auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < low || number > high) {
    fail(fmt::format("\"{}\" must be a whole number from {} to {}", value, low, high));
    return fallback;
  }
  return number;
}

std::vector<std::string> Cursor::texts() const {
  std::vector<std::string> out;
  for (const Cursor& item : items()) out.push_back(item.text());
  return out;
}

Labels Cursor::labels() const {
  Labels out;
  for (const auto& [key, value] : fields()) out[key] = value.text();
  return out;
}

void Cursor::only(std::initializer_list<std::string_view> known) const {
  for (const auto& [key, value] : fields()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      value.fail(fmt::format("unknown field; known here: {}", fmt::join(known, ", ")));
    }
  }
}

}  // namespace culvert::kube
