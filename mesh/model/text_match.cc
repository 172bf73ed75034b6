// SPDX-License-Identifier: Apache-2.0
#include "mesh/model/text_match.h"

#include <re2/re2.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "net/base/check.h"

namespace culvert::model {

using base::Code;
using base::fail;
using base::Result;

namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool starts_with(std::string_view text, std::string_view prefix, bool ignore_case) {
  if (text.size() < prefix.size()) return false;
  if (!ignore_case) return text.starts_with(prefix);
  return std::equal(prefix.begin(), prefix.end(), text.begin(),
                    [](char a, char b) { return lower(a) == lower(b); });
}

// Templates: "{*}" stands for one or more bytes of one segment, "{**}" for any rest and comes last.

// How much of the start of `segment` a pattern of literals and "{*}" takes, as little as possible; all of it
// if `whole`. The first place where a literal fits is always good enough, so nothing is tried twice.
std::optional<size_t> take_segment(std::string_view pattern, std::string_view segment, bool whole) {
  size_t open = pattern.find('{');
  std::string_view literal = pattern.substr(0, open);
  if (!segment.starts_with(literal)) return std::nullopt;
  size_t at = literal.size();
  while (open != pattern.npos) {
    pattern.remove_prefix(open + 3);
    open = pattern.find('{');
    literal = pattern.substr(0, open);
    if (at + 1 + literal.size() > segment.size()) return std::nullopt;
    if (whole && open == pattern.npos) {
      if (!segment.ends_with(literal)) return std::nullopt;
      at = segment.size();
      break;
    }
    size_t found = segment.find(literal, at + 1);
    if (found == segment.npos) return std::nullopt;
    at = found + literal.size();
  }
  if (whole && at != segment.size()) return std::nullopt;
  return at;
}

bool template_matches(std::string_view pattern, std::string_view path) {
  while (true) {
    std::string_view part = pattern.substr(0, pattern.find('/'));
    std::string_view segment = path.substr(0, path.find('/'));
    size_t rest = part.find("{**}");
    if (rest != part.npos) {
      std::optional<size_t> taken = take_segment(part.substr(0, rest), segment, false);
      std::string_view end = pattern.substr(rest + 4);
      return taken && path.size() - *taken >= end.size() && path.ends_with(end);
    }
    if (!take_segment(part, segment, true)) return false;
    bool pattern_ends = part.size() == pattern.size(), path_ends = segment.size() == path.size();
    if (pattern_ends || path_ends) return pattern_ends && path_ends;
    pattern.remove_prefix(part.size() + 1);
    path.remove_prefix(segment.size() + 1);
  }
}

Result<> check_template(std::string_view text) {
  if (!text.starts_with('/')) return fail(Code::kInvalid, "path template must start with \"/\"");
  bool rest_seen = false;
  int wildcards = 0;
  for (size_t at = 0; at < text.size();) {
    if (rest_seen && text[at] == '{') {
      return fail(Code::kInvalid, "nothing but text may follow \"{**}\" in a path template");
    }
    if (text[at] == '*' || text[at] == '}') {
      return fail(Code::kInvalid, "path template: write {*} for one segment, {**} for the rest");
    }
    if (text[at] != '{') {
      ++at;
      continue;
    }
    if (++wildcards > 8) return fail(Code::kInvalid, "more than 8 wildcards in a path template");
    if (text.substr(at).starts_with("{**}")) {
      rest_seen = true;
      at += 4;
    } else if (text.substr(at).starts_with("{*}")) {
      at += 3;
    } else {
      return fail(Code::kInvalid, "path template: write {*} for one segment, {**} for the rest");
    }
  }
  return {};
}

}  // namespace

struct Regex::Program {
  explicit Program(std::string_view text, const RE2::Options& options)
      : pattern(text), re(re2::StringPiece(text.data(), text.size()), options) {}
  std::string pattern;
  RE2 re;
};

Result<Regex> Regex::compile(std::string_view pattern) {
  RE2::Options options(RE2::Quiet);
  options.set_max_mem(8 << 20);
  auto program = std::make_shared<Program>(pattern, options);
  if (!program->re.ok()) {
    return fail(Code::kInvalid,
                "regular expression \"" + std::string(pattern) + "\": " + program->re.error());
  }
  if (program->re.ProgramSize() > kProgramSizeMax) {
    return fail(Code::kInvalid, "regular expression \"" + std::string(pattern) + "\" is too complex (" +
                                    std::to_string(program->re.ProgramSize()) + " steps, at most " +
                                    std::to_string(kProgramSizeMax) + ")");
  }
  return Regex(std::move(program));
}

bool Regex::full_match(std::string_view text) const {
  return RE2::FullMatch(re2::StringPiece(text.data(), text.size()), program_->re);
}

std::string Regex::replace_all(std::string_view text, std::string_view rewrite) const {
  std::string out(text);
  RE2::GlobalReplace(&out, program_->re, re2::StringPiece(rewrite.data(), rewrite.size()));
  return out;
}

Result<> Regex::check_rewrite(std::string_view rewrite) const {
  std::string why;
  if (program_->re.CheckRewriteString(re2::StringPiece(rewrite.data(), rewrite.size()), &why)) return {};
  return fail(Code::kInvalid, "substitution \"" + std::string(rewrite) + "\": " + why);
}

const std::string& Regex::pattern() const { return program_->pattern; }

Result<TextMatch> TextMatch::make(Kind kind, std::string text, bool ignore_case) {
  TextMatch match(kind, std::move(text), ignore_case);
  if (kind == Kind::kRegex) {
    Result<Regex> regex = Regex::compile(match.text_);
    if (!regex) return fail(std::move(regex).error());
    match.regex_ = std::make_shared<const Regex>(std::move(*regex));
  }
  if (kind == Kind::kPathTemplate) CULVERT_TRY(check_template(match.text_));
  return match;
}

TextMatch TextMatch::exact(std::string text) { return {Kind::kExact, std::move(text), false}; }
TextMatch TextMatch::prefix(std::string text) { return {Kind::kPrefix, std::move(text), false}; }
TextMatch TextMatch::present() { return {Kind::kPresent, "", false}; }

bool TextMatch::matches(std::string_view value) const {
  switch (kind_) {
    case Kind::kExact: return value.size() == text_.size() && starts_with(value, text_, ignore_case_);
    case Kind::kPrefix: return starts_with(value, text_, ignore_case_);
    case Kind::kSuffix: return value.ends_with(text_);
    case Kind::kRegex: return regex_->full_match(value);
    case Kind::kPresent: return true;
    case Kind::kPathPrefix: {
      std::string_view prefix = text_;
      if (prefix.ends_with('/')) prefix.remove_suffix(1);
      return starts_with(value, prefix, ignore_case_) &&
             (value.size() == prefix.size() || value[prefix.size()] == '/');
    }
    case Kind::kPathTemplate: return template_matches(text_, value);
  }
  return false;
}

}  // namespace culvert::model
