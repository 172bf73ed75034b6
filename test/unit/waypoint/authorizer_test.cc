// SPDX-License-Identifier: Apache-2.0
// What is said to those who are asked about requests, and what of their words counts.
#include "waypoint/phases/authorizer.h"

#include <catch2/catch.hpp>

#include "waypoint/phases/text.h"
#include "waypoint/upstream/circuit.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
using How = waypoint::HeaderChange::How;
using waypoint::HeaderChange;

}  // namespace

TEST_CASE("texts for protobuf are UTF-8, byte by byte", "[2.6.6]") {
  struct Row {
    std::string in, out;
  };
  auto [in, out] =
      GENERATE(Row{"", ""}, Row{"plain", "plain"}, Row{"caf\xc3\xa9", "caf\xc3\xa9"},
               Row{"\xe2\x82\xac", "\xe2\x82\xac"}, Row{"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
               Row{"\xc3", "!"}, Row{"\xe2\x82", "!!"}, Row{"\xff\xfe", "!!"}, Row{"\xc0\xaf", "!!"},
               Row{"\xe0\x80\xaf", "!!!"}, Row{"\xed\xa0\x80", "!!!"}, Row{"\xf4\x90\x80\x80", "!!!!"},
               Row{"a\xc3z", "a!z"}, Row{"\xc3\xa9\xa9", "\xc3\xa9!"});
  CHECK(waypoint::as_utf8(in) == out);
}

TEST_CASE("changes to headers in every manner; what frames or routes a message stays", "[2.6.6]") {
  wire::Headers headers{{":path", "/"}, {"host", "h"}, {"a", "1"}, {"b", "2"}, {"content-length", "5"}};
  waypoint::apply_changes({{How::kSet, "a", "3"},
                           {How::kAppend, "b", "4"},
                           {How::kAddIfAbsent, "a", "x"},
                           {How::kAddIfAbsent, "c", "5"},
                           {How::kReplaceIfThere, "c", "6"},
                           {How::kReplaceIfThere, "d", "x"},
                           {How::kRemove, "missing", ""},
                           {How::kSet, ":path", "/evil"},
                           {How::kSet, "host", "evil"},
                           {How::kSet, "content-length", "0"},
                           {How::kRemove, "content-length", ""},
                           {How::kSet, "transfer-encoding", "chunked"},
                           {How::kSet, "bad name", "x"},
                           {How::kSet, "UPPER", "x"},
                           {How::kSet, "e", std::string("a\0b", 3)},
                           {How::kSet, "f", "a\nb"}},
                          headers);
  CHECK(headers == wire::Headers{{":path", "/"},
                                 {"host", "h"},
                                 {"a", "3"},
                                 {"b", "2"},
                                 {"content-length", "5"},
                                 {"b", "4"},
                                 {"c", "6"}});
}

TEST_CASE("parameters of the query are removed and set", "[2.6.6]") {
  waypoint::CheckAnswer answer;
  answer.query_removed = {"token"};
  answer.query_set = {{"a", "2"}, {"b", "3"}, {"c d", "x"}, {"e", "#"}};
  CHECK(waypoint::edit_query("token=t&a=1&keep=k&token=u&flag", answer) == "keep=k&flag&a=2&b=3");
  CHECK(waypoint::edit_query("token=t", {}) == "token=t");
  waypoint::CheckAnswer only;
  only.query_removed = {"token"};
  CHECK(waypoint::edit_query("token=t", only).empty());
}

TEST_CASE("a circuit opens after five failures in a row, for a second", "[4.3]") {
  waypoint::Circuit circuit;
  base::TimePoint now{};
  now += 10s;
  for (int i = 0; i < 4; ++i) circuit.failed(now);
  circuit.succeeded();
  for (int i = 0; i < 4; ++i) circuit.failed(now);
  CHECK(circuit.closed(now));
  circuit.failed(now);
  CHECK_FALSE(circuit.closed(now));
  CHECK_FALSE(circuit.closed(now + 999ms));
  CHECK(circuit.closed(now + 1s));
  circuit.failed(now + 1s);
  CHECK_FALSE(circuit.closed(now + 1500ms));
  CHECK(circuit.closed(now + 2s));
  circuit.succeeded();
  circuit.failed(now + 2s);
  CHECK(circuit.closed(now + 2s));
}

}  // namespace culvert::test
