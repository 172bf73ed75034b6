// SPDX-License-Identifier: Apache-2.0
#include "mesh/kube/cursor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <utility>

#include "mesh/kube/tree_check.h"

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

namespace {

// Changes of one letter (another, one more, one less, two swapped) from one to the other, capitals ignored.
size_t edit_distance(std::string_view a, std::string_view b) {
  auto same = [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  };
  std::vector<size_t> before, last, row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before = std::exchange(last, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same(a[i - 1], b[j - 1]) ? 0 : 1)});
      if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1])) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

// The known field that was probably meant, or empty.
std::string_view nearest(std::string_view key, const std::vector<std::string_view>& known) {
  constexpr size_t kFieldBytesMax = 64;  // longer than any field; the table stays small
  if (key.size() > kFieldBytesMax) return {};
  std::string_view best;
  size_t best_distance = 0;
  for (std::string_view name : known) {
    size_t distance = edit_distance(key, name);
    if (distance > std::max<size_t>(2, name.size() / 3) || distance >= std::max(key.size(), name.size()))
      continue;
    if (best.empty() || distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  if (!best.empty() || key.size() < 4) return best;
  // A part of a longer name: "labels" for "matchLabels".
  for (std::string_view name : known) {
    if (name.size() >= 4 && (lower(name).find(lower(key)) != std::string::npos ||
                             lower(key).find(lower(name)) != std::string::npos)) {
      return name;
    }
  }
  return {};
}

}  // namespace

void Cursor::only(std::initializer_list<std::string_view> known,
                  std::initializer_list<std::string_view> also) const {
  for (const auto& [key, value] : fields()) {
    std::vector<std::string_view> all(known);
    all.insert(all.end(), also);
    if (std::find(all.begin(), all.end(), key) != all.end()) continue;
    std::string_view meant = nearest(key, all);
    value.fail(fmt::format("unknown field; {}known here: {}",
                           meant.empty() ? std::string() : fmt::format("did you mean \"{}\"? ", meant),
                           fmt::join(known, ", ")));
  }
}

void Cursor::note(const std::string& message) const {
  if (log_->notes.size() >= CursorLog::kNotesMax) return;
  log_->notes.push_back({line(), path_.empty() ? message : path_ + ": " + message});
}

void Cursor::read_inside(const std::function<void(const Cursor& root)>& each) const {
  constexpr YamlLimits kLimits{.depth_max = 64, .values_max = 20'000};
  if (absent()) return;
  std::string inside = text();
  CursorLog log{log_->file, log_->object, {}};
  // A block of several lines begins below its key; a text of one line stands beside it.
  bool block = inside.find('\n') != std::string::npos;
  log.line_offset = log_->line_offset + (value_->line - 1) + (block ? 1 : 0);
  auto refuse = [&](int line, const std::string& why) {
    log.problems.push_back({{log.file, log.line_offset + std::max(line, 1)}, log.object, path_ + ": " + why});
  };
  size_t documents = 0;
  std::optional<YamlError> broken = read_yaml(inside, kLimits, [&](const YamlValue& root) {
    TreeCheck check(kLimits.values_max);
    if (++documents > 1) {
      refuse(root.line, "must be one document");
    } else if (!check.walk(root, kLimits.depth_max)) {
      refuse(root.line, "is nested too deeply or expands too far");
    } else if (check.fault()) {
      refuse(check.fault()->line, check.fault()->message);
    } else {
      each(Cursor(&root, path_, log));
    }
    return log.problems.empty();
  });
  if (broken) refuse(broken->line, "not YAML: " + broken->message);
  for (Problem& problem : log.problems) {
    if (log_->problems.size() < CursorLog::kProblemsMax) log_->problems.push_back(std::move(problem));
  }
  for (Note& note : log.notes) {
    if (log_->notes.size() < CursorLog::kNotesMax) log_->notes.push_back(std::move(note));
  }
}

}  // namespace culvert::kube
