// SPDX-License-Identifier: Apache-2.0
#include "cni/plugin_log.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cni/unix_http.h"
#include "net/base/unique_fd.h"

namespace culvert::cni {

void PluginLog::configure(std::string run_dir, const std::string& level) {
  run_dir_ = std::move(run_dir);
  if (auto parsed = base::parse_level(level)) level_ = *parsed;
}

bool PluginLog::enabled(base::Level level, std::string_view) const { return level >= level_; }

void PluginLog::write(base::Level level, std::string_view target, std::string_view message,
                      std::span<const base::Field> fields) {
  if (!enabled(level, target)) return;
  const auto now = std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now());
  nlohmann::ordered_json record{{"level", base::to_string(level)},
                                {"time", base::format_rfc3339(now, 6)},
                                {"scope", target},
                                {"msg", message}};
  for (const auto& field : fields) {
    auto& slot = record[std::string(field.key)];
    if (const auto* text = std::get_if<std::string>(&field.value)) slot = *text;
    if (const auto* bare = std::get_if<base::Field::Bare>(&field.value)) slot = bare->text;
    if (const auto* number = std::get_if<int64_t>(&field.value)) slot = *number;
    if (const auto* count = std::get_if<uint64_t>(&field.value)) slot = *count;
    if (const auto* flag = std::get_if<bool>(&field.value)) slot = *flag;
  }
  std::string line = record.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::fprintf(stderr, "%s\n", line.c_str());
  if (level >= base::Level::kInfo) append_to_file(line + "\n");
  if (lines_.size() < kLinesMax) lines_.push_back(std::move(line));
}

void PluginLog::append_to_file(const std::string& line) {
  if (run_dir_.empty()) return;
  const std::string path = run_dir_ + "/istio-cni.log";
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0 && static_cast<size_t>(info.st_size) > kFileBytesMax) {
    (void)::rename(path.c_str(), (path + ".1").c_str());
  }
  base::UniqueFd file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  // One write: lines of concurrent plugins do not mix.
  if (file.valid() && ::write(file.get(), line.data(), line.size()) < 0) return;
}

void PluginLog::flush() {
  const std::string socket = run_dir_ + "/log.sock";
  struct stat info{};
  if (run_dir_.empty() || lines_.empty() || ::stat(socket.c_str(), &info) != 0) return;
  nlohmann::json batch = lines_;
  (void)post_unix(socket, "/log", batch.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
                  std::chrono::seconds(1));
}

}  // namespace culvert::cni
