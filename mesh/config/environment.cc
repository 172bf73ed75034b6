// SPDX-License-Identifier: Apache-2.0
#include "mesh/config/environment.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cstdio>

namespace culvert::config {

Environment Environment::from_block(char** block) {
  std::map<std::string, std::string> values;
  for (; block && *block; ++block) {
    std::string_view entry(*block);
    size_t equals = entry.find('=');
    if (equals == std::string_view::npos) continue;
    values.emplace(std::string(entry.substr(0, equals)), std::string(entry.substr(equals + 1)));
  }
  return Environment(std::move(values));
}

std::optional<std::string> Environment::get(std::string_view name) const {
  auto found = values_.find(std::string(name));
  if (found == values_.end()) return std::nullopt;
  return found->second;
}

std::string Environment::get_or(std::string_view name, std::string_view fallback) const {
  auto value = get(name);
  return value ? *value : std::string(fallback);
}

base::Result<bool> Environment::boolean(std::string_view name, bool fallback) const {
  auto value = get(name);
  if (!value) return fallback;
  if (*value == "true") return true;
  if (*value == "false") return false;
  return base::fail(base::Code::kInvalid,
                    fmt::format("{}=\"{}\" must be exactly true or false", name, *value));
}

base::Result<base::Duration> Environment::duration(std::string_view name, base::Duration fallback) const {
  auto value = get(name);
  if (!value) return fallback;
  auto parsed = base::parse_duration(*value);
  if (!parsed) return base::fail(std::move(parsed).error().wrap(name));
  return *parsed;
}

base::Result<std::optional<uint64_t>> Environment::number(std::string_view name, uint64_t limit) const {
  auto value = get(name);
  if (!value) return std::optional<uint64_t>{};
  uint64_t number = 0;
  const char* end = value->data() + value->size();
  auto [at, error] = std::from_chars(value->data(), end, number);
  if (error != std::errc{} || at != end || number > limit) {
    return base::fail(base::Code::kInvalid,
                      fmt::format("{}=\"{}\" must be a number from 0 to {}", name, *value, limit));
  }
  return std::optional<uint64_t>(number);
}

base::Result<uint64_t> Environment::number_or(std::string_view name, uint64_t fallback,
                                              uint64_t limit) const {
  auto value = number(name, limit);
  if (!value) return base::fail(std::move(value).error());
  return value->value_or(fallback);
}

std::map<std::string, std::string> Environment::with_prefix(std::string_view prefix) const {
  std::map<std::string, std::string> found;
  for (auto it = values_.lower_bound(std::string(prefix)); it != values_.end(); ++it) {
    if (!it->first.starts_with(prefix)) break;
    if (it->first.size() > prefix.size()) found.emplace(it->first.substr(prefix.size()), it->second);
  }
  return found;
}

base::Result<std::string> read_file_from_disk(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rbe");
  if (!file) return base::fail(base::Error::from_errno(errno, "read " + path));
  std::string text;
  char buffer[16384];
  size_t count = 0;
  while ((count = std::fread(buffer, 1, sizeof buffer, file)) > 0) text.append(buffer, count);
  bool failed = std::ferror(file) != 0;
  int number = errno;
  std::fclose(file);
  if (failed) return base::fail(base::Error::from_errno(number, "read " + path));
  return text;
}

}  // namespace culvert::config
