// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "net/wire/grpc_frame.h"
#include "proto/otlp.pb.h"
#include "waypoint/telemetry/span_collector.h"

namespace culvert::waypoint {
namespace {

using namespace std::chrono_literals;
using Kind = SpanDelivery::Kind;
using Protocol = model::TraceRule::Protocol;

}  // namespace

TEST_CASE("what an answer over HTTP means for a batch", "[waypoint][trace][5.5]") {
  struct Row {
    const char* status;
    Kind zipkin, otlp;
  };
  auto row = GENERATE(values<Row>({
      {"200", Kind::kTaken, Kind::kTaken},
      {"202", Kind::kTaken, Kind::kTaken},
      {"301", Kind::kRefused, Kind::kRefused},
      {"400", Kind::kRefused, Kind::kRefused},
      {"404", Kind::kRefused, Kind::kRefused},
      {"429", Kind::kLater, Kind::kLater},
      {"500", Kind::kLater, Kind::kRefused},
      {"502", Kind::kLater, Kind::kLater},
      {"503", Kind::kLater, Kind::kLater},
      {"504", Kind::kLater, Kind::kLater},
      {"nonsense", Kind::kRefused, Kind::kRefused},
  }));
  INFO(row.status);
  wire::Headers answer{{":status", row.status}};
  CHECK(judge_span_answer(Protocol::kZipkin, answer, {}, "").kind == row.zipkin);
  CHECK(judge_span_answer(Protocol::kOtlpHttp, answer, {}, "").kind == row.otlp);
}

TEST_CASE("a collector may say how long to wait", "[waypoint][trace][5.5]") {
  auto row = GENERATE(table<const char*, base::Duration>({{"7", 7s},
                                                          {"0", 0s},
                                                          {"99999", 300s},
                                                          {"-1", 0s},
                                                          {"5x", 0s},
                                                          {"Wed, 21 Oct 2026 07:28:00 GMT", 0s}}));
  wire::Headers answer{{":status", "503"}, {"retry-after", std::get<0>(row)}};
  CHECK(judge_span_answer(Protocol::kOtlpHttp, answer, {}, "").wait == std::get<1>(row));
}

TEST_CASE("what an answer over gRPC means for a batch", "[waypoint][trace][5.5]") {
  struct Row {
    wire::Headers headers, trailers;
    Kind kind;
  };
  auto code = [](const char* status) { return wire::Headers{{"grpc-status", status}}; };
  wire::Headers ok{{":status", "200"}};
  auto row = GENERATE_COPY(values<Row>({
      {ok, code("0"), Kind::kTaken},
      {ok, code("1"), Kind::kLater},
      {ok, code("3"), Kind::kRefused},
      {ok, code("4"), Kind::kLater},
      {ok, code("8"), Kind::kRefused},
      {ok, code("12"), Kind::kRefused},
      {ok, code("14"), Kind::kLater},
      {ok, code("16"), Kind::kRefused},
      {{{":status", "200"}, {"grpc-status", "14"}}, {}, Kind::kLater},
      {ok, {}, Kind::kLater},
      {{{":status", "404"}}, {}, Kind::kRefused},
      {{{":status", "503"}}, {}, Kind::kLater},
  }));
  CHECK(judge_span_answer(Protocol::kOtlpGrpc, row.headers, row.trailers, "").kind == row.kind);
  SpanDelivery told =
      judge_span_answer(Protocol::kOtlpGrpc, ok, {{"grpc-status", "3"}, {"grpc-message", "too%20large"}}, "");
  CHECK(told.reason == "grpc-status 3: too large");
}

TEST_CASE("a batch may be taken in part", "[waypoint][trace][5.5]") {
  opentelemetry::proto::collector::trace::v1::ExportTraceServiceResponse response;
  response.mutable_partial_success()->set_rejected_spans(2);
  response.mutable_partial_success()->set_error_message("why");
  std::string bytes = response.SerializeAsString();
  for (Protocol protocol : {Protocol::kOtlpHttp, Protocol::kOtlpGrpc}) {
    bool grpc = protocol == Protocol::kOtlpGrpc;
    SpanDelivery delivery = judge_span_answer(protocol, {{":status", "200"}, {"grpc-status", "0"}}, {},
                                              grpc ? wire::grpc_frame(bytes) : bytes);
    CHECK(delivery.kind == Kind::kTaken);
    CHECK(delivery.rejected == 2);
    CHECK(delivery.reason == "why");
  }
  // Sent again it would be there twice.
  CHECK(judge_span_answer(Protocol::kOtlpHttp, {{":status", "200"}}, {}, "<html>").kind == Kind::kTaken);
}

}  // namespace culvert::waypoint
