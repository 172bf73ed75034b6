// SPDX-License-Identifier: Apache-2.0
// Access log formats: every operator of spec waypoint section 5.4, one row each; JSON; escaping; the seed's.
#include "waypoint/telemetry/log_format.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "test/unit/waypoint/records.h"

using namespace culvert;
using namespace culvert::waypoint;
using Catch::Contains;
using namespace std::chrono_literals;

namespace {

// A record of which every operator has something to tell.
RequestRecord full_record() {
  RequestRecord record = test::make_record();
  record.times.start_wall += 123456789ns;
  record.times.request_in = record.times.start + 1ms;
  record.times.request_out = record.times.start + 2ms;
  record.times.request_sent = record.times.start + 3ms;
  record.times.response_in = record.times.start + 9500us;
  record.request.emplace_back("x-list", "a");
  record.request.emplace_back("x-list", "b");
  record.original_path = "/items?a=1";
  record.response_trailers = {{"grpc-status", "14"}, {"x-sum", "7"}};
  record.grpc = true;
  record.flags.add(Flag::kUpstreamFailure);
  record.flags.add(Flag::kRetryLimit);
  record.details = "via_upstream";
  record.termination = "peer closed";
  record.counts.wire_bytes_in = 130;
  record.counts.wire_bytes_out = 1070;
  record.upstream_local = base::SocketAddr::parse("10.0.0.2:51000").value();
  record.upstream_version = conn::HttpVersion::k2;
  record.upstream_bytes_sent = 77;
  record.upstream_bytes_received = 88;
  record.upstream_failure = "connection refused";
  record.sni = "api.example.com";
  record.trace.emplace().context.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  return record;
}

std::string value(std::string_view format, const RequestRecord& record) {
  auto made = LogFormat::text(format);
  if (!made) return "error: " + made.error().message();
  return made->value(record);
}

std::string line(std::string_view format, const RequestRecord& record) {
  auto made = LogFormat::text(format);
  REQUIRE(made);
  return made->line(record);
}

}  // namespace

TEST_CASE("every operator", "[waypoint-5.4]") {
  RequestRecord record = full_record();
  struct Row {
    const char* format;
    const char* value;
  };
  const Row rows[] = {
      // headers
      {"%REQ(:METHOD)%", "GET"},
      {"%REQ(User-Agent)%", "curl \"8\""},
      {"%REQ(X-NOT-THERE)%", "-"},
      {"%REQ(X-NOT-THERE?X-REQUEST-ID)%", "rid-1"},
      {"%REQ(X-REQUEST-ID?:PATH)%", "rid-1"},
      {"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/items?a=1"},
      {"%REQ(:PATH)%", "/v2/items?a=1"},
      {"%REQ(:PATH):4%", "/v2/"},
      {"%REQ(:PATH):4000%", "/v2/items?a=1"},
      {"%REQ(X-LIST)%", "a,b"},
      {"%REQ_WITHOUT_QUERY(:PATH)%", "/v2/items"},
      {"%REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/items"},
      {"%REQ_WITHOUT_QUERY(:PATH):3%", "/v2"},
      {"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "9"},
      {"%RESP(X-A?X-ENVOY-UPSTREAM-SERVICE-TIME)%", "9"},
      {"%TRAILER(X-SUM)%", "7"},
      {"%TRAILER(X-A)%", "-"},
      // time
      {"%START_TIME%", "2023-11-14T22:13:20.123Z"},
      {"%START_TIME(%Y/%m/%d %H:%M:%S)%", "2023/11/14 22:13:20"},
      {"%START_TIME(%s.%3f)%", "1700000000.123"},
      {"%START_TIME(%f)%", "123456789"},
      {"%START_TIME(%6f|%9f|%1f)%", "123456|123456789|1"},
      {"%START_TIME_LOCAL(%H)%", "22"},
      {"%EMIT_TIME(%s.%3f)%", "1700000000.135"},
      {"%DURATION%", "12"},
      {"%REQUEST_DURATION%", "1"},
      {"%REQUEST_TX_DURATION%", "3"},
      {"%RESPONSE_DURATION%", "9"},
      {"%RESPONSE_TX_DURATION%", "2"},
      {"%COMMON_DURATION(DS_RX_BEG:US_RX_BEG)%", "9"},
      {"%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%", "9500"},
      {"%COMMON_DURATION(US_TX_BEG:US_TX_END:ns)%", "1000000"},
      {"%COMMON_DURATION(DS_RX_END:DS_TX_END:ms)%", "11"},
      // the answer
      {"%RESPONSE_CODE%", "200"},
      {"%RESPONSE_CODE_DETAILS%", "via_upstream"},
      {"%RESPONSE_FLAGS%", "UF,URX"},
      {"%RESPONSE_FLAGS_LONG%", "UpstreamConnectionFailure,UpstreamRetryLimitExceeded"},
      {"%CONNECTION_TERMINATION_DETAILS%", "peer closed"},
      {"%GRPC_STATUS%", "Unavailable"},
      {"%GRPC_STATUS(CAMEL_STRING)%", "Unavailable"},
      {"%GRPC_STATUS(SNAKE_STRING)%", "UNAVAILABLE"},
      {"%GRPC_STATUS(NUMBER)%", "14"},
      {"%GRPC_STATUS_NUMBER%", "14"},
      // sizes
      {"%BYTES_RECEIVED%", "20"},
      {"%BYTES_SENT%", "1000"},
      {"%REQUEST_HEADERS_BYTES%", "100"},
      {"%RESPONSE_HEADERS_BYTES%", "50"},
      {"%RESPONSE_TRAILERS_BYTES%", "19"},
      {"%DOWNSTREAM_WIRE_BYTES_RECEIVED%", "130"},
      {"%DOWNSTREAM_WIRE_BYTES_SENT%", "1070"},
      {"%UPSTREAM_WIRE_BYTES_SENT%", "77"},
      {"%UPSTREAM_WIRE_BYTES_RECEIVED%", "88"},
      // ends
      {"%PROTOCOL%", "HTTP/1.1"},
      {"%UPSTREAM_PROTOCOL%", "HTTP/2"},
      {"%UPSTREAM_HOST%", "10.0.0.9:8080"},
      {"%UPSTREAM_HOST_NAME%", "api-1"},
      {"%UPSTREAM_REMOTE_ADDRESS%", "10.0.0.9:8080"},
      {"%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.9"},
      {"%UPSTREAM_REMOTE_PORT%", "8080"},
      {"%UPSTREAM_LOCAL_ADDRESS%", "10.0.0.2:51000"},
      {"%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.0.0.2"},
      {"%UPSTREAM_LOCAL_PORT%", "51000"},
      {"%UPSTREAM_CLUSTER%", "inbound-vip|80|http|api.shop.svc.cluster.local"},
      {"%UPSTREAM_CLUSTER_RAW%", "inbound-vip|80|http|api.shop.svc.cluster.local"},
      {"%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "1"},
      {"%UPSTREAM_TRANSPORT_FAILURE_REASON%", "connection refused"},
      {"%UPSTREAM_PEER_URI_SAN%", "spiffe://cluster.local/ns/shop/sa/api"},
      {"%DOWNSTREAM_REMOTE_ADDRESS%", "10.0.0.5:40001"},
      {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.5"},
      {"%DOWNSTREAM_REMOTE_PORT%", "40001"},
      {"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "10.0.0.5:40001"},
      {"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.5"},
      {"%DOWNSTREAM_LOCAL_ADDRESS%", "10.96.0.1:80"},
      {"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.96.0.1"},
      {"%DOWNSTREAM_LOCAL_PORT%", "80"},
      {"%DOWNSTREAM_PEER_URI_SAN%", "spiffe://cluster.local/ns/shop/sa/web"},
      {"%DOWNSTREAM_LOCAL_URI_SAN%", "-"},
      {"%DOWNSTREAM_PEER_SUBJECT%", "-"},
      {"%DOWNSTREAM_TLS_VERSION%", "TLSv1.3"},
      {"%DOWNSTREAM_TLS_CIPHER%", "-"},
      // names
      {"%REQUESTED_SERVER_NAME%", "api.example.com"},
      {"%ROUTE_NAME%", "items"},
      {"%VIRTUAL_CLUSTER_NAME%", "-"},
      {"%CONNECTION_ID%", "7"},
      {"%STREAM_ID%", "rid-1"},
      {"%UNIQUE_ID%", "-"},
      {"%TRACE_ID%", "4bf92f3577b34da6a3ce929d0e0e4736"},
      {"%FILTER_STATE(io.istio.peer_principal)%", "spiffe://cluster.local/ns/shop/sa/web"},
      {"%FILTER_STATE(other:PLAIN)%", "-"},
      {"%DYNAMIC_METADATA(ns:k)%", "-"},
      {"%CEL(request.path)%", "-"},
      {"%FILTER_CHAIN_NAME%", "-"},
      {"%ACCESS_LOG_TYPE%", "DownstreamEnd"},
      // text
      {"", ""},
      {"plain", "plain"},
      {"100%%", "100%"},
      {"a %PROTOCOL% b%PROTOCOL%c", "a HTTP/1.1 bHTTP/1.1c"},
  };
  for (const Row& row : rows) {
    INFO(row.format);
    CHECK(value(row.format, record) == row.value);
  }
  ::setenv("CULVERT_TEST_LOG", "here", 1);
  CHECK(value("%ENVIRONMENT(CULVERT_TEST_LOG)%", record) == "here");
  CHECK(value("%ENVIRONMENT(CULVERT_TEST_LOG_NOT)%", record) == "-");
  ::setenv("HOSTNAME", "wp-0", 1);
  CHECK(value("%HOSTNAME%", record) == "wp-0");
}

TEST_CASE("what has not come is a dash", "[waypoint-5.4]") {
  RequestRecord record = test::make_record();
  record.times = {};
  record.upstream = nullptr;
  record.upstream_address.reset();
  record.cluster.clear();
  record.route_name.clear();
  for (const char* format : {"%DURATION%",
                             "%REQUEST_DURATION%",
                             "%REQUEST_TX_DURATION%",
                             "%RESPONSE_DURATION%",
                             "%RESPONSE_TX_DURATION%",
                             "%COMMON_DURATION(DS_RX_BEG:DS_TX_END)%",
                             "%RESPONSE_CODE_DETAILS%",
                             "%RESPONSE_FLAGS%",
                             "%RESPONSE_FLAGS_LONG%",
                             "%CONNECTION_TERMINATION_DETAILS%",
                             "%UPSTREAM_PROTOCOL%",
                             "%UPSTREAM_HOST%",
                             "%UPSTREAM_HOST_NAME%",
                             "%UPSTREAM_REMOTE_ADDRESS%",
                             "%UPSTREAM_REMOTE_PORT%",
                             "%UPSTREAM_LOCAL_ADDRESS%",
                             "%UPSTREAM_CLUSTER%",
                             "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
                             "%UPSTREAM_PEER_URI_SAN%",
                             "%REQUESTED_SERVER_NAME%",
                             "%ROUTE_NAME%",
                             "%GRPC_STATUS%",
                             "%GRPC_STATUS_NUMBER%",
                             "%TRACE_ID%"}) {
    INFO(format);
    CHECK(value(format, record) == "-");
  }
  record.tcp = true;
  CHECK(value("%PROTOCOL% %ACCESS_LOG_TYPE%", record) == "- TcpConnectionEnd");
}

TEST_CASE("gRPC statuses that are none", "[waypoint-5.4]") {
  RequestRecord record = test::make_record();
  record.grpc = true;
  record.response.emplace_back("grpc-status", "99");
  CHECK(value("%GRPC_STATUS% %GRPC_STATUS_NUMBER%", record) == "99 99");
  // The trailers' comes first.
  record.response_trailers = {{"grpc-status", "0"}};
  CHECK(value("%GRPC_STATUS%", record) == "OK");
  record.response_trailers = {{"grpc-status", "14x"}};
  CHECK(value("%GRPC_STATUS%", record) == "14x");
  auto json = LogFormat::json(R"({"s":"%GRPC_STATUS_NUMBER%"})");
  REQUIRE(json);
  CHECK(json->line(record) == "{\"s\":\"14x\"}\n");
}

TEST_CASE("formats that are refused say why", "[waypoint-5.4]") {
  RequestRecord record = test::make_record();
  struct Row {
    const char* format;
    const char* words;
  };
  const Row rows[] = {
      {"%NOT_KNOWN%", "operator %NOT_KNOWN% is not known"},
      {"%protocol%", "operator %protocol% is not known"},
      {"%REQ%", "header name in brackets"},
      {"%REQ()%", "header name in brackets"},
      {"%RESP%", "header name in brackets"},
      {"%REQ(x):y%", "is no length"},
      {"%REQ(x):-1%", "is no length"},
      {"%REQ(x)y%", "nothing may follow the bracket"},
      {"ab %REQ(x", "the % at character 4 has no end"},
      {"100%", "the % at character 4 has no end"},
      {"%REQ)%", "is not known"},
      {"%COMMON_DURATION%", "needs (from:to:precision)"},
      {"%COMMON_DURATION(A:B:ms)%", "times are"},
      {"%COMMON_DURATION(DS_RX_BEG:DS_TX_END:days)%", "ms, us or ns"},
      {"%GRPC_STATUS(ROMAN)%", "CAMEL_STRING, SNAKE_STRING or NUMBER"},
  };
  for (const Row& row : rows) {
    INFO(row.format);
    CHECK_THAT(value(row.format, record), Contains("error: ") && Contains(row.words));
  }
}

TEST_CASE("nothing that a peer says can forge a line", "[waypoint-5.4]") {
  RequestRecord record = test::make_record();
  struct Row {
    std::string said, shown;
  };
  const Row rows[] = {
      {"plain", "plain"},
      {"a\"b\\c", "a\\\"b\\\\c"},
      {"a\nb\r\t", "a\\x0ab\\x0d\\x09"},
      {std::string("\0", 1) + "\x7f\x1b[31m", "\\x00\\x7f\\x1b[31m"},
      {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8d",
       "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8d"},
      // Broken UTF-8: cut off, continued by nothing, too long, surrogates, above U+10FFFF.
      {"\xe2\x82", "\\xe2\\x82"},
      {"\xc3(", "\\xc3("},
      {"\x80", "\\x80"},
      {"\xc0\xaf", "\\xc0\\xaf"},
      {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},
      {"\xf0\x80\x80\xaf", "\\xf0\\x80\\x80\\xaf"},
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
      {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
      {"\xff\xfe", "\\xff\\xfe"},
      // C1 control bytes, as terminals may take them.
      {"\xc2\x9b", "\\xc2\\x9b"},
  };
  for (const Row& row : rows) {
    record.details = row.said;
    CHECK(line("\"%RESPONSE_CODE_DETAILS%\"", record) == "\"" + row.shown + "\"\n");
  }
}

TEST_CASE("a line has one newline at its end", "[waypoint-5.4]") {
  RequestRecord record = test::make_record();
  CHECK(line("%PROTOCOL%", record) == "HTTP/1.1\n");
  CHECK(line("%PROTOCOL%\n", record) == "HTTP/1.1\n");
  CHECK(line("", record) == "\n");
  // A value for a header has none.
  CHECK(value("%PROTOCOL%", record) == "HTTP/1.1");
}

TEST_CASE("JSON: numbers, nulls, nesting, escaping", "[waypoint-5.4]") {
  RequestRecord record = full_record();
  auto show = [&](std::string_view format) {
    auto made = LogFormat::json(format);
    if (!made) return "error: " + made.error().message();
    return made->line(record);
  };
  CHECK(show(R"({"code": "%RESPONSE_CODE%", "proto": "%PROTOCOL%"})") ==
        "{\"code\":200,\"proto\":\"HTTP/1.1\"}\n");
  // Only a lone operator is a number; order is the format's.
  CHECK(show(R"({"z": "%RESPONSE_CODE%!", "a": "%DURATION%", "n": "%VIRTUAL_CLUSTER_NAME%"})") ==
        "{\"z\":\"200!\",\"a\":12,\"n\":null}\n");
  CHECK(show(R"({"a": {"b": {"c": "%REQ(X-LIST)%"}}, "fixed": "text"})") ==
        "{\"a\":{\"b\":{\"c\":\"a,b\"}},\"fixed\":\"text\"}\n");
  CHECK(show(R"({"a": "%REQ(X-NOT)% and %REQ(X-LIST)%"})") == "{\"a\":\"- and a,b\"}\n");
  record.details = "quote \" line\n bad \xff.";
  CHECK(show(R"({"d": "%RESPONSE_CODE_DETAILS%"})") == "{\"d\":\"quote \\\" line\\n bad \xef\xbf\xbd.\"}\n");
  CHECK(show("{}") == "{}\n");
  CHECK_THAT(show("[]"), Contains("not a JSON object"));
  CHECK_THAT(show("{"), Contains("not a JSON object"));
  CHECK_THAT(show(R"({"a": 1})"), Contains("strings and objects only"));
  CHECK_THAT(show(R"({"a": "%NOT%"})"), Contains("%NOT%"));
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += R"({"a":)";
  deep += "\"x\"" + std::string(100'000, '}');
  CHECK_THAT(show(deep), Contains("nested too deeply"));
}

TEST_CASE("the defaults are upstream's", "[waypoint-5.4]") {
  RequestRecord record = test::make_record();
  CHECK(line(LogFormat::default_text(), record) ==
        "[2023-11-14T22:13:20.000Z] \"GET /v2/items?a=1 HTTP/1.1\" 200 - - - \"-\" 20 1000 12 9 \"-\" "
        "\"curl \\\"8\\\"\" \"rid-1\" \"api.shop\" \"10.0.0.9:8080\" "
        "inbound-vip|80|http|api.shop.svc.cluster.local - 10.96.0.1:80 10.0.0.5:40001 - items\n");
  auto json = LogFormat::json(LogFormat::default_json());
  REQUIRE(json);
  auto parsed = nlohmann::ordered_json::parse(json->line(record));
  std::vector<std::string> keys;
  for (const auto& [key, value] : parsed.items()) keys.push_back(key);
  CHECK(keys == std::vector<std::string>{"start_time",
                                         "route_name",
                                         "method",
                                         "path",
                                         "protocol",
                                         "response_code",
                                         "response_flags",
                                         "response_code_details",
                                         "connection_termination_details",
                                         "bytes_received",
                                         "bytes_sent",
                                         "duration",
                                         "upstream_service_time",
                                         "x_forwarded_for",
                                         "user_agent",
                                         "request_id",
                                         "authority",
                                         "upstream_host",
                                         "upstream_cluster",
                                         "upstream_local_address",
                                         "downstream_local_address",
                                         "downstream_remote_address",
                                         "requested_server_name",
                                         "upstream_transport_failure_reason"});
  CHECK(parsed["response_code"] == 200);
  CHECK(parsed["x_forwarded_for"].is_null());
}

// A block scalar of three lines: what its author wrote, three lines a request.
TEST_CASE("the seed's format", "[waypoint-5.4][seed]") {
  constexpr std::string_view kSeed =
      "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\"\n"
      "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT%\n"
      "\"%DURATION%\" \"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%\"\n";
  CHECK(line(kSeed, test::make_record()) ==
        "[2023-11-14T22:13:20.000Z] \"GET /v2/items?a=1 HTTP/1.1\"\n"
        "200 - 20 1000\n"
        "\"12\" \"9\"\n");
}
