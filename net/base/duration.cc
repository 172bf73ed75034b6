// SPDX-License-Identifier: Apache-2.0
#include "net/base/duration.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace culvert::base {

namespace {

struct Unit {
  std::string_view name;
  double nanoseconds;
};

// Longest names first so that "ms" is not read as "m".
constexpr Unit kUnits[] = {
    {"ns", 1e0}, {"us", 1e3}, {"µs", 1e3},   {"ms", 1e6},
    {"s", 1e9},  {"m", 6e10}, {"h", 3.6e12}, {"d", 8.64e13},
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  auto bad = [&](std::string_view why) {
    return fail(Code::kInvalid,
                fmt::format("duration \"{}\": {}; write for example 5m, 1m30s or 250ms", text, why));
  };
  if (text.empty()) return bad("empty");
  double total = 0;
  size_t at = 0;
  while (at < text.size()) {
    size_t start = at;
    while (at < text.size() && (is_digit(text[at]) || text[at] == '.')) ++at;
    if (at == start) return bad("expected a number");
    double number = 0;
    try {
      size_t used = 0;
      std::string digits(text.substr(start, at - start));
      number = std::stod(digits, &used);
      if (used != digits.size()) return bad("not a number");
    } catch (const std::exception&) {
      return bad("not a number");
    }
    while (at < text.size() && text[at] == ' ') ++at;
    if (at == text.size()) {
      if (start != 0) return bad("a number has no unit");
      total = number * 1e9;  // a bare number is seconds
      break;
    }
    std::string_view rest = text.substr(at);
    const Unit* unit = nullptr;
    for (const Unit& candidate : kUnits) {
      if (rest.starts_with(candidate.name)) {
        unit = &candidate;
        break;
      }
    }
    if (!unit) return bad("unknown unit");
    total += number * unit->nanoseconds;
    at += unit->name.size();
    while (at < text.size() && text[at] == ' ') ++at;
  }
  if (!(total >= 0) || total > 9.2e18) return bad("out of range");
  return Duration(static_cast<Duration::rep>(total));
}

std::string format_duration(Duration duration) {
  using namespace std::chrono;
  auto count = duration.count();
  if (count < 0) return "-" + format_duration(-duration);
  if (count < 1'000) return fmt::format("{}ns", count);
  if (count < 1'000'000) return fmt::format("{}us", count / 1'000);
  if (count < 1'000'000'000) return fmt::format("{}ms", count / 1'000'000);
  if (count < 60'000'000'000) return fmt::format("{:.3g}s", static_cast<double>(count) / 1e9);
  auto seconds = duration_cast<std::chrono::seconds>(duration).count();
  if (seconds < 3600) return fmt::format("{}m{}s", seconds / 60, seconds % 60);
  return fmt::format("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

std::string format_rfc3339(WallTime time, int fraction_digits) {
  using namespace std::chrono;
  auto day = floor<days>(time);
  year_month_day date(day);
  hh_mm_ss<Duration> clock(time - day);
  std::string out = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", static_cast<int>(date.year()),
                                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                                clock.hours().count(), clock.minutes().count(), clock.seconds().count());
  auto nanos = clock.subseconds().count();
  if (fraction_digits == 3) out += fmt::format(".{:03}", nanos / 1'000'000);
  if (fraction_digits == 6) out += fmt::format(".{:06}", nanos / 1'000);
  return out + "Z";
}

}  // namespace culvert::base
