// SPDX-License-Identifier: Apache-2.0
// Log: structured lines, "<time>\t<level>\t<target>\t<message>\t<k=v ...>" or JSON
// (spec ztunnel section 10). Passed by reference; there is no global logger.
//
// Thread safe: a Log may be used from every loop.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "net/base/duration.h"
#include "net/base/result.h"

namespace culvert::base {

enum class Level : unsigned char { kTrace, kDebug, kInfo, kWarn, kError, kOff };
std::string_view to_string(Level level);
Result<Level> parse_level(std::string_view text);

// One key and its value. Text is quoted in plain lines, `bare` text (addresses) is not.
struct Field {
  struct Bare {
    std::string text;
  };
  std::string_view key;
  std::variant<std::string, Bare, int64_t, uint64_t, bool> value;

  static Field text(std::string_view key, std::string value) { return {key, std::move(value)}; }
  static Field bare(std::string_view key, std::string value) { return {key, Bare{std::move(value)}}; }
  static Field number(std::string_view key, uint64_t value) { return {key, value}; }
};

class Log {
 public:
  virtual ~Log() = default;
  virtual bool enabled(Level level, std::string_view target) const = 0;
  // Checks `enabled` itself. `message` and fields are escaped here, never by the caller.
  virtual void write(Level level, std::string_view target, std::string_view message,
                     std::span<const Field> fields) = 0;

  void write(Level level, std::string_view target, std::string_view message,
             std::initializer_list<Field> fields = {}) {
    write(level, target, message, std::span<const Field>(fields.begin(), fields.size()));
  }
  void debug(std::string_view t, std::string_view m, std::initializer_list<Field> f = {}) {
    write(Level::kDebug, t, m, f);
  }
  void info(std::string_view t, std::string_view m, std::initializer_list<Field> f = {}) {
    write(Level::kInfo, t, m, f);
  }
  void warn(std::string_view t, std::string_view m, std::initializer_list<Field> f = {}) {
    write(Level::kWarn, t, m, f);
  }
  void error(std::string_view t, std::string_view m, std::initializer_list<Field> f = {}) {
    write(Level::kError, t, m, f);
  }
};

// Which targets log at which level: "info", "warn,access=debug,pool=off". The longest matching
// target prefix wins ("a" covers "a::b"); a bare level is the default.
class LogFilter {
 public:
  static Result<LogFilter> parse(std::string_view directives);
  // Adds `directives` to the current ones; a directive for the same target replaces the old one.
  Result<> add(std::string_view directives);
  bool enabled(Level level, std::string_view target) const;
  std::string to_string() const;

 private:
  Level default_ = Level::kInfo;
  std::vector<std::pair<std::string, Level>> targets_;
};

enum class LogFormat : unsigned char { kPlain, kJson };

// LineLog: formats lines and hands each one, with its newline, to a sink.
class LineLog final : public Log {
 public:
  using Log::write;
  using Sink = std::function<void(std::string line)>;
  using Clock = std::function<WallTime()>;
  LineLog(LogFilter filter, LogFormat format, Clock clock, Sink sink);

  bool enabled(Level level, std::string_view target) const override;
  void write(Level level, std::string_view target, std::string_view message,
             std::span<const Field> fields) override;
  LogFilter filter() const;
  void set_filter(LogFilter filter);

 private:
  mutable std::mutex mutex_;
  LogFilter filter_;
  LogFormat format_;
  Clock clock_;
  Sink sink_;
};

// For tests and for objects that were given nothing better.
class NullLog final : public Log {
 public:
  using Log::write;
  bool enabled(Level, std::string_view) const override { return false; }
  void write(Level, std::string_view, std::string_view, std::span<const Field>) override {}
};

}  // namespace culvert::base
