// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "proto/otlp.pb.h"
#include "waypoint/telemetry/span_encoding.h"

namespace culvert::waypoint {
namespace {

using namespace std::chrono_literals;
namespace pb = opentelemetry::proto::collector::trace::v1;

SpanSource source() {
  SpanSource out;
  out.service_name = "waypoint.shop";
  out.ip = *base::IpAddr::parse("10.0.9.9");
  out.instance_name = "waypoint-1";
  return out;
}

Span span_of(bool error) {
  Span out;
  out.context = {
      "0123456789abcdef0123456789abcdef", "00f067aa0ba902b7", "b9c7c989f97918e1", "a=1", true, false};
  out.name = "api:80/*";
  out.start = base::WallTime(1'700'000'000s + 5us);
  out.duration = 1500us;
  out.error = error;
  out.tags = {{"component", "proxy"}, {"user_agent", "a \"quoted\" \xc3\xa4"}};
  return out;
}

}  // namespace

TEST_CASE("Zipkin's JSON", "[waypoint][trace][5.5]") {
  Span root = span_of(false);
  root.context.parent_span_id.clear();
  root.context.debug = true;
  root.duration = 1ns;
  std::vector<Span> spans{span_of(false), root};
  nlohmann::json read = nlohmann::json::parse(zipkin_json(spans, source()));
  nlohmann::json wanted = {{"traceId", "0123456789abcdef0123456789abcdef"},
                           {"parentId", "b9c7c989f97918e1"},
                           {"id", "00f067aa0ba902b7"},
                           {"kind", "SERVER"},
                           {"name", "api:80/*"},
                           {"timestamp", 1'700'000'000'000'005},
                           {"duration", 1500},
                           {"localEndpoint", {{"serviceName", "waypoint.shop"}, {"ipv4", "10.0.9.9"}}},
                           {"tags", {{"component", "proxy"}, {"user_agent", "a \"quoted\" \xc3\xa4"}}}};
  REQUIRE(read.size() == 2);
  CHECK(read[0] == wanted);
  CHECK_FALSE(read[1].contains("parentId"));
  CHECK(read[1]["duration"] == 1);
  CHECK(read[1]["debug"] == true);
  SpanSource v6 = source();
  v6.ip = *base::IpAddr::parse("fd00::9");
  CHECK(nlohmann::json::parse(zipkin_json(spans, v6))[0]["localEndpoint"]["ipv6"] == "fd00::9");
  CHECK(zipkin_json({}, source()) == "[]");
}

TEST_CASE("an OTLP request", "[waypoint][trace][5.5]") {
  std::vector<Span> spans{span_of(true), span_of(false)};
  pb::ExportTraceServiceRequest read;
  REQUIRE(read.ParseFromString(otlp_request(spans, source())));
  REQUIRE(read.resource_spans_size() == 1);
  const pb::ResourceSpans& resource = read.resource_spans(0);
  CHECK(resource.resource().attributes(0).key() == "service.name");
  CHECK(resource.resource().attributes(0).value().string_value() == "waypoint.shop");
  REQUIRE(resource.scope_spans_size() == 1);
  REQUIRE(resource.scope_spans(0).spans_size() == 2);
  const pb::Span& span = resource.scope_spans(0).spans(0);
  CHECK(span.trace_id() == "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef");
  CHECK(span.span_id() == std::string("\x00\xf0\x67\xaa\x0b\xa9\x02\xb7", 8));
  CHECK(span.parent_span_id() == "\xb9\xc7\xc9\x89\xf9\x79\x18\xe1");
  CHECK(span.trace_state() == "a=1");
  CHECK(span.name() == "api:80/*");
  CHECK(span.kind() == pb::Span::SPAN_KIND_SERVER);
  CHECK(span.start_time_unix_nano() == 1'700'000'000'000'005'000);
  CHECK(span.end_time_unix_nano() - span.start_time_unix_nano() == 1'500'000);
  CHECK(span.flags() == 1);
  CHECK(span.status().code() == pb::Status::STATUS_CODE_ERROR);
  CHECK_FALSE(resource.scope_spans(0).spans(1).has_status());
  REQUIRE(span.attributes_size() == 2);
  CHECK(span.attributes(0).key() == "component");
  CHECK(span.attributes(0).value().string_value() == "proxy");
}

TEST_CASE("an OTLP span is what the protocol's own numbers say", "[waypoint][trace][5.5]") {
  Span span;
  span.context.trace_id = std::string(32, 'a');
  span.context.span_id = std::string(16, 'b');
  span.name = "n";
  std::string bytes = otlp_request({&span, 1}, SpanSource());
  // Field 1 with 16 bytes, field 2 with 8, field 5, field 6 = SERVER, fixed64 fields 7 and 8.
  std::string wanted =
      "\x0a\x10" + std::string(16, '\xaa') + "\x12\x08" + std::string(8, '\xbb') + "\x2a\x01n\x30\x02";
  CHECK(bytes.find(wanted) != std::string::npos);
}

TEST_CASE("what an OTLP collector answers", "[waypoint][trace][5.5]") {
  CHECK(read_otlp_answer("")->rejected == 0);
  pb::ExportTraceServiceResponse response;
  response.mutable_partial_success()->set_rejected_spans(3);
  response.mutable_partial_success()->set_error_message("too old");
  std::optional<OtlpAnswer> answer = read_otlp_answer(response.SerializeAsString());
  CHECK(answer->rejected == 3);
  CHECK(answer->reason == "too old");
  response.mutable_partial_success()->set_rejected_spans(-3);
  CHECK(read_otlp_answer(response.SerializeAsString())->rejected == 0);
  CHECK_FALSE(read_otlp_answer("<html>"));
}

}  // namespace culvert::waypoint
