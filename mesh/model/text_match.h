// SPDX-License-Identifier: Apache-2.0
// TextMatch: how a route or an L7 policy compares one text: exact, prefix, suffix, present, RE2, whole path
// segments, path template (spec waypoint sections 2.1.1, 2.4.2, 2.6.2). Compiled when the configuration
// comes; matching cannot fail.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "net/base/result.h"

namespace culvert::model {

// An RE2 expression; copies share the program. Linear time, bounded memory.
class Regex {
 public:
  // Larger programs are refused (Istio's bound).
  static constexpr int kProgramSizeMax = 32768;

  // kInvalid: does not parse, or is too large.
  static base::Result<Regex> compile(std::string_view pattern);
  bool full_match(std::string_view text) const;
  // Every match replaced; "\1" stands for a group. kInvalid was found at compile by check_rewrite.
  std::string replace_all(std::string_view text, std::string_view rewrite) const;
  base::Result<> check_rewrite(std::string_view rewrite) const;
  const std::string& pattern() const;
  bool operator==(const Regex& other) const { return pattern() == other.pattern(); }

 private:
  struct Program;
  explicit Regex(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;
};

class TextMatch {
 public:
  enum class Kind : uint8_t {
    kExact,
    kPrefix,  // bytes: "/foo" matches "/foobar"
    kSuffix,
    kRegex,       // anchored at both ends
    kPresent,     // there, whatever it is; policies: there and not empty
    kPathPrefix,  // whole segments: "/foo" matches "/foo" and "/foo/x", not "/foobar"; a final "/" is ignored
    kPathTemplate,  // "{*}" is one segment, "{**}" the rest
  };

  // kInvalid for an expression or a template that cannot be compiled. `ignore_case`: exact and prefix only.
  static base::Result<TextMatch> make(Kind kind, std::string text, bool ignore_case = false);
  // For texts that need no compiling.
  static TextMatch exact(std::string text);
  static TextMatch prefix(std::string text);
  static TextMatch present();

  bool matches(std::string_view value) const;
  Kind kind() const { return kind_; }
  const std::string& text() const { return text_; }
  bool ignore_case() const { return ignore_case_; }
  // Set for kRegex only.
  const Regex* regex() const { return regex_.get(); }
  bool operator==(const TextMatch& other) const {
    return kind_ == other.kind_ && ignore_case_ == other.ignore_case_ && text_ == other.text_;
  }

 private:
  TextMatch(Kind kind, std::string text, bool ignore_case)
      : kind_(kind), ignore_case_(ignore_case), text_(std::move(text)) {}
  Kind kind_;
  bool ignore_case_;
  std::string text_;
  std::shared_ptr<const Regex> regex_;
};

}  // namespace culvert::model
