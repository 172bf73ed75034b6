// SPDX-License-Identifier: Apache-2.0
// Section 7.1 of spec waypoint: the path that router, policy and upstream see.
#include "mesh/decide/http_path.h"

#include <catch2/catch.hpp>
#include <string>

using namespace culvert;
using How = model::WaypointSettings::PathNormalization;

namespace {

std::string normal(std::string_view target, How how = How::kBase) {
  auto path = decide::normalize_path(target, how);
  return path ? path->whole() : "refused";
}

struct Row {
  std::string target, expected;
};

}  // namespace

TEST_CASE("BASE removes dots, unifies triplets and slashes", "[7.1]") {
  auto row = GENERATE(Row{"/", "/"}, Row{"/a/b", "/a/b"}, Row{"/a/./b", "/a/b"}, Row{"/a/../b", "/b"},
                      Row{"/a/b/..", "/a/"}, Row{"/a/b/.", "/a/b/"}, Row{"/a/..", "/"}, Row{"/a/b/", "/a/b/"},
                      Row{"/a//b", "/a//b"}, Row{"//a", "//a"}, Row{"/a//../b", "/a/b"}, Row{"/a\\b", "/a/b"},
                      Row{"\\a", "/a"}, Row{"/a\\..\\b", "/b"}, Row{"/%2e%2e/b", "refused"},
                      Row{"/a/%2e%2E/b", "/b"}, Row{"/a/.%2e/b", "/b"}, Row{"/%41%7a", "/Az"},
                      Row{"/a%2fb", "/a%2Fb"}, Row{"/a%5cb", "/a%5Cb"}, Row{"/%c3%a9", "/%C3%A9"},
                      Row{"/a%252fb", "/a%252fb"}, Row{"/.hidden", "/.hidden"}, Row{"/a/...", "/a/..."},
                      Row{"/a..b", "/a..b"});
  CAPTURE(row.target);
  CHECK(normal(row.target) == row.expected);
}

TEST_CASE("the other normalisations", "[7.1]") {
  struct Each {
    std::string target, none, base, merged, decoded;
  };
  auto row = GENERATE(
      Each{"/a//b", "/a//b", "/a//b", "/a/b", "/a/b"}, Each{"/a%2Fb", "/a%2Fb", "/a%2Fb", "/a%2Fb", "/a/b"},
      Each{"/a%5c..%2fb", "/a%5c..%2fb", "/a%5C..%2Fb", "/a%5C..%2Fb", "/b"},
      Each{"/a//../b", "/a//../b", "/a/b", "/b", "/b"}, Each{"/a/../b", "/a/../b", "/b", "/b", "/b"},
      Each{"/%2f%2F..", "/%2f%2F..", "/%2F%2F..", "/%2F%2F..", "refused"}, Each{"//", "//", "//", "/", "/"});
  CAPTURE(row.target);
  CHECK(normal(row.target, How::kNone) == row.none);
  CHECK(normal(row.target, How::kBase) == row.base);
  CHECK(normal(row.target, How::kMergeSlashes) == row.merged);
  CHECK(normal(row.target, How::kDecodeAndMergeSlashes) == row.decoded);
}

TEST_CASE("what no path may be", "[7.1]") {
  auto target =
      GENERATE(std::string("/.."), std::string("/../x"), std::string("/a/../../b"), std::string("/..\\x"),
               std::string("/%zz"), std::string("/a%"), std::string("/a%4"), std::string("/a%00"),
               std::string("/a\0b", 4), std::string("/a\rb"), std::string("/a\nb"), std::string("/a b"),
               std::string("/a\tb"), std::string("/a\x7f"), std::string("/\xc3\xa9"),
               std::string("/a?q=\xc3\xa9"), std::string("/a?b c"), std::string(""), std::string("a"),
               std::string("?q"), std::string("#f"), std::string("*a"), std::string("http://h/a"));
  CAPTURE(target);
  CHECK(normal(target) == "refused");
  CHECK(normal(target, How::kMergeSlashes) == "refused");
  CHECK(normal(target, How::kDecodeAndMergeSlashes) == "refused");
}

TEST_CASE("without normalisation only what breaks a message is refused", "[7.1]") {
  CHECK(normal("/../%zz/\xc3\xa9", How::kNone) == "/../%zz/\xc3\xa9");
  CHECK(normal("/a b", How::kNone) == "refused");
  CHECK(normal(std::string_view("/a\0", 3), How::kNone) == "refused");
  CHECK(normal("/a\r\nx: y", How::kNone) == "refused");
  CHECK(normal("\\a", How::kNone) == "refused");
}

TEST_CASE("a fragment is dropped; the query is kept as it is", "[7.1]") {
  auto path = decide::normalize_path("/a/../b?x=%2e%2e/../y&z#frag?q", How::kBase);
  REQUIRE(path);
  CHECK(path->path == "/b");
  CHECK(path->query == "?x=%2e%2e/../y&z");
  CHECK(decide::normalize_path("/a#f", How::kNone)->whole() == "/a");
  CHECK(decide::normalize_path("/a?", How::kBase)->query == "?");
  CHECK(normal("/a?..#\n") == "/a?..");
}

TEST_CASE("an asterisk stands alone", "[7.1]") {
  CHECK(normal("*") == "*");
  CHECK(normal("*", How::kNone) == "*");
}

TEST_CASE("a normal path is its own normal form", "[7.1]") {
  auto target = GENERATE("/a/./b//c/%7euser/%2F?q=1", "/%2565", "/a%2f..%2fb", "/x/..//y\\z", "/%25%32%65");
  auto how = GENERATE(How::kBase, How::kMergeSlashes, How::kDecodeAndMergeSlashes);
  std::string once = normal(target, how);
  CAPTURE(target, once);
  REQUIRE(once != "refused");
  CHECK(normal(once, how) == once);
}
