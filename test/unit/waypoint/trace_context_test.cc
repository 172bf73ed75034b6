// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/trace_context.h"

#include <catch2/catch.hpp>

#include "waypoint/headers.h"

namespace culvert::waypoint {
namespace {

using model::TraceRule;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kSpan[] = "00f067aa0ba902b7";
const std::string kParent = std::string("00-") + kTrace + "-" + kSpan + "-01";

std::string text(const wire::Headers& headers, std::string_view name) {
  const std::string* found = header_of(headers, name);
  return found ? *found : "(none)";
}

TraceRule rule(TraceRule::Protocol protocol, double percent = 100) {
  TraceRule out;
  out.protocol = protocol;
  out.sampling_percent = percent;
  return out;
}

}  // namespace

TEST_CASE("a W3C context is taken or left", "[waypoint][trace][5.5]") {
  struct Row {
    std::string traceparent;
    bool good;
    bool sampled;
  };
  std::string ids = std::string(kTrace) + "-" + kSpan;
  auto row = GENERATE_COPY(values<Row>({
      {"00-" + ids + "-01", true, true},
      {"00-" + ids + "-00", true, false},
      {"00-" + ids + "-03", true, true},
      // A later version may be longer, and means the same as far as we know it.
      {"cc-" + ids + "-01-what-comes", true, true},
      {"cc-" + ids + "-01", true, true},
      {"cc-" + ids + "-01x", false, false},
      {"00-" + ids + "-01-more", false, false},
      {"ff-" + ids + "-01", false, false},
      {"00-" + ids + "-0", false, false},
      {"00-" + ids + "-0g", false, false},
      {"00-" + std::string(32, '0') + "-" + kSpan + "-01", false, false},
      {"00-" + std::string(kTrace) + "-0000000000000000-01", false, false},
      {"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false, false},
      {"00_" + ids + "-01", false, false},
      {"", false, false},
  }));
  INFO(row.traceparent);
  auto found = extract_trace({{"traceparent", row.traceparent}, {"tracestate", "a=1"}, {"tracestate", "b=2"}},
                             TraceFormat::kW3c);
  REQUIRE(found.has_value() == row.good);
  if (!found) return;
  CHECK(found->trace_id == kTrace);
  CHECK(found->span_id == kSpan);
  CHECK(found->sampled == row.sampled);
  CHECK(found->state == "a=1,b=2");
}

TEST_CASE("two traceparents are none; a long tracestate is left behind", "[waypoint][trace][5.5]") {
  CHECK_FALSE(extract_trace({{"traceparent", kParent}, {"traceparent", kParent}}, TraceFormat::kW3c));
  wire::Headers headers{{"traceparent", kParent}, {"tracestate", std::string(kTraceStateMax, 'x')}};
  CHECK(extract_trace(headers, TraceFormat::kW3c)->state.size() == kTraceStateMax);
  headers[1].second += 'x';
  CHECK(extract_trace(headers, TraceFormat::kW3c)->state.empty());
}

TEST_CASE("a B3 context, in one header or many", "[waypoint][trace][5.5]") {
  std::string half = "a3ce929d0e0e4736", whole = "0000000000000000" + half, span = kSpan;
  IncomingTrace undecided{whole, span, "", std::nullopt, false};
  struct Row {
    wire::Headers headers;
    std::optional<IncomingTrace> found;
  };
  auto row = GENERATE_COPY(values<Row>({
      {{{"b3", half + "-" + span}}, undecided},
      {{{"b3", half + "-" + span + "-1"}}, IncomingTrace{whole, span, "", true, false}},
      {{{"b3", half + "-" + span + "-0-" + span}}, IncomingTrace{whole, span, "", false, false}},
      {{{"b3", whole + "-" + span + "-d"}}, IncomingTrace{whole, span, "", true, true}},
      {{{"b3", "0"}}, IncomingTrace{"", "", "", false, false}},
      {{{"b3", "d"}}, IncomingTrace{"", "", "", true, true}},
      {{{"b3", half + "-" + span + "-2"}}, std::nullopt},
      {{{"b3", half + "-" + span + "-1-short"}}, std::nullopt},
      {{{"b3", half}}, std::nullopt},
      {{{"b3", ""}}, std::nullopt},
      {{{"b3", half + "--1"}}, std::nullopt},
      {{{"x-b3-traceid", half}, {"x-b3-spanid", span}}, undecided},
      {{{"x-b3-traceid", "A3CE929D0E0E4736"}, {"x-b3-spanid", span}}, undecided},
      {{{"x-b3-traceid", whole}, {"x-b3-spanid", span}, {"x-b3-sampled", "1"}},
       IncomingTrace{whole, span, "", true, false}},
      {{{"x-b3-traceid", whole}, {"x-b3-spanid", span}, {"x-b3-sampled", "false"}},
       IncomingTrace{whole, span, "", false, false}},
      {{{"x-b3-traceid", whole}, {"x-b3-spanid", span}, {"x-b3-flags", "1"}},
       IncomingTrace{whole, span, "", true, true}},
      {{{"x-b3-sampled", "0"}}, IncomingTrace{"", "", "", false, false}},
      {{{"x-b3-traceid", half + "0"}, {"x-b3-spanid", span}, {"x-b3-sampled", "1"}}, std::nullopt},
      {{{"x-b3-traceid", std::string(16, '0')}, {"x-b3-spanid", span}}, std::nullopt},
      {{{"x-b3-traceid", half}}, std::nullopt},
      {{}, std::nullopt},
      // One header wins over many.
      {{{"x-b3-sampled", "0"}, {"b3", half + "-" + span + "-1"}},
       IncomingTrace{whole, span, "", true, false}},
  }));
  for (const auto& [name, value] : row.headers) UNSCOPED_INFO(name << ": " << value);
  CHECK(extract_trace(row.headers, TraceFormat::kB3) == row.found);
}

TEST_CASE("the provider's own format comes first", "[waypoint][trace][5.5]") {
  wire::Headers both{{"traceparent", kParent}, {"b3", "1111111111111111-2222222222222222-0"}};
  CHECK(extract_trace(both, TraceFormat::kW3c)->trace_id == kTrace);
  CHECK(extract_trace(both, TraceFormat::kB3)->span_id == "2222222222222222");
  CHECK(extract_trace({{"traceparent", kParent}}, TraceFormat::kB3)->trace_id == kTrace);
  // A malformed one does not hide the other, nor does a decision without a trace.
  wire::Headers torn{{"traceparent", kParent + "x"}, {"b3", "1111111111111111-2222222222222222-0"}};
  CHECK(extract_trace(torn, TraceFormat::kW3c)->span_id == "2222222222222222");
  CHECK(extract_trace({{"traceparent", kParent}, {"b3", "0"}}, TraceFormat::kB3)->trace_id == kTrace);
  CHECK(extract_trace({{"b3", "0"}}, TraceFormat::kW3c)->sampled == false);
}

TEST_CASE("a context is written in the provider's format and in those that came", "[waypoint][trace][1.6]") {
  TraceContext context{kTrace, "1111111111111111", kSpan, "a=1", true, false};
  std::string w3c = std::string("00-") + kTrace + "-1111111111111111-01";
  SECTION("W3C") {
    wire::Headers headers{{"tracestate", "old=1"}};
    inject_trace(context, rule(TraceRule::Protocol::kOtlpHttp), headers);
    CHECK(headers == wire::Headers{{"traceparent", w3c}, {"tracestate", "a=1"}});
  }
  SECTION("B3") {
    wire::Headers headers{{"tracestate", "old=1"}};
    inject_trace(context, rule(TraceRule::Protocol::kZipkin), headers);
    CHECK(headers == wire::Headers{{"x-b3-traceid", kTrace},
                                   {"x-b3-spanid", "1111111111111111"},
                                   {"x-b3-parentspanid", kSpan},
                                   {"x-b3-sampled", "1"}});
  }
  SECTION("B3 with W3C") {
    TraceRule both = rule(TraceRule::Protocol::kZipkin);
    both.with_w3c = true;
    wire::Headers headers;
    inject_trace(context, both, headers);
    CHECK(text(headers, "traceparent") == w3c);
    CHECK(text(headers, "x-b3-sampled") == "1");
  }
  SECTION("what came is brought up to date") {
    wire::Headers headers{{"b3", "0"}, {"x-b3-sampled", "1"}, {"x-b3-parentspanid", "x"}};
    context.sampled = false;
    context.parent_span_id.clear();
    inject_trace(context, rule(TraceRule::Protocol::kOtlpGrpc), headers);
    CHECK(text(headers, "traceparent") == std::string("00-") + kTrace + "-1111111111111111-00");
    CHECK(text(headers, "b3") == std::string(kTrace) + "-1111111111111111-0");
    CHECK(text(headers, "x-b3-sampled") == "0");
    CHECK(text(headers, "x-b3-parentspanid") == "(none)");
  }
  SECTION("debug") {
    context.debug = true;
    wire::Headers headers{{"b3", "d"}};
    inject_trace(context, rule(TraceRule::Protocol::kZipkin), headers);
    CHECK(text(headers, "b3") == std::string(kTrace) + "-1111111111111111-d-" + kSpan);
    CHECK(text(headers, "x-b3-flags") == "1");
    CHECK(text(headers, "x-b3-sampled") == "(none)");
  }
}

TEST_CASE("a span has its own id and the request's as its parent", "[waypoint][trace][5.5]") {
  base::Rng rng(7);
  wire::Headers with{{"traceparent", kParent}, {"x-request-id", make_request_id(rng)}};
  TraceContext child = begin_trace(rule(TraceRule::Protocol::kOtlpHttp, 0), with, rng);
  CHECK(child.trace_id == kTrace);
  CHECK(child.parent_span_id == kSpan);
  CHECK(child.span_id != kSpan);
  CHECK(child.sampled);
  CHECK(text(with, "x-request-id")[14] == '9');
  wire::Headers without{{"x-request-id", make_request_id(rng)}};
  TraceContext root = begin_trace(rule(TraceRule::Protocol::kZipkin), without, rng);
  CHECK(root.trace_id.size() == 32);
  CHECK(root.span_id.size() == 16);
  CHECK(root.parent_span_id.empty());
  CHECK(root.sampled);
}

TEST_CASE("who decides about sampling", "[waypoint][trace][5.5]") {
  std::string plain = "ffffffff-0000-4000-8000-000000000000";
  auto marked = [&](char mark) {
    std::string id = plain;
    id[14] = mark;
    return id;
  };
  struct Row {
    wire::Headers headers;
    double percent;
    bool by_id;
    bool sampled;
    std::string id;  // afterwards
  };
  std::string off = std::string("00-") + kTrace + "-" + kSpan + "-00";
  auto row = GENERATE_COPY(values<Row>({
      // An incoming decision is obeyed, whatever else there is.
      {{{"traceparent", off}, {"x-request-id", marked('9')}}, 100, true, false, marked('9')},
      {{{"traceparent", kParent}, {"x-request-id", plain}}, 0, true, true, marked('9')},
      {{{"b3", "0"}, {"x-request-id", plain}}, 100, true, false, plain},
      // Then a mark.
      {{{"x-request-id", marked('9')}}, 0, true, true, marked('9')},
      {{{"x-request-id", marked('a')}}, 0, true, true, marked('a')},
      {{{"x-request-id", marked('b')}}, 0, true, true, marked('b')},
      {{{"x-request-id", marked('9')}}, 0, false, false, marked('9')},
      // Then who asks for it.
      {{{"x-client-trace-id", "1"}, {"x-request-id", plain}}, 0, true, true, marked('a')},
      {{{"x-envoy-force-trace", "1"}, {"x-request-id", plain}}, 0, true, true, marked('b')},
      // Then the percentage.
      {{{"x-request-id", plain}}, 100, true, true, marked('9')},
      {{{"x-request-id", plain}}, 0, true, false, plain},
      {{{"x-request-id", plain}}, 100, false, true, plain},
      // An id of another kind is never touched.
      {{{"x-request-id", "mine"}}, 100, true, true, "mine"},
      {{{"x-request-id", marked('7')}}, 100, true, true, marked('7')},
  }));
  base::Rng rng(1);
  TraceRule by = rule(TraceRule::Protocol::kOtlpHttp, row.percent);
  by.request_id_decides = row.by_id;
  wire::Headers headers = row.headers;
  for (const auto& [name, value] : headers) UNSCOPED_INFO(name << ": " << value);
  CHECK(begin_trace(by, headers, rng).sampled == row.sampled);
  CHECK(text(headers, "x-request-id") == row.id);
}

TEST_CASE("all who see a request id decide alike, in the wanted share", "[waypoint][trace][5.5]") {
  base::Rng ids(3), one(4), other(5);
  TraceRule by = rule(TraceRule::Protocol::kOtlpHttp, 12.5);
  int sampled = 0;
  for (int i = 0; i < 4000; ++i) {
    wire::Headers a{{"x-request-id", make_request_id(ids)}}, b = a;
    bool decided = begin_trace(by, a, one).sampled;
    CHECK(decided == begin_trace(by, b, other).sampled);
    sampled += decided;
  }
  // Four standard deviations of a binomial with n = 4000, p = 1/8.
  CHECK(sampled > 500 - 84);
  CHECK(sampled < 500 + 84);
}

TEST_CASE("a request id is a UUID of version 4 without a mark", "[waypoint][trace][1.6]") {
  base::Rng rng(11);
  for (int i = 0; i < 100; ++i) {
    std::string id = make_request_id(rng);
    CHECK(trace_reason(id) == TraceReason::kNone);
    CHECK(std::string("89ab").find(id[19]) != std::string::npos);
  }
}

}  // namespace culvert::waypoint
