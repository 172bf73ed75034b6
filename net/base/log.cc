// SPDX-License-Identifier: Apache-2.0
#include "net/base/log.h"

#include <fmt/format.h>

#include <algorithm>

namespace culvert::base {

std::string_view to_string(Level level) {
  switch (level) {
    case Level::kTrace: return "trace";
    case Level::kDebug: return "debug";
    case Level::kInfo: return "info";
    case Level::kWarn: return "warn";
    case Level::kError: return "error";
    case Level::kOff: return "off";
  }
  return "unknown";
}

Result<Level> parse_level(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  for (Level level : {Level::kTrace, Level::kDebug, Level::kInfo, Level::kWarn, Level::kError, Level::kOff}) {
    if (lower == to_string(level)) return level;
  }
  return fail(Code::kInvalid,
              fmt::format("\"{}\" is not a log level (trace, debug, info, warn, error, off)", text));
}

Result<LogFilter> LogFilter::parse(std::string_view directives) {
  LogFilter filter;
  if (auto added = filter.add(directives); !added) return fail(std::move(added).error());
  return filter;
}

Result<> LogFilter::add(std::string_view directives) {
  LogFilter next = *this;
  while (!directives.empty()) {
    size_t comma = directives.find(',');
    std::string_view one = directives.substr(0, comma);
    directives = comma == std::string_view::npos ? std::string_view{} : directives.substr(comma + 1);
    if (one.empty()) continue;
    size_t equals = one.find('=');
    auto level = parse_level(equals == std::string_view::npos ? one : one.substr(equals + 1));
    if (!level) return fail(std::move(level).error());
    if (equals == std::string_view::npos) {
      next.default_ = *level;
      continue;
    }
    std::string target(one.substr(0, equals));
    auto known = std::find_if(next.targets_.begin(), next.targets_.end(),
                              [&](const auto& entry) { return entry.first == target; });
    if (known != next.targets_.end()) {
      known->second = *level;
    } else {
      next.targets_.emplace_back(std::move(target), *level);
    }
  }
  *this = std::move(next);
  return {};
}

bool LogFilter::enabled(Level level, std::string_view target) const {
  Level threshold = default_;
  size_t longest = 0;
  for (const auto& [name, at] : targets_) {
    if (name.size() < longest || !target.starts_with(name)) continue;
    if (target.size() != name.size() && target[name.size()] != ':') continue;
    longest = name.size();
    threshold = at;
  }
  return level >= threshold && threshold != Level::kOff;
}

std::string LogFilter::to_string() const {
  std::string out;
  for (const auto& [name, level] : targets_) out += fmt::format("{}={},", name, base::to_string(level));
  return out + std::string(base::to_string(default_));
}

namespace {

void append_escaped(std::string& out, std::string_view text) {
  for (char raw : text) {
    auto c = static_cast<unsigned char>(raw);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (c < 0x20 || c == 0x7f) {
          out += fmt::format("\\u{:04x}", c);
        } else {
          out += raw;
        }
    }
  }
}

void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  append_escaped(out, text);
  out += '"';
}

void append_value(std::string& out, const Field& field, LogFormat format) {
  if (auto* text = std::get_if<std::string>(&field.value)) {
    append_quoted(out, *text);
  } else if (auto* bare = std::get_if<Field::Bare>(&field.value)) {
    if (format == LogFormat::kJson) {
      append_quoted(out, bare->text);
    } else {
      append_escaped(out, bare->text);
    }
  } else if (auto* number = std::get_if<int64_t>(&field.value)) {
    out += fmt::to_string(*number);
  } else if (auto* size = std::get_if<uint64_t>(&field.value)) {
    out += fmt::to_string(*size);
  } else {
    out += std::get<bool>(field.value) ? "true" : "false";
  }
}

}  // namespace

LineLog::LineLog(LogFilter filter, LogFormat format, Clock clock, Sink sink)
    : filter_(std::move(filter)), format_(format), clock_(std::move(clock)), sink_(std::move(sink)) {}

bool LineLog::enabled(Level level, std::string_view target) const {
  std::lock_guard lock(mutex_);
  return filter_.enabled(level, target);
}

LogFilter LineLog::filter() const {
  std::lock_guard lock(mutex_);
  return filter_;
}

void LineLog::set_filter(LogFilter filter) {
  std::lock_guard lock(mutex_);
  filter_ = std::move(filter);
}

void LineLog::write(Level level, std::string_view target, std::string_view message,
                    std::span<const Field> fields) {
  if (!enabled(level, target)) return;
  std::string time = format_rfc3339(clock_(), 6);
  std::string line;
  if (format_ == LogFormat::kPlain) {
    line = fmt::format("{}\t{}\t{}\t", time, base::to_string(level), target);
    append_escaped(line, message);
    char separator = '\t';
    for (const Field& field : fields) {
      line += separator;
      separator = ' ';
      line += field.key;
      line += '=';
      append_value(line, field, format_);
    }
  } else {
    line = fmt::format("{{\"level\":\"{}\",\"time\":\"{}\",\"scope\":", base::to_string(level), time);
    append_quoted(line, target);
    line += ",\"message\":";
    append_quoted(line, message);
    for (const Field& field : fields) {
      line += ',';
      append_quoted(line, field.key);
      line += ':';
      append_value(line, field, format_);
    }
    line += '}';
  }
  line += '\n';
  sink_(std::move(line));
}

}  // namespace culvert::base
