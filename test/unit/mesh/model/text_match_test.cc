// SPDX-License-Identifier: Apache-2.0
// Sections 2.1.1, 2.4.2 and 2.6.2 of spec waypoint.
#include "mesh/model/text_match.h"

#include <catch2/catch.hpp>

using namespace culvert::model;
using Kind = TextMatch::Kind;

namespace {

bool matches(Kind kind, std::string pattern, std::string_view value, bool ignore_case = false) {
  auto match = TextMatch::make(kind, std::move(pattern), ignore_case);
  REQUIRE(match);
  return match->matches(value);
}

}  // namespace

TEST_CASE("exact, prefix, suffix, present", "[2.1.1]") {
  CHECK(matches(Kind::kExact, "/a", "/a"));
  CHECK_FALSE(matches(Kind::kExact, "/a", "/A"));
  CHECK_FALSE(matches(Kind::kExact, "/a", "/ab"));
  CHECK(matches(Kind::kExact, "/aB", "/Ab", true));
  CHECK(matches(Kind::kPrefix, "/foo", "/foobar"));
  CHECK_FALSE(matches(Kind::kPrefix, "/foo", "/fo"));
  CHECK_FALSE(matches(Kind::kPrefix, "/foo", "/FOOBAR"));
  CHECK(matches(Kind::kPrefix, "/foo", "/FOOBAR", true));
  CHECK(matches(Kind::kSuffix, "/x", "/a/x"));
  CHECK_FALSE(matches(Kind::kSuffix, "/x", "x"));
  CHECK(matches(Kind::kPresent, "", ""));
  CHECK(matches(Kind::kPrefix, "", ""));
}

TEST_CASE("expressions are anchored at both ends", "[2.1.1]") {
  CHECK(matches(Kind::kRegex, "/a.c", "/abc"));
  CHECK_FALSE(matches(Kind::kRegex, "/a.c", "/abcd"));
  CHECK_FALSE(matches(Kind::kRegex, "b", "abc"));
  CHECK(matches(Kind::kRegex, "a|b", "b"));
  CHECK_FALSE(matches(Kind::kRegex, "a|b", "bc"));
  CHECK(matches(Kind::kRegex, ".*Chrome.*", "Mozilla Chrome/1"));
  CHECK_FALSE(TextMatch::make(Kind::kRegex, "("));
  CHECK_FALSE(TextMatch::make(Kind::kRegex, "((a{1,100}){1,100}){1,100}"));
}

TEST_CASE("expressions that substitute", "[2.1.4]") {
  auto regex = Regex::compile("/(a+)/");
  REQUIRE(regex);
  CHECK(regex->replace_all("/a//aa/", "<\\1>") == "<a><aa>");
  CHECK(regex->check_rewrite("\\1"));
  CHECK_FALSE(regex->check_rewrite("\\2"));
}

TEST_CASE("a path prefix is whole segments", "[2.4.2]") {
  CHECK(matches(Kind::kPathPrefix, "/v2", "/v2"));
  CHECK(matches(Kind::kPathPrefix, "/v2", "/v2/"));
  CHECK(matches(Kind::kPathPrefix, "/v2", "/v2/example"));
  CHECK_FALSE(matches(Kind::kPathPrefix, "/v2", "/v2example"));
  CHECK_FALSE(matches(Kind::kPathPrefix, "/v2", "/foo/v2/example"));
  CHECK(matches(Kind::kPathPrefix, "/v2/", "/v2"));
  CHECK(matches(Kind::kPathPrefix, "/", "/"));
  CHECK(matches(Kind::kPathPrefix, "/", "/anything"));
  CHECK(matches(Kind::kPathPrefix, "/V2", "/v2/x", true));
}

TEST_CASE("path templates", "[2.6.2]") {
  CHECK(matches(Kind::kPathTemplate, "/a/{*}", "/a/b"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/a/{*}", "/a/"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/a/{*}", "/a/b/c"));
  CHECK(matches(Kind::kPathTemplate, "/a/{*}/c", "/a/b/c"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/a/{*}/c", "/a/b/d"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/a/{*}/c", "/a/b/x/c"));
  CHECK(matches(Kind::kPathTemplate, "/a/{**}", "/a/b/c"));
  CHECK(matches(Kind::kPathTemplate, "/a/{**}", "/a/"));
  CHECK(matches(Kind::kPathTemplate, "/{*}/x/{**}", "/q/x/1/2"));
  CHECK(matches(Kind::kPathTemplate, "/plain", "/plain"));
  CHECK(matches(Kind::kPathTemplate, "/f/{*}.txt", "/f/a.txt"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/f/{*}.txt", "/f/a/b.txt"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/f/{*}.txt", "/f/.txt"));
  CHECK(matches(Kind::kPathTemplate, "/f/{**}.txt", "/f/a/b.txt"));
  for (const char* wrong : {"a/{*}", "/a/*", "/a/{**}/{*}", "/a/{**}{**}", "/a/{x}", "/a/{*", "/a}"}) {
    CAPTURE(wrong);
    CHECK_FALSE(TextMatch::make(Kind::kPathTemplate, wrong));
  }
  CHECK(TextMatch::make(Kind::kPathTemplate, "/{*}/{*}/{*}/{*}/{*}/{*}/{*}/{*}"));
  CHECK_FALSE(TextMatch::make(Kind::kPathTemplate, "/{*}/{*}/{*}/{*}/{*}/{*}/{*}/{*}/{*}"));
}

TEST_CASE("several wildcards in one segment", "[2.6.2]") {
  CHECK(matches(Kind::kPathTemplate, "/{*}-{*}.txt", "/a-b-c.txt"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/{*}-{*}.txt", "/a-.txt"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/{*}-{*}.txt", "/-b.txt"));
  CHECK(matches(Kind::kPathTemplate, "/{*}{*}", "/ab"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/{*}{*}", "/a"));
  CHECK(matches(Kind::kPathTemplate, "/{*}aba", "/xababa"));
  CHECK(matches(Kind::kPathTemplate, "/v{*}/{**}/end", "/v1/a/b/end"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/v{*}/{**}/end", "/v1/end"));
  CHECK(matches(Kind::kPathTemplate, "/v{*}x{**}", "/v1x"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/v{*}x{**}", "/v1/x"));
  CHECK_FALSE(matches(Kind::kPathTemplate, "/a{**}ab", "/ab"));
}

TEST_CASE("a hostile path cannot make a template slow", "[2.6.2]") {
  // Backtracking over eight wildcards would need far longer than the universe has.
  std::string path = "/" + std::string(60000, 'a');
  CHECK_FALSE(matches(Kind::kPathTemplate, "/{*}a{*}a{*}a{*}a{*}a{*}a{*}a{*}b", path));
  CHECK(matches(Kind::kPathTemplate, "/{*}a{*}a{*}a{*}a{*}a{*}a{*}a{*}a", path));
}
